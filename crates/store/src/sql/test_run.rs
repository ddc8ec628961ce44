//! Test & enable of many mailboxes: one row per mailbox, handed out in portions, ended one by one.

use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, OperationId, Org, ProfileId},
};

use super::{Backend, Columns, Session, Statement, Type, mailbox::push_selection, rows::parse};
use crate::{
    Error, Result,
    fleet::Leadership,
    people::{LongOperation, LongState, Selection, TestItem, TestOutcome, TestResult, UnendedTests},
    query::{Page, Position},
};

/// True for a mailbox `m` of organization `g` that may take part: it is approved, or needs no approval.
macro_rules! approved {
    () => {
        "(m.approval = 'approved' OR m.kind = 'user' AND NOT g.approve_users
          OR m.kind = 'queue' AND NOT g.approve_queues OR m.kind = 'forward')"
    };
}
pub(super) use approved;

/// Why a mailbox `m` of organization `g` may not run; NULL: it may.
macro_rules! barred {
    () => {
        concat!(
            "CASE WHEN NOT ",
            approved!(),
            " THEN 'MAILBOX_NOT_APPROVED'
              WHEN NOT EXISTS (SELECT 1 FROM account x WHERE x.mailbox_id = m.mailbox_id)
                AND 'mailbox' = (SELECT p.credential_source FROM profile p WHERE p.profile_id = m.profile_id)
              THEN 'MAILBOX_CREDENTIALS_MISSING' END"
        )
    };
}
pub(super) use barred;

/// Why nobody can hold a mailbox `m`; NULL: somebody can.
macro_rules! hindrance {
    () => {
        "CASE WHEN m.profile_id IS NULL THEN 'PROFILE_NOT_SET'
           WHEN 'MAILBOX_STATE_UNREADABLE' IN (m.incoming_reason, m.outgoing_reason, m.act_reason)
             THEN 'MAILBOX_STATE_UNREADABLE' END"
    };
}
pub(super) use hindrance;

pub(super) async fn begin<B: Backend>(
    store: &B,
    org: &Org,
    id: OperationId,
    selection: &Selection,
    description: &str,
    at: Timestamp,
) -> Result<LongOperation> {
    let mut tx = store.begin_people().await?;
    let begun = Statement::new(
        "INSERT INTO long_operation(operation_id, org, selection, state, create_time, total, running, succeeded,
           failed, skipped, ended) VALUES (?,?,?,'running',?,0,0,0,0,0,0)",
    );
    tx.run(begun.bind(id).bind(org).bind(description).bind(at)).await?;
    if add_items(&mut tx, org, id, selection, at).await? == 0 {
        return Err(Error::refused(Reason::SelectionEmpty, "no mailbox is selected"));
    }
    let counted = Statement::new(
        "UPDATE long_operation AS l SET (total, skipped, ended) =
           (SELECT count(*), count(i.ended), count(i.ended) FROM test_item i WHERE i.operation_id = l.operation_id)
         WHERE l.operation_id = ?",
    );
    tx.run(counted.bind(id)).await?;
    let operation = tx.row(by_id(id)).await?.as_ref().map(read).transpose()?;
    tx.commit().await?;
    operation.ok_or_else(|| Error::Corrupt("an operation is gone that was just written".to_owned()))
}

pub(super) async fn unended_by_profile<B: Backend>(store: &B, id: OperationId) -> Result<Vec<UnendedTests>> {
    let unended = Statement::new(
        "SELECT m.profile_id, count(*) FILTER (WHERE i.state = 'running') AS running,
           count(*) FILTER (WHERE i.state <> 'running') AS waiting
         FROM test_item i JOIN mailbox m USING (mailbox_id)
         WHERE i.operation_id = ? AND i.state <> 'ended' AND m.profile_id IS NOT NULL
         GROUP BY m.profile_id ORDER BY m.profile_id",
    );
    let count = |row: &B::Row| {
        let profile = ProfileId::from_bytes(row.bytes("profile_id")?);
        Ok(UnendedTests { profile, running: row.number("running")?, waiting: row.number("waiting")? })
    };
    store.read(unended.bind(id)).await?.iter().map(count).collect()
}

