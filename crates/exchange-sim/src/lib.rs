//! A fake Exchange on real HTTPS: an independent reading of the protocol, with real state and faults by rule.

mod id;
mod item;
mod mailbox;
mod xml;
