//! Ids as Exchange makes them: opaque base64 in which letters of both cases differ, bound to their mailbox.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// A folder of a mailbox, by its number there.
    Folder { mailbox: u32, number: u32 },
    /// An item of a mailbox; another number after each move.
    Item { mailbox: u32, number: u64 },
    /// An attachment of an item.
    Attachment { mailbox: u32, item: u64, number: u32 },
}

impl Name {
    /// The mailbox that it lies in.
    pub fn mailbox(self) -> u32 {
        match self {
            Self::Folder { mailbox, .. } | Self::Item { mailbox, .. } | Self::Attachment { mailbox, .. } => {
                mailbox
            }
        }
    }
}

const FOLDER: u8 = 1;
const ITEM: u8 = 2;
const ATTACHMENT: u8 = 3;

/// The bytes of an id end with the number, so that ids of one mailbox differ in few letters, often in case only.
pub(crate) fn encode(name: Name) -> String {
    let (kind, mailbox, middle, number) = match name {
        Name::Folder { mailbox, number } => (FOLDER, mailbox, 0, u64::from(number)),
        Name::Item { mailbox, number } => (ITEM, mailbox, 0, number),
        Name::Attachment { mailbox, item, number } => (ATTACHMENT, mailbox, item, u64::from(number)),
    };
    let mut bytes = [0; 45];
    bytes[0] = kind;
    bytes[1..5].copy_from_slice(&mailbox.to_be_bytes());
    bytes[5..29].copy_from_slice(&mark(mailbox));
    bytes[29..37].copy_from_slice(&middle.to_be_bytes());
    bytes[37..45].copy_from_slice(&number.to_be_bytes());
    STANDARD.encode(bytes)
}

/// What an id names; `None`: it is not one of ours, byte by byte.
pub(crate) fn decode(text: &str) -> Option<Name> {
    let bytes: [u8; 45] = STANDARD.decode(text).ok()?.try_into().ok()?;
    let number = |from: usize| Some(u64::from_be_bytes(bytes.get(from..from + 8)?.try_into().ok()?));
    let mailbox = u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?);
    if bytes.get(5..29)? != mark(mailbox) {
        return None;
    }
    match bytes[0] {
        FOLDER => Some(Name::Folder { mailbox, number: number(37)?.try_into().ok()? }),
        ITEM => Some(Name::Item { mailbox, number: number(37)? }),
        ATTACHMENT => {
            Some(Name::Attachment { mailbox, item: number(29)?, number: number(37)?.try_into().ok()? })
        }
        _ => None,
    }
}

fn mark(mailbox: u32) -> [u8; 24] {
    let mut mark = [0; 24];
    let digest = Sha256::digest([b"mailbox".as_slice(), &mailbox.to_be_bytes()].concat());
    mark.copy_from_slice(&digest[..24]);
    mark
}

/// A change key: another one with each save.
pub(crate) fn change_key(version: u32) -> String {
    STANDARD.encode(
        [b"CK".as_slice(), &version.to_be_bytes(), &version.wrapping_mul(2_654_435_761).to_be_bytes()]
            .concat(),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn ids_are_read_back_and_damaged_ones_are_not() {
        for name in [
            Name::Folder { mailbox: 7, number: 3 },
            Name::Item { mailbox: 7, number: 1 << 40 },
            Name::Attachment { mailbox: 1, item: 5, number: 2 },
        ] {
            let id = encode(name);
            assert_eq!(decode(&id), Some(name));
            assert_ne!(decode(&id.to_lowercase()), Some(name));
        }
        assert_eq!(decode("AAMk"), None);
        assert_eq!(decode("not base64"), None);
    }

    #[test]
    fn some_ids_differ_by_case_only() {
        let mut seen: HashMap<String, u32> = HashMap::new();
        for number in 0..200 {
            *seen.entry(encode(Name::Item { mailbox: 1, number }).to_lowercase()).or_default() += 1;
        }
        assert!(seen.values().any(|count| *count > 1));
    }
}
