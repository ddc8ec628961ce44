//! Synchronization states as Exchange gives them: base64 of gzip, opaque, bound to what they were given for, growing
//! with the folder (about 1.1 kB and one byte per item).

use std::io::{Read as _, Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};

/// No state of ours is larger when it is unpacked.
const LARGEST: u64 = 64 << 20;
const BASE: usize = 760;

/// What a state was given for, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub mailbox: u32,
    pub folder: u32,
    /// True for a hierarchy of folders, false for the items of a folder.
    pub hierarchy: bool,
    pub base: u64,
    pub position: u64,
}

/// Packs a state of a folder with so many items.
pub(crate) fn pack(state: State, items: u32) -> String {
    let mut bytes = Vec::with_capacity(64 + BASE + items as usize);
    bytes.push(u8::from(state.hierarchy));
    bytes.extend_from_slice(&state.mailbox.to_be_bytes());
    bytes.extend_from_slice(&state.folder.to_be_bytes());
    bytes.extend_from_slice(&state.base.to_be_bytes());
    bytes.extend_from_slice(&state.position.to_be_bytes());
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest[..8]);
    // What Exchange remembers of each item packs to about a byte.
    let padding = BASE + items as usize * 3 / 4;
    let mut block = digest;
    while bytes.len() < padding {
        block = Sha256::digest(block);
        bytes.extend_from_slice(&block);
    }
    let mut packer = GzEncoder::new(Vec::new(), Compression::none());
    let written = packer.write_all(&bytes).and_then(|()| packer.finish());
    STANDARD.encode(written.unwrap_or_default())
}

/// Reads a state; `None`: it is damaged or none of ours.
pub(crate) fn unpack(text: &str) -> Option<State> {
    let packed = STANDARD.decode(text.trim()).ok()?;
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).take(LARGEST).read_to_end(&mut bytes).ok()?;
    let head = bytes.get(..25)?;
    if bytes.get(25..33)? != &Sha256::digest(head)[..8] {
        return None;
    }
    let four = |from: usize| Some(u32::from_be_bytes(head.get(from..from + 4)?.try_into().ok()?));
    let eight = |from: usize| Some(u64::from_be_bytes(head.get(from..from + 8)?.try_into().ok()?));
    Some(State {
        hierarchy: head[0] == 1,
        mailbox: four(1)?,
        folder: four(5)?,
        base: eight(9)?,
        position: eight(17)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_and_damaged_ones_do_not() {
        let state = State { mailbox: 3, folder: 2, hierarchy: false, base: 7, position: 9 };
        let text = pack(state, 512);
        assert!(
            text.starts_with("H4sI") && (1400..2000).contains(&text.len()),
            "{} {}",
            &text[..4],
            text.len()
        );
        assert_eq!(unpack(&text), Some(state));
        assert_eq!(unpack(&text[..text.len() - 40]), None);
        assert_eq!(unpack(""), None);
        assert_eq!(unpack("SGVsbG8="), None);
    }
}
