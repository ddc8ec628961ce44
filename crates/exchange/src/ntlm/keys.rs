//! The keys of NTLM: what a password becomes, and what a session signs with (MS-NLMP 3.3.2, 3.4).

use hmac::{Hmac, KeyInit as _, Mac as _};
use md4::Md4;
use md5::{Digest as _, Md5};
use rc4::{Rc4, StreamCipher as _};
use secrecy::zeroize::Zeroizing;

/// Every key of NTLM has this size.
pub(super) type Key = [u8; 16];

/// HMAC-MD5 over these parts, one behind the other.
pub(super) fn hmac_md5(key: &Key, parts: &[&[u8]]) -> Key {
    // A key that is shorter than a block is the same key as its block filled up with zeros (RFC 2104).
    let mut block = Zeroizing::new([0; 64]);
    block[..16].copy_from_slice(key);
    let mut mac = Hmac::<Md5>::new(&(*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The key stream of this key over the data.
pub(super) fn rc4(key: &Key, data: &mut [u8]) {
    // The key schedule repeats a key up to 256 bytes: written down twice it is the same key.
    let mut twice = Zeroizing::new([0; 32]);
    twice[..16].copy_from_slice(key);
    twice[16..].copy_from_slice(key);
    Rc4::new(&(*twice).into()).apply_keystream(data);
}

pub(super) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// NTOWFv2 (MS-NLMP 3.3.2): what signs responses in place of the password.
pub(super) fn response_key(user: &str, domain: &str, password: &str) -> Key {
    let mut encoded = Zeroizing::new(Vec::with_capacity(2 * password.len()));
    encoded.extend(password.encode_utf16().flat_map(u16::to_le_bytes));
    let hash = Zeroizing::new(<Key>::from(Md4::digest(&*encoded)));
    hmac_md5(&hash, &[&utf16(&upper_case(user)), &utf16(domain)])
}

/// Windows has one capital letter per letter: what has none, such as ß, stays.
fn upper_case(text: &str) -> String {
    let upper = |letter: char| {
        let mut capitals = letter.to_uppercase();
        match (capitals.next(), capitals.next()) {
            (Some(capital), None) => capital,
            _ => letter,
        }
    };
    text.chars().map(upper).collect()
}

/// Who signs a message of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// What both sides know of a session once it stands.
pub(crate) struct Session {
    pub(super) key: Zeroizing<Key>,
    /// Bytes of the key that seal: 16, or fewer where the server is old.
    pub(super) strength: usize,
    /// The checksum of a signature is encrypted.
    pub(super) encrypted: bool,
}

impl Session {
    /// The signature of the first message of a side (MS-NLMP 3.4.4.2).
    pub fn sign(&self, side: Side, message: &[u8]) -> [u8; 16] {
        let sequence = [0; 4];
        let signed = hmac_md5(&self.signing_key(side), &[&sequence, message]);
        let mut signature = [0; 16];
        signature[0] = 1;
        signature[4..12].copy_from_slice(&signed[..8]);
        if self.encrypted {
            rc4(&self.sealing_key(side), &mut signature[4..12]);
        }
        signature
    }

    pub(super) fn signing_key(&self, side: Side) -> Key {
        let magic = match side {
            Side::Client => "session key to client-to-server signing key magic constant\0",
            Side::Server => "session key to server-to-client signing key magic constant\0",
        };
        Md5::new().chain_update(*self.key).chain_update(magic).finalize().into()
    }

    pub(super) fn sealing_key(&self, side: Side) -> Key {
        let magic = match side {
            Side::Client => "session key to client-to-server sealing key magic constant\0",
            Side::Server => "session key to server-to-client sealing key magic constant\0",
        };
        Md5::new().chain_update(&self.key[..self.strength]).chain_update(magic).finalize().into()
    }
}
