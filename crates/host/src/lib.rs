//! What every process needs: configuration, telemetry, health, shutdown.
