//! NTLM as a client speaks it, after MS-NLMP and with mistakes on request.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};

/// How a client signs in.
#[derive(Clone)]
pub struct Client {
    pub user: &'static str,
    pub domain: &'static str,
    pub password: String,
    /// What it is bound to.
    pub bindings: Option<[u8; 16]>,
    /// It sends a MIC; with this pattern over it.
    pub mic: Option<u8>,
    /// It answers as NTLMv1 did.
    pub old: bool,
}

/// Unicode, request target, NTLM, always sign, extended session security, 128 bits.
const FLAGS: u32 = 0x2008_8205;

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The value of the bindings for a server with this certificate (its signature uses SHA-256).
pub fn bindings(certificate: &[u8]) -> [u8; 16] {
    let hash = ring::digest::digest(&ring::digest::SHA256, certificate);
    let data = [b"tls-server-end-point:".as_slice(), hash.as_ref()].concat();
    Md5::digest([&[0; 16], (data.len() as u32).to_le_bytes().as_slice(), &data].concat()).into()
}

/// The first message.
pub fn negotiate() -> Vec<u8> {
    [b"NTLMSSP\0".as_slice(), &1_u32.to_le_bytes(), &FLAGS.to_le_bytes(), &[0; 16]].concat()
}

impl Client {
    /// The last message.
    pub fn authenticate(&self, challenge: &[u8]) -> Vec<u8> {
        let short = |at: usize| u16::from_le_bytes([challenge[at], challenge[at + 1]]) as usize;
        let pairs = &challenge[short(44)..][..short(40)];
        let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
        blob.extend([0; 8]);
        blob.extend([9; 8]);
        blob.extend([0; 4]);
        // The server's pairs, and ours before their end.
        blob.extend(&pairs[..pairs.len() - 4]);
        if self.mic.is_some() {
            blob.extend([6, 0, 4, 0, 2, 0, 0, 0]);
        }
        if let Some(bindings) = self.bindings {
            blob.extend([10, 0, 16, 0]);
            blob.extend(bindings);
        }
        blob.extend([0; 8]);
        let hash = md4::Md4::digest(utf16(&self.password));
        let key = hmac(&hash, &[&utf16(&self.user.to_uppercase()), &utf16(self.domain)]);
        let proof = hmac(&key, &[&challenge[24..32], &blob]);
        let response = if self.old { vec![5; 24] } else { [proof.as_slice(), &blob].concat() };

        let parts = [vec![0; 24], response, utf16(self.domain), utf16(self.user), utf16("WORK"), vec![]];
        let mut message = [b"NTLMSSP\0".as_slice(), &3_u32.to_le_bytes()].concat();
        let mut offset = 88;
        for part in &parts {
            message.extend((part.len() as u16).to_le_bytes().repeat(2));
            message.extend((offset as u32).to_le_bytes());
            offset += part.len();
        }
        message.extend(FLAGS.to_le_bytes());
        message.extend([0; 24]);
        message.extend(parts.concat());
        if let Some(pattern) = self.mic {
            let session = hmac(&key, &[&proof]);
            let mic = hmac(&session, &[&negotiate(), challenge, &message]);
            message[72..88].iter_mut().zip(mic).for_each(|(place, byte)| *place = byte ^ pattern);
        }
        message
    }
}
