//! Exchange as a client sees it: codec, connection, client, gate.

pub mod codec;
