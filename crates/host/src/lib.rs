//! What every process of Mailyard needs: configuration, clocks, the data directory, telemetry, shutdown.

pub mod clock;
pub mod config;
pub mod data_dir;
pub mod health;
pub mod identity;
pub mod metrics;
pub mod ops;
pub mod shutdown;
pub mod telemetry;
