//! The protocols on the wire: generated messages and their conversions.
