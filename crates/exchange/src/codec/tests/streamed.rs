//! An answer that goes on: it is cut into its envelopes however it arrives, and each tells what it tells.

use proptest::prelude::*;

use super::{answer, error, success};
use crate::codec::{Cutter, GetStreamingEvents, Heard, Malformed, read, text};

const MOST: usize = 1 << 16;

/// What an envelope tells: what was heard, or the code of a refusal and whom it is about.
type Part = Result<Heard, (Box<str>, Vec<Box<str>>)>;

/// The documents of a stream that arrives in pieces of `step` bytes, and what is left of it.
fn cut(stream: &[u8], step: usize) -> Result<(Vec<String>, usize), Malformed> {
    let (mut cutter, mut documents) = (Cutter::new(MOST), Vec::new());
    for piece in stream.chunks(step.max(1)) {
        cutter.push(piece, |document| {
            documents.push(String::from_utf8_lossy(document).into_owned());
            Ok::<_, Malformed>(())
        })?;
    }
    Ok((documents, cutter.rest().len()))
}

/// What each envelope of a stream tells.
fn heard(stream: &str) -> Vec<Part> {
    let (documents, left) = cut(stream.as_bytes(), 7).expect("a stream");
    assert_eq!(left, 0, "{stream}");
    let parts = documents.iter().flat_map(|document| {
        let document = text(document.as_bytes()).expect("UTF-8");
        let answer = read::<GetStreamingEvents<'_>>(&document, Vec::new()).expect("an envelope");
        answer.messages.expect("no fault")
    });
    parts.map(|part| part.map_err(|refusal| (refusal.code, refusal.subscriptions))).collect()
}

/// As Exchange writes envelopes of streams: SOAP has no prefix.
fn envelope(message: &str) -> String {
    let usual = answer("GetStreamingEvents", message);
    let usual = usual.replace("<?xml version=\"1.0\" encoding=\"utf-8\"?>", "");
    usual
        .replace("s:Envelope", "Envelope")
        .replace("xmlns:s=", "xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns=")
}

fn told(content: &str) -> String {
    envelope(&success("GetStreamingEvents", content))
}

fn notification(events: &str) -> String {
    format!("<m:Notifications><m:Notification>{events}</m:Notification></m:Notifications>")
}

fn news(ids: &[&str]) -> Part {
    Ok(Heard { news: ids.iter().map(|id| (*id).into()).collect() })
}

const ID: &str = "<t:SubscriptionId>S1</t:SubscriptionId>";
const MAIL: &str = r#"<t:NewMailEvent><t:TimeStamp>2026-03-01T12:00:00Z</t:TimeStamp><t:ItemId Id="I7" ChangeKey="c"/><t:ParentFolderId Id="F1" ChangeKey="c"/></t:NewMailEvent>"#;

#[test]
fn envelopes_tell_of_mail_and_nothing_else() {
    let cases = [
        (String::new(), news(&[])),
        ("<m:ConnectionStatus>OK</m:ConnectionStatus>".to_owned(), news(&[])),
        ("<m:ConnectionStatus>Closed</m:ConnectionStatus>".to_owned(), news(&[])),
        (notification(&format!("{ID}{MAIL}")), news(&["S1"])),
        (notification(&format!("{ID}{MAIL}{MAIL}")), news(&["S1"])),
        (notification(&format!("{MAIL}{ID}")), news(&["S1"])),
        (notification(&format!("{ID}{MAIL}")).replace("m:Notification>", "t:Notification>"), news(&["S1"])),
        (notification(&format!("{ID}<t:StatusEvent/>")), news(&[])),
        (
            notification(&format!("{ID}<t:StatusEvent/><t:CalledEvent><t:Id>1</t:Id></t:CalledEvent>{MAIL}")),
            news(&["S1"]),
        ),
        (notification(&format!("{ID}<t:DeletedEvent><t:NewMailEvent/></t:DeletedEvent>")), news(&[])),
        (notification(MAIL), news(&[])),
        (
            format!(
                "<m:Notifications><m:Notification>{ID}{MAIL}</m:Notification><m:Unknown>{MAIL}</m:Unknown><m:Notification>{}{MAIL}</m:Notification><m:Notification>{ID}{MAIL}</m:Notification></m:Notifications>",
                ID.replace("S1", "s1"),
            ),
            news(&["S1", "s1"]),
        ),
    ];
    for (content, expected) in cases {
        assert_eq!(heard(&told(&content)), [expected], "{content}");
    }
}

