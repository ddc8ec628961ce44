//! The alert book on SQLite: facts waiting for it, alerts, the ratio machines' states, and mails to people.

use async_trait::async_trait;
use mailyard_policy::{
    Reason, Timestamp,
    alert::{Fact, Regarding},
    id::{AlertId, Org, ProfileId, RecordId},
    reason::Scope,
};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore, Tx, commit,
    commit::add_facts,
    filter,
    fleet::guard,
    rows::{Columns as _, Key as _, millis, now},
};
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

#[async_trait]
impl Notices for SqliteStore {
    async fn unbooked(&self, limit: u32) -> Result<Vec<Unbooked>> {
        let rows =
            sqlx::query("SELECT number, org, text FROM fact WHERE booked IS NULL ORDER BY number LIMIT ?")
                .bind(i64::from(limit))
                .fetch_all(&self.readers)
                .await?;
        let unbooked = |row: &SqliteRow| {
            Ok(Unbooked {
                number: row.number("number")?,
                org: Org(row.text("org")?),
                fact: row.word("text").map_err(|error| error.to_string()),
            })
        };
        rows.iter().map(unbooked).collect()
    }

    async fn book(&self, lead: &Leadership, booking: &Booking) -> Result<()> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        for number in &booking.facts {
            let done = sqlx::query(concat!(
                "UPDATE fact SET booked = ",
                now!(),
                " WHERE number = ? AND booked IS NULL"
            ))
            .bind(*number as i64)
            .execute(&mut *tx)
            .await?;
            if done.rows_affected() == 0 {
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
        commit(tx).await
    }

    async fn open_alerts(&self) -> Result<Vec<Alert>> {
        let sql = format!("{COLUMNS} WHERE a.resolved_time IS NULL ORDER BY a.first_time, a.alert_id");
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.readers).await?;
        let readable = |row: &SqliteRow| match read(row) {
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
        rows.iter().filter_map(readable).collect()
    }

    async fn ratio_states(&self) -> Result<Vec<RatioState>> {
        let rows = sqlx::query("SELECT * FROM ratio ORDER BY profile_id").fetch_all(&self.readers).await?;
        let ratio = |row: &SqliteRow| {
            let profile = ProfileId::from_bytes(row.bytes("profile_id")?);
            Ok(RatioState { profile, state: row.text("state")? })
        };
        rows.iter().map(ratio).collect()
    }

    async fn alerts(&self, org: &Org, wanted: &Filter, page: &Page) -> Result<Vec<Alert>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push(" WHERE a.org = ").push_bind(org.0.clone());
        if let Some(after) = &page.after {
            let Position { at, id } = after.parse()?;
            query.push(" AND (a.first_time, a.alert_id) < (").push_bind(at.as_millis());
            query.push(", ").push_bind(id.to_be_bytes().to_vec()).push(")");
        }
        filter::push(query.push(" AND "), filter::ALERTS, wanted)?;
        query.push(" ORDER BY a.first_time DESC, a.alert_id DESC LIMIT ").push_bind(i64::from(page.limit));
        query.build().fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    async fn alert(&self, id: AlertId) -> Result<Option<Alert>> {
        let row = sqlx::query(AssertSqlSafe(format!("{COLUMNS} WHERE a.alert_id = ?")))
            .bind(id.key())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read).transpose()
    }

    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>> {
        let rows = sqlx::query(
            "SELECT * FROM notice WHERE due IS NOT NULL AND due <= ? ORDER BY due, number LIMIT ?",
        )
        .bind(now.as_millis())
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        let notice = |row: &SqliteRow| {
            Ok(Notice {
                number: row.number("number")?,
                alert: AlertId::from_bytes(row.bytes("alert_id")?),
                to: row.text("to_address")?,
                subject: row.text("subject")?,
                text: row.text("text")?,
                attempts: row.try_get("attempts")?,
            })
        };
        rows.iter().map(notice).collect()
    }

