//! The envelopes of Negotiate (RFC 4178), as far as a server that knows NTLM reads and writes them.

/// SPNEGO itself: 1.3.6.1.5.5.2.
const SPNEGO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x02];
/// NTLM: 1.3.6.1.4.1.311.2.2.10.
const NTLM: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a];

const ENUMERATED: u8 = 0x0a;
const OID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
const APPLICATION: u8 = 0x60;
const RESPONSE: u8 = 0xa1;

/// What a client sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// The mechanisms it offers, and the first token of the one that it likes best.
    Offer {
        /// The list as it stands in the message: its integrity is proved later.
        list: &'a [u8],
        ntlm: Ntlm,
        token: Option<&'a [u8]>,
    },
    /// The next token of the mechanism that was agreed on.
    Next { token: Option<&'a [u8]>, mic: Option<&'a [u8]> },
}

/// Where NTLM stands among the mechanisms that are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ntlm {
    First,
    Later,
    Absent,
}

/// How far a negotiation is.
#[derive(Clone, Copy)]
pub(crate) enum State {
    Completed = 0,
    Incomplete = 1,
}

/// Reads a token; `None`: it is none of SPNEGO's.
pub(crate) fn read(bytes: &[u8]) -> Option<Token<'_>> {
    match element(bytes)? {
        (APPLICATION, inner, _) => {
            let (tag, oid, rest) = element(inner)?;
            if (tag, oid) != (OID, SPNEGO) {
                return None;
            }
            offer(tagged(rest, 0xa0)?)
        }
        (RESPONSE, inner, _) => {
            let fields = tagged(inner, SEQUENCE)?;
            Some(Token::Next { token: octets(fields, 0xa2), mic: octets(fields, 0xa3) })
        }
        _ => None,
    }
}

fn offer(inner: &[u8]) -> Option<Token<'_>> {
    let fields = tagged(inner, SEQUENCE)?;
    let list = field(fields, 0xa0)?;
    let mut mechanisms = tagged(list, SEQUENCE)?;
    let (mut ntlm, mut first) = (Ntlm::Absent, true);
    while !mechanisms.is_empty() {
        let (tag, oid, rest) = element(mechanisms)?;
        if (tag, oid) == (OID, NTLM) {
            ntlm = if first { Ntlm::First } else { Ntlm::Later };
        }
        first = false;
        mechanisms = rest;
    }
    Some(Token::Offer { list, ntlm, token: octets(fields, 0xa2) })
}

/// Writes the server's answer. The mechanism is named in the first one.
pub(crate) fn write(state: State, names_ntlm: bool, token: Option<&[u8]>, mic: Option<&[u8]>) -> Vec<u8> {
    let mut fields = wrap(0xa0, &wrap(ENUMERATED, &[state as u8]));
    if names_ntlm {
        fields.extend(wrap(0xa1, &wrap(OID, NTLM)));
    }
    for (tag, part) in [(0xa2, token), (0xa3, mic)] {
        if let Some(part) = part {
            fields.extend(wrap(tag, &wrap(OCTETS, part)));
        }
    }
    wrap(RESPONSE, &wrap(SEQUENCE, &fields))
}

/// Tag, content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// The content of an element that has to have this tag.
fn tagged(bytes: &[u8], wanted: u8) -> Option<&[u8]> {
    element(bytes).filter(|(tag, ..)| *tag == wanted).map(|(_, content, _)| content)
}

/// The content of the field with this tag.
fn field(mut fields: &[u8], wanted: u8) -> Option<&[u8]> {
    while let Some((tag, content, rest)) = element(fields) {
        if tag == wanted {
            return Some(content);
        }
        fields = rest;
    }
    None
}

fn octets(fields: &[u8], wanted: u8) -> Option<&[u8]> {
    tagged(field(fields, wanted)?, OCTETS)
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let digits: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|digit| *digit == 0).collect();
        out.push(0x80 | digits.len() as u8);
        out.extend(digits);
    }
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kerberos, as Windows writes it: 1.2.840.113554.1.2.2.
    const KERBEROS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02];

    fn init(mechanisms: &[&[u8]], token: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        let list = wrap(SEQUENCE, &mechanisms.iter().flat_map(|oid| wrap(OID, oid)).collect::<Vec<_>>());
        let mut fields = wrap(0xa0, &list);
        fields.extend(wrap(0xa1, &[0x03, 0x02, 0x01, 0x06]));
        fields.extend(token.map(|token| wrap(0xa2, &wrap(OCTETS, token))).unwrap_or_default());
        let inner = [wrap(OID, SPNEGO), wrap(0xa0, &wrap(SEQUENCE, &fields))].concat();
        (wrap(APPLICATION, &inner), list)
    }

    #[test]
    fn offers_are_read() {
        let long = vec![7; 300];
        let cases = [
            (vec![NTLM], Some(long.as_slice()), Ntlm::First),
            (vec![KERBEROS, NTLM], Some(b"ticket"), Ntlm::Later),
            (vec![KERBEROS], Some(b"ticket"), Ntlm::Absent),
            (vec![KERBEROS, NTLM], None, Ntlm::Later),
        ];
        for (mechanisms, token, ntlm) in cases {
            let (bytes, list) = init(&mechanisms, token);
            assert_eq!(read(&bytes), Some(Token::Offer { list: &list, ntlm, token }));
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for (token, mic) in [(Some(b"token".as_slice()), None), (Some(&[1; 200]), Some(b"mic".as_slice()))] {
            let bytes = write(State::Incomplete, true, token, mic);
            assert_eq!(read(&bytes), Some(Token::Next { token, mic }));
        }
        assert_eq!(write(State::Completed, false, None, None), [0xa1, 7, 0x30, 5, 0xa0, 3, 0x0a, 1, 0]);
    }

    #[test]
    fn what_is_cut_or_foreign_is_no_token() {
        let (bytes, _) = init(&[NTLM], Some(b"token"));
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), None, "{end}");
        }
        let ticket = wrap(APPLICATION, &[wrap(OID, KERBEROS), vec![1, 0]].concat());
        for foreign in
            [ticket.as_slice(), b"NTLMSSP\0", &[0x60, 0x85, 1, 1, 1, 1, 1], &[0x60, 0x84, 255, 255, 255, 255]]
        {
            assert_eq!(read(foreign), None);
        }
    }
}
