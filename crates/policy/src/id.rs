//! Who is who: identifiers, and the hash that places a mailbox.

use std::{fmt, str::FromStr};

/// Crockford's base 32, in lower case: no i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The text is no identifier: 26 characters of Crockford's base 32 are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no identifier: 26 characters out of 0-9 and a-z without i, l, o and u are expected")]
pub struct InvalidId(pub String);

fn encode(value: u128) -> [u8; 26] {
    let mut text = [0; 26];
    for (at, slot) in text.iter_mut().enumerate() {
        *slot = ALPHABET[(value >> (125 - 5 * at)) as usize & 31];
    }
    text
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != 26 || !matches!(text.as_bytes()[0], b'0'..=b'7') {
        return None;
    }
    text.bytes().try_fold(0, |value: u128, byte| {
        let digit = ALPHABET.iter().position(|known| *known == byte.to_ascii_lowercase())?;
        Some(value << 5 | digit as u128)
    })
}

macro_rules! ids {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        ///
        /// 128 bits, made elsewhere (a ULID: time first); written as 26 lower-case characters.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// From its 128 bits.
            pub const fn new(value: u128) -> Self {
                Self(value)
            }

            /// Its 128 bits.
            pub const fn get(self) -> u128 {
                self.0
            }

            /// Its bytes, most significant first: what is stored and hashed.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.to_be_bytes()
            }

            /// From its bytes, most significant first.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(u128::from_be_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0).iter().try_for_each(|byte| fmt::Write::write_char(out, char::from(*byte)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, out)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                decode(text).map(Self).ok_or_else(|| InvalidId(text.to_owned()))
            }
        }
    )+};
}

ids! {
    /// An email server profile.
    ProfileId;
    /// A mailbox.
    MailboxId;
    /// A record: one email as the CRM sees it.
    RecordId;
    /// An email on its way out. Its 128 bits are also the operation id that its draft and its copies carry.
    OutgoingId;
    /// A long-running operation, such as a test & enable of many mailboxes.
    OperationId;
    /// An alert.
    AlertId;
    /// One process of a worker: new at each start.
    Incarnation;
    /// A folder that one process at a time has to itself, by its lock.
    Volume;
    /// A word that only the holder of one grant or term knows, beside its number.
    Nonce;
    /// An upload of a large body that is not a blob yet.
    UploadId;
}

macro_rules! numbers {
    ($($(#[$doc:meta])+ $name:ident;)+) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )+};
}

numbers! {
    /// The number of one grant of a shard: unique and increasing over all shards, and the fence of every write.
    Epoch;
    /// The number of one leadership of a coordinator: unique and increasing.
    Term;
    /// The number of one attempt inside one actor; a result that names another attempt is late and is ignored.
    Attempt;
    /// How often an object was changed by people; its etag.
    Revision;
}

impl Attempt {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// An organization: the seed's environment. `default` exists always.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Org(pub String);

impl Default for Org {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for Org {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A worker, stable across its restarts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub String);

impl fmt::Display for WorkerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// How many shards there are; a power of two, and for ever.
pub const SHARDS: u16 = 4096;

/// The version of [`hash`] and [`shard`]; it stands beside every stored shard.
pub const HASH_VERSION: u16 = 1;

/// One of the [`SHARDS`] parts into which all mailboxes are divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u16);

impl ShardId {
    /// From a stored number; `None` if there is no such shard.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SHARDS { Some(Self(number)) } else { None }
    }

    /// Its number, below [`SHARDS`].
    pub const fn get(self) -> u16 {
        self.0
    }

    /// All shards in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SHARDS).map(Self)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// FNV-1a over 64 bits with a final avalanche (the finalizer of MurmurHash3), so that the low bits are good too.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let mixed = (fnv ^ fnv >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ mixed >> 33
}

/// The lane of a mailbox in its profile: `H(mailbox) mod lanes`. A profile has one lane unless it is large.
pub fn lane(mailbox: MailboxId, lanes: u16) -> u16 {
    (hash(&mailbox.to_bytes()) % u64::from(lanes.max(1))) as u16
}

/// The shard of a mailbox: `H(profile, lane) mod 4096`, so that a lane of a profile is held by one worker.
pub fn shard(profile: ProfileId, mailbox: MailboxId, lanes: u16) -> ShardId {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&profile.to_bytes());
    bytes[16..].copy_from_slice(&u64::from(lane(mailbox, lanes)).to_be_bytes());
    ShardId((hash(&bytes) % u64::from(SHARDS)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text() {
        for value in [0, 1, 31, 32, u128::MAX, 0x0190_0000_0000_0000_0000_0000_dead_beef] {
            let id = MailboxId::new(value);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(MailboxId::from_bytes(id.to_bytes()), id);
        }
        assert_eq!(MailboxId::new(0).to_string(), "0".repeat(26));
        assert_eq!(MailboxId::new(u128::MAX).to_string(), format!("7{}", "z".repeat(25)));
        for bad in
            ["", "8zzzzzzzzzzzzzzzzzzzzzzzzz", "0000000000000000000000000u", "00000000000000000000000000 "]
        {
            assert!(bad.parse::<MailboxId>().is_err(), "{bad:?}");
        }
    }

    /// Vectors that every implementation of version 1 must reproduce: they decide where stored mailboxes live.
    #[test]
    fn the_hash_never_changes() {
        for (bytes, expected) in [
            (&b""[..], 0xefd0_1f60_ba99_2926_u64),
            (b"a", 0x82a2_a958_a9be_ce5b),
            (b"mailyard", 0x59a7_1e77_ff1c_329f),
            (&[0; 16], 0xa5e0_dba6_c385_580a),
            (&[0xff; 16], 0xb985_182d_97d9_d96f),
        ] {
            assert_eq!(hash(bytes), expected, "{bytes:?}: {:#x}", hash(bytes));
        }
        let (profile, mailbox) = (ProfileId::new(7), MailboxId::new(12));
        assert_eq!((lane(mailbox, 1), lane(mailbox, 8)), (0, 5));
        assert_eq!((shard(profile, mailbox, 1).get(), shard(profile, mailbox, 8).get()), (2435, 1807));
    }

    #[test]
    fn one_lane_is_one_shard() {
        let profile = ProfileId::new(99);
        let first = shard(profile, MailboxId::new(0), 1);
        assert!((0..1000).all(|id| shard(profile, MailboxId::new(id), 1) == first));
    }
}
