//! The coordinator: placement, alerts, and the servers for people and the CRM.
