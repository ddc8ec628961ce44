//! Emails on their way out, on SQLite: taken once per request key, stepped by their holder, canceled by people.

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    id::{Incarnation, MailboxId, Org, OutgoingId, RecordId},
    outbox::{Delivery, State, Step},
};
use sha2::{Digest as _, Sha256};
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, commit,
    commit::{Scope, add_facts},
    emails,
    rows::{Columns as _, Key as _, lines, millis, split_lines},
};
use crate::{
    Error, Result,
    holder::{DeliveryChange, Outgoing},
    query::fold,
    records::{Attachment, Email, NewOutgoing, OutgoingBody, OutgoingContent},
};

impl SqliteStore {
    pub(super) async fn take(&self, org: &Org, email: &NewOutgoing) -> Result<(Email, bool)> {
        let mut tx = self.begin().await?;
        let hash = content_hash(email);
        if let Some(record) = used_before(&mut tx, org, email, &hash).await? {
            return Ok((emails::fetch(&mut tx, record).await?, false));
        }
        let known = sqlx::query("SELECT 1 FROM mailbox WHERE org = ? AND mailbox_id = ?")
            .bind(&org.0)
            .bind(email.mailbox.key())
            .fetch_optional(&mut *tx)
            .await?;
        if known.is_none() {
            return Err(Error::refused_field(
                Reason::ResourceNotFound,
                "email.from",
                "there is no such mailbox",
            ));
        }
        insert_record(&mut tx, org, email).await?;
        insert_content(&mut tx, org, email).await?;
        let record = RecordId::from_bytes(email.id.to_bytes());
        if let Some(key) = &email.idempotency_key {
            sqlx::query(
                "INSERT INTO idempotency(org, request_key, content_hash, record_id, at) VALUES (?,?,?,?,?)",
            )
            .bind(&org.0)
            .bind(key)
            .bind(hash.to_vec())
            .bind(record.key())
            .bind(email.at.as_millis())
            .execute(&mut *tx)
            .await?;
        }
        add_event(&mut tx, org, record, "created", email.at).await?;
        let taken = emails::fetch(&mut tx, record).await?;
        commit(tx).await?;
        Ok((taken, true))
    }

    pub(super) async fn taken_before(&self, org: &Org, email: &NewOutgoing) -> Result<Option<Email>> {
        let mut tx = self.readers.begin().await?;
        let Some(record) = used_before(&mut tx, org, email, &content_hash(email)).await? else {
            return Ok(None);
        };
        emails::fetch(&mut tx, record).await.map(Some)
    }

    /// A person's word on a sending that stands in `from`.
    pub(super) async fn decide(
        &self,
        id: RecordId,
        from: State,
        to: State,
        facts: &[Fact],
        at: Timestamp,
    ) -> Result<Email> {
        let mut tx = self.begin().await?;
        let row = sqlx::query("SELECT org, delivery FROM outgoing WHERE record_id = ?")
            .bind(id.key())
            .fetch_optional(&mut *tx)
            .await?
            .ok_or_else(|| {
                Error::refused(Reason::ResourceNotFound, format!("there is no outgoing email {id}"))
            })?;
        let delivery: Delivery = row.word("delivery")?;
        if delivery.state != from {
            let detail = format!("the email is {} and not {from}", delivery.state);
            return Err(Error::refused(Reason::EmailNotCancelable, detail));
        }
        let org = Org(row.text("org")?);
        let decided = Delivery { state: to, step: Step::None, not_before: None, ..delivery };
        store(&mut tx, id, &decided, None).await?;
        add_event(&mut tx, &org, id, "state", at).await?;
        add_facts(&mut tx, &org, facts).await?;
        let email = emails::fetch(&mut tx, id).await?;
        commit(tx).await?;
        Ok(email)
    }

