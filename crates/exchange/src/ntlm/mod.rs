//! NTLM as a client speaks it (MS-NLMP): responses of version 2 only, in Unicode, with a MIC and bound to the channel.

mod challenge;
mod keys;
#[cfg(test)]
mod tests;

use mailyard_policy::Timestamp;
use secrecy::{ExposeSecret as _, SecretBox, zeroize::Zeroizing};

pub(crate) use challenge::Malformed;
use challenge::{Challenge, SIGNATURE, pair};
use keys::{Key, hmac_md5, rc4, response_key, utf16};
pub(crate) use keys::{Session, Side};

/// What is agreed on (MS-NLMP 2.2.2.5).
mod flags {
    pub const UNICODE: u32 = 1;
    pub const REQUEST_TARGET: u32 = 1 << 2;
    pub const SIGN: u32 = 1 << 4;
    pub const NTLM: u32 = 1 << 9;
    pub const ALWAYS_SIGN: u32 = 1 << 15;
    pub const EXTENDED_SECURITY: u32 = 1 << 19;
    pub const TARGET_INFO: u32 = 1 << 23;
    pub const VERSION: u32 = 1 << 25;
    pub const KEY_128: u32 = 1 << 29;
    pub const KEY_EXCHANGE: u32 = 1 << 30;
    pub const KEY_56: u32 = 1 << 31;

    /// What we offer.
    pub const OFFERED: u32 = REQUIRED
        | REQUEST_TARGET
        | SIGN
        | NTLM
        | ALWAYS_SIGN
        | TARGET_INFO
        | VERSION
        | KEY_128
        | KEY_EXCHANGE
        | KEY_56;
    /// Without these there is no secure session.
    pub const REQUIRED: u32 = UNICODE | EXTENDED_SECURITY;
}

/// Windows 10, which nobody refuses, and revision 15 of the protocol (MS-NLMP 2.2.2.10).
const VERSION: [u8; 8] = [10, 0, 0, 0, 0, 0, 0, 15];
/// 100 ns from 1601 to 1970.
const EPOCH: i64 = 116_444_736_000_000_000;
/// Where the MIC stands in the last message.
const MIC: std::ops::Range<usize> = 72..88;

/// Who signs in. The password itself is not kept.
pub(crate) struct Account {
    user: String,
    domain: String,
    key: SecretBox<Key>,
}

/// What a response is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances<'a> {
    /// The hash of the channel's bindings; `None`: there is no channel to bind to.
    pub binding: Option<[u8; 16]>,
    /// The service principal name, such as `HTTP/mail.example.org`.
    pub target_name: &'a str,
    /// The time of a response to a server that does not tell its own.
    pub now: Timestamp,
    pub chance: Chance,
}

/// What nobody may foresee.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    pub nonce: [u8; 8],
    pub session_key: [u8; 16],
}

impl Account {
    /// From `DOMAIN\user`, a UPN, or a bare user name.
    pub fn new(user: &str, password: &str) -> Self {
        let (domain, user) = user.split_once('\\').unwrap_or(("", user));
        let key = SecretBox::new(Box::new(response_key(user, domain, password)));
        Self { user: user.to_owned(), domain: domain.to_owned(), key }
    }

    /// The answer to a challenge, and the session that stands if the server takes it (MS-NLMP 3.1.5.1.2).
    pub fn answer(
        &self,
        challenge: &[u8],
        circumstances: &Circumstances<'_>,
    ) -> Result<(Vec<u8>, Session), Malformed> {
        let parsed = Challenge::parse(challenge)?;
        let agreed = flags::OFFERED & (parsed.flags | flags::REQUEST_TARGET);
        let told_time = parsed.value(pair::TIMESTAMP);
        let Circumstances { now, chance, .. } = circumstances;
        let time = told_time.unwrap_or_else(|| file_time(*now).to_le_bytes());
        let response = self.respond(&parsed, circumstances, time);
        let weak = match told_time {
            Some(_) => [0; 24],
            None => self.respond_weakly(&parsed, chance.nonce),
        };
        let base = Zeroizing::new(hmac_md5(self.key.expose_secret(), &[&response[..16]]));
        let exchanged = agreed & flags::KEY_EXCHANGE != 0 && agreed & flags::SIGN != 0;
        let key = Zeroizing::new(if exchanged { chance.session_key } else { *base });
        let mut sealed = *key;
        rc4(&base, &mut sealed);
        let sealed: &[u8] = if exchanged { &sealed } else { &[] };
        let mut message = self.authenticate(agreed, told_time.is_some(), &weak, &response, sealed);
        if message.len() > usize::from(u16::MAX) {
            // Its lengths have 16 bits.
            return Err(Malformed::TooLong);
        }
        if told_time.is_some() {
            let mic = hmac_md5(&key, &[&negotiate(), challenge, &message]);
            message[MIC].copy_from_slice(&mic);
        }
        let strength = match agreed {
            agreed if agreed & flags::KEY_128 != 0 => 16,
            agreed if agreed & flags::KEY_56 != 0 => 7,
            _ => 5,
        };
        Ok((message, Session { key, strength, encrypted: exchanged }))
    }

