//! The challenge of a server (MS-NLMP 2.2.1.2), read with care: it comes from outside.

use super::flags;

/// Every message begins with it.
pub(super) const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

/// What a pair of the target information tells (MS-NLMP 2.2.2.1).
pub(super) mod pair {
    pub const END: u16 = 0;
    pub const FLAGS: u16 = 6;
    pub const TIMESTAMP: u16 = 7;
    pub const TARGET_NAME: u16 = 9;
    pub const CHANNEL_BINDINGS: u16 = 10;
}

/// Why a challenge cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the challenge is no NTLM challenge")]
    NoChallenge,
    #[error("the challenge ends too early")]
    Short,
    #[error("the challenge's target information cannot be read")]
    TargetInfo,
    #[error("the challenge tells more than fits into an answer")]
    TooLong,
    #[error("the server agrees to no Unicode or no extended session security")]
    Flags,
}

/// What the server asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge<'a> {
    pub flags: u32,
    pub nonce: [u8; 8],
    /// Ids and values in the server's order, without the end.
    pub pairs: Vec<(u16, &'a [u8])>,
}

impl<'a> Challenge<'a> {
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        if message.get(..8) != Some(SIGNATURE) || number(message, 8) != Some(2) {
            return Err(Malformed::NoChallenge);
        }
        let flags = number(message, 20).ok_or(Malformed::Short)?;
        let nonce = array(message, 24).ok_or(Malformed::Short)?;
        if flags & flags::REQUIRED != flags::REQUIRED {
            return Err(Malformed::Flags);
        }
        let pairs = if flags & flags::TARGET_INFO == 0 {
            Vec::new()
        } else {
            pairs(field(message, 40).ok_or(Malformed::Short)?)?
        };
        Ok(Self { flags, nonce, pairs })
    }

    /// The value of a pair, if it has this size.
    pub fn value<const N: usize>(&self, id: u16) -> Option<[u8; N]> {
        self.pairs.iter().find(|pair| pair.0 == id).and_then(|pair| pair.1.try_into().ok())
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn short_number(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

/// What a field, its length and its place, points to.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(short_number(message, at)?);
    let from = usize::try_from(number(message, at + 4)?).ok()?;
    message.get(from..from.checked_add(length)?)
}

fn pairs(mut rest: &[u8]) -> Result<Vec<(u16, &[u8])>, Malformed> {
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let id = short_number(rest, 0).ok_or(Malformed::TargetInfo)?;
        if id == pair::END {
            return Ok(pairs);
        }
        let length = usize::from(short_number(rest, 2).ok_or(Malformed::TargetInfo)?);
        let value = rest.get(4..4 + length).ok_or(Malformed::TargetInfo)?;
        pairs.push((id, value));
        rest = rest.get(4 + length..).unwrap_or_default();
    }
    if pairs.is_empty() { Ok(pairs) } else { Err(Malformed::TargetInfo) }
}
