//! What Mailyard keeps: one trait in the domain's verbs, and the backends that fulfil it.
//!
//! This is the only crate that knows SQL and AES-GCM. Each part of the trait belongs to one writer
//! (`ARCHITECTURE.md`, "One writer per fact"); each backend passes the same contract suite.

/// The words of an enum, in every text form.
macro_rules! words {
    ($($name:ident: $($variant:ident = $word:literal),+;)+) => {$(
        impl $name {
            /// The word that stands for it in every text form.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, out: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                out.write_str(self.word())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = ::mailyard_policy::operation::UnknownWord;

            fn from_str(text: &str) -> ::std::result::Result<Self, Self::Err> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(::mailyard_policy::operation::UnknownWord {
                        text: text.to_owned(),
                        known: concat!($($word, " "),+).trim_ascii_end(),
                    }),
                }
            }
        }
    )+};
}

pub mod error;
pub mod fleet;
pub mod holder;
pub mod notices;
pub mod people;
pub mod query;
pub mod records;
pub mod secret;
pub mod sqlite;

pub use error::{Error, Result};
pub use secret::MasterKey;
pub use sqlite::SqliteStore;

/// Everything a process can ask of its store.
pub trait Store:
    fleet::Fleet + holder::Holder + notices::Notices + people::People + records::Records + Send + Sync
{
}

impl<S> Store for S where
    S: fleet::Fleet + holder::Holder + notices::Notices + people::People + records::Records + Send + Sync
{
}