    /// The response of version 2: its proof, and what is proven (MS-NLMP 3.3.2).
    fn respond(
        &self,
        challenge: &Challenge<'_>,
        circumstances: &Circumstances<'_>,
        time: [u8; 8],
    ) -> Vec<u8> {
        let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
        blob.extend_from_slice(&time);
        blob.extend_from_slice(&circumstances.chance.nonce);
        blob.extend_from_slice(&[0; 4]);
        target_info(challenge, circumstances, &mut blob);
        blob.extend_from_slice(&[0; 4]);
        let mut response = hmac_md5(self.key.expose_secret(), &[&challenge.nonce, &blob]).to_vec();
        response.append(&mut blob);
        response
    }

    /// The response of version 2 in the place of the old one, for servers that tell no time.
    fn respond_weakly(&self, challenge: &Challenge<'_>, nonce: [u8; 8]) -> [u8; 24] {
        let mut weak = [0; 24];
        let proof = hmac_md5(self.key.expose_secret(), &[&challenge.nonce, &nonce]);
        weak[..16].copy_from_slice(&proof);
        weak[16..].copy_from_slice(&nonce);
        weak
    }

    /// The message around the responses (MS-NLMP 2.2.1.3), with room for the MIC.
    fn authenticate(&self, agreed: u32, mic: bool, weak: &[u8], response: &[u8], key: &[u8]) -> Vec<u8> {
        let (domain, user) = (utf16(&self.domain), utf16(&self.user));
        let payload: [&[u8]; 6] = [&domain, &user, &[], weak, response, key];
        let mut place = if mic { MIC.end } else { MIC.start };
        let places = payload.map(|part| {
            let from = place;
            place += part.len();
            (part.len(), from)
        });
        let [domain, user, workstation, weak, response, key] = places;
        let mut message = Vec::with_capacity(place);
        message.extend_from_slice(SIGNATURE);
        message.extend_from_slice(&3_u32.to_le_bytes());
        for (length, from) in [weak, response, domain, user, workstation, key] {
            let length = u16::try_from(length).unwrap_or(u16::MAX);
            message.extend_from_slice(&length.to_le_bytes());
            message.extend_from_slice(&length.to_le_bytes());
            message.extend_from_slice(&u32::try_from(from).unwrap_or(u32::MAX).to_le_bytes());
        }
        message.extend_from_slice(&agreed.to_le_bytes());
        message.extend_from_slice(&VERSION);
        if mic {
            message.extend_from_slice(&[0; 16]);
        }
        payload.iter().for_each(|part| message.extend_from_slice(part));
        message
    }
}

/// The first message of a handshake (MS-NLMP 2.2.1.1).
pub(crate) fn negotiate() -> Vec<u8> {
    let mut message = Vec::with_capacity(40);
    message.extend_from_slice(SIGNATURE);
    message.extend_from_slice(&1_u32.to_le_bytes());
    message.extend_from_slice(&flags::OFFERED.to_le_bytes());
    // Neither a domain nor a workstation is told.
    message.extend_from_slice(&[0; 16]);
    message.extend_from_slice(&VERSION);
    message
}

/// True if a token is a message of NTLM that nothing is wrapped around.
pub(crate) fn is_bare(token: &[u8]) -> bool {
    token.starts_with(SIGNATURE)
}

/// The server's own pairs, and those that say what is proven with them: a MIC, the channel, the service.
fn target_info(challenge: &Challenge<'_>, circumstances: &Circumstances<'_>, out: &mut Vec<u8>) {
    const MIC_PRESENT: u32 = 2;
    let ours = [pair::FLAGS, pair::TARGET_NAME, pair::CHANNEL_BINDINGS];
    let mut push = |id: u16, value: &[u8]| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(value);
    };
    for (id, value) in challenge.pairs.iter().filter(|(id, _)| !ours.contains(id)) {
        push(*id, value);
    }
    if challenge.value::<8>(pair::TIMESTAMP).is_some() {
        let told = challenge.value(pair::FLAGS).map_or(0, u32::from_le_bytes);
        push(pair::FLAGS, &(told | MIC_PRESENT).to_le_bytes());
    }
    if let Some(binding) = &circumstances.binding {
        push(pair::CHANNEL_BINDINGS, binding);
    }
    if !circumstances.target_name.is_empty() {
        push(pair::TARGET_NAME, &utf16(circumstances.target_name));
    }
    push(pair::END, &[]);
}

/// 100 ns since 1601.
fn file_time(now: Timestamp) -> i64 {
    now.as_millis().saturating_mul(10_000).saturating_add(EPOCH)
}
