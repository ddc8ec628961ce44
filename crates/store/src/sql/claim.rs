//! Claiming: a mailbox is read in the transaction that takes its fence.

use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    id::{Epoch, Incarnation, MailboxId, Nonce, OperationId, Org, ProfileId},
    operation::{Health, Kind, State},
};

use super::{
    Backend, Columns, Script, Session, Statement, Type, account,
    commit::{self, Scope},
    nonce,
    rows::methods,
    test_run::{approved, barred},
};
use crate::{
    Error, Result,
    holder::{Claimed, Claims, Fence, Standing, Unreadable, Wanted},
};

/// The most mailboxes that one call claims: each is one bound value.
const MOST: u32 = 10_000;

const CLAIMED: &str = concat!(
    "SELECT m.*, c.value AS cursor, ",
    barred!(),
    " AS barred, a.user_name AS account_user, a.secret_revision AS account_revision,
       EXISTS (SELECT 1 FROM inbound i WHERE i.mailbox_id = m.mailbox_id AND i.state <> 'quarantined') AS waiting
     FROM mailbox m JOIN org g USING (org) LEFT JOIN cursor c USING (mailbox_id)
       LEFT JOIN account a USING (mailbox_id) WHERE "
);

/// What another claim took meanwhile under a later grant stays its.
pub(super) async fn some<B: Backend>(store: &B, incarnation: Incarnation, limit: u32) -> Result<Claims> {
    let mut tx = store.begin().await?;
    let taken = Statement::new(
        "UPDATE mailbox SET fence = n.epoch, fence_nonce = ?
         FROM (SELECT m.mailbox_id AS id, s.epoch FROM shard s
               JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence < s.epoch
               WHERE s.owner_inc = ? AND s.phase = 1 LIMIT ?) AS n
         WHERE mailbox_id = n.id AND fence < n.epoch RETURNING mailbox_id",
    );
    let taken = tx.rows(taken.bind(nonce()?).bind(incarnation).bind(limit.min(MOST))).await?;
    read_claimed(tx, &taken).await
}

pub(super) async fn these<B: Backend>(
    store: &B,
    incarnation: Incarnation,
    mailboxes: &[MailboxId],
) -> Result<Claims> {
    let mut tx = store.begin().await?;
    let mut taken = Vec::with_capacity(mailboxes.len());
    let nonce = nonce()?;
    for some in mailboxes.chunks(MOST as usize) {
        let fenced = Statement::new(
            "UPDATE mailbox SET fence = s.epoch, fence_nonce = ? FROM shard s
             WHERE s.shard_id = mailbox.shard_id AND mailbox.fence <= s.epoch
               AND s.owner_inc = ? AND s.phase = 1 AND mailbox_id",
        );
        let fenced = fenced.bind(nonce).bind(incarnation).one_of(Type::Id, some.iter().copied());
        taken.extend(tx.rows(fenced.push(" RETURNING mailbox_id")).await?);
    }
    read_claimed(tx, &taken).await
}

pub(super) async fn standing<B: Backend>(store: &B, incarnation: Incarnation) -> Result<Vec<Standing>> {
    let standing = Statement::new(
        "SELECT m.mailbox_id, m.profile_id, m.fence, m.fence_nonce
         FROM shard s JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence = s.epoch
         WHERE s.owner_inc = ? AND s.phase <> 0 AND m.profile_id IS NOT NULL",
    );
    let read = |row: &B::Row| {
        Ok(Standing {
            mailbox: id(row)?,
            profile: ProfileId::from_bytes(row.bytes("profile_id")?),
            epoch: Epoch(row.number("fence")?),
            nonce: Nonce::from_bytes(row.bytes("fence_nonce")?),
        })
    };
    store.read(standing.bind(incarnation)).await?.iter().map(read).collect()
}

