use super::*;

/// MS-NLMP 4.2: the values that the document computes its examples with.
const NONCE: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte =
        |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("digits");
    digits.chunks(2).map(byte).collect()
}

/// The AUTHENTICATE_MESSAGE of MS-NLMP 4.2.4.3, whose response answers the CHALLENGE_MESSAGE there.
fn document_message() -> Vec<u8> {
    hex("4e544c4d53535000 03000000 18001800 6c000000 54005400 84000000 0c000c00 48000000 08000800 54000000 \
         10001000 5c000000 10001000 d8000000 358288e2 0501280a 0000000f \
         44006f006d00610069006e00 5500730065007200 43004f004d0050005500540045005200 \
         86c35097ac9cec102554764a57cccc19 aaaaaaaaaaaaaaaa \
         68cd0ab851e51c96aabc927bebef6a1c 0101000000000000 0000000000000000 aaaaaaaaaaaaaaaa 00000000 \
         02000c0044006f006d00610069006e00 01000c005300650072007600650072000000000000000000 \
         c5dad2544fc9799094ce1ce90bc9d03e")
}

fn document_challenged() -> Challenged {
    Challenged { negotiate: Vec::new(), challenge: Vec::new(), nonce: NONCE, flags: 0xe28a_8233 }
}

const OPEN: Channel = Channel { protection: ExtendedProtection::Allow, bindings: [7; 16] };

#[test]
fn the_example_of_the_document_is_accepted() {
    assert_eq!(user_key("Password", "User", "Domain").to_vec(), hex("0c868a403bfd7a93a3001ef22ef02e3f"));
    let accept = |password: &str| {
        let asked =
            |user: &str, domain: &str| Some(((user.to_owned(), domain.to_owned()), password.to_owned()));
        document_challenged().accept(&document_message(), OPEN, asked)
    };
    let ((user, domain), session) = accept("Password").expect("it is accepted");
    assert_eq!((user.as_str(), domain.as_str()), ("User", "Domain"));
    assert_eq!(session.key, [0x55; 16], "the document's RandomSessionKey");
    assert_eq!(accept("password").err(), Some(Refused::WrongPassword));
}

#[test]
fn signing_is_that_of_the_document() {
    // MS-NLMP 4.2.4.4: sealing encrypts the message first, so only the keys and an own sum can be held against it.
    let session = Session { flags: 0xe28a_8233, key: [0x55; 16] };
    let own = session.signature(Side::Client, b"list").expect("a signature");
    let key = hex("4788dc861b4782f35d43fd98fe1a2d39");
    let sealing = hex("59f600973cc4960a25480a7c196e4c58");
    let sum = hmac_md5(&key.try_into().expect("16 bytes"), &[&[0; 4], b"list"]);
    let sum = rc4::<8>(&sealing.try_into().expect("16 bytes"), &sum[..8]);
    assert_eq!(own[4..12], sum);
    assert_eq!((&own[..4], &own[12..]), (&[1, 0, 0, 0][..], &[0; 4][..]));
    assert_ne!(session.signature(Side::Server, b"list"), Some(own));
    assert_eq!(Session { flags: flag::NTLM, key: [0; 16] }.signature(Side::Client, b""), None);
}

#[test]
fn what_is_asked_for_is_granted() {
    let host =
        Host { netbios_domain: "EXCHANGE", dns_domain: "exchange.test", computer: "EX01", filetime: 7 };
    let answer = |flags: u32| {
        let message = [SIGNATURE, &[1, 0, 0, 0], &flags.to_le_bytes(), &[0; 16]].concat();
        Challenged::answer(message, &host, NONCE)
    };
    let always = flag::NTLM | flag::TARGET_INFO | flag::TARGET_TYPE_DOMAIN;
    for (asked, granted) in [
        (flag::UNICODE | flag::OEM, flag::UNICODE),
        (flag::OEM | flag::KEY_EXCHANGE, flag::OEM | flag::KEY_EXCHANGE),
        (flag::UNICODE | 0x0000_0080 | flag::SIGN, flag::UNICODE | flag::SIGN),
    ] {
        let challenged = answer(asked).expect("a challenge");
        assert_eq!(number(challenged.message(), 20), Some(granted | always), "{asked:x}");
        let name = if granted & flag::OEM != 0 { b"EXCHANGE".to_vec() } else { utf16("EXCHANGE") };
        assert_eq!(field(challenged.message(), 12), Some(name.as_slice()));
        assert_eq!(challenged.message().get(24..32), Some(NONCE.as_slice()));
        let info = field(challenged.message(), 40).expect("pairs");
        assert!(info.ends_with(&[7, 0, 8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "{info:?}");
        assert!(Pairs::read(info).is_some_and(|pairs| !pairs.has_mic && pairs.bindings.is_none()));
    }
    assert!(answer(flag::NTLM).is_none(), "neither OEM nor Unicode");
    assert!(Challenged::answer(b"NTLMSSP\0\x03\0\0\0".to_vec(), &host, NONCE).is_none());
}

#[test]
fn bindings_are_checked_as_far_as_they_are_wanted() {
    use ExtendedProtection::{Allow, None as Off, Require};
    let (right, wrong, zero) = ([7; 16], [8; 16], [0; 16]);
    let cases = [
        (Off, Some(wrong), Ok(())),
        (Off, None, Ok(())),
        (Allow, None, Ok(())),
        (Allow, Some(zero), Ok(())),
        (Allow, Some(right), Ok(())),
        (Allow, Some(wrong), Err(Refused::WrongBindings)),
        (Require, None, Err(Refused::NoBindings)),
        (Require, Some(zero), Err(Refused::NoBindings)),
        (Require, Some(right), Ok(())),
        (Require, Some(wrong), Err(Refused::WrongBindings)),
    ];
    for (protection, sent, expected) in cases {
        let channel = Channel { protection, bindings: right };
        assert_eq!(
            channel.check(sent.as_ref().map(<[u8; 16]>::as_slice)),
            expected,
            "{protection:?} {sent:?}"
        );
    }
}

#[test]
fn messages_that_are_cut_or_point_outside_are_refused() {
    let message = document_message();
    let refused = |message: &[u8]| {
        document_challenged().accept(message, OPEN, |_, _| Some(((), "Password".to_owned()))).err()
    };
    for end in 0..message.len() {
        assert!(refused(&message[..end]).is_some(), "{end}");
    }
    for at in [20, 28, 36, 52] {
        for (length, offset) in [(0xffff, 64_u32), (16, u32::MAX), (16, message.len() as u32)] {
            let mut message = message.clone();
            message[at..at + 2].copy_from_slice(&u16::to_le_bytes(length));
            message[at + 4..at + 8].copy_from_slice(&offset.to_le_bytes());
            assert_eq!(refused(&message), Some(Refused::Malformed), "{at}");
        }
    }
    // A response of NTLMv1 has 24 bytes.
    let mut old = message.clone();
    old[20..22].copy_from_slice(&24_u16.to_le_bytes());
    assert_eq!(refused(&old), Some(Refused::OldVersion));
}

#[test]
fn upper_case_is_one_character_for_one() {
    assert_eq!(upper("jürgen.straße"), "JÜRGEN.STRAßE");
}