    pub(super) async fn mailboxes_with_due(
        &self,
        incarnation: Incarnation,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<MailboxId>> {
        let rows = sqlx::query(
            // In any order: those that cannot send for a while must not keep the others from being found.
            "SELECT mailbox_id FROM (SELECT DISTINCT o.mailbox_id FROM outgoing o
               JOIN mailbox m ON m.mailbox_id = o.mailbox_id AND m.outgoing_state IN ('enabled', 'retrying')
               JOIN shard s ON s.shard_id = m.shard_id AND s.epoch = m.fence
             WHERE o.due IS NOT NULL AND o.due <= ? AND s.owner_inc = ?) ORDER BY random() LIMIT ?",
        )
        .bind(now.as_millis())
        .bind(incarnation.key())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| row.bytes("mailbox_id").map(MailboxId::from_bytes)).collect()
    }

    pub(super) async fn due_emails(
        &self,
        mailbox: MailboxId,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Outgoing>> {
        let rows = sqlx::query(
            "SELECT o.*, r.from_address, r.to_addresses, r.cc_addresses, r.subject FROM outgoing o
               JOIN record r USING (record_id)
             WHERE o.mailbox_id = ? AND o.due IS NOT NULL AND o.due <= ?
             ORDER BY r.create_time, o.record_id LIMIT ?",
        )
        .bind(mailbox.key())
        .bind(now.as_millis())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        let mut emails = Vec::with_capacity(rows.len());
        for row in &rows {
            let id = OutgoingId::from_bytes(row.bytes("record_id")?);
            let content = read_content(row, self.attachments(id).await?)?;
            emails.push(Outgoing { id, content, delivery: row.word("delivery")? });
        }
        Ok(emails)
    }

    async fn attachments(&self, id: OutgoingId) -> Result<Vec<Attachment>> {
        let rows = sqlx::query("SELECT * FROM attachment WHERE record_id = ? ORDER BY n")
            .bind(id.key())
            .fetch_all(&self.readers)
            .await?;
        let attachment = |row: &SqliteRow| {
            Ok(Attachment {
                name: row.text("name")?,
                content_type: row.text("content_type")?,
                content: Bytes::from(row.try_get::<Vec<u8>, _>("content")?),
            })
        };
        rows.iter().map(attachment).collect()
    }
}

/// A step of a sending inside its mailbox's fenced transaction.
pub(super) async fn step(tx: &mut Tx, scope: &Scope, change: &DeliveryChange) -> Result<()> {
    let record = RecordId::from_bytes(change.id.to_bytes());
    let row = sqlx::query("SELECT delivery FROM outgoing WHERE record_id = ? AND mailbox_id = ?")
        .bind(record.key())
        .bind(scope.mailbox.key())
        .fetch_optional(&mut **tx)
        .await?
        .ok_or_else(|| Error::refused(Reason::ResourceNotFound, "this mailbox sends no such email"))?;
    let stored: Delivery = row.word("delivery")?;
    if stored != change.from {
        let detail = format!("the email stands in {} by now", stored.state);
        return Err(Error::refused(Reason::EtagMismatch, detail));
    }
    store(tx, record, &change.to, change.due).await?;
    if let Some(message_id) = &change.internet_message_id {
        sqlx::query("UPDATE record SET internet_message_id = ?, message_id_key = ? WHERE record_id = ?")
            .bind(message_id)
            .bind(fold(message_id))
            .bind(record.key())
            .execute(&mut **tx)
            .await?;
    }
    if change.to.state != change.from.state {
        add_event(tx, &scope.org, record, "state", scope.at).await?;
    }
    Ok(())
}