pub(super) async fn not_applied<B: Backend>(
    store: &B,
    incarnation: Incarnation,
    limit: u32,
) -> Result<Vec<(MailboxId, Wanted)>> {
    let wishes = Statement::new(concat!(
        "SELECT m.*, ",
        barred!(),
        " AS barred, a.user_name AS account_user, a.secret_revision AS account_revision
         FROM shard s JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence = s.epoch
           JOIN org g ON g.org = m.org LEFT JOIN account a ON a.mailbox_id = m.mailbox_id
         WHERE m.wanted_revision <> m.wanted_seen AND m.profile_id IS NOT NULL AND s.owner_inc = ?
         ORDER BY random() LIMIT ?"
    ));
    let wish = |row: &B::Row| Ok((id(row)?, wanted(row)?));
    let rows = store.read(wishes.bind(incarnation).bind(limit)).await?;
    // One that cannot be understood was set aside when it was claimed.
    rows.iter().map(wish).filter(|wish| !matches!(wish, Err(Error::Corrupt(_)))).collect()
}

/// Behind whatever may still be under way: what it wrote, or did not, is seen.
pub(super) async fn read_again<B: Backend>(store: &B, fence: &Fence) -> Result<Claimed> {
    let mut tx = store.begin().await?;
    tx.lock("mailbox WHERE mailbox_id = ?", fence.mailbox.into()).await?;
    let found = Statement::new(CLAIMED).push("m.mailbox_id = ").value(fence.mailbox);
    let found =
        found.push(" AND m.fence = ").value(fence.epoch).push(" AND m.fence_nonce = ").value(fence.nonce);
    tx.row(found).await?.as_ref().map(read).transpose()?.ok_or(Error::Fenced)
}

/// Reads what was just claimed, and commits. A row that cannot be understood is set aside and keeps nobody from theirs.
async fn read_claimed<S: Session>(mut tx: S, taken: &[S::Row]) -> Result<Claims> {
    let mut claims = Claims::default();
    if taken.is_empty() {
        return Ok(claims);
    }
    let taken = taken.iter().map(id).collect::<Result<Vec<_>>>()?;
    for row in tx.rows(Statement::new(CLAIMED).push("m.mailbox_id").one_of(Type::Id, taken)).await? {
        let mailbox = id(&row)?;
        match read(&row) {
            Ok(claimed) => {
                show_again(&mut tx, &row, &claimed).await?;
                claims.mailboxes.push(claimed);
            }
            Err(Error::Corrupt(detail)) => {
                set_aside(&mut tx, &row, mailbox).await?;
                claims.unreadable.push(Unreadable { mailbox, detail });
            }
            Err(error) => return Err(error),
        }
    }
    tx.commit().await?;
    Ok(claims)
}

/// What people see of a mailbox that was set aside and can be read again is what is kept of it.
async fn show_again<S: Session>(tx: &mut S, row: &S::Row, claimed: &Claimed) -> Result<()> {
    let mut facts = Vec::new();
    for shown in SHOWN {
        if shown.is_aside(row)? {
            let operation = claimed.kept.operations[shown.kind as usize];
            let what = match (operation.state, operation.reason) {
                (State::Disabled, Some(reason)) => What::Disabled(shown.kind, reason),
                (State::Retrying { .. }, Some(reason)) => What::Failing(shown.kind, reason),
                _ => What::Recovered(shown.kind),
            };
            facts.push(what);
        }
    }
    if facts.is_empty() {
        return Ok(());
    }
    let scope = Scope::of(row, claimed.fence.mailbox, Timestamp::EPOCH)?;
    let mut script = Script::default();
    commit::keep(&mut script, &scope, &claimed.kept);
    tx.script(script).await?;
    tell(tx, &scope.org, claimed.fence.mailbox, &facts).await
}

/// An operation as people see it.
struct Shown {
    kind: Kind,
    state: &'static str,
    reason: &'static str,
}

const SHOWN: [Shown; 3] = [
    Shown { kind: Kind::Incoming, state: "incoming_state", reason: "incoming_reason" },
    Shown { kind: Kind::Outgoing, state: "outgoing_state", reason: "outgoing_reason" },
    Shown { kind: Kind::Act, state: "act_state", reason: "act_reason" },
];

