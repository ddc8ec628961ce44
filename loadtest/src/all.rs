//! Everything, one after the other.

use crate::{Outcome, fetch, figures::Table, idle_poll, memory, stand::Stand, track};

/// All tables.
///
/// # Errors
/// The first step that failed.
pub async fn run(stand: &Stand) -> Outcome<Vec<Table>> {
    Ok(vec![
        idle_poll::run(stand).await?,
        fetch::run(stand).await?,
        track::run(stand).await?,
        memory::run(stand).await?,
    ])
}
