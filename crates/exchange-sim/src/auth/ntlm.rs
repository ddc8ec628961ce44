//! NTLM as a server speaks it: the challenge, and what is made of its answer (MS-NLMP; only NTLMv2 is accepted).

use super::{
    ExtendedProtection,
    hashes::{hmac_md5, md4, md5, rc4},
};

const SIGNATURE: &[u8] = b"NTLMSSP\0";
/// Where the payload of a challenge begins.
const CHALLENGE_HEAD: usize = 56;
/// Where the MIC of an AUTHENTICATE_MESSAGE stands (MS-NLMP 2.2.1.3).
const MIC: std::ops::Range<usize> = 72..88;

/// Flags of MS-NLMP 2.2.2.5.
pub(super) mod flag {
    pub const UNICODE: u32 = 0x0000_0001;
    pub const OEM: u32 = 0x0000_0002;
    pub const REQUEST_TARGET: u32 = 0x0000_0004;
    pub const SIGN: u32 = 0x0000_0010;
    pub const SEAL: u32 = 0x0000_0020;
    pub const NTLM: u32 = 0x0000_0200;
    pub const ALWAYS_SIGN: u32 = 0x0000_8000;
    pub const TARGET_TYPE_DOMAIN: u32 = 0x0001_0000;
    pub const EXTENDED_SESSION_SECURITY: u32 = 0x0008_0000;
    pub const TARGET_INFO: u32 = 0x0080_0000;
    pub const VERSION: u32 = 0x0200_0000;
    pub const KEY_128: u32 = 0x2000_0000;
    pub const KEY_EXCHANGE: u32 = 0x4000_0000;
    pub const KEY_56: u32 = 0x8000_0000;
    /// A server grants what a client asks for of these.
    pub const GRANTED: u32 = REQUEST_TARGET
        | SIGN
        | SEAL
        | ALWAYS_SIGN
        | EXTENDED_SESSION_SECURITY
        | VERSION
        | KEY_128
        | KEY_EXCHANGE
        | KEY_56;
}

/// Ids of the pairs of MS-NLMP 2.2.2.1.
mod pair {
    pub const END: u16 = 0;
    pub const NETBIOS_COMPUTER: u16 = 1;
    pub const NETBIOS_DOMAIN: u16 = 2;
    pub const DNS_COMPUTER: u16 = 3;
    pub const DNS_DOMAIN: u16 = 4;
    pub const DNS_TREE: u16 = 5;
    pub const FLAGS: u16 = 6;
    pub const TIMESTAMP: u16 = 7;
    pub const CHANNEL_BINDINGS: u16 = 10;
}

/// What the server says of itself.
pub(crate) struct Host<'a> {
    pub netbios_domain: &'a str,
    pub dns_domain: &'a str,
    pub computer: &'a str,
    /// In 100 ns since 1601.
    pub filetime: u64,
}

/// A handshake whose challenge was sent.
#[derive(Debug)]
pub(crate) struct Challenged {
    negotiate: Vec<u8>,
    challenge: Vec<u8>,
    nonce: [u8; 8],
    flags: u32,
}

/// Why an answer to a challenge is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Malformed,
    /// LM or NTLMv1.
    OldVersion,
    UnknownUser,
    WrongPassword,
    WrongMic,
    WrongBindings,
    NoBindings,
}

/// What the channel is, and how much a client has to know of it.
#[derive(Clone, Copy)]
pub(crate) struct Channel {
    pub protection: ExtendedProtection,
    pub bindings: [u8; 16],
}

/// A handshake that succeeded.
#[derive(Debug)]
pub(crate) struct Session {
    flags: u32,
    key: [u8; 16],
}

/// Who signs which message.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Client,
    Server,
}

/// True for a message of NTLM that stands by itself, without SPNEGO around it.
pub(crate) fn is_message(token: &[u8]) -> bool {
    token.starts_with(SIGNATURE)
}

/// The value of the channel bindings of a TLS connection: MD5 over the structure of RFC 2744 3.11 with the
/// `tls-server-end-point` of RFC 5929 4.1 as application data.
pub(crate) fn bindings(certificate_hash: &[u8]) -> [u8; 16] {
    let data = [b"tls-server-end-point:".as_slice(), certificate_hash].concat();
    let mut structure = vec![0; 16];
    structure.extend((data.len() as u32).to_le_bytes());
    structure.extend(data);
    md5(&[&structure])
}