impl Shown {
    /// True if it shows that its mailbox was set aside.
    fn is_aside(&self, row: &impl Columns) -> Result<bool> {
        Ok(row.text_at(self.reason)? == Some(Reason::MailboxStateUnreadable.code()))
    }

    fn is_off(&self, row: &impl Columns) -> Result<bool> {
        Ok(row.str(self.state)? == State::Off.word())
    }
}

/// Writes what happened to a mailbox for the alert book.
async fn tell<S: Session>(tx: &mut S, org: &Org, mailbox: MailboxId, happened: &[What]) -> Result<()> {
    let at = tx.the_row(Statement::new("SELECT ").now().push(" AS now")).await?.time("now")?;
    let fact = |what: &What| Fact { regarding: Regarding::Mailbox(mailbox), what: *what, at };
    commit::add_facts(tx, org, &happened.iter().map(fact).collect::<Vec<_>>()).await
}

/// People see that the mailbox does not run, and why.
async fn set_aside<S: Session>(tx: &mut S, row: &S::Row, mailbox: MailboxId) -> Result<()> {
    let aside = Statement::new(
        "UPDATE mailbox SET health = ?,
           incoming_reason = CASE incoming_state WHEN 'off' THEN NULL ELSE ? END,
           outgoing_reason = CASE outgoing_state WHEN 'off' THEN NULL ELSE ? END,
           act_reason = CASE act_state WHEN 'off' THEN NULL ELSE ? END,
           incoming_state = CASE incoming_state WHEN 'off' THEN 'off' ELSE ? END,
           outgoing_state = CASE outgoing_state WHEN 'off' THEN 'off' ELSE ? END,
           act_state = CASE act_state WHEN 'off' THEN 'off' ELSE ? END
         WHERE mailbox_id = ?",
    );
    let (reason, state) = (Reason::MailboxStateUnreadable, State::Disabled.word());
    let aside = aside.bind(Health::Failing.word()).bind(reason).bind(reason).bind(reason);
    tx.run(aside.bind(state).bind(state).bind(state).bind(mailbox)).await?;
    let mut facts = Vec::new();
    for shown in SHOWN {
        if !shown.is_off(row)? && !shown.is_aside(row)? {
            facts.push(What::Disabled(shown.kind, Reason::MailboxStateUnreadable));
        }
    }
    if !facts.is_empty() {
        tell(tx, &Org(row.text("org")?), mailbox, &facts).await?;
    }
    // What stands elsewhere in the row may be what cannot be understood.
    if let Ok(scope) = Scope::of(row, mailbox, Timestamp::EPOCH) {
        let mut script = Script::default();
        commit::count_health(&mut script, &scope, Health::Failing);
        tx.script(script).await?;
    }
    Ok(())
}

fn id(row: &impl Columns) -> Result<MailboxId> {
    row.bytes("mailbox_id").map(MailboxId::from_bytes)
}

fn read(row: &impl Columns) -> Result<Claimed> {
    Ok(Claimed {
        fence: Fence {
            mailbox: id(row)?,
            epoch: Epoch(row.number("fence")?),
            nonce: Nonce::from_bytes(row.bytes("fence_nonce")?),
            commit_ver: row.number("commit_ver")?,
        },
        wanted: wanted(row)?,
        kept: row.maybe_word("kept")?.unwrap_or_default(),
        cursor: row.maybe_blob("cursor")?,
        start: row.maybe_time("start")?,
        has_inbound: row.flag("waiting")?,
    })
}

fn wanted(row: &impl Columns) -> Result<Wanted> {
    let test = row.maybe_bytes::<16>("test_wanted")?;
    let done = row.maybe_bytes::<16>("test_done")?;
    Ok(Wanted {
        revision: row.number("wanted_revision")?,
        org: Org(row.text("org")?),
        address: row.text("address")?,
        profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
        methods: methods("methods", row.str("methods")?)?,
        barred: row.maybe_word("barred")?,
        account: account::read(row)?,
        test: test.filter(|test| done != Some(*test)).map(OperationId::from_bytes),
        polls: row.number("polls_wanted")?,
        process_email_from: row.maybe_time("process_email_from")?,
        create_time: row.time("create_time")?,
    })
}
