//! Emails on their way out: taken once per request key, stepped by their holder, canceled by people.

use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding, What},
    id::{Incarnation, MailboxId, Org, OutgoingId, RecordId},
    outbox::{Delivery, State, Step},
};
use sha2::{Digest as _, Sha256};

use super::{
    Backend, Columns, Script, Session, Statement, Type,
    commit::{Scope, add_facts},
    emails,
    rows::{lines, split_lines},
};
use crate::{
    Error, Result,
    holder::{DeliveryChange, Outgoing},
    query::fold,
    records::{Attachment, Email, NewOutgoing, OutgoingBody, OutgoingContent},
};

pub(super) async fn take<B: Backend>(store: &B, org: &Org, email: &NewOutgoing) -> Result<(Email, bool)> {
    let mut tx = store.begin().await?;
    let (record, hash) = (RecordId::from_bytes(email.id.to_bytes()), content_hash(email));
    if let Some(record) = used_before(&mut tx, org, email, &hash).await? {
        return Ok((emails::fetch(&mut tx, record).await?, false));
    }
    let known = Statement::new("SELECT 1 FROM mailbox WHERE org = ? AND mailbox_id = ?").bind(org);
    if tx.row(known.bind(email.mailbox)).await?.is_none() {
        let detail = "there is no such mailbox";
        return Err(Error::refused_field(Reason::ResourceNotFound, "email.from", detail));
    }
    if let Some(key) = &email.idempotency_key {
        let first = Statement::new(
            "INSERT INTO idempotency(org, request_key, content_hash, record_id, at) VALUES (?,?,?,?,?)
             ON CONFLICT DO NOTHING",
        );
        let first = first.bind(org).bind(key).bind(hash).bind(record).bind(email.at);
        if tx.run(first).await? == 0 {
            // Somebody was faster with the same key.
            let record = used_before(&mut tx, org, email, &hash).await?.unwrap_or(record);
            return Ok((emails::fetch(&mut tx, record).await?, false));
        }
    }
    insert_record(&mut tx, org, email).await?;
    insert_content(&mut tx, org, email).await?;
    add_event(&mut tx, org, record, "created", email.at).await?;
    let taken = emails::fetch(&mut tx, record).await?;
    tx.commit().await?;
    Ok((taken, true))
}

pub(super) async fn taken_before<B: Backend>(
    store: &B,
    org: &Org,
    email: &NewOutgoing,
) -> Result<Option<Email>> {
    let mut session = store.snapshot().await?;
    let Some(record) = used_before(&mut session, org, email, &content_hash(email)).await? else {
        return Ok(None);
    };
    emails::fetch(&mut session, record).await.map(Some)
}

/// A person's word on a sending that stands in `from`.
pub(super) async fn decide<B: Backend>(
    store: &B,
    id: RecordId,
    from: State,
    to: State,
    facts: &[Fact],
    at: Timestamp,
) -> Result<Email> {
    let mut tx = store.begin().await?;
    let found = Statement::new("SELECT org, delivery FROM outgoing WHERE record_id = ?").bind(id).lock();
    let none = || Error::refused(Reason::ResourceNotFound, format!("there is no outgoing email {id}"));
    let row = tx.row(found).await?.ok_or_else(none)?;
    let delivery: Delivery = row.word("delivery")?;
    if delivery.state != from {
        let detail = format!("the email is {} and not {from}", delivery.state);
        return Err(Error::refused(Reason::EmailNotCancelable, detail));
    }
    let org = Org(row.text("org")?);
    let decided = Delivery { state: to, step: Step::None, not_before: None, ..delivery };
    keep(&mut tx, id, &decided, None).await?;
    add_event(&mut tx, &org, id, "state", at).await?;
    add_facts(&mut tx, &org, facts).await?;
    let email = emails::fetch(&mut tx, id).await?;
    tx.commit().await?;
    Ok(email)
}

