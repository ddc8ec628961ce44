//! Test & enable of many mailboxes on SQLite: one row per mailbox, handed out in portions, ended one by one.

use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, OperationId, Org, ProfileId},
};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, commit,
    fleet::guard,
    mailbox::push_selection,
    rows::{Columns as _, Key as _, millis, now, parse},
};
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

impl SqliteStore {
    pub(super) async fn begin_test(
        &self,
        org: &Org,
        id: OperationId,
        selection: &Selection,
        description: &str,
        at: Timestamp,
    ) -> Result<LongOperation> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO long_operation(operation_id, org, selection, state, create_time, total, running, succeeded,
               failed, skipped, ended) VALUES (?,?,?,'running',?,0,0,0,0,0,0)",
        )
        .bind(id.key())
        .bind(&org.0)
        .bind(description)
        .bind(at.as_millis())
        .execute(&mut *tx)
        .await?;
        let selected = add_items(&mut tx, org, id, selection, at).await?;
        if selected == 0 {
            return Err(Error::refused(Reason::SelectionEmpty, "no mailbox is selected"));
        }
        sqlx::query(
            "UPDATE long_operation AS l SET (total, skipped, ended) =
               (SELECT count(*), count(i.ended), count(i.ended) FROM test_item i WHERE i.operation_id = l.operation_id)
             WHERE l.operation_id = ?",
        )
        .bind(id.key())
        .execute(&mut *tx)
        .await?;
        let operation = fetch(&mut tx, id).await?;
        commit(tx).await?;
        operation.ok_or_else(|| Error::Corrupt("an operation is gone that was just written".to_owned()))
    }

    pub(super) async fn unended_by_profile(&self, id: OperationId) -> Result<Vec<UnendedTests>> {
        let rows = sqlx::query(
            "SELECT m.profile_id, count(*) FILTER (WHERE i.state = 'running') AS running,
               count(*) FILTER (WHERE i.state <> 'running') AS waiting
             FROM test_item i JOIN mailbox m USING (mailbox_id)
             WHERE i.operation_id = ? AND i.state <> 'ended' AND m.profile_id IS NOT NULL
             GROUP BY m.profile_id ORDER BY m.profile_id",
        )
        .bind(id.key())
        .fetch_all(&self.readers)
        .await?;
        let count = |row: &SqliteRow| {
            let profile = ProfileId::from_bytes(row.bytes("profile_id")?);
            Ok(UnendedTests { profile, running: row.number("running")?, waiting: row.number("waiting")? })
        };
        rows.iter().map(count).collect()
    }

    pub(super) async fn find_operation(&self, id: OperationId) -> Result<Option<LongOperation>> {
        let row = sqlx::query("SELECT * FROM long_operation WHERE operation_id = ?")
            .bind(id.key())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read).transpose()
    }

    pub(super) async fn list_operations(
        &self,
        org: &Org,
        live: bool,
        page: &Page,
    ) -> Result<Vec<LongOperation>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM long_operation WHERE org = ");
        query.push_bind(org.0.clone());
        if live {
            query.push(" AND state IN ('running', 'paused')");
        }
        if let Some(after) = &page.after {
            let Position { at, id } = after.parse()?;
            query.push(" AND (create_time, operation_id) < (").push_bind(at.as_millis());
            query.push(", ").push_bind(id.to_be_bytes().to_vec()).push(")");
        }
        query.push(" ORDER BY create_time DESC, operation_id DESC LIMIT ").push_bind(i64::from(page.limit));
        query.build().fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    pub(super) async fn list_live_operations(&self, limit: u32) -> Result<Vec<LongOperation>> {
        let rows = sqlx::query(
            "SELECT * FROM long_operation WHERE state IN ('running', 'paused')
             ORDER BY create_time, operation_id LIMIT ?",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(read).collect()
    }

    pub(super) async fn ended_items(&self, id: OperationId, skip: u64, limit: u32) -> Result<Vec<TestItem>> {
        let rows = sqlx::query(
            "SELECT i.*, m.address FROM test_item i JOIN mailbox m USING (mailbox_id)
             WHERE i.operation_id = ? AND i.ended > ? ORDER BY i.ended LIMIT ?",
        )
        .bind(id.key())
        .bind(i64::try_from(skip).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        let item = |row: &SqliteRow| {
            Ok(TestItem {
                mailbox: MailboxId::from_bytes(row.bytes("mailbox_id")?),
                address: row.text("address")?,
                outcome: Some(TestOutcome {
                    result: row.word("result")?,
                    reasons: read_reasons(&row.text("reasons")?)?,
                    at: row.time("at")?,
                }),
            })
        };
        rows.iter().map(item).collect()
    }

    /// A mailbox that is still busy with another operation's test is left for later.
    pub(super) async fn hand_out_tests(
        &self,
        lead: &Leadership,
        id: OperationId,
        limit: u32,
        held: &[ProfileId],
    ) -> Result<u64> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT i.mailbox_id FROM test_item i JOIN mailbox m USING (mailbox_id)
               JOIN long_operation l USING (operation_id)
             WHERE i.state = 'pending' AND l.state IN ('running', 'paused')
               AND (m.test_wanted IS NULL OR m.test_wanted IS m.test_done) AND i.operation_id = ",
        );
        query.push_bind(id.key());
        if !held.is_empty() {
            query.push(" AND (m.profile_id IS NULL OR m.profile_id NOT IN (");
            let mut list = query.separated(", ");
            for profile in held {
                list.push_bind(profile.key());
            }
            query.push("))");
        }
        query.push(" LIMIT ").push_bind(i64::from(limit));
        let rows = query.build().fetch_all(&mut *tx).await?;
        for row in &rows {
            let mailbox = row.bytes::<16>("mailbox_id")?;
            sqlx::query("UPDATE test_item SET state = 'running' WHERE operation_id = ? AND mailbox_id = ?")
                .bind(id.key())
                .bind(&mailbox[..])
                .execute(&mut *tx)
                .await?;
            sqlx::query(
                "UPDATE mailbox SET test_wanted = ?, wanted_revision = wanted_revision + 1 WHERE mailbox_id = ?",
            )
            .bind(id.key())
            .bind(&mailbox[..])
            .execute(&mut *tx)
            .await?;
        }
        sqlx::query("UPDATE long_operation SET running = running + ? WHERE operation_id = ?")
            .bind(rows.len() as i64)
            .bind(id.key())
            .execute(&mut *tx)
            .await?;
        commit(tx).await?;
        Ok(rows.len() as u64)
    }

    pub(super) async fn change_operation(
        &self,
        lead: &Leadership,
        id: OperationId,
        state: LongState,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let ended = matches!(state, LongState::Done | LongState::Canceled);
        let done = sqlx::query(
            "UPDATE long_operation SET state = ?, reason = ?, end_time = ?,
               running = CASE WHEN ? THEN 0 ELSE running END
             WHERE operation_id = ? AND state IN ('running', 'paused')",
        )
        .bind(state.word())
        .bind(reason.map(Reason::code))
        .bind(millis(ended.then_some(at)))
        .bind(ended)
        .bind(id.key())
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Err(Error::refused(
                Reason::ResourceNotFound,
                "there is no such operation, or it has ended",
            ));
        }
        if state == LongState::Canceled {
            take_tests_back(&mut tx, id).await?;
        }
        commit(tx).await
    }
}

