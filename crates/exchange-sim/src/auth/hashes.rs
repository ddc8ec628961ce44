//! The hashes of NTLM, as functions over bytes.

use ::rc4::StreamCipher as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Digest as _;

/// MD4 of some bytes.
pub(super) fn md4(bytes: &[u8]) -> [u8; 16] {
    md4::Md4::digest(bytes).into()
}

/// MD5 of parts behind each other.
pub(super) fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = md5::Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// HMAC-MD5 of parts behind each other.
pub(super) fn hmac_md5(key: &[u8; 16], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<md5::Md5>::new(&padded(key).into());
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// A key that is shorter than a block is a block that ends with zeros (RFC 2104).
fn padded(key: &[u8; 16]) -> [u8; 64] {
    let mut block = [0; 64];
    block[..16].copy_from_slice(key);
    block
}

/// RC4 of the first bytes of a stream.
pub(super) fn rc4<const N: usize>(key: &[u8; 16], bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(bytes).for_each(|(out, byte)| *out = *byte);
    if let Ok(mut cipher) = ::rc4::Rc4::new_from_slice(key) {
        cipher.apply_keystream(&mut out);
    }
    out
}
