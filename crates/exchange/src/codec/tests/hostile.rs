//! Answers that no server should give: they fail with their reason, and nothing else happens.

use proptest::prelude::*;

use super::{LIMITS, answer, error, receive, soap, success};
use crate::codec::{FindItem, GetFolder, GetItem, Limits, Malformed, Sieve, SyncFolderItems, read, text};

fn page() -> String {
    answer(
        "SyncFolderItems",
        &success(
            "SyncFolderItems",
            r#"<m:SyncState>H4sI</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange><m:Changes><t:Create><t:Message><t:ItemId Id="I1" ChangeKey="k"/></t:Message></t:Create></m:Changes>"#,
        ),
    )
}

fn items() -> String {
    let item = |name: &str| {
        success(
            "GetItem",
            &format!(
                r#"<m:Items><t:Message><t:MimeContent CharacterSet="UTF-8">UmVjZWl2&#xD;ZWQ6</t:MimeContent><t:ItemId Id="{name}" ChangeKey="k"/><t:ExtendedProperty><t:ExtendedFieldURI PropertyTag="0x300B" PropertyType="Binary"/><t:Value>AAEC</t:Value></t:ExtendedProperty></t:Message></m:Items>"#
            ),
        )
    };
    answer("GetItem", &[item("I1"), error("GetItem", "Error", "ErrorItemNotFound"), item("I2")].concat())
}

fn fails(document: &[u8]) -> Malformed {
    for step in [1, 1000] {
        let read = receive::<SyncFolderItems<'_>>(document, step);
        assert!(read.is_err(), "{}", String::from_utf8_lossy(document));
    }
    receive::<SyncFolderItems<'_>>(document, 64).map(|_| ()).expect_err("it cannot be read")
}

#[test]
fn what_cannot_be_read_says_why() {
    let page = page();
    let deep = format!("{}{}", "<m:Deep>".repeat(100), "</m:Deep>".repeat(100));
    let doctype = r#"<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>"#;
    let external = r#"<!DOCTYPE s SYSTEM "file:///etc/passwd">"#;
    let cases: Vec<(String, Malformed)> = vec![
        (String::new(), Malformed::Truncated),
        ("   \r\n".to_owned(), Malformed::Truncated),
        ("not XML at all".to_owned(), Malformed::Truncated),
        ("<html><body>Sign in</body></html>".to_owned(), Malformed::Unexpected("SOAP envelope")),
        (r#"<Envelope xmlns="urn:other"/>"#.to_owned(), Malformed::Unexpected("root element")),
        (soap(""), Malformed::Unexpected("response element")),
        (
            page.replace("SyncFolderItemsResponse ", "GetItemResponse ")
                .replace("SyncFolderItemsResponse>", "GetItemResponse>"),
            Malformed::Unexpected("response element"),
        ),
        (page.replace("<m:SyncState>", "<m:SyncState>&b;"), Malformed::Entity),
        (page.replace("Id=\"I1\"", "Id=\"&b;\""), Malformed::Entity),
        (page.replace("<m:SyncState>", "<m:SyncState>&#x;"), Malformed::Entity),
        (page.replace("</m:SyncState>", "</m:Syncstate>"), Malformed::Syntax),
        (page.replace("Id=\"I1\"", "Id=\"I1"), Malformed::Syntax),
        (page.replace("<m:Changes>", &format!("{deep}<m:Changes>")), Malformed::Depth),
        (page.replacen("?>", &format!("?>{doctype}"), 1), Malformed::DocumentType),
        (page.replacen("?>", &format!("?>{external}"), 1), Malformed::DocumentType),
    ];
    for (document, expected) in cases {
        assert_eq!(fails(document.as_bytes()), expected, "{document}");
    }
}

#[test]
fn answers_in_another_encoding_are_refused() {
    let latin: Vec<u8> = page().replace("I1", "Müller").chars().map(|letter| letter as u8).collect();
    let wide: Vec<u8> = page().encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(fails(&latin), Malformed::Encoding);
    assert_eq!(fails(&[&[0xFF, 0xFE], &wide[..]].concat()), Malformed::Encoding);
}

#[test]
fn an_answer_that_is_cut_anywhere_is_no_answer() {
    let whole = items();
    assert!(receive::<GetItem<'_>>(whole.as_bytes(), 100).is_ok());
    for length in 0..whole.len() {
        let read = receive::<GetItem<'_>>(&whole.as_bytes()[..length], 100);
        assert!(matches!(read, Err(Malformed::Truncated | Malformed::Syntax)), "{length}: {read:?}");
    }
}

#[test]
fn a_hundred_megabytes_are_given_up_at_the_limit() {
    let piece = vec![b'x'; 1 << 20];
    for (opening, expected) in [
        ("<a>", Malformed::DocumentTooLarge),
        ("<a><![CDATA[", Malformed::DocumentTooLarge),
        ("<a b='", Malformed::DocumentTooLarge),
        ("<a><!--", Malformed::DocumentTooLarge),
        ("<a><MimeContent>", Malformed::ContentTooLarge),
        ("<a><MimeContent><![CDATA[", Malformed::ContentTooLarge),
    ] {
        let mut sieve = Sieve::new(Limits { document: 8 << 20, content: 8 << 20 });
        sieve.push(opening.as_bytes()).expect("small");
        let taken = (0..100).take_while(|_| sieve.push(&piece).is_ok()).count();
        assert!((7..12).contains(&taken), "{opening}: {taken} MiB");
        assert_eq!(sieve.push(&piece), Err(expected), "{opening}");
    }
}

/// Everything that happens to bytes on a bad road.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Repeat(usize, usize),
    Cut(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0_usize..4096;
    let markup = prop_oneof![
        Just(b"<".to_vec()),
        Just(b">".to_vec()),
        Just(b"</".to_vec()),
        Just(b"/>".to_vec()),
        Just(b"&#x".to_vec()),
        Just(b"&".to_vec()),
        Just(b"<![CDATA[".to_vec()),
        Just(b"]]>".to_vec()),
        Just(b"<!--".to_vec()),
        Just(b"<!DOCTYPE x>".to_vec()),
        Just(b"<t:MimeContent>".to_vec()),
        Just(b"xmlns:t=\"urn:x\"".to_vec()),
        Just(b"\xED\xA0\x80".to_vec()),
        proptest::collection::vec(any::<u8>(), 1..8),
    ];
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at.clone(), markup).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at.clone(), 1_usize..200).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (at.clone(), 1_usize..200).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        at.prop_map(Mutation::Cut),
    ]
}

