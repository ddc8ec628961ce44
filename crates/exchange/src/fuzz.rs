//! What a server may send, as bytes: each function takes whatever it is given, comes back, and panics only if a promise
//! is broken. Fuzzing drives them (`fuzz/` at the top), and the tests replay its corpus.

use std::fmt::Debug;

use mailyard_policy::Timestamp;

use crate::{
    Endpoint, autodiscover,
    codec::{
        self, CreateAttachment, CreateFolder, CreateItem, Cutter, DeleteItem, FindFolder, FindItem,
        GetFolder, GetItem, GetStreamingEvents, Limits, Malformed, MoveItem, Operation, SendItem, Sieve,
        SyncFolderItems, UpdateItem,
    },
    http1::{self, Body, Head, PushError},
    ntlm::{Account, Chance, Circumstances},
    oauth::challenge,
    spnego,
};

const LIMITS: Limits = Limits { document: 1 << 20, content: 1 << 20 };
const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);

/// An answer of an operation; the first byte says of which, and in how large pieces it arrives.
pub fn soap(bytes: &[u8]) {
    let Some((choice, answer)) = bytes.split_first() else { return };
    let step = usize::from(choice >> 4) * 7 + 1;
    match choice % 12 {
        0 => pieces_make_the_whole::<GetFolder<'_>>(answer, step),
        1 => pieces_make_the_whole::<FindFolder<'_>>(answer, step),
        2 => pieces_make_the_whole::<SyncFolderItems<'_>>(answer, step),
        3 => pieces_make_the_whole::<FindItem<'_>>(answer, step),
        4 => pieces_make_the_whole::<GetItem<'_>>(answer, step),
        5 => pieces_make_the_whole::<CreateItem<'_>>(answer, step),
        6 => pieces_make_the_whole::<CreateAttachment<'_>>(answer, step),
        7 => pieces_make_the_whole::<SendItem<'_>>(answer, step),
        8 => pieces_make_the_whole::<MoveItem<'_>>(answer, step),
        9 => pieces_make_the_whole::<CreateFolder<'_>>(answer, step),
        10 => pieces_make_the_whole::<UpdateItem<'_>>(answer, step),
        _ => pieces_make_the_whole::<DeleteItem<'_>>(answer, step),
    }
}

fn pieces_make_the_whole<O: Operation<Part: Debug>>(answer: &[u8], step: usize) {
    let received = |step: usize| -> Result<_, Malformed> {
        let mut sieve = Sieve::new(LIMITS);
        for piece in answer.chunks(step.max(1)) {
            sieve.push(piece)?;
        }
        let (document, mimes) = sieve.finish();
        codec::read::<O>(&codec::text(&document)?, mimes)
    };
    let (pieces, whole) = (received(step), received(answer.len()));
    assert_eq!(format!("{pieces:?}"), format!("{whole:?}"), "in pieces of {step}, and as a whole");
}

