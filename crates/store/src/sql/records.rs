//! The CRM's side: the door to emails, the quarantine, and the feed of events.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::{MailboxId, Org, RecordId},
    outbox::State,
};

use super::{
    Backend, Columns, Script, Session, Statement, Type, blob, emails,
    mailbox::wish_poll,
    outgoing::{self, settled},
};
use crate::{
    Error, Result,
    fleet::Leadership,
    query::{Filter, Page, invalid_position},
    records::{Email, Event, NewOutgoing, Quarantined, Records},
};

#[async_trait]
impl<B: Backend> Records for B {
    async fn emails(&self, org: &Org, filter: &Filter, page: &Page) -> Result<Vec<Email>> {
        emails::list(self, org, filter, page).await
    }

    async fn email(&self, id: RecordId) -> Result<Option<Email>> {
        emails::find(&mut self.snapshot().await?, id).await
    }

    async fn email_content(&self, id: RecordId, offset: u64) -> Result<Option<Bytes>> {
        blob::content(self, id, offset).await
    }

    async fn enqueue(&self, org: &Org, email: &NewOutgoing) -> Result<(Email, bool)> {
        outgoing::take(self, org, email).await
    }

    async fn enqueued(&self, org: &Org, email: &NewOutgoing) -> Result<Option<Email>> {
        outgoing::taken_before(self, org, email).await
    }

    async fn cancel(&self, id: RecordId, at: Timestamp) -> Result<Email> {
        outgoing::decide(self, id, State::PendingSend, State::Canceled, &[], at).await
    }

    async fn settle_doubt(&self, id: RecordId, sent: bool, at: Timestamp) -> Result<Email> {
        let state = if sent { State::Sent } else { State::Canceled };
        outgoing::decide(self, id, State::NeedsPerson, state, &[settled(id, at)], at).await
    }

    async fn quarantined(
        &self,
        org: &Org,
        mailbox: Option<MailboxId>,
        page: &Page,
    ) -> Result<Vec<Quarantined>> {
        let after = page.after.as_deref().map(|after| after.split_once('\n').ok_or_else(invalid_position));
        let (address, item) = after.transpose()?.unwrap_or_default();
        let mut query = Statement::new(
            "SELECT i.*, m.address FROM inbound i JOIN mailbox m USING (mailbox_id)
             WHERE i.state = 'quarantined' AND m.org = ? AND (m.address_key, i.item_id) > (?, ?)",
        );
        query = query.bind(org).bind(address).bind(item);
        if let Some(mailbox) = mailbox {
            query = query.push(" AND i.mailbox_id = ").value(mailbox);
        }
        let query = query.push(" ORDER BY m.address_key, i.item_id LIMIT ").value(page.limit);
        self.read(query).await?.iter().map(read_quarantined).collect()
    }

    async fn replay(&self, mailbox: MailboxId, item_ids: &[String]) -> Result<u64> {
        let mut tx = self.begin().await?;
        tx.lock("mailbox WHERE mailbox_id = ?", mailbox.into()).await?;
        let mut replayed = 0;
        for some in item_ids.chunks(super::statement::ROWS) {
            let again = Statement::new(
                "UPDATE inbound SET state = 'seen', attempts = 0, reason = NULL
                 WHERE mailbox_id = ? AND state = 'quarantined' AND item_id",
            );
            replayed += tx.run(again.bind(mailbox).one_of(Type::Text, some)).await?;
        }
        if replayed > 0 {
            wish_poll(&mut tx, mailbox).await?;
        }
        tx.commit().await?;
        Ok(replayed)
    }

    async fn publish(&self, lead: &Leadership, limit: u32) -> Result<u64> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        // Two that publish at once wait for each other here, before they see what has no position.
        tx.rows(Statement::new("SELECT org FROM org ORDER BY org").lock()).await?;
        let fresh = Statement::new(
            "SELECT event_id, org FROM event WHERE position IS NULL ORDER BY event_id LIMIT ?",
        );
        let mut events: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for row in tx.rows(fresh.bind(limit)).await? {
            events.entry(row.text("org")?).or_default().push(row.number("event_id")?);
        }
        let mut published = 0;
        for (org, events) in events {
            published += events.len() as u64;
            give_positions(&mut tx, &Org(org), &events).await?;
        }
        if published > 0 {
            tx.commit_led(lead).await?;
        }
        Ok(published)
    }

    async fn feed_incarnation(&self) -> Result<u128> {
        let row = self.read_one(Statement::new("SELECT feed_incarnation FROM store")).await?;
        let row = row.ok_or_else(|| Error::Corrupt("the store has no incarnation".to_owned()))?;
        row.bytes("feed_incarnation").map(u128::from_be_bytes)
    }

    async fn events(&self, org: &Org, after: u64, limit: u32) -> Result<Vec<Event>> {
        let after =
            i64::try_from(after).map_err(|_| Error::refused(Reason::FieldInvalid, "no such position"))?;
        let events = Statement::new(
            "SELECT position, record_id, change, at FROM event
             WHERE org = ? AND position > ? AND position IS NOT NULL ORDER BY position LIMIT ?",
        );
        let event = |row: &B::Row| {
            Ok(Event {
                position: row.number("position")?,
                record: RecordId::from_bytes(row.bytes("record_id")?),
                change: row.text("change")?,
                at: row.time("at")?,
            })
        };
        self.read(events.bind(org).bind(after).bind(limit)).await?.iter().map(event).collect()
    }
}

/// The next positions of an organization, in this order.
async fn give_positions<S: Session>(tx: &mut S, org: &Org, events: &[u64]) -> Result<()> {
    let reached = Statement::new(
        "UPDATE org SET feed_position = feed_position + ? WHERE org = ? RETURNING feed_position",
    );
    let row = tx.the_row(reached.bind(events.len()).bind(org)).await?;
    let first = row.number("feed_position")? - events.len() as u64 + 1;
    let mut script = Script::default();
    script.insert(
        "WITH v(id, place) AS (",
        &[Type::Number, Type::Number],
        events.iter().zip(first..),
        |(id, place)| vec![(*id).into(), place.into()],
        ") UPDATE event SET position = v.place FROM v WHERE event_id = v.id",
    );
    tx.script(script).await
}

fn read_quarantined(row: &impl Columns) -> Result<Quarantined> {
    Ok(Quarantined {
        mailbox: MailboxId::from_bytes(row.bytes("mailbox_id")?),
        address: row.text("address")?,
        item_id: row.text("item_id")?,
        reason: row.word("reason")?,
        attempts: row.small("attempts")?,
        moved: row.flag("moved")?,
        seen: row.time("seen")?,
    })
}