fn mutate(mut bytes: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        let place = |at: usize| at % (bytes.len() + 1);
        match mutation {
            Mutation::Set(at, byte) => {
                let at = place(*at);
                if let Some(slot) = bytes.get_mut(at) {
                    *slot = *byte;
                }
            }
            Mutation::Insert(at, more) => {
                let at = place(*at);
                bytes.splice(at..at, more.iter().copied());
            }
            Mutation::Remove(at, length) => {
                let (at, length) = (place(*at), *length);
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Mutation::Repeat(at, length) => {
                let (at, length) = (place(*at), *length);
                let part = bytes[at..(at + length).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            Mutation::Cut(at) => bytes.truncate(place(*at)),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn nothing_that_arrives_makes_the_reader_panic(
        mutations in proptest::collection::vec(mutation(), 1..6),
        step in 1_usize..300,
    ) {
        for document in [page(), items()] {
            let document = mutate(document.into_bytes(), &mutations);
            let _any = receive::<SyncFolderItems<'_>>(&document, step);
            let _any = receive::<GetItem<'_>>(&document, step);
            let _any = receive::<FindItem<'_>>(&document, step);
            let _any = receive::<GetFolder<'_>>(&document, step);
        }
    }

    #[test]
    fn it_does_not_matter_how_an_answer_is_cut(
        mutations in proptest::collection::vec(mutation(), 0..4),
        step in 1_usize..300,
    ) {
        let document = mutate(items().into_bytes(), &mutations);
        let sift = |step: usize| {
            let mut sieve = Sieve::new(LIMITS);
            for piece in document.chunks(step) {
                sieve.push(piece).expect("it is small");
            }
            let (document, mimes) = sieve.finish();
            let mimes: Vec<_> = mimes.into_iter().map(|mime| (mime.bytes, mime.total, mime.broken)).collect();
            (document, mimes)
        };
        prop_assert_eq!(sift(step), sift(document.len().max(1)));
    }

    #[test]
    fn any_bytes_can_be_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(document) = text(&bytes) {
            let _any = read::<GetItem<'_>>(&document, Vec::new());
        }
    }
}