pub(super) async fn mailboxes_with_due<B: Backend>(
    store: &B,
    incarnation: Incarnation,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<MailboxId>> {
    // In any order: those that cannot send for a while must not keep the others from being found.
    let due = Statement::new(
        "SELECT mailbox_id FROM (SELECT DISTINCT o.mailbox_id FROM outgoing o
           JOIN mailbox m ON m.mailbox_id = o.mailbox_id AND m.outgoing_state IN ('enabled', 'retrying')
           JOIN shard s ON s.shard_id = m.shard_id AND s.epoch = m.fence
         WHERE o.due IS NOT NULL AND o.due <= ? AND s.owner_inc = ?) AS d ORDER BY random() LIMIT ?",
    );
    let rows = store.read(due.bind(now).bind(incarnation).bind(limit)).await?;
    rows.iter().map(|row| row.bytes("mailbox_id").map(MailboxId::from_bytes)).collect()
}

pub(super) async fn due<B: Backend>(
    store: &B,
    mailbox: MailboxId,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<Outgoing>> {
    let due = Statement::new(
        "SELECT o.*, r.from_address, r.to_addresses, r.cc_addresses, r.subject FROM outgoing o
           JOIN record r USING (record_id)
         WHERE o.mailbox_id = ? AND o.due IS NOT NULL AND o.due <= ?
         ORDER BY r.create_time, o.record_id LIMIT ?",
    );
    let rows = store.read(due.bind(mailbox).bind(now).bind(limit)).await?;
    let mut emails = Vec::with_capacity(rows.len());
    for row in &rows {
        let id = OutgoingId::from_bytes(row.bytes("record_id")?);
        let content = read_content(row, attachments(store, id).await?)?;
        emails.push(Outgoing { id, content, delivery: row.word("delivery")? });
    }
    Ok(emails)
}

async fn attachments<B: Backend>(store: &B, id: OutgoingId) -> Result<Vec<Attachment>> {
    let all = Statement::new("SELECT * FROM attachment WHERE record_id = ? ORDER BY n").bind(id);
    let attachment = |row: &B::Row| {
        Ok(Attachment {
            name: row.text("name")?,
            content_type: row.text("content_type")?,
            content: row.blob("content")?,
        })
    };
    store.read(all).await?.iter().map(attachment).collect()
}

/// A step of a sending inside its mailbox's fenced transaction.
pub(super) async fn step<S: Session>(tx: &mut S, scope: &Scope, change: &DeliveryChange) -> Result<()> {
    let record = RecordId::from_bytes(change.id.to_bytes());
    let found = Statement::new("SELECT delivery FROM outgoing WHERE record_id = ? AND mailbox_id = ?");
    let none = || Error::refused(Reason::ResourceNotFound, "this mailbox sends no such email");
    let row = tx.row(found.bind(record).bind(scope.mailbox).lock()).await?.ok_or_else(none)?;
    let stored: Delivery = row.word("delivery")?;
    if stored != change.from {
        let detail = format!("the email stands in {} by now", stored.state);
        return Err(Error::refused(Reason::EtagMismatch, detail));
    }
    keep(tx, record, &change.to, change.due).await?;
    if let Some(message_id) = &change.internet_message_id {
        let known = Statement::new(
            "UPDATE record SET internet_message_id = ?, message_id_key = ? WHERE record_id = ?",
        );
        tx.run(known.bind(message_id).bind(fold(message_id)).bind(record)).await?;
    }
    if change.to.state != change.from.state {
        add_event(tx, &scope.org, record, "state", scope.at).await?;
    }
    Ok(())
}

async fn keep<S: Session>(
    tx: &mut S,
    id: RecordId,
    delivery: &Delivery,
    due: Option<Timestamp>,
) -> Result<()> {
    let kept =
        Statement::new("UPDATE outgoing SET delivery = ?, due = ?, step = ?, reason = ? WHERE record_id = ?");
    let kept = kept.bind(delivery.to_string()).bind(due).bind(delivery.step.word()).bind(delivery.reason);
    let mut script = Script::default();
    script.add(kept.bind(id));
    let state = Statement::new("UPDATE record SET state = ? WHERE record_id = ?");
    script.add(state.bind(delivery.state.word()).bind(id));
    tx.script(script).await
}

async fn add_event<S: Session>(
    tx: &mut S,
    org: &Org,
    id: RecordId,
    change: &'static str,
    at: Timestamp,
) -> Result<()> {
    let event = Statement::new("INSERT INTO event(org, record_id, change, at) VALUES (?,?,?,?)");
    tx.run(event.bind(org).bind(id).bind(change).bind(at)).await?;
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

async fn used_before<S: Session>(
    tx: &mut S,
    org: &Org,
    email: &NewOutgoing,
    hash: &[u8; 32],
) -> Result<Option<RecordId>> {
    let Some(key) = &email.idempotency_key else { return Ok(None) };
    let used =
        Statement::new("SELECT content_hash, record_id FROM idempotency WHERE org = ? AND request_key = ?");
    let Some(row) = tx.row(used.bind(org).bind(key)).await? else { return Ok(None) };
    if row.bytes::<32>("content_hash")? != *hash {
        let detail = "this key was used for an email with another content";
        return Err(Error::refused_field(Reason::RequestIdReused, "idempotency_key", detail));
    }
    row.bytes("record_id").map(RecordId::from_bytes).map(Some)
}

async fn insert_record<S: Session>(tx: &mut S, org: &Org, email: &NewOutgoing) -> Result<()> {
    let content = &email.content;
    let (to, body) = (lines(&content.to), body_columns(&content.body).1.len());
    let size = body + content.attachments.iter().map(|file| file.content.len()).sum::<usize>();
    let made = Statement::new(
        "INSERT INTO record(record_id, org, direction, state, mailbox_id, subject, subject_key, from_address, from_key,
           to_addresses, to_key, cc_addresses, size, create_time) VALUES (?,?,'outgoing',?,?,?,?,?,?,?,?,?,?,?)",
    );
    let made = made
        .bind(email.id)
        .bind(org)
        .bind(State::PendingSend.word())
        .bind(email.mailbox)
        .bind(&content.subject)
        .bind(fold(&content.subject))
        .bind(&content.from)
        .bind(fold(&content.from))
        .bind(&to)
        .bind(fold(&to))
        .bind(lines(&content.cc))
        .bind(size)
        .bind(email.at);
    tx.run(made).await?;
    Ok(())
}

async fn insert_content<S: Session>(tx: &mut S, org: &Org, email: &NewOutgoing) -> Result<()> {
    let delivery = Delivery::pending(email.expires);
    let (kind, body) = body_columns(&email.content.body);
    let made = Statement::new(
        "INSERT INTO outgoing(record_id, org, mailbox_id, bcc_addresses, body_kind, body, delivery, due, step)
         VALUES (?,?,?,?,?,?,?,?,?)",
    );
    let made = made
        .bind(email.id)
        .bind(org)
        .bind(email.mailbox)
        .bind(lines(&email.content.bcc))
        .bind(kind)
        .bind(body)
        .bind(delivery.to_string())
        .bind(Timestamp::EPOCH)
        .bind(delivery.step.word());
    tx.run(made).await?;
    let mut script = Script::default();
    script.insert(
        "INSERT INTO attachment(record_id, n, org, name, content_type, content) ",
        &[Type::Id, Type::Number, Type::Text, Type::Text, Type::Text, Type::Bytes],
        email.content.attachments.iter().enumerate(),
        |(n, file)| {
            let (name, content_type) = ((&file.name).into(), (&file.content_type).into());
            vec![email.id.into(), n.into(), org.into(), name, content_type, file.content.clone().into()]
        },
        "",
    );
    tx.script(script).await
}

fn body_columns(body: &OutgoingBody) -> (&'static str, &str) {
    match body {
        OutgoingBody::Text(text) => ("text", text),
        OutgoingBody::Html(html) => ("html", html),
    }
}

fn read_content(row: &impl Columns, attachments: Vec<Attachment>) -> Result<OutgoingContent> {
    let list = |name| Ok::<_, Error>(split_lines(row.str(name)?));
    let body = row.text("body")?;
    Ok(OutgoingContent {
        from: row.text("from_address")?,
        to: list("to_addresses")?,
        cc: list("cc_addresses")?,
        bcc: list("bcc_addresses")?,
        subject: row.text("subject")?,
        body: match row.str("body_kind")? {
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
