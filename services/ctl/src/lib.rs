//! The command line: a client of the admin and records services.