impl Challenged {
    /// Answers a NEGOTIATE_MESSAGE; `None`: it is none.
    pub fn answer(negotiate: Vec<u8>, host: &Host<'_>, nonce: [u8; 8]) -> Option<Self> {
        let asked = number(&negotiate, 12).filter(|_| kind(&negotiate) == Some(1))?;
        let characters = match asked {
            asked if asked & flag::UNICODE != 0 => flag::UNICODE,
            asked if asked & flag::OEM != 0 => flag::OEM,
            _ => return None,
        };
        let flags =
            characters | asked & flag::GRANTED | flag::NTLM | flag::TARGET_INFO | flag::TARGET_TYPE_DOMAIN;
        let target = match characters {
            flag::UNICODE => utf16(host.netbios_domain),
            _ => host.netbios_domain.as_bytes().to_vec(),
        };
        let info = target_info(host);
        let mut challenge = Vec::with_capacity(CHALLENGE_HEAD + target.len() + info.len());
        challenge.extend(SIGNATURE);
        challenge.extend(2_u32.to_le_bytes());
        challenge.extend(place(target.len(), CHALLENGE_HEAD));
        challenge.extend(flags.to_le_bytes());
        challenge.extend(nonce);
        challenge.extend([0; 8]);
        challenge.extend(place(info.len(), CHALLENGE_HEAD + target.len()));
        // Windows Server 2019, NTLM revision 15.
        challenge.extend([10, 0, 0x63, 0x45, 0, 0, 0, 15]);
        challenge.extend(target);
        challenge.extend(info);
        Some(Self { negotiate, challenge, nonce, flags })
    }

    /// The CHALLENGE_MESSAGE.
    pub fn message(&self) -> &[u8] {
        &self.challenge
    }

    /// Checks an AUTHENTICATE_MESSAGE. `password` is asked with user and domain, as they are in it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn accept<T>(
        &self,
        message: &[u8],
        channel: Channel,
        password: impl FnOnce(&str, &str) -> Option<(T, String)>,
    ) -> Result<(T, Session), Refused> {
        let parts = Authenticate::read(message).ok_or(Refused::Malformed)?;
        let (account, password) = password(&parts.user, &parts.domain).ok_or(Refused::UnknownUser)?;
        // A proof of 16 bytes, 28 bytes of a fixed form, and at least the end of the pairs; shorter ones are NTLMv1's.
        let (proof, blob) = parts
            .response
            .split_at_checked(16)
            .filter(|(_, blob)| blob.len() >= 32 && blob.starts_with(&[1, 1]))
            .ok_or(Refused::OldVersion)?;
        let key = user_key(&password, &parts.user, &parts.domain);
        if proof != hmac_md5(&key, &[&self.nonce, blob]) {
            return Err(Refused::WrongPassword);
        }
        let base = hmac_md5(&key, &[proof]);
        let flags = parts.flags & self.flags;
        let exchanged = flags & flag::KEY_EXCHANGE != 0 && parts.session_key.len() == 16;
        let session_key = if exchanged { rc4(&base, parts.session_key) } else { base };
        let pairs = Pairs::read(blob.get(28..).unwrap_or_default()).ok_or(Refused::Malformed)?;
        if pairs.has_mic && !self.mic_is_right(message, &session_key) {
            return Err(Refused::WrongMic);
        }
        channel.check(pairs.bindings)?;
        Ok((account, Session { flags, key: session_key }))
    }

    /// MS-NLMP 3.2.5.1.2: over all three messages, with zeros where it stands itself.
    fn mic_is_right(&self, message: &[u8], session_key: &[u8; 16]) -> bool {
        let mut blank = message.to_vec();
        let Some(place) = blank.get_mut(MIC) else { return false };
        place.fill(0);
        message[MIC] == hmac_md5(session_key, &[&self.negotiate, &self.challenge, &blank])
    }
}

impl Channel {
    /// Zeros are sent by those who know of bindings and were given none.
    fn check(self, sent: Option<&[u8]>) -> Result<(), Refused> {
        let sent = sent.filter(|sent| sent.iter().any(|byte| *byte != 0));
        match (self.protection, sent) {
            (ExtendedProtection::None, _) | (ExtendedProtection::Allow, None) => Ok(()),
            (ExtendedProtection::Require, None) => Err(Refused::NoBindings),
            (_, Some(sent)) if sent == self.bindings => Ok(()),
            (_, Some(_)) => Err(Refused::WrongBindings),
        }
    }
}

