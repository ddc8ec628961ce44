//! OAuth as Hybrid Modern Authentication uses it: an application proves itself to an authority by its certificate and
//! gets tokens for the EWS host (client credentials grant, RFC 6749 4.4, with a client assertion, RFC 7523 2.2).

mod assertion;
mod certificate;
pub(crate) mod challenge;
mod issuer;
mod tokens;

pub use certificate::{Certificate, Facts};
pub(crate) use challenge::shortened;
pub(crate) use issuer::Issuer;
pub(crate) use tokens::{Token, Tokens};
