//! The last Test Connection of each profile.

use mailyard_policy::{connection_test::Step, id::ProfileId, operation::Direction};

use super::{Backend, Columns, Script, Session, Statement, Type};
use crate::{Result, people::ConnectionTest};

pub(super) async fn keep<B: Backend>(store: &B, profile: ProfileId, test: &ConnectionTest) -> Result<()> {
    let mut tx = store.begin_people().await?;
    tx.run(Statement::new("DELETE FROM connection_step WHERE profile_id = ?").bind(profile)).await?;
    let kept = Statement::new(
        "INSERT INTO connection_test(profile_id, at, address) VALUES (?,?,?)
         ON CONFLICT (profile_id) DO UPDATE SET at = excluded.at, address = excluded.address",
    );
    tx.run(kept.bind(profile).bind(test.at).bind(&test.address)).await?;
    let mut script = Script::default();
    script.insert(
        "INSERT INTO connection_step(profile_id, n, direction, name, outcome, reason, duration, evidence,
           request, response) ",
        &[
            Type::Id,
            Type::Number,
            Type::Text,
            Type::Text,
            Type::Text,
            Type::Text,
            Type::Number,
            Type::Text,
            Type::Text,
            Type::Text,
        ],
        test.steps.iter().enumerate(),
        |(n, (direction, step))| {
            vec![
                profile.into(),
                n.into(),
                direction.map(Direction::word).into(),
                step.name.word().into(),
                step.outcome.word().into(),
                step.reason.into(),
                step.duration.into(),
                (&step.evidence).into(),
                (&step.request).into(),
                (&step.response).into(),
            ]
        },
        "",
    );
    tx.script(script).await?;
    tx.commit().await
}

pub(super) async fn last<B: Backend>(store: &B, profile: ProfileId) -> Result<Option<ConnectionTest>> {
    let mut tx = store.snapshot().await?;
    let test = Statement::new("SELECT at, address FROM connection_test WHERE profile_id = ?").bind(profile);
    let Some(test) = tx.row(test).await? else { return Ok(None) };
    let steps = Statement::new("SELECT * FROM connection_step WHERE profile_id = ? ORDER BY n").bind(profile);
    let steps = tx.rows(steps).await?.iter().map(read_step).collect::<Result<_>>()?;
    Ok(Some(ConnectionTest { at: test.time("at")?, address: test.maybe_text("address")?, steps }))
}

fn read_step(row: &impl Columns) -> Result<(Option<Direction>, Step)> {
    let step = Step {
        name: row.word("name")?,
        outcome: row.word("outcome")?,
        reason: row.maybe_word("reason")?,
        duration: row.duration("duration")?,
        evidence: row.text("evidence")?,
        request: row.text("request")?,
        response: row.text("response")?,
    };
    Ok((row.maybe_word("direction")?, step))
}