async fn store(tx: &mut Tx, id: RecordId, delivery: &Delivery, due: Option<Timestamp>) -> Result<()> {
    sqlx::query("UPDATE outgoing SET delivery = ?, due = ?, step = ?, reason = ? WHERE record_id = ?")
        .bind(delivery.to_string())
        .bind(millis(due))
        .bind(delivery.step.word())
        .bind(delivery.reason.map(Reason::code))
        .bind(id.key())
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE record SET state = ? WHERE record_id = ?")
        .bind(delivery.state.word())
        .bind(id.key())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn add_event(tx: &mut Tx, org: &Org, id: RecordId, change: &'static str, at: Timestamp) -> Result<()> {
    sqlx::query("INSERT INTO event(org, record_id, change, at) VALUES (?,?,?,?)")
        .bind(&org.0)
        .bind(id.key())
        .bind(change)
        .bind(at.as_millis())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What a request key stands for: mailbox, content and expiry; each part with its length before it.
fn content_hash(email: &NewOutgoing) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    let OutgoingContent { from, to, cc, bcc, subject, body, attachments } = &email.content;
    part(&email.mailbox.to_bytes());
    part(&email.expires.map_or(i64::MIN, Timestamp::as_millis).to_be_bytes());
    for text in [from, &lines(to), &lines(cc), &lines(bcc), subject] {
        part(text.as_bytes());
    }
    let (kind, text) = body_columns(body);
    part(kind.as_bytes());
    part(text.as_bytes());
    for attachment in attachments {
        part(attachment.name.as_bytes());
        part(attachment.content_type.as_bytes());
        part(&attachment.content);
    }
    hash.finalize().into()
}

async fn used_before(
    tx: &mut Tx,
    org: &Org,
    email: &NewOutgoing,
    hash: &[u8; 32],
) -> Result<Option<RecordId>> {
    let Some(key) = &email.idempotency_key else { return Ok(None) };
    let row =
        sqlx::query("SELECT content_hash, record_id FROM idempotency WHERE org = ? AND request_key = ?")
            .bind(&org.0)
            .bind(key)
            .fetch_optional(&mut **tx)
            .await?;
    let Some(row) = row else { return Ok(None) };
    if row.bytes::<32>("content_hash")? != *hash {
        let detail = "this key was used for an email with another content";
        return Err(Error::refused_field(Reason::RequestIdReused, "idempotency_key", detail));
    }
    row.bytes("record_id").map(RecordId::from_bytes).map(Some)
}

async fn insert_record(tx: &mut Tx, org: &Org, email: &NewOutgoing) -> Result<()> {
    let content = &email.content;
    let (to, body) = (lines(&content.to), body_columns(&content.body).1.len());
    let size = body + content.attachments.iter().map(|file| file.content.len()).sum::<usize>();
    sqlx::query(
        "INSERT INTO record(record_id, org, direction, state, mailbox_id, subject, subject_key, from_address, from_key,
           to_addresses, to_key, cc_addresses, size, create_time) VALUES (?,?,'outgoing',?,?,?,?,?,?,?,?,?,?,?)",
    )
    .bind(email.id.key())
    .bind(&org.0)
    .bind(State::PendingSend.word())
    .bind(email.mailbox.key())
    .bind(&content.subject)
    .bind(fold(&content.subject))
    .bind(&content.from)
    .bind(fold(&content.from))
    .bind(&to)
    .bind(fold(&to))
    .bind(lines(&content.cc))
    .bind(size as i64)
    .bind(email.at.as_millis())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_content(tx: &mut Tx, org: &Org, email: &NewOutgoing) -> Result<()> {
    let delivery = Delivery::pending(email.expires);
    let (kind, body) = body_columns(&email.content.body);
    sqlx::query(
        "INSERT INTO outgoing(record_id, org, mailbox_id, bcc_addresses, body_kind, body, delivery, due, step)
         VALUES (?,?,?,?,?,?,?,?,?)",
    )
    .bind(email.id.key())
    .bind(&org.0)
    .bind(email.mailbox.key())
    .bind(lines(&email.content.bcc))
    .bind(kind)
    .bind(body)
    .bind(delivery.to_string())
    .bind(Timestamp::EPOCH.as_millis())
    .bind(delivery.step.word())
    .execute(&mut **tx)
    .await?;
    for (n, file) in email.content.attachments.iter().enumerate() {
        sqlx::query(
            "INSERT INTO attachment(record_id, n, org, name, content_type, content) VALUES (?,?,?,?,?,?)",
        )
        .bind(email.id.key())
        .bind(n as i64)
        .bind(&org.0)
        .bind(&file.name)
        .bind(&file.content_type)
        .bind(&file.content[..])
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

fn body_columns(body: &OutgoingBody) -> (&'static str, &str) {
    match body {
        OutgoingBody::Text(text) => ("text", text),
        OutgoingBody::Html(html) => ("html", html),
    }
}

fn read_content(row: &SqliteRow, attachments: Vec<Attachment>) -> Result<OutgoingContent> {
    let list = |name| Ok::<_, Error>(split_lines(row.try_get(name)?));
    let body = row.text("body")?;
    Ok(OutgoingContent {
        from: row.text("from_address")?,
        to: list("to_addresses")?,
        cc: list("cc_addresses")?,
        bcc: list("bcc_addresses")?,
        subject: row.text("subject")?,
        body: match row.try_get::<&str, _>("body_kind")? {
            "text" => OutgoingBody::Text(body),
            "html" => OutgoingBody::Html(body),
            other => return Err(Error::Corrupt(format!("there is no kind {other} of a body"))),
        },
        attachments,
    })
}

/// The fact that a person settled a doubt.
pub(super) fn settled(id: RecordId, at: Timestamp) -> Fact {
    Fact { regarding: Regarding::Email(id), what: What::Settled, at }
}