#[test]
fn refusals_say_which_subscriptions_they_are_about() {
    let refused = error("GetStreamingEvents", "Error", "ErrorSubscriptionNotFound");
    let about = |ids: &str| envelope(&refused.replace("<m:Items/>", ids));
    let some = "<m:ErrorSubscriptionIds><m:SubscriptionId>S2</m:SubscriptionId><t:SubscriptionId> S3 </t:SubscriptionId></m:ErrorSubscriptionIds><m:ConnectionStatus>OK</m:ConnectionStatus>";
    let code: Box<str> = "ErrorSubscriptionNotFound".into();
    assert_eq!(heard(&about("")), [Err((code.clone(), vec![]))]);
    assert_eq!(heard(&about(some)), [Err((code, vec!["S2".into(), "S3".into()]))]);
}

#[test]
fn a_stream_is_cut_where_its_envelopes_end() {
    let first = told("<m:ConnectionStatus>OK</m:ConnectionStatus>");
    let second = told(&notification(&format!("{ID}{MAIL}")));
    let odd = r#"<a b='>' c="</a>" d="'"><!-- </a> > "--><![CDATA[</a>]]><b/><c></c>"'</a>"#;
    for parts in [
        vec![first.as_str(), second.as_str()],
        vec![
            "\u{FEFF}<?xml version=\"1.0\" a='?' ?>\r\n<Envelope/>",
            "\r\n<?xml version=\"1.0\"?><e a=\"/\"></e>",
            second.as_str(),
        ],
        vec![odd, odd],
    ] {
        let whole = parts.concat();
        for step in [1, 2, 3, 5, 64, whole.len()] {
            let (documents, left) = cut(whole.as_bytes(), step).expect("a stream");
            assert_eq!(
                (documents, left),
                (parts.iter().map(|part| (*part).to_owned()).collect(), 0),
                "{step}"
            );
        }
    }
}

#[test]
fn what_is_no_stream_is_given_up() {
    let cases = [
        ("", Ok((0, 0))),
        ("<a/></a>", Err(Malformed::Syntax)),
        ("</a>", Err(Malformed::Syntax)),
        ("<html><br></html>", Ok((0, 17))),
        ("just words", Ok((0, 10))),
        ("<a/><b", Ok((1, 2))),
    ];
    for (stream, expected) in cases {
        for step in [1, 3, 100] {
            let cut = cut(stream.as_bytes(), step).map(|(documents, left)| (documents.len(), left));
            assert_eq!(cut, expected, "{stream}");
        }
    }
    for opening in ["<a>", "<a b='", "<a><!--", "<a><![CDATA[", "<?", "no markup"] {
        let mut cutter = Cutter::new(MOST);
        let mut push = |bytes: &[u8]| cutter.push(bytes, |_| Ok::<_, Malformed>(()));
        push(opening.as_bytes()).expect("small");
        let taken = (0..100).take_while(|_| push(&[b'x'; 4096]).is_ok()).count();
        assert_eq!(taken, MOST / 4096 - 1, "{opening}");
        assert_eq!(push(b"x".repeat(MOST).as_slice()), Err(Malformed::DocumentTooLarge), "{opening}");
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_a_stream_arrives(
        parts in proptest::collection::vec(prop_oneof![
            Just("<"), Just(">"), Just("</a>"), Just("<a>"), Just("<a/>"), Just("<!--"), Just("-->"), Just("<![CDATA["),
            Just("]]>"), Just("<?x"), Just("?>"), Just("\""), Just("'"), Just("<!x"), Just(" "), Just("ü"),
        ], 0..40),
        step in 1_usize..9,
    ) {
        let stream = parts.concat();
        prop_assert_eq!(cut(stream.as_bytes(), step), cut(stream.as_bytes(), stream.len()));
    }
}