pub(super) async fn find<B: Backend>(store: &B, id: OperationId) -> Result<Option<LongOperation>> {
    store.read_one(by_id(id)).await?.as_ref().map(read).transpose()
}

fn by_id(id: OperationId) -> Statement {
    Statement::new("SELECT * FROM long_operation WHERE operation_id = ?").bind(id)
}

pub(super) async fn list<B: Backend>(
    store: &B,
    org: &Org,
    live: bool,
    page: &Page,
) -> Result<Vec<LongOperation>> {
    let mut query = Statement::new("SELECT * FROM long_operation WHERE org = ").value(org);
    if live {
        query = query.push(" AND state IN ('running', 'paused')");
    }
    if let Some(after) = &page.after {
        let Position { at, id } = after.parse()?;
        query = query.push(" AND (create_time, operation_id) < (").value(at).push(", ");
        query = query.value(OperationId::new(id)).push(")");
    }
    let query = query.push(" ORDER BY create_time DESC, operation_id DESC LIMIT ").value(page.limit);
    store.read(query).await?.iter().map(read).collect()
}

pub(super) async fn list_live<B: Backend>(store: &B, limit: u32) -> Result<Vec<LongOperation>> {
    let live = Statement::new(
        "SELECT * FROM long_operation WHERE state IN ('running', 'paused')
         ORDER BY create_time, operation_id LIMIT ?",
    );
    store.read(live.bind(limit)).await?.iter().map(read).collect()
}

pub(super) async fn ended_items<B: Backend>(
    store: &B,
    id: OperationId,
    skip: u64,
    limit: u32,
) -> Result<Vec<TestItem>> {
    let ended = Statement::new(
        "SELECT i.*, m.address FROM test_item i JOIN mailbox m USING (mailbox_id)
         WHERE i.operation_id = ? AND i.ended > ? ORDER BY i.ended LIMIT ?",
    );
    let item = |row: &B::Row| {
        Ok(TestItem {
            mailbox: MailboxId::from_bytes(row.bytes("mailbox_id")?),
            address: row.text("address")?,
            outcome: Some(TestOutcome {
                result: row.word("result")?,
                reasons: read_reasons(row.str("reasons")?)?,
                at: row.time("at")?,
            }),
        })
    };
    store.read(ended.bind(id).bind(skip).bind(limit)).await?.iter().map(item).collect()
}

/// A mailbox that is still busy with another operation's test is left for later.
pub(super) async fn hand_out<B: Backend>(
    store: &B,
    lead: &Leadership,
    id: OperationId,
    limit: u32,
    held: &[ProfileId],
) -> Result<u64> {
    let mut tx = store.begin_people().await?;
    tx.guard(lead).await?;
    let mut query = Statement::new(
        "SELECT i.mailbox_id FROM test_item i JOIN mailbox m USING (mailbox_id)
           JOIN long_operation l USING (operation_id)
         WHERE i.state = 'pending' AND l.state IN ('running', 'paused')
           AND (m.test_wanted IS NULL OR m.test_wanted IS NOT DISTINCT FROM m.test_done) AND i.operation_id = ?",
    )
    .bind(id);
    if !held.is_empty() {
        query = query.push(" AND (m.profile_id IS NULL OR NOT m.profile_id");
        query = query.one_of(Type::Id, held.iter().copied()).push(")");
    }
    let rows = tx.rows(query.push(" LIMIT ").value(limit)).await?;
    let mailboxes = rows.iter().map(|row| row.bytes("mailbox_id").map(MailboxId::from_bytes));
    let mut mailboxes = mailboxes.collect::<Result<Vec<_>>>()?;
    mailboxes.sort_unstable();
    for some in mailboxes.chunks(super::statement::ROWS) {
        let wanted = Statement::new(
            "UPDATE mailbox SET test_wanted = ?, wanted_revision = wanted_revision + 1 WHERE mailbox_id",
        );
        tx.run(wanted.bind(id).one_of(Type::Id, some.iter().copied())).await?;
        let running =
            Statement::new("UPDATE test_item SET state = 'running' WHERE operation_id = ? AND mailbox_id");
        tx.run(running.bind(id).one_of(Type::Id, some.iter().copied())).await?;
    }
    let counted = Statement::new("UPDATE long_operation SET running = running + ? WHERE operation_id = ?");
    tx.run(counted.bind(mailboxes.len()).bind(id)).await?;
    tx.commit_led(lead).await?;
    Ok(mailboxes.len() as u64)
}