/// Ends the test of one mailbox, if its operation still waits for it.
pub(super) async fn end_test(
    tx: &mut Tx,
    id: OperationId,
    mailbox: MailboxId,
    outcome: &TestOutcome,
) -> Result<()> {
    let done = sqlx::query(
        "UPDATE test_item SET state = 'ended', result = ?, reasons = ?, at = ?,
           ended = (SELECT l.ended + 1 FROM long_operation l WHERE l.operation_id = test_item.operation_id)
         WHERE operation_id = ? AND mailbox_id = ? AND state <> 'ended'
           AND EXISTS (SELECT 1 FROM long_operation l
                       WHERE l.operation_id = test_item.operation_id AND l.state IN ('running', 'paused'))",
    )
    .bind(outcome.result.word())
    .bind(reasons_text(outcome.reasons))
    .bind(outcome.at.as_millis())
    .bind(id.key())
    .bind(mailbox.key())
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    let [succeeded, failed, skipped] = tally(outcome.result);
    sqlx::query(
        "UPDATE long_operation SET ended = ended + 1, running = max(running - 1, 0), succeeded = succeeded + ?,
           failed = failed + ?, skipped = skipped + ? WHERE operation_id = ?",
    )
    .bind(succeeded)
    .bind(failed)
    .bind(skipped)
    .bind(id.key())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn tally(result: TestResult) -> [i64; 3] {
    [TestResult::Success, TestResult::Failure, TestResult::Skipped].map(|known| i64::from(known == result))
}

/// One row per selected mailbox, in one statement; those that cannot be tested end at once, in the order of their
/// addresses. Returns how many there are.
async fn add_items(
    tx: &mut Tx,
    org: &Org,
    id: OperationId,
    selection: &Selection,
    at: Timestamp,
) -> Result<u64> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO test_item(operation_id, mailbox_id, org, state, ended, result, reasons, at)
         SELECT ",
    );
    query.push_bind(id.key()).push(
        ", s.mailbox_id, s.org, iif(s.reason IS NULL, 'pending', 'ended'),
           iif(s.reason IS NULL, NULL, row_number() OVER (PARTITION BY s.reason IS NULL ORDER BY s.address_key)),
           iif(s.reason IS NULL, NULL, 'skipped'), s.reason || ',-,-', iif(s.reason IS NULL, NULL, ",
    );
    query.push_bind(at.as_millis()).push(
        ") FROM (SELECT m.mailbox_id, m.org, m.address_key, CASE WHEN m.methods = 'none,none,none' THEN ",
    );
    query.push_bind(Reason::MethodNotSupported.code());
    query.push(concat!(
        " ELSE coalesce(",
        hindrance!(),
        ", ",
        barred!(),
        ") END AS reason FROM mailbox m JOIN org g USING (org) WHERE "
    ));
    push_selection(tx, &mut query, org, selection).await?;
    let done = query.push(") AS s").build().execute(&mut **tx).await?;
    Ok(done.rows_affected())
}

