//! The worker: one actor per mailbox, the scheduler, and what they do.