pub(super) async fn change<B: Backend>(
    store: &B,
    lead: &Leadership,
    id: OperationId,
    state: LongState,
    reason: Option<Reason>,
    at: Timestamp,
) -> Result<()> {
    let mut tx = store.begin_people().await?;
    tx.guard(lead).await?;
    if state == LongState::Canceled {
        take_tests_back(&mut tx, id).await?;
    }
    let ended = matches!(state, LongState::Done | LongState::Canceled);
    let changed = Statement::new(
        "UPDATE long_operation SET state = ?, reason = ?, end_time = ?,
           running = CASE WHEN ? THEN 0 ELSE running END
         WHERE operation_id = ? AND state IN ('running', 'paused')",
    );
    let changed = changed.bind(state.word()).bind(reason).bind(ended.then_some(at)).bind(ended).bind(id);
    if tx.run(changed).await? == 0 {
        return Err(Error::refused(Reason::ResourceNotFound, "there is no such operation, or it has ended"));
    }
    tx.commit_led(lead).await
}

/// Ends the test of one mailbox, if its operation still waits for it.
pub(super) async fn end<S: Session>(
    tx: &mut S,
    id: OperationId,
    mailbox: MailboxId,
    outcome: &TestOutcome,
) -> Result<()> {
    tx.lock("long_operation WHERE operation_id = ?", id.into()).await?;
    let ended = Statement::new(
        "UPDATE test_item SET state = 'ended', result = ?, reasons = ?, at = ?,
           ended = (SELECT l.ended + 1 FROM long_operation l WHERE l.operation_id = test_item.operation_id)
         WHERE operation_id = ? AND mailbox_id = ? AND state <> 'ended'
           AND EXISTS (SELECT 1 FROM long_operation l
                       WHERE l.operation_id = test_item.operation_id AND l.state IN ('running', 'paused'))",
    );
    let ended = ended.bind(outcome.result.word()).bind(reasons_text(outcome.reasons)).bind(outcome.at);
    if tx.run(ended.bind(id).bind(mailbox)).await? == 0 {
        return Ok(());
    }
    let [succeeded, failed, skipped] = tally(outcome.result);
    let counted = Statement::new(
        "UPDATE long_operation SET ended = ended + 1, running = CASE WHEN running > 0 THEN running - 1 ELSE 0 END,
           succeeded = succeeded + ?, failed = failed + ?, skipped = skipped + ? WHERE operation_id = ?",
    );
    tx.run(counted.bind(succeeded).bind(failed).bind(skipped).bind(id)).await?;
    Ok(())
}

fn tally(result: TestResult) -> [i64; 3] {
    [TestResult::Success, TestResult::Failure, TestResult::Skipped].map(|known| i64::from(known == result))
}

