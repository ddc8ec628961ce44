//! The data plane: the door to claims, fenced transactions and what holders read.

use async_trait::async_trait;
use bytes::Bytes;
use mailyard_policy::{
    Timestamp,
    alert::Fact,
    id::{Epoch, Incarnation, MailboxId, OutgoingId, ProfileId, UploadId},
    outbox::Capabilities,
};

use super::{Backend, Columns, Statement, Type, blob, claim, commit, lane, location, outgoing};
use crate::{
    Error, Result,
    holder::{
        Claimed, Claims, Commit, Committed, Fence, Holder, Inbound, InboundState, Lane, Located, Outgoing,
        Standing, Wanted,
    },
};

#[async_trait]
impl<B: Backend> Holder for B {
    async fn claim(&self, incarnation: Incarnation, limit: u32) -> Result<Claims> {
        claim::some(self, incarnation, limit).await
    }

    async fn claim_again(&self, incarnation: Incarnation, mailboxes: &[MailboxId]) -> Result<Claims> {
        claim::these(self, incarnation, mailboxes).await
    }

    async fn standing(&self, incarnation: Incarnation) -> Result<Vec<Standing>> {
        claim::standing(self, incarnation).await
    }

    async fn unapplied(&self, incarnation: Incarnation, limit: u32) -> Result<Vec<(MailboxId, Wanted)>> {
        claim::not_applied(self, incarnation, limit).await
    }

    async fn reload(&self, fence: &Fence) -> Result<Claimed> {
        claim::read_again(self, fence).await
    }

    async fn commit(&self, fence: &Fence, commit: Commit) -> Result<Committed> {
        commit::write(self, fence, commit).await
    }

    async fn inbound(&self, mailbox: MailboxId, limit: u32) -> Result<Vec<Inbound>> {
        let waiting = Statement::new(
            "SELECT * FROM inbound WHERE mailbox_id = ? AND state <> 'quarantined'
             ORDER BY attempts, coalesce(received, seen), item_id LIMIT ?",
        );
        self.read(waiting.bind(mailbox).bind(limit)).await?.iter().map(read_inbound).collect()
    }

    async fn located(&self, mailbox: MailboxId) -> Result<Option<Located>> {
        location::last(self, mailbox).await
    }

    async fn known_tests(&self, ids: &[OutgoingId]) -> Result<Vec<OutgoingId>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let known = Statement::new("SELECT outgoing_id FROM known_test WHERE outgoing_id");
        let rows = self.read(known.one_of(Type::Id, ids.iter().copied())).await?;
        rows.iter().map(|row| row.bytes("outgoing_id").map(OutgoingId::from_bytes)).collect()
    }

    async fn know_test(&self, mailbox: MailboxId, id: OutgoingId, at: Timestamp) -> Result<()> {
        let known = Statement::new(
            "INSERT INTO known_test(outgoing_id, mailbox_id, org, at)
             SELECT ?, mailbox_id, org, ? FROM mailbox WHERE mailbox_id = ? ON CONFLICT DO NOTHING",
        );
        self.write(known.bind(id).bind(at).bind(mailbox)).await?;
        Ok(())
    }

    async fn upload(&self, upload: UploadId, number: u32, chunk: Bytes, at: Timestamp) -> Result<()> {
        blob::add_chunk(self, upload, number, chunk, at).await
    }

    async fn sweep_uploads(&self, before: Timestamp) -> Result<u64> {
        blob::sweep(self, before).await
    }

    async fn due_outgoing(
        &self,
        incarnation: Incarnation,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<MailboxId>> {
        outgoing::mailboxes_with_due(self, incarnation, now, limit).await
    }

    async fn outgoing(&self, mailbox: MailboxId, now: Timestamp, limit: u32) -> Result<Vec<Outgoing>> {
        outgoing::due(self, mailbox, now, limit).await
    }

    async fn lane(&self, profile: ProfileId, lane: u16) -> Result<Option<Lane>> {
        lane::stored(self, profile, lane).await
    }

    async fn keep_lane(
        &self,
        profile: ProfileId,
        lane: u16,
        epoch: Epoch,
        kept: &Lane,
        facts: &[Fact],
    ) -> Result<()> {
        lane::keep(self, profile, lane, epoch, kept, facts).await
    }

    async fn keep_capabilities(
        &self,
        profile: ProfileId,
        epoch: Epoch,
        outgoing_url: Option<&str>,
        capabilities: &Capabilities,
    ) -> Result<()> {
        lane::keep_capabilities(self, profile, epoch, outgoing_url, capabilities).await
    }
}

fn read_inbound(row: &impl Columns) -> Result<Inbound> {
    let reason = || row.word("reason");
    let state = match row.str("state")? {
        "seen" => InboundState::Seen,
        "quarantined" => InboundState::Quarantined(reason()?),
        "moving" => InboundState::Moving { reason: reason()?, search_key: row.blob("search_key")? },
        other => return Err(Error::Corrupt(format!("there is no state {other} of an item"))),
    };
    Ok(Inbound {
        item_id: row.text("item_id")?,
        seen: row.time("seen")?,
        attempts: row.small("attempts")?,
        state,
    })
}
