//! The alert book: facts waiting for it, alerts, the ratio machines' states, and mails to people.

use async_trait::async_trait;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding},
    id::{AlertId, MailboxId, Org, ProfileId, RecordId},
    reason::Scope,
};

use super::{Backend, Columns, Session, Statement, Type, Value, commit::add_facts, filter, statement::ROWS};
use crate::{
    Error, Result,
    fleet::Leadership,
    notices::{Alert, Booking, Notice, Notices, RatioState, Unbooked},
    query::{Filter, Page, Position},
};

const COLUMNS: &str = "SELECT a.*,
    CASE a.regarding_kind
      WHEN 'mailbox' THEN (SELECT m.address FROM mailbox m WHERE m.mailbox_id = a.regarding_id)
      WHEN 'profile' THEN (SELECT p.display_name FROM profile p WHERE p.profile_id = a.regarding_id)
    END AS regarding_name
  FROM alert a";
/// Request keys are kept for at least a day, in milliseconds, whatever is asked for.
const KEYS_LIVE: i64 = 86_400_000;

#[async_trait]
impl<B: Backend> Notices for B {
    async fn unbooked(&self, limit: u32) -> Result<Vec<Unbooked>> {
        let facts =
            Statement::new("SELECT number, org, text FROM fact WHERE booked IS NULL ORDER BY number LIMIT ?");
        let unbooked = |row: &B::Row| {
            Ok(Unbooked {
                number: row.number("number")?,
                org: Org(row.text("org")?),
                fact: row.word("text").map_err(|error| error.to_string()),
            })
        };
        self.read(facts.bind(limit)).await?.iter().map(unbooked).collect()
    }