/// Notifications as they arrive over a connection that stays open; the first byte says in how large pieces.
pub fn events(bytes: &[u8]) {
    let Some((step, stream)) = bytes.split_first() else { return };
    let (pieces, whole) = (envelopes(stream, usize::from(*step) + 1), envelopes(stream, stream.len()));
    assert_eq!(pieces, whole, "in pieces, and as a whole");
    for envelope in whole.0 {
        let _told = codec::text(&envelope)
            .map(|text| codec::read::<GetStreamingEvents<'_>>(&text, Vec::new()).is_ok());
    }
}

/// The envelopes of a stream, what is left of it, and whether all of it could be cut.
fn envelopes(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
    let (mut cutter, mut envelopes, mut is_whole) = (Cutter::new(1 << 20), Vec::new(), true);
    for piece in stream.chunks(step.max(1)) {
        let keep = |envelope: &[u8]| {
            envelopes.push(envelope.to_vec());
            Ok::<_, Malformed>(())
        };
        if cutter.push(piece, keep).is_err() {
            is_whole = false;
            break;
        }
    }
    let rest = if is_whole { cutter.rest().to_vec() } else { Vec::new() };
    (envelopes, rest, is_whole)
}

/// An answer of a server as it arrives over the connection; the first byte says in how large pieces.
pub fn http(bytes: &[u8]) {
    let Some((step, answer)) = bytes.split_first() else { return };
    let Ok(Some((head, length))) = http1::read_head(answer, NOW) else { return };
    assert!(length <= answer.len(), "a head is part of what arrived");
    for offer in &head.challenges {
        let _anything = (challenge::authority(offer), challenge::refusal(offer, head.diagnostics.as_deref()));
    }
    let rest = answer.get(length..).unwrap_or_default();
    let (pieces, whole) = (body(&head, rest, usize::from(*step) + 1), body(&head, rest, rest.len()));
    assert_eq!(pieces, whole, "in pieces, and as a whole");
}

/// What a body holds, and how many bytes it has; `None`: it is none.
fn body(head: &Head, bytes: &[u8], step: usize) -> Option<(Vec<u8>, usize, bool)> {
    let (mut content, mut taken) = (Vec::new(), 0);
    let mut body = Body::new(head);
    let mut keep = |piece: &[u8]| {
        content.extend_from_slice(piece);
        if content.len() > 1 << 20 { Err(()) } else { Ok(()) }
    };
    for piece in bytes.chunks(step.max(1)) {
        let here = body.push(piece, &mut keep).ok()?;
        taken += here;
        if here < piece.len() {
            break;
        }
    }
    let done = body.is_done();
    let ended: Result<(), PushError<()>> = body.finish(&mut keep);
    ended.ok()?;
    Some((content, taken, done))
}

/// The second leg of NTLM, bare or in SPNEGO.
pub fn ntlm(bytes: &[u8]) {
    let account = Account::new("CONTOSO\\svc", "a password");
    let chance = Chance { nonce: [7; 8], session_key: [9; 16] };
    let circumstances =
        Circumstances { binding: Some([3; 16]), target_name: "HTTP/mail.contoso.example", now: NOW, chance };
    let answer = |challenge: &[u8]| {
        if let Ok((message, _session)) = account.answer(challenge, &circumstances) {
            assert!(u16::try_from(message.len()).is_ok(), "its lengths have 16 bits");
            assert!(message.starts_with(b"NTLMSSP\0"));
        }
    };
    answer(bytes);
    if let Some(token) = spnego::parse(bytes).and_then(|response| response.token) {
        answer(token);
    }
}

/// What Autodiscover answers, in one of its forms, or where it leads; the first byte says which.
pub fn autodiscover(bytes: &[u8]) {
    let Some((choice, answer)) = bytes.split_first() else { return };
    let text = codec::text(answer).unwrap_or_default();
    let found = match choice % 4 {
        0 => autodiscover::json::read(answer),
        1 => autodiscover::pox::read(&text),
        2 => autodiscover::soap::read(&text),
        _ => return redirect(&text),
    };
    // Whatever it is, people are told of it.
    let _told = format!("{found:?}");
}

/// Nothing leads out of the domain, and what is followed is what was checked.
fn redirect(location: &str) {
    let Ok(from) = Endpoint::parse("https://autodiscover.contoso.example/autodiscover/x", false) else {
        return;
    };
    let trusts = |host: &str| host == "contoso.example" || host.ends_with(".contoso.example");
    if let Ok(to) = autodiscover::candidate::follow(location, &from, trusts) {
        assert!(to.tls && trusts(&to.host), "{location:?} leads to {}", to.url());
        let again = Endpoint::parse(&to.url(), false);
        assert_eq!(again.as_ref().map(|again| &again.host).ok(), Some(&to.host), "{location:?}");
    }
}

/// The head of a message.
pub fn message(bytes: &[u8]) {
    let head = crate::read_head(bytes);
    let lines = head.to.iter().chain(&head.cc).chain(&head.references);
    let texts = lines.chain([&head.subject, &head.from]).chain(&head.message_id).chain(&head.in_reply_to);
    for text in texts {
        assert!(!text.contains(['\r', '\n', '\0']), "what is stored in lines has none: {text:?}");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Everything that fuzzing has found worth keeping.
    fn replayed(target: &str, by: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).expect("a folder of the corpus") {
            by(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
            count += 1;
        }
        assert!(count > 0, "{} is empty", folder.display());
    }

    #[test]
    fn answers_that_fuzzing_found_are_read() {
        replayed("soap", super::soap);
        replayed("http", super::http);
        replayed("events", super::events);
    }

    #[test]
    fn challenges_that_fuzzing_found_are_answered() {
        replayed("ntlm", super::ntlm);
    }

    #[test]
    fn answers_of_autodiscover_that_fuzzing_found_are_read() {
        replayed("autodiscover", super::autodiscover);
    }

    #[test]
    fn messages_that_fuzzing_found_are_read() {
        replayed("message", super::message);
    }
}
