//! The schema, brought up to date by whoever opens the database first.

use sqlx::{AssertSqlSafe, Executor as _, Row as _, migrate::Migrator};

use super::PostgresStore;
use crate::{
    Error, Result,
    sql::{Backend as _, Columns as _, Session as _, Statement, check_version},
};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Refuses what a newer Mailyard wrote, and what is not ours.
pub(super) async fn run(store: &PostgresStore) -> Result<()> {
    make_table(store).await?;
    let mut tx = store.begin().await?;
    // Others wait here until what is missing is there.
    tx.run(Statement::new("LOCK TABLE mailyard_migration IN EXCLUSIVE MODE")).await?;
    let mut found = std::collections::BTreeMap::new();
    for row in tx.rows(Statement::new("SELECT version, checksum FROM mailyard_migration")).await? {
        found.insert(row.try_get::<i64, _>("version")?, row.blob("checksum")?);
    }
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    check_version(found.keys().last().copied().unwrap_or_default(), known)?;
    for migration in MIGRATIONS.iter() {
        match found.get(&migration.version) {
            Some(checksum) if *checksum == migration.checksum[..] => {}
            Some(_) => {
                let detail = format!("the schema: migration {} was another one", migration.version);
                return Err(Error::Corrupt(detail));
            }
            None => {
                tx.tx.execute(sqlx::raw_sql(migration.sql.clone())).await.map_err(|error| {
                    Error::Corrupt(format!("the schema: migration {}: {error}", migration.version))
                })?;
                let done =
                    Statement::new("INSERT INTO mailyard_migration(version, checksum, at) VALUES (?,?,");
                let done = done.bind(migration.version).bind(migration.checksum.to_vec()).now().push(")");
                tx.run(done).await?;
            }
        }
    }
    tx.commit().await
}

/// Two that make it at once may hinder each other; then it is there.
async fn make_table(store: &PostgresStore) -> Result<()> {
    const SQL: &str = "CREATE TABLE IF NOT EXISTS mailyard_migration(
        version bigint PRIMARY KEY, checksum bytea NOT NULL, at bigint NOT NULL)";
    let there = Statement::new("SELECT to_regclass('mailyard_migration') IS NOT NULL AS there");
    if store.begin().await?.the_row(there).await?.flag("there")? {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    match tx.tx.execute(AssertSqlSafe(SQL)).await {
        Ok(_) => tx.commit().await,
        Err(error)
            if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation) =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