    async fn notice_attempted(
        &self,
        lead: &Leadership,
        number: u64,
        result: Result<(), Reason>,
        again: Option<Timestamp>,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let due = again.filter(|_| result.is_err());
        let row = sqlx::query(
            "UPDATE notice SET attempts = attempts + ?, due = ? WHERE number = ? AND due IS NOT NULL RETURNING alert_id",
        )
        .bind(i64::from(result.is_err()))
        .bind(millis(due))
        .bind(number as i64)
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(()) };
        let word = match result {
            Ok(()) => "sent",
            Err(reason) => reason.code(),
        };
        sqlx::query("UPDATE alert SET notice = ? WHERE alert_id = ?")
            .bind(word)
            .bind(row.try_get::<Vec<u8>, _>("alert_id")?)
            .execute(&mut *tx)
            .await?;
        commit(tx).await
    }

    async fn raise(&self, lead: &Leadership, org: &Org, facts: &[Fact]) -> Result<()> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        add_facts(&mut tx, org, facts).await?;
        commit(tx).await
    }

    async fn forget(&self, lead: &Leadership, before: Timestamp) -> Result<u64> {
        let mut tx = self.begin().await?;
        guard(&mut tx, lead).await?;
        let mut forgotten = 0;
        for sql in [
            "DELETE FROM notice WHERE alert_id IN (SELECT alert_id FROM alert WHERE resolved_time < ?)",
            "DELETE FROM alert WHERE resolved_time < ?",
            "DELETE FROM fact WHERE booked < ?",
            "DELETE FROM worker WHERE state = 'dead' AND lease_until < ?",
        ] {
            let done = sqlx::query(sql).bind(before.as_millis()).execute(&mut *tx).await?;
            forgotten += done.rows_affected();
        }
        // Request keys are kept for at least a day whatever is asked for.
        let done = sqlx::query(concat!("DELETE FROM idempotency WHERE at < min(?, ", now!(), " - 86400000)"))
            .bind(before.as_millis())
            .execute(&mut *tx)
            .await?;
        commit(tx).await?;
        Ok(forgotten + done.rows_affected())
    }
}

async fn keep_alert(tx: &mut Tx, alert: &Alert) -> Result<()> {
    let (kind, id) = regarding_columns(alert.regarding);
    let text = if kind == "email" { alert.regarding.to_string() } else { String::new() };
    sqlx::query(
        "INSERT INTO alert(alert_id, org, reason, level, scope, regarding_kind, regarding_id, regarding_text, profile_id,
           count, operations, summary, first_time, last_time, resolved_time, notice)
         VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)
         ON CONFLICT (alert_id) DO UPDATE SET level = excluded.level, count = excluded.count,
           operations = excluded.operations, summary = excluded.summary, last_time = excluded.last_time,
           resolved_time = excluded.resolved_time, notice = coalesce(excluded.notice, notice)",
    )
    .bind(alert.id.key())
    .bind(&alert.org.0)
    .bind(alert.reason.code())
    .bind(alert.level.word())
    .bind(alert.scope.to_string())
    .bind(kind)
    .bind(id)
    .bind(text.trim_start_matches("email:"))
    .bind(alert.profile.map(|profile| profile.key()))
    .bind(alert.count as i64)
    .bind(alert.operations.iter().rev().fold(0_i64, |bits, on| bits << 1 | i64::from(*on)))
    .bind(&alert.summary)
    .bind(alert.first_time.as_millis())
    .bind(alert.last_time.as_millis())
    .bind(millis(alert.resolved_time))
    .bind(&alert.notice)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn keep_ratio(tx: &mut Tx, ratio: &RatioState) -> Result<()> {
    sqlx::query(
        "INSERT INTO ratio(profile_id, org, state) SELECT profile_id, org, ? FROM profile WHERE profile_id = ?
         ON CONFLICT (profile_id) DO UPDATE SET state = excluded.state",
    )
    .bind(&ratio.state)
    .bind(ratio.profile.key())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A new mail is due at once; its alert says that it waits.
async fn add_notice(tx: &mut Tx, notice: &Notice) -> Result<()> {
    let done = sqlx::query("UPDATE alert SET notice = 'waiting' WHERE alert_id = ?")
        .bind(notice.alert.key())
        .execute(&mut **tx)
        .await?;
    if done.rows_affected() == 0 {
        return Err(Error::refused(
            Reason::ResourceNotFound,
            "a mail is to be sent about an alert that is not there",
        ));
    }
    sqlx::query(
        "INSERT INTO notice(org, alert_id, to_address, subject, text, due)
         SELECT org, alert_id, ?, ?, ?, 0 FROM alert WHERE alert_id = ?",
    )
    .bind(&notice.to)
    .bind(&notice.subject)
    .bind(&notice.text)
    .bind(notice.alert.key())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn regarding_columns(regarding: Regarding) -> (&'static str, Vec<u8>) {
    match regarding {
        Regarding::Mailbox(id) => ("mailbox", id.key()),
        Regarding::Profile(id) => ("profile", id.key()),
        Regarding::Email(id) => ("email", id.key()),
    }
}

fn read(row: &SqliteRow) -> Result<Alert> {
    let id = row.bytes("regarding_id")?;
    let regarding = match row.try_get::<&str, _>("regarding_kind")? {
        "mailbox" => Regarding::Mailbox(mailyard_policy::id::MailboxId::from_bytes(id)),
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
        scope: scope(&row.text("scope")?)?,
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