    async fn book(&self, lead: &Leadership, booking: &Booking) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        for some in booking.facts.chunks(ROWS) {
            let booked = Statement::new("UPDATE fact SET booked = ").now();
            let booked =
                booked.push(" WHERE booked IS NULL AND number").one_of(Type::Number, some.iter().copied());
            if tx.run(booked).await? < some.len() as u64 {
                return Err(Error::Fenced);
            }
        }
        for alert in &booking.alerts {
            keep_alert(&mut tx, alert).await?;
        }
        for ratio in &booking.ratios {
            keep_ratio(&mut tx, ratio).await?;
        }
        for notice in &booking.notices {
            add_notice(&mut tx, notice).await?;
        }
        tx.commit_led(lead).await
    }

    async fn open_alerts(&self) -> Result<Vec<Alert>> {
        let open =
            Statement::new(COLUMNS).push(" WHERE a.resolved_time IS NULL ORDER BY a.first_time, a.alert_id");
        let readable = |row: &B::Row| match read(row) {
            Err(Error::Corrupt(detail)) => {
                let alert = row.bytes("alert_id").map(|id| AlertId::from_bytes(id).to_string());
                tracing::error!(
                    alert = alert.ok(),
                    detail,
                    "an open alert cannot be understood: it stays as it is"
                );
                None
            }
            read => Some(read),
        };
        self.read(open).await?.iter().filter_map(readable).collect()
    }

    async fn ratio_states(&self) -> Result<Vec<RatioState>> {
        let ratio = |row: &B::Row| {
            let profile = ProfileId::from_bytes(row.bytes("profile_id")?);
            Ok(RatioState { profile, state: row.text("state")? })
        };
        self.read(Statement::new("SELECT * FROM ratio ORDER BY profile_id"))
            .await?
            .iter()
            .map(ratio)
            .collect()
    }

    async fn alerts(&self, org: &Org, wanted: &Filter, page: &Page) -> Result<Vec<Alert>> {
        let mut query = Statement::new(COLUMNS).push(" WHERE a.org = ").value(org);
        if let Some(after) = &page.after {
            let Position { at, id } = after.parse()?;
            query = query.push(" AND (a.first_time, a.alert_id) < (").value(at).push(", ");
            query = query.value(AlertId::new(id)).push(")");
        }
        query.add(" AND ");
        filter::push(&mut query, filter::ALERTS, wanted)?;
        let query = query.push(" ORDER BY a.first_time DESC, a.alert_id DESC LIMIT ").value(page.limit);
        self.read(query).await?.iter().map(read).collect()
    }

    async fn alert(&self, id: AlertId) -> Result<Option<Alert>> {
        let found = Statement::new(COLUMNS).push(" WHERE a.alert_id = ").value(id);
        self.read_one(found).await?.as_ref().map(read).transpose()
    }

    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>> {
        let due = Statement::new(
            "SELECT * FROM notice WHERE due IS NOT NULL AND due <= ? ORDER BY due, number LIMIT ?",
        );
        let notice = |row: &B::Row| {
            Ok(Notice {
                number: row.number("number")?,
                alert: AlertId::from_bytes(row.bytes("alert_id")?),
                to: row.text("to_address")?,
                subject: row.text("subject")?,
                text: row.text("text")?,
                attempts: row.small("attempts")?,
            })
        };
        self.read(due.bind(now).bind(limit)).await?.iter().map(notice).collect()
    }

    async fn notice_attempted(
        &self,
        lead: &Leadership,
        number: u64,
        result: Result<(), Reason>,
        again: Option<Timestamp>,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        let attempted = Statement::new(
            "UPDATE notice SET attempts = attempts + ?, due = ? WHERE number = ? AND due IS NOT NULL RETURNING alert_id",
        );
        let attempted = attempted.bind(i64::from(result.is_err())).bind(again.filter(|_| result.is_err()));
        let Some(row) = tx.row(attempted.bind(number)).await? else { return Ok(()) };
        let word = match result {
            Ok(()) => "sent",
            Err(reason) => reason.code(),
        };
        let told = Statement::new("UPDATE alert SET notice = ? WHERE alert_id = ?").bind(word);
        tx.run(told.bind(AlertId::from_bytes(row.bytes("alert_id")?))).await?;
        tx.commit_led(lead).await
    }

    async fn raise(&self, lead: &Leadership, org: &Org, facts: &[Fact]) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        add_facts(&mut tx, org, facts).await?;
        tx.commit_led(lead).await
    }

    async fn forget(&self, lead: &Leadership, before: Timestamp) -> Result<u64> {
        let mut tx = self.begin().await?;
        tx.guard(lead).await?;
        let mut forgotten = 0;
        for sql in [
            "DELETE FROM notice WHERE alert_id IN (SELECT alert_id FROM alert WHERE resolved_time < ?)",
            "DELETE FROM alert WHERE resolved_time < ?",
            "DELETE FROM fact WHERE booked < ?",
            "DELETE FROM worker WHERE state = 'dead' AND lease_until < ?",
        ] {
            forgotten += tx.run(Statement::new(sql).bind(before)).await?;
        }
        let keys = Statement::new("DELETE FROM idempotency WHERE at < ? AND at < ").bind(before).now();
        forgotten += tx.run(keys.push(" - ").value(KEYS_LIVE)).await?;
        tx.commit_led(lead).await?;
        Ok(forgotten)
    }
}

async fn keep_alert<S: Session>(tx: &mut S, alert: &Alert) -> Result<()> {
    let (kind, id) = regarding_columns(alert.regarding);
    let text = if kind == "email" { alert.regarding.to_string() } else { String::new() };
    let kept = Statement::new(
        "INSERT INTO alert(alert_id, org, reason, level, scope, regarding_kind, regarding_id, regarding_text, profile_id,
           count, operations, summary, first_time, last_time, resolved_time, notice)
         VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
         ON CONFLICT (alert_id) DO UPDATE SET level = excluded.level, count = excluded.count,
           operations = excluded.operations, summary = excluded.summary, last_time = excluded.last_time,
           resolved_time = excluded.resolved_time, notice = coalesce(excluded.notice, alert.notice)",
    );
    let kept = kept
        .bind(alert.id)
        .bind(&alert.org)
        .bind(alert.reason)
        .bind(alert.level.word())
        .bind(alert.scope.to_string())
        .bind(kind)
        .bind(id)
        .bind(text.trim_start_matches("email:"))
        .bind(alert.profile)
        .bind(alert.count)
        .bind(alert.operations.iter().rev().fold(0_i64, |bits, on| bits << 1 | i64::from(*on)))
        .bind(&alert.summary)
        .bind(alert.first_time)
        .bind(alert.last_time)
        .bind(alert.resolved_time)
        .bind(&alert.notice);
    tx.run(kept).await?;
    Ok(())
}

