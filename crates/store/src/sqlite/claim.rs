//! Claiming on SQLite: a mailbox is read in the transaction that takes its fence.

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    id::{Epoch, Incarnation, MailboxId, Nonce, OperationId, Org, ProfileId},
    operation::{Health, Kind, State},
};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, account, commit,
    commit::Scope,
    fleet::nonce,
    rows::{Columns as _, Key as _, methods, now},
    script::Script,
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

impl SqliteStore {
    pub(super) async fn claim_some(&self, incarnation: Incarnation, limit: u32) -> Result<Claims> {
        let mut tx = self.begin().await?;
        let taken = sqlx::query(
            "UPDATE mailbox SET fence = n.epoch, fence_nonce = ?
             FROM (SELECT m.mailbox_id AS id, s.epoch FROM shard s
                   JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence < s.epoch
                   WHERE s.owner_inc = ? AND s.phase = 1 LIMIT ?) n
             WHERE mailbox_id = n.id RETURNING mailbox_id",
        )
        .bind(nonce()?.key())
        .bind(incarnation.key())
        .bind(i64::from(limit.min(MOST)))
        .fetch_all(&mut *tx)
        .await?;
        read_claimed(tx, &taken).await
    }

    pub(super) async fn claim_these(
        &self,
        incarnation: Incarnation,
        mailboxes: &[MailboxId],
    ) -> Result<Claims> {
        let mut tx = self.begin().await?;
        let mut taken = Vec::with_capacity(mailboxes.len());
        let nonce = nonce()?;
        for mailbox in mailboxes {
            let row = sqlx::query(
                "UPDATE mailbox SET fence = s.epoch, fence_nonce = ? FROM shard s
                 WHERE mailbox_id = ? AND s.shard_id = mailbox.shard_id AND mailbox.fence <= s.epoch
                   AND s.owner_inc = ? AND s.phase = 1 RETURNING mailbox_id",
            )
            .bind(nonce.key())
            .bind(mailbox.key())
            .bind(incarnation.key())
            .fetch_optional(&mut *tx)
            .await?;
            taken.extend(row);
        }
        read_claimed(tx, &taken).await
    }

    pub(super) async fn list_standing(&self, incarnation: Incarnation) -> Result<Vec<Standing>> {
        let rows = sqlx::query(
            "SELECT m.mailbox_id, m.profile_id, m.fence, m.fence_nonce
             FROM shard s JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence = s.epoch
             WHERE s.owner_inc = ? AND s.phase <> 0 AND m.profile_id IS NOT NULL",
        )
        .bind(incarnation.key())
        .fetch_all(&self.readers)
        .await?;
        let standing = |row: &SqliteRow| {
            Ok(Standing {
                mailbox: id(row)?,
                profile: ProfileId::from_bytes(row.bytes("profile_id")?),
                epoch: Epoch(row.number("fence")?),
                nonce: Nonce::from_bytes(row.bytes("fence_nonce")?),
            })
        };
        rows.iter().map(standing).collect()
    }

    pub(super) async fn not_applied(
        &self,
        incarnation: Incarnation,
        limit: u32,
    ) -> Result<Vec<(MailboxId, Wanted)>> {
        let rows = sqlx::query(concat!(
            "SELECT m.*, ",
            barred!(),
            " AS barred, a.user_name AS account_user, a.secret_revision AS account_revision FROM shard s JOIN mailbox m ON m.shard_id = s.shard_id AND m.fence = s.epoch
               JOIN org g ON g.org = m.org LEFT JOIN account a ON a.mailbox_id = m.mailbox_id
             WHERE m.wanted_revision <> m.wanted_seen AND m.profile_id IS NOT NULL AND s.owner_inc = ?
             ORDER BY random() LIMIT ?"
        ))
        .bind(incarnation.key())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        let wish = |row: &SqliteRow| Ok((id(row)?, wanted(row)?));
        // One that cannot be understood was set aside when it was claimed.
        rows.iter().map(wish).filter(|wish| !matches!(wish, Err(Error::Corrupt(_)))).collect()
    }

    /// On the writer: behind whatever may still be under way there.
    pub(super) async fn read_again(&self, fence: &Fence) -> Result<Claimed> {
        let mut tx = self.begin().await?;
        let sql = format!("{CLAIMED} m.mailbox_id = ? AND m.fence = ? AND m.fence_nonce = ?");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(fence.mailbox.key())
            .bind(fence.epoch.0 as i64)
            .bind(fence.nonce.key())
            .fetch_optional(&mut *tx)
            .await?;
        row.as_ref().map(read).transpose()?.ok_or(Error::Fenced)
    }
}

