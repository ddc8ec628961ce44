//! How a database begins: its first rows, the check of the key, and whether this build may use it.

use mailyard_policy::id::{Org, SHARDS};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Columns as _, Session, Statement};
use crate::{Error, MasterKey, Result, secret::Envelope};

/// What the key check envelope holds and is bound to.
const CHECK: &str = "mailyard key check";

/// First rows, and the check of the key. Nobody else may do the same meanwhile.
pub(crate) async fn begin_life<S: Session>(mut tx: S, key: &MasterKey) -> Result<()> {
    let found = Statement::new("SELECT key_id, key_wrapped AS wrapped_key, key_sealed AS sealed FROM store");
    if let Some(row) = tx.row(found).await? {
        let missing = || Error::Corrupt("the database has no check of its key".to_owned());
        let check = row.envelope()?.ok_or_else(missing)?;
        key.open(CHECK, &check).map(|secret| secret.expose_secret().len())?;
        return tx.commit().await;
    }
    let Envelope { key_id, wrapped_key, sealed } = key.seal(CHECK, &SecretString::from(CHECK))?;
    let store = Statement::new(
        "INSERT INTO store(one, feed_incarnation, key_id, key_wrapped, key_sealed) VALUES (1,?,?,?,?)",
    );
    let store = store.bind(super::nonce()?).bind(key_id).bind(wrapped_key).bind(sealed);
    tx.run(store).await?;
    let shards = Statement::new(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i+1 FROM n WHERE i+1 < ?)
         INSERT INTO shard(shard_id) SELECT i FROM n",
    );
    tx.run(shards.bind(SHARDS)).await?;
    tx.run(Statement::new("INSERT INTO org(org) VALUES (?)").bind(&Org::default())).await?;
    tx.commit().await
}

/// Refuses what a newer Mailyard wrote.
pub(crate) fn check_version(found: i64, known: i64) -> Result<()> {
    if found > known { Err(Error::NewerSchema { found, known }) } else { Ok(()) }
}
