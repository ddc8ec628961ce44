//! The last Test Connection of each profile on SQLite.

use std::time::Duration;

use mailyard_policy::{Reason, connection_test::Step, id::ProfileId, operation::Direction};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use super::{
    SqliteStore, commit,
    rows::{Columns as _, Key as _, duration_millis},
};
use crate::{Result, people::ConnectionTest};

impl SqliteStore {
    pub(super) async fn store_connection_test(
        &self,
        profile: ProfileId,
        test: &ConnectionTest,
    ) -> Result<()> {
        let mut tx = self.begin().await?;
        sqlx::query("DELETE FROM connection_test WHERE profile_id = ?")
            .bind(profile.key())
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO connection_test(profile_id, at, address) VALUES (?,?,?)")
            .bind(profile.key())
            .bind(test.at.as_millis())
            .bind(&test.address)
            .execute(&mut *tx)
            .await?;
        if !test.steps.is_empty() {
            let mut query = QueryBuilder::<Sqlite>::new(
                "INSERT INTO connection_step(profile_id, n, direction, name, outcome, reason, duration, evidence,
                   request, response) ",
            );
            query.push_values(test.steps.iter().enumerate(), |mut values, (n, (direction, step))| {
                values
                    .push_bind(profile.key())
                    .push_bind(n as i64)
                    .push_bind(direction.map(Direction::word))
                    .push_bind(step.name.word())
                    .push_bind(step.outcome.word())
                    .push_bind(step.reason.map(Reason::code))
                    .push_bind(duration_millis(step.duration))
                    .push_bind(&step.evidence)
                    .push_bind(&step.request)
                    .push_bind(&step.response);
            });
            query.build().execute(&mut *tx).await?;
        }
        commit(tx).await
    }

    pub(super) async fn last_connection_test(&self, profile: ProfileId) -> Result<Option<ConnectionTest>> {
        let mut tx = self.readers.begin().await?;
        let test = sqlx::query("SELECT at, address FROM connection_test WHERE profile_id = ?")
            .bind(profile.key())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(test) = test else { return Ok(None) };
        let steps = sqlx::query("SELECT * FROM connection_step WHERE profile_id = ? ORDER BY n")
            .bind(profile.key())
            .fetch_all(&mut *tx)
            .await?;
        let step = |row: &SqliteRow| {
            let step = Step {
                name: row.word("name")?,
                outcome: row.word("outcome")?,
                reason: row.maybe_word("reason")?,
                duration: Duration::from_millis(row.number("duration")?),
                evidence: row.text("evidence")?,
                request: row.text("request")?,
                response: row.text("response")?,
            };
            Ok((row.maybe_word("direction")?, step))
        };
        let steps = steps.iter().map(step).collect::<Result<_>>()?;
        Ok(Some(ConnectionTest { at: test.time("at")?, address: test.maybe_text("address")?, steps }))
    }
}