/// One row per selected mailbox, in one statement; those that cannot be tested end at once, in the order of their
/// addresses. Returns how many there are.
async fn add_items<S: Session>(
    tx: &mut S,
    org: &Org,
    id: OperationId,
    selection: &Selection,
    at: Timestamp,
) -> Result<u64> {
    let mut query = Statement::new(concat!(
        "INSERT INTO test_item(operation_id, mailbox_id, org, state, ended, result, reasons, at)
         SELECT ?, s.mailbox_id, s.org, CASE WHEN s.reason IS NULL THEN 'pending' ELSE 'ended' END,
           CASE WHEN s.reason IS NOT NULL
             THEN row_number() OVER (PARTITION BY s.reason IS NULL ORDER BY s.address_key) END,
           CASE WHEN s.reason IS NOT NULL THEN 'skipped' END, s.reason || ',-,-',
           CASE WHEN s.reason IS NOT NULL THEN ? END
         FROM (SELECT m.mailbox_id, m.org, m.address_key, CASE WHEN m.methods = 'none,none,none' THEN ? ELSE coalesce(",
        hindrance!(),
        ", ",
        barred!(),
        ") END AS reason FROM mailbox m JOIN org g USING (org) WHERE "
    ));
    query = query.bind(id).bind(at).bind(Reason::MethodNotSupported);
    push_selection(tx, &mut query, org, selection).await?;
    tx.run(query.push(") AS s")).await
}

/// A mailbox lost its profile: nobody will do what was asked of it.
pub(super) async fn take_wishes_back<S: Session>(tx: &mut S, mailbox: MailboxId) -> Result<()> {
    let at = tx.the_row(Statement::new("SELECT ").now().push(" AS now")).await?.time("now")?;
    let forgotten = Statement::new(
        "UPDATE mailbox SET test_wanted = NULL, polls_wanted = polls_done WHERE mailbox_id = ?",
    );
    tx.run(forgotten.bind(mailbox)).await?;
    let waiting = Statement::new(
        "SELECT operation_id, state FROM test_item WHERE mailbox_id = ? AND state <> 'ended' ORDER BY operation_id",
    );
    for row in tx.rows(waiting.bind(mailbox)).await? {
        let id = OperationId::from_bytes(row.bytes("operation_id")?);
        if row.str("state")? == "pending" {
            // It was not handed out and never counted as running.
            let counted =
                Statement::new("UPDATE long_operation SET running = running + 1 WHERE operation_id = ?");
            tx.run(counted.bind(id)).await?;
        }
        let reasons = [Some(Reason::ProfileNotSet), None, None];
        end(tx, id, mailbox, &TestOutcome { result: TestResult::Skipped, reasons, at }).await?;
    }
    Ok(())
}

async fn take_tests_back<S: Session>(tx: &mut S, id: OperationId) -> Result<()> {
    let forgotten = Statement::new(
        "UPDATE mailbox SET test_wanted = NULL, wanted_revision = wanted_revision + 1
         WHERE mailbox_id IN (SELECT mailbox_id FROM test_item WHERE operation_id = ? AND state = 'running')
           AND test_wanted = ? AND test_done IS DISTINCT FROM ?",
    );
    tx.run(forgotten.bind(id).bind(id).bind(id)).await?;
    tx.lock("long_operation WHERE operation_id = ?", id.into()).await?;
    let pending =
        Statement::new("UPDATE test_item SET state = 'pending' WHERE operation_id = ? AND state = 'running'");
    tx.run(pending.bind(id)).await?;
    Ok(())
}

fn read(row: &impl Columns) -> Result<LongOperation> {
    Ok(LongOperation {
        id: OperationId::from_bytes(row.bytes("operation_id")?),
        org: Org(row.text("org")?),
        selection: row.text("selection")?,
        state: row.word("state")?,
        reason: row.maybe_word("reason")?,
        create_time: row.time("create_time")?,
        end_time: row.maybe_time("end_time")?,
        total: row.number("total")?,
        running: row.number("running")?,
        succeeded: row.number("succeeded")?,
        failed: row.number("failed")?,
        skipped: row.number("skipped")?,
    })
}

/// `IMPERSONATION_DENIED,-,-`.
fn reasons_text(reasons: [Option<Reason>; 3]) -> String {
    reasons.map(|reason| reason.map_or("-", Reason::code)).join(",")
}

fn read_reasons(text: &str) -> Result<[Option<Reason>; 3]> {
    let read = |word| if word == "-" { Ok(None) } else { parse("reasons", word).map(Some) };
    let reasons: Vec<Option<Reason>> = text.split(',').map(read).collect::<Result<_>>()?;
    reasons.try_into().map_err(|_| Error::Corrupt("reasons: three are expected".to_owned()))
}
