//! The one binary of Mailyard.

fn main() {}