async fn keep_ratio<S: Session>(tx: &mut S, ratio: &RatioState) -> Result<()> {
    let kept = Statement::new(
        "INSERT INTO ratio(profile_id, org, state) SELECT profile_id, org, ? FROM profile WHERE profile_id = ?
         ON CONFLICT (profile_id) DO UPDATE SET state = excluded.state",
    );
    tx.run(kept.bind(&ratio.state).bind(ratio.profile)).await?;
    Ok(())
}

/// A new mail is due at once; its alert says that it waits.
async fn add_notice<S: Session>(tx: &mut S, notice: &Notice) -> Result<()> {
    let waiting = Statement::new("UPDATE alert SET notice = 'waiting' WHERE alert_id = ?").bind(notice.alert);
    if tx.run(waiting).await? == 0 {
        return Err(Error::refused(
            Reason::ResourceNotFound,
            "a mail is to be sent about an alert that is not there",
        ));
    }
    let added = Statement::new(
        "INSERT INTO notice(org, alert_id, to_address, subject, text, due)
         SELECT org, alert_id, ?, ?, ?, 0 FROM alert WHERE alert_id = ?",
    );
    tx.run(added.bind(&notice.to).bind(&notice.subject).bind(&notice.text).bind(notice.alert)).await?;
    Ok(())
}

fn regarding_columns(regarding: Regarding) -> (&'static str, Value) {
    match regarding {
        Regarding::Mailbox(id) => ("mailbox", id.into()),
        Regarding::Profile(id) => ("profile", id.into()),
        Regarding::Email(id) => ("email", id.into()),
    }
}

fn read(row: &impl Columns) -> Result<Alert> {
    let id = row.bytes("regarding_id")?;
    let regarding = match row.str("regarding_kind")? {
        "mailbox" => Regarding::Mailbox(MailboxId::from_bytes(id)),
        "profile" => Regarding::Profile(ProfileId::from_bytes(id)),
        "email" => Regarding::Email(RecordId::from_bytes(id)),
        other => return Err(Error::Corrupt(format!("an alert regards a {other}"))),
    };
    let bits = row.number("operations")?;
    Ok(Alert {
        id: AlertId::from_bytes(row.bytes("alert_id")?),
        org: Org(row.text("org")?),
        reason: row.word("reason")?,
        level: row.word("level")?,
        scope: scope(row.str("scope")?)?,
        regarding,
        regarding_name: match row.maybe_text("regarding_name")? {
            Some(name) => name,
            None => row.text("regarding_text")?,
        },
        profile: row.maybe_bytes("profile_id")?.map(ProfileId::from_bytes),
        count: row.number("count")?,
        operations: std::array::from_fn(|at| bits >> at & 1 == 1),
        summary: row.text("summary")?,
        first_time: row.time("first_time")?,
        last_time: row.time("last_time")?,
        resolved_time: row.maybe_time("resolved_time")?,
        notice: row.maybe_text("notice")?,
    })
}

fn scope(word: &str) -> Result<Scope> {
    [Scope::Item, Scope::Mailbox, Scope::Profile, Scope::Request]
        .into_iter()
        .find(|scope| scope.to_string() == word)
        .ok_or_else(|| Error::Corrupt(format!("there is no scope {word}")))
}