impl Session {
    /// The signature of a first message (MS-NLMP 3.4.4.2); `None`: no session security was agreed on that can sign so.
    pub fn signature(&self, side: Side, message: &[u8]) -> Option<[u8; 16]> {
        if self.flags & flag::EXTENDED_SESSION_SECURITY == 0 {
            return None;
        }
        let name = match side {
            Side::Client => "client-to-server",
            Side::Server => "server-to-client",
        };
        let derived = |key: &[u8], what: &str| {
            md5(&[key, format!("session key to {name} {what} key magic constant\0").as_bytes()])
        };
        let sealing = match self.flags {
            flags if flags & flag::KEY_128 != 0 => &self.key[..],
            flags if flags & flag::KEY_56 != 0 => &self.key[..7],
            _ => &self.key[..5],
        };
        let number = [0; 4];
        let sum = hmac_md5(&derived(&self.key, "signing"), &[&number, message]);
        let mut sum: Vec<u8> = sum[..8].to_vec();
        if self.flags & flag::KEY_EXCHANGE != 0 {
            sum = rc4::<8>(&derived(sealing, "sealing"), &sum).to_vec();
        }
        let mut signature = [0; 16];
        signature[0] = 1;
        signature[4..12].copy_from_slice(&sum);
        Some(signature)
    }
}

/// What an AUTHENTICATE_MESSAGE says (MS-NLMP 2.2.1.3).
struct Authenticate<'a> {
    user: String,
    domain: String,
    response: &'a [u8],
    session_key: &'a [u8],
    flags: u32,
}

impl<'a> Authenticate<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        if kind(message) != Some(3) {
            return None;
        }
        let flags = number(message, 60)?;
        let text = |at| {
            let bytes = field(message, at)?;
            if flags & flag::UNICODE == 0 {
                return Some(bytes.iter().map(|byte| char::from(*byte)).collect());
            }
            let units = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
            char::decode_utf16(units).collect::<Result<String, _>>().ok()
        };
        Some(Self {
            response: field(message, 20)?,
            domain: text(28)?,
            user: text(36)?,
            session_key: field(message, 52)?,
            flags,
        })
    }
}

/// What is needed of the pairs that a client answers with.
struct Pairs<'a> {
    has_mic: bool,
    bindings: Option<&'a [u8]>,
}

impl<'a> Pairs<'a> {
    fn read(mut rest: &'a [u8]) -> Option<Self> {
        let mut pairs = Self { has_mic: false, bindings: None };
        loop {
            let (head, tail) = rest.split_at_checked(4)?;
            let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let (value, tail) = tail.split_at_checked(length)?;
            rest = tail;
            match u16::from_le_bytes([head[0], head[1]]) {
                pair::END => return Some(pairs),
                pair::FLAGS => pairs.has_mic = number(value, 0)? & 2 != 0,
                pair::CHANNEL_BINDINGS => pairs.bindings = Some(value),
                _ => {}
            }
        }
    }
}

/// NTOWFv2 of MS-NLMP 3.3.2.
fn user_key(password: &str, user: &str, domain: &str) -> [u8; 16] {
    hmac_md5(&md4(&utf16(password)), &[&utf16(&upper(user)), &utf16(domain)])
}

/// Upper case as Windows has it: one character for one.
fn upper(text: &str) -> String {
    let one = |character: char| {
        let mut upper = character.to_uppercase();
        upper.next().filter(|_| upper.len() == 0).unwrap_or(character)
    };
    text.chars().map(one).collect()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn target_info(host: &Host<'_>) -> Vec<u8> {
    let computer = format!("{}.{}", host.computer.to_lowercase(), host.dns_domain);
    let mut info = Vec::new();
    let mut add = |id: u16, value: &[u8]| {
        info.extend(id.to_le_bytes());
        info.extend((value.len() as u16).to_le_bytes());
        info.extend(value);
    };
    add(pair::NETBIOS_DOMAIN, &utf16(host.netbios_domain));
    add(pair::NETBIOS_COMPUTER, &utf16(host.computer));
    add(pair::DNS_DOMAIN, &utf16(host.dns_domain));
    add(pair::DNS_COMPUTER, &utf16(&computer));
    add(pair::DNS_TREE, &utf16(host.dns_domain));
    add(pair::TIMESTAMP, &host.filetime.to_le_bytes());
    add(pair::END, &[]);
    info
}

/// Length, length again, and offset.
fn place(length: usize, offset: usize) -> [u8; 8] {
    let length = (length as u16).to_le_bytes();
    let mut place = [0; 8];
    place[..2].copy_from_slice(&length);
    place[2..4].copy_from_slice(&length);
    place[4..].copy_from_slice(&(offset as u32).to_le_bytes());
    place
}

fn kind(message: &[u8]) -> Option<u32> {
    message.starts_with(SIGNATURE).then(|| number(message, 8))?
}

fn number(message: &[u8], at: usize) -> Option<u32> {
    let bytes = message.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

/// The part of the payload that a field points to.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = number(message, at)? as usize & 0xFFFF;
    let offset = number(message, at.checked_add(4)?)? as usize;
    if length == 0 {
        return Some(&[]);
    }
    message.get(offset..offset.checked_add(length)?)
}

#[cfg(test)]
#[path = "ntlm_tests.rs"]
mod tests;
