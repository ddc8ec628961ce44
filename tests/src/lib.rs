//! The stage on which whole systems are tested.
