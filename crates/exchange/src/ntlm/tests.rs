use proptest::{collection::vec, prelude::*};

use super::{keys::*, *};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .filter(|letter| !letter.is_ascii_whitespace())
        .filter_map(|letter| char::from(letter).to_digit(16).map(|digit| digit as u8))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The challenge of MS-NLMP 4.2.4.3.
const CHALLENGE: &str =
    "4e544c4d53535000 02000000 0c000c0038000000 33828ae2 0123456789abcdef 0000000000000000
    2400240044000000 060070170000000f 530065007200760065007200
    02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000";

/// The answer to it; the workstation, which we do not tell, is COMPUTER in it.
const AUTHENTICATE: &str = "4e544c4d53535000 03000000 180018006c000000 5400540084000000 0c000c0048000000
    0800080054000000 100010005c000000 10001000d8000000 358288e2 0501280a0000000f
    44006f006d00610069006e00 5500730065007200 43004f004d0050005500540045005200
    86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa
    68cd0ab851e51c96aabc927bebef6a1c 01010000000000000000000000000000aaaaaaaaaaaaaaaa00000000
    02000c0044006f006d00610069006e00 01000c00530065007200760065007200 00000000 00000000
    c5dad2544fc9799094ce1ce90bc9d03e";

/// The 1st of January 1601, which the document calls no time.
const BEGINNING: Timestamp = Timestamp::from_millis(-11_644_473_600_000);

fn circumstances() -> Circumstances<'static> {
    let chance = Chance { nonce: [0xAA; 8], session_key: [0x55; 16] };
    Circumstances { binding: None, target_name: "", now: BEGINNING, chance }
}

/// The fields of a message in their order in it: LM, NT, domain, user, workstation, key.
fn fields(message: &[u8]) -> [Vec<u8>; 6] {
    [12, 20, 28, 36, 44, 52].map(|at| {
        let length = u16::from_le_bytes([message[at], message[at + 1]]) as usize;
        let from = u32::from_le_bytes([message[at + 4], message[at + 5], message[at + 6], message[at + 7]]);
        message[from as usize..][..length].to_vec()
    })
}

fn answer(challenge: &[u8], circumstances: &Circumstances<'_>) -> (Vec<u8>, Session) {
    Account::new("Domain\\User", "Password").answer(challenge, circumstances).expect("it can be answered")
}

/// MS-NLMP 4.2.4.
#[test]
fn the_documents_example_comes_out() {
    let (message, session) = answer(&bytes(CHALLENGE), &circumstances());
    let (mut expected, found) = (fields(&bytes(AUTHENTICATE)), fields(&message));
    assert_eq!(expected[4], utf16("COMPUTER"));
    expected[4].clear();
    assert_eq!(found, expected);
    assert_eq!(message[..12], bytes(AUTHENTICATE)[..12]);
    // We do not ask for sealing, which the example does.
    assert_eq!(message[60..64], bytes("158288e2"));
    assert_eq!(message.len() + 16, bytes(AUTHENTICATE).len(), "nothing else stands in it");
    assert_eq!(session.signing_key(Side::Client).to_vec(), bytes("4788dc861b4782f35d43fd98fe1a2d39"));
    assert_eq!(session.sealing_key(Side::Client).to_vec(), bytes("59f600973cc4960a25480a7c196e4c58"));
}

/// MS-NLMP 4.2.4.4: the signature there comes behind a sealed message, on the same key stream.
#[test]
fn the_documents_signature_comes_out() {
    let (_, session) = answer(&bytes(CHALLENGE), &circumstances());
    let text = utf16("Plaintext");
    let mut sealed = [&text[..], &[0; 8]].concat();
    rc4(&session.sealing_key(Side::Client), &mut sealed);
    assert_eq!(sealed[..18], bytes("54e50165bf1936dc996020c1811b0f06fb5f"));
    let plain = Session { encrypted: false, ..session };
    let checksum: Vec<u8> =
        plain.sign(Side::Client, &text)[4..12].iter().zip(&sealed[18..]).map(|(a, b)| a ^ b).collect();
    assert_eq!(checksum, bytes("7fb38ec5c55d4976"));
    assert_eq!(plain.sign(Side::Client, &text)[..4], [1, 0, 0, 0]);
    assert_eq!(plain.sign(Side::Client, &text)[12..], [0; 4]);
}

#[test]
fn keys_are_those_of_the_document() {
    let key = |user, domain| response_key(user, domain, "Password").to_vec();
    assert_eq!(key("User", "Domain"), bytes("0c868a403bfd7a93a3001ef22ef02e3f"));
    assert_eq!(key("uSER", "Domain"), key("User", "Domain"));
    assert_ne!(key("User", "DOMAIN"), key("User", "Domain"));
    assert_eq!(key("große", ""), key("GROßE", ""), "ß has no capital letter");
    assert_ne!(key("große", ""), key("GROSSE", ""));
}

/// The same challenge with more target information, as servers of this century send it.
fn modern(pairs: &[(u16, &[u8])]) -> Vec<u8> {
    let mut challenge = bytes(CHALLENGE);
    challenge.truncate(challenge.len() - 4);
    for (id, value) in pairs.iter().chain(&[(0, &[][..])]) {
        challenge.extend_from_slice(&id.to_le_bytes());
        challenge.extend_from_slice(&(value.len() as u16).to_le_bytes());
        challenge.extend_from_slice(value);
    }
    let length = (challenge.len() as u16 - 0x44).to_le_bytes();
    challenge[40..42].copy_from_slice(&length);
    challenge[42..44].copy_from_slice(&length);
    challenge
}