/// Reads what was just claimed, and commits. A row that cannot be understood is set aside and keeps nobody from theirs.
async fn read_claimed(mut tx: Tx, taken: &[SqliteRow]) -> Result<Claims> {
    let mut claims = Claims::default();
    if taken.is_empty() {
        return Ok(claims);
    }
    let mut query = QueryBuilder::<Sqlite>::new(CLAIMED);
    query.push("m.mailbox_id IN (");
    let mut list = query.separated(", ");
    for row in taken {
        list.push_bind(row.try_get::<Vec<u8>, _>("mailbox_id")?);
    }
    for row in query.push(")").build().fetch_all(&mut *tx).await? {
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
    commit(tx).await?;
    Ok(claims)
}

/// What people see of a mailbox that was set aside and can be read again is what is kept of it.
async fn show_again(tx: &mut Tx, row: &SqliteRow, claimed: &Claimed) -> Result<()> {
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
    script.run(tx).await?;
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
    fn is_aside(&self, row: &SqliteRow) -> Result<bool> {
        Ok(row.maybe_text(self.reason)?.as_deref() == Some(Reason::MailboxStateUnreadable.code()))
    }

    fn is_off(&self, row: &SqliteRow) -> Result<bool> {
        Ok(row.text(self.state)? == State::Off.word())
    }
}

/// Writes what happened to a mailbox for the alert book.
async fn tell(tx: &mut Tx, org: &Org, mailbox: MailboxId, happened: &[What]) -> Result<()> {
    let at = sqlx::query(concat!("SELECT ", now!(), " AS now")).fetch_one(&mut **tx).await?.time("now")?;
    let fact = |what: &What| Fact { regarding: Regarding::Mailbox(mailbox), what: *what, at };
    commit::add_facts(tx, org, &happened.iter().map(fact).collect::<Vec<_>>()).await
}

/// People see that the mailbox does not run, and why.
async fn set_aside(tx: &mut Tx, row: &SqliteRow, mailbox: MailboxId) -> Result<()> {
    sqlx::query(
        "UPDATE mailbox SET health = ?1,
           incoming_reason = CASE incoming_state WHEN 'off' THEN NULL ELSE ?2 END,
           outgoing_reason = CASE outgoing_state WHEN 'off' THEN NULL ELSE ?2 END,
           act_reason = CASE act_state WHEN 'off' THEN NULL ELSE ?2 END,
           incoming_state = CASE incoming_state WHEN 'off' THEN 'off' ELSE ?3 END,
           outgoing_state = CASE outgoing_state WHEN 'off' THEN 'off' ELSE ?3 END,
           act_state = CASE act_state WHEN 'off' THEN 'off' ELSE ?3 END
         WHERE mailbox_id = ?4",
    )
    .bind(Health::Failing.word())
    .bind(Reason::MailboxStateUnreadable.code())
    .bind(State::Disabled.word())
    .bind(mailbox.key())
    .execute(&mut **tx)
    .await?;
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
        script.run(tx).await?;
    }
    Ok(())
}

fn id(row: &SqliteRow) -> Result<MailboxId> {
    row.bytes("mailbox_id").map(MailboxId::from_bytes)
}

fn read(row: &SqliteRow) -> Result<Claimed> {
    Ok(Claimed {
        fence: Fence {
            mailbox: id(row)?,
            epoch: Epoch(row.number("fence")?),
            nonce: Nonce::from_bytes(row.bytes("fence_nonce")?),
            commit_ver: row.number("commit_ver")?,
        },
        wanted: wanted(row)?,
        kept: row.maybe_word("kept")?.unwrap_or_default(),
        cursor: row.try_get::<Option<Vec<u8>>, _>("cursor")?.map(Bytes::from),
        start: row.maybe_time("start")?,
        has_inbound: row.flag("waiting")?,
    })
}

fn wanted(row: &SqliteRow) -> Result<Wanted> {
    let test = row.maybe_bytes::<16>("test_wanted")?;
    let done = row.maybe_bytes::<16>("test_done")?;
    Ok(Wanted {
        revision: row.number("wanted_revision")?,
        org: Org(row.text("org")?),
        address: row.text("address")?,
        profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
        methods: methods("methods", row.try_get("methods")?)?,
        barred: row.maybe_word("barred")?,
        account: account::read(row)?,
        test: test.filter(|test| done != Some(*test)).map(OperationId::from_bytes),
        polls: row.number("polls_wanted")?,
        process_email_from: row.maybe_time("process_email_from")?,
        create_time: row.time("create_time")?,
    })
}
