//! DER as far as certificates and SPNEGO need it: values of a known tag, one behind the other (X.690).

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0A;
pub(crate) const SEQUENCE: u8 = 0x30;

/// The tag of a field with this number.
pub(crate) const fn context(number: u8) -> u8 {
    0xA0 | number
}

/// Takes the first value: its tag, its content, and what follows it. `None`: there is none, or it is cut.
pub(crate) fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Takes the first value if it has this tag: its content, and what follows it.
pub(crate) fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    take(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// Writes a value.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7F => out.push(short as u8),
        long => {
            let digits = long.to_be_bytes();
            let leading = digits.iter().take_while(|digit| **digit == 0).count();
            out.push(0x80 | (digits.len() - leading) as u8);
            out.extend(digits.iter().skip(leading));
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_not() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let written = value(OCTETS, &vec![7; length]);
            let whole = [&written[..], b"rest"].concat();
            let (tag, content, rest) = take(&whole).expect("it is whole");
            assert_eq!((tag, content.len(), rest), (OCTETS, length, &b"rest"[..]));
            assert_eq!(take(&written[..written.len() - 1]), None, "{length}");
            assert_eq!(expect(SEQUENCE, &written), None);
        }
        let cases: [&[u8]; 6] =
            [b"", b"\x04", b"\x04\x80", b"\x04\x85\0\0\0\0\0", b"\x04\x84\xFF\xFF\xFF\xFF", b"\x04\x82\x01"];
        for cut in cases {
            assert_eq!(take(cut), None, "{cut:?}");
        }
    }
}
