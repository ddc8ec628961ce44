//! The wrapping that the scheme Negotiate puts around NTLM (SPNEGO, RFC 4178).

use crate::{
    der::{self, ENUMERATED, OBJECT_ID, OCTETS, SEQUENCE, context},
    ntlm::{Session, Side},
};

/// 1.3.6.1.5.5.2
const SPNEGO: &[u8] = b"\x2B\x06\x01\x05\x05\x02";
/// 1.3.6.1.4.1.311.2.2.10
const NTLMSSP: &[u8] = b"\x2B\x06\x01\x04\x01\x82\x37\x02\x02\x0A";
/// The tag of a first token (RFC 2743 3.1).
const APPLICATION: u8 = 0x60;

/// How a negotiation stands, as the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Completed,
    Incomplete,
    Rejected,
    RequestMic,
}

/// What a server says (NegTokenResp).
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub state: Option<State>,
    /// True if it chose something else than what was offered.
    pub other_mechanism: bool,
    pub token: Option<&'a [u8]>,
    pub mic: Option<&'a [u8]>,
}

/// The mechanisms that are offered: NTLM and nothing else. The MIC of the list is made over these bytes.
fn mechanisms() -> Vec<u8> {
    der::value(SEQUENCE, &der::value(OBJECT_ID, NTLMSSP))
}

/// The first token (NegTokenInit), with the first message of NTLM in it.
pub(crate) fn init(token: &[u8]) -> Vec<u8> {
    let mechanisms = der::value(context(0), &mechanisms());
    let token = der::value(context(2), &der::value(OCTETS, token));
    let init = der::value(context(0), &der::value(SEQUENCE, &[mechanisms, token].concat()));
    der::value(APPLICATION, &[der::value(OBJECT_ID, SPNEGO), init].concat())
}

/// The last token. Windows wants the MIC of the list of whoever sends a MIC in NTLM itself (MS-SPNG 3.3.5.1).
pub(crate) fn respond(token: &[u8], session: &Session) -> Vec<u8> {
    let mic = session.sign(Side::Client, &mechanisms());
    let state = der::value(context(0), &der::value(ENUMERATED, &[1]));
    let token = der::value(context(2), &der::value(OCTETS, token));
    let mic = der::value(context(3), &der::value(OCTETS, &mic));
    der::value(context(1), &der::value(SEQUENCE, &[state, token, mic].concat()))
}

/// True if the MIC is the server's own over what we offered: nobody between has changed the list.
pub(crate) fn is_genuine(mic: &[u8], session: &Session) -> bool {
    session.sign(Side::Server, &mechanisms()) == mic
}

/// Reads what a server says; `None`: it is no NegTokenResp.
pub(crate) fn parse(token: &[u8]) -> Option<Response<'_>> {
    let (content, _) = der::expect(context(1), token)?;
    let (mut rest, _) = der::expect(SEQUENCE, content)?;
    let mut response = Response::default();
    while !rest.is_empty() {
        let (tag, field, after) = der::take(rest)?;
        rest = after;
        match tag {
            0xA0 => response.state = Some(state(der::expect(ENUMERATED, field)?.0)?),
            0xA1 => response.other_mechanism = der::expect(OBJECT_ID, field)?.0 != NTLMSSP,
            0xA2 => response.token = Some(der::expect(OCTETS, field)?.0),
            0xA3 => response.mic = Some(der::expect(OCTETS, field)?.0),
            _ => return None,
        }
    }
    Some(response)
}

fn state(value: &[u8]) -> Option<State> {
    match value {
        [0] => Some(State::Completed),
        [1] => Some(State::Incomplete),
        [2] => Some(State::Rejected),
        [3] => Some(State::RequestMic),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn tokens_are_those_of_the_rfc() {
        // As a client of another hand writes it around the same message.
        let expected = b"\x60\x23\x06\x06\x2B\x06\x01\x05\x05\x02\xA0\x19\x30\x17\xA0\x0E\x30\x0C\
            \x06\x0A\x2B\x06\x01\x04\x01\x82\x37\x02\x02\x0A\xA2\x05\x04\x03abc";
        assert_eq!(init(b"abc"), expected);
        let cases: [(&[u8], Option<Response<'_>>); 8] = [
            (
                b"\xA1\x1A\x30\x18\xA0\x03\x0A\x01\x01\xA1\x0C\x06\x0A\x2B\x06\x01\x04\x01\x82\x37\x02\x02\x0A\
                  \xA2\x03\x04\x01x",
                Some(Response { state: Some(State::Incomplete), token: Some(b"x"), ..Response::default() }),
            ),
            (
                b"\xA1\x0E\x30\x0C\xA0\x03\x0A\x01\x00\xA3\x05\x04\x03mic",
                Some(Response { state: Some(State::Completed), mic: Some(b"mic"), ..Response::default() }),
            ),
            (
                b"\xA1\x14\x30\x12\xA0\x03\x0A\x01\x03\xA1\x0B\x06\x09\x2A\x86\x48\x86\xF7\x12\x01\x02\x02",
                Some(Response {
                    state: Some(State::RequestMic),
                    other_mechanism: true,
                    ..Response::default()
                }),
            ),
            (
                b"\xA1\x07\x30\x05\xA0\x03\x0A\x01\x02",
                Some(Response { state: Some(State::Rejected), ..Response::default() }),
            ),
            (b"\xA1\x02\x30\x00", Some(Response::default())),
            (b"\xA1\x07\x30\x05\xA0\x03\x0A\x01\x09", None),
            (b"\xA1\x07\x30\x05\xA0\x03\x0A\x01", None),
            (b"NTLMSSP\0", None),
        ];
        for (token, expected) in cases {
            assert_eq!(parse(token), expected, "{token:02X?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in vec(any::<u8>(), 0..80), wrapped in any::<bool>()) {
            if wrapped {
                bytes = der::value(context(1), &der::value(SEQUENCE, &bytes));
            }
            let _read = parse(&bytes);
        }
    }
}