#[test]
fn a_server_that_tells_the_time_gets_a_mic_and_what_it_covers() {
    let time = 0x01DC_0102_0304_0506_u64.to_le_bytes();
    let challenge = modern(&[(7, &time), (6, &1_u32.to_le_bytes()), (9, b"x\0"), (10, &[9; 16])]);
    let given =
        Circumstances { binding: Some([7; 16]), target_name: "HTTP/mail.example.org", ..circumstances() };
    let (message, session) = answer(&challenge, &given);
    let [weak, response, ..] = fields(&message);
    assert_eq!(weak, [0; 24]);
    assert_eq!(response[24..32], time);
    let info = &response[44..response.len() - 4];
    let pair =
        |id: u16, value: &[u8]| [&id.to_le_bytes(), &(value.len() as u16).to_le_bytes(), value].concat();
    let expected = [
        pair(2, &utf16("Domain")),
        pair(1, &utf16("Server")),
        pair(7, &time),
        pair(6, &3_u32.to_le_bytes()),
        pair(10, &[7; 16]),
        pair(9, &utf16("HTTP/mail.example.org")),
        pair(0, &[]),
    ];
    assert_eq!(info, expected.concat());
    let mut without = message.clone();
    without[72..88].fill(0);
    let mic = hmac_md5(&session.key, &[&negotiate(), &challenge, &without]);
    assert_eq!(message[72..88], mic);
}

#[test]
fn names_come_in_three_forms() {
    for (name, user, domain) in [
        ("EXAMPLE\\svc", "svc", "EXAMPLE"),
        ("svc@example.org", "svc@example.org", ""),
        ("svc", "svc", ""),
        ("EXAMPLE\\a\\b", "a\\b", "EXAMPLE"),
    ] {
        let (message, _) =
            Account::new(name, "x").answer(&bytes(CHALLENGE), &circumstances()).expect("it can be answered");
        let [_, _, found_domain, found_user, ..] = fields(&message);
        assert_eq!((found_user, found_domain), (utf16(user), utf16(domain)), "{name}");
    }
}

#[test]
fn keys_are_exchanged_and_shortened_as_agreed() {
    let agreed = |flags: u32| {
        let mut challenge = bytes(CHALLENGE);
        challenge[20..24].copy_from_slice(&flags.to_le_bytes());
        let (message, session) = answer(&challenge, &circumstances());
        (fields(&message)[5].len(), session.strength, session.encrypted, *session.key == [0x55; 16])
    };
    assert_eq!(agreed(0xE28A_8233), (16, 16, true, true));
    assert_eq!(agreed(0xE28A_8233 & !(1 << 30)), (0, 16, false, false));
    assert_eq!(agreed(0xE28A_8233 & !(1 << 29)), (16, 7, true, true));
    assert_eq!(agreed(0xE28A_8233 & !(1 << 29) & !(1 << 31)), (16, 5, true, true));
}

#[test]
fn challenges_that_cannot_be_answered_are_refused() {
    let changed = |at: usize, with: &[u8]| {
        let mut challenge = bytes(CHALLENGE);
        challenge[at..at + with.len()].copy_from_slice(with);
        challenge
    };
    let cases = [
        (Vec::new(), Malformed::NoChallenge),
        (changed(0, b"X"), Malformed::NoChallenge),
        (changed(8, &[3]), Malformed::NoChallenge),
        (bytes(CHALLENGE)[..30].to_vec(), Malformed::Short),
        (bytes(CHALLENGE)[..44].to_vec(), Malformed::Short),
        (changed(20, &0xE282_8233_u32.to_le_bytes()), Malformed::Flags),
        (changed(20, &0xE28A_8232_u32.to_le_bytes()), Malformed::Flags),
        (changed(44, &[0xFF; 4]), Malformed::Short),
        (changed(40, &[0x25, 0]), Malformed::Short),
        (changed(40, &[0x20, 0]), Malformed::TargetInfo),
        (changed(40, &[0x13, 0]), Malformed::TargetInfo),
        (changed(70, &[0xFF, 0xFF]), Malformed::TargetInfo),
        (modern(&[(3, &vec![0; 65_000])]), Malformed::TooLong),
    ];
    for (challenge, expected) in cases {
        let given = Circumstances { target_name: &"x".repeat(500), ..circumstances() };
        let found = Account::new("u", "p").answer(&challenge, &given).map(|_| ());
        assert_eq!(found, Err(expected), "{challenge:02x?}");
    }
    // Servers from before the target information.
    let old = changed(20, &0xE20A_8233_u32.to_le_bytes());
    assert!(Account::new("u", "p").answer(&old, &circumstances()).is_ok());
}

proptest! {
    #[test]
    fn no_bytes_panic(noise in vec(any::<u8>(), 0..120), at in 0..120_usize, flags in any::<u32>()) {
        let account = Account::new("u", "p");
        let _refused = account.answer(&noise, &circumstances());
        let mut challenge = bytes(CHALLENGE);
        challenge[20..24].copy_from_slice(&flags.to_le_bytes());
        let _answered = account.answer(&challenge, &circumstances());
        for (place, byte) in challenge.iter_mut().skip(at).zip(&noise) {
            *place = *byte;
        }
        let _either = account.answer(&challenge, &circumstances());
    }
}