/// Ends a test that was not handed out: it never counted as running.
async fn skip(tx: &mut Tx, id: OperationId, mailbox: MailboxId, reason: Reason, at: Timestamp) -> Result<()> {
    sqlx::query("UPDATE long_operation SET running = running + 1 WHERE operation_id = ?")
        .bind(id.key())
        .execute(&mut **tx)
        .await?;
    let outcome = TestOutcome { result: TestResult::Skipped, reasons: [Some(reason), None, None], at };
    end_test(tx, id, mailbox, &outcome).await
}

/// A mailbox lost its profile: nobody will do what was asked of it.
pub(super) async fn take_wishes_back(tx: &mut Tx, mailbox: MailboxId) -> Result<()> {
    let at = sqlx::query(concat!("SELECT ", now!(), " AS now")).fetch_one(&mut **tx).await?.time("now")?;
    sqlx::query("UPDATE mailbox SET test_wanted = NULL, polls_wanted = polls_done WHERE mailbox_id = ?")
        .bind(mailbox.key())
        .execute(&mut **tx)
        .await?;
    let rows =
        sqlx::query("SELECT operation_id, state FROM test_item WHERE mailbox_id = ? AND state <> 'ended'")
            .bind(mailbox.key())
            .fetch_all(&mut **tx)
            .await?;
    let reason = Reason::ProfileNotSet;
    for row in rows {
        let id = OperationId::from_bytes(row.bytes("operation_id")?);
        if row.text("state")? == "pending" {
            skip(tx, id, mailbox, reason, at).await?;
        } else {
            let outcome =
                TestOutcome { result: TestResult::Skipped, reasons: [Some(reason), None, None], at };
            end_test(tx, id, mailbox, &outcome).await?;
        }
    }
    Ok(())
}

async fn take_tests_back(tx: &mut Tx, id: OperationId) -> Result<()> {
    sqlx::query(
        "UPDATE mailbox SET test_wanted = NULL, wanted_revision = wanted_revision + 1
         WHERE mailbox_id IN (SELECT mailbox_id FROM test_item WHERE operation_id = ?1 AND state = 'running')
           AND test_wanted = ?1 AND test_done IS NOT ?1",
    )
    .bind(id.key())
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE test_item SET state = 'pending' WHERE operation_id = ? AND state = 'running'")
        .bind(id.key())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn fetch(tx: &mut Tx, id: OperationId) -> Result<Option<LongOperation>> {
    let row = sqlx::query("SELECT * FROM long_operation WHERE operation_id = ?")
        .bind(id.key())
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &SqliteRow) -> Result<LongOperation> {
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
