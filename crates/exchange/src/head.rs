//! What stands in the head of a message; its body is not read.

use std::sync::LazyLock;

use mail_parser::{Address, HeaderName, Message, MessageParser};
use mailyard_policy::{Timestamp, tracking::Head};

use crate::codec::OPERATION_HEADER;

/// No more of a message is looked at.
pub const LONGEST_HEAD: usize = 256 << 10;

static PARSER: LazyLock<MessageParser> = LazyLock::new(|| {
    MessageParser::new()
        .header_date(HeaderName::Date)
        .header_text(HeaderName::Subject)
        .header_address(HeaderName::From)
        .header_address(HeaderName::Sender)
        .header_address(HeaderName::To)
        .header_address(HeaderName::Cc)
        .header_raw(HeaderName::MessageId)
        .header_raw(HeaderName::InReplyTo)
        .header_raw(HeaderName::References)
        .header_raw(OPERATION_HEADER)
        .default_header_ignore()
});

/// Reads the head of a message in MIME (RFC 5322), of which at most [`LONGEST_HEAD`] bytes are looked at. What is
/// missing or cannot be read is left empty: every message has a head.
pub fn read_head(message: &[u8]) -> Head {
    let head = message.get(..length(message)).unwrap_or_default();
    let Some(parsed) = PARSER.parse_headers(head) else { return Head::default() };
    let from = addresses(parsed.from()).into_iter().next();
    Head {
        message_id: text(&parsed, HeaderName::MessageId).map(|text| whole_id(&text)),
        from: from.or_else(|| addresses(parsed.sender()).into_iter().next()).unwrap_or_default(),
        to: addresses(parsed.to()),
        cc: addresses(parsed.cc()),
        subject: parsed.subject().map(one_line).unwrap_or_default(),
        sent: parsed.date().filter(|date| date.is_valid()).map(|date| {
            // The parser reads what it is given: no year is so large that its milliseconds do not fit.
            Timestamp::from_millis(date.to_timestamp().saturating_mul(1000))
        }),
        in_reply_to: text(&parsed, HeaderName::InReplyTo).and_then(|text| ids(&text).into_iter().next()),
        references: text(&parsed, HeaderName::References).map(|text| ids(&text)).unwrap_or_default(),
        operation_id: text(&parsed, HeaderName::Other(OPERATION_HEADER.into())),
    }
}

/// Up to and with the first empty line.
fn length(message: &[u8]) -> usize {
    let most = message.len().min(LONGEST_HEAD);
    let mut line = 0;
    for end in memchr::memchr_iter(b'\n', message.get(..most).unwrap_or_default()) {
        if matches!(message.get(line..end), Some(b"" | b"\r")) {
            return end + 1;
        }
        line = end + 1;
    }
    most
}

fn text(message: &Message<'_>, name: HeaderName<'_>) -> Option<String> {
    let text = one_line(message.header(name)?.as_text()?);
    (!text.is_empty()).then_some(text)
}

/// Folded lines are one line; control characters have no place in a head.
fn one_line(text: &str) -> String {
    text.trim().chars().filter(|letter| !letter.is_control()).collect()
}

/// A Message-ID as it stands there, but for white space, which means nothing in it.
fn whole_id(text: &str) -> String {
    ids(text).into_iter().next().unwrap_or_else(|| text.to_owned())
}

/// The ids in angle brackets.
fn ids(text: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('<')
        && let Some((id, behind)) = after.split_once('>')
    {
        let id: String = id.chars().filter(|letter| !letter.is_whitespace()).collect();
        if !id.is_empty() {
            ids.push(format!("<{id}>"));
        }
        rest = behind;
    }
    ids
}

fn addresses(list: Option<&Address<'_>>) -> Vec<String> {
    let all = list.into_iter().flat_map(Address::iter);
    all.filter_map(|one| one.address()).map(one_line).filter(|one| !one.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_head_is_read_and_the_body_is_not() {
        let message = "Received: from a by b; Sun, 1 Mar 2026 11:59:59 +0000\r\n\
            From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.org>\r\n\
            To: \"Doe, Jane\" <jane@example.org>, Team: a@example.org, b@example.org;\r\n\
            Cc: c@example.org\r\n\
            Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n and\tmore\r\n\
            Date: Sun, 1 Mar 2026 13:00:00 +0100\r\n\
            Message-ID:\r\n <one@example.org>\r\n\
            In-Reply-To: <zero@example.org> (a comment)\r\n\
            References: <minus@example.org>\r\n\t<zero@ex ample.org>\r\n\
            X-Mailyard-Operation-Id: 01HX\r\n\r\n\
            From: somebody-else@example.org\r\nMessage-ID: <body@example.org>\r\n";
        let expected = Head {
            message_id: Some("<one@example.org>".to_owned()),
            from: "juergen@example.org".to_owned(),
            to: owned(&["jane@example.org", "a@example.org", "b@example.org"]),
            cc: owned(&["c@example.org"]),
            subject: "Grüße andmore".to_owned(),
            sent: Some(Timestamp::from_millis(1_772_366_400_000)),
            in_reply_to: Some("<zero@example.org>".to_owned()),
            references: owned(&["<minus@example.org>", "<zero@example.org>"]),
            operation_id: Some("01HX".to_owned()),
        };
        let found = read_head(message.as_bytes());
        let subject = found.subject.clone();
        assert_eq!(Head { subject: expected.subject.clone(), ..found }, expected);
        assert!(subject.starts_with("Grüße and") && !subject.contains(char::is_control), "{subject:?}");
        assert_eq!(read_head(message.replace("\r\n", "\n").as_bytes()).message_id, expected.message_id);
    }

    #[test]
    fn every_message_has_a_head() {
        let cases: [(&[u8], Head); 8] = [
            (b"", Head::default()),
            (b"\r\n\r\nbody", Head::default()),
            (b"\x00\xFF\xFEno header at all", Head::default()),
            (
                b"Message-ID: <unclosed@example.org\r\n\r\n",
                Head { message_id: Some("<unclosed@example.org".to_owned()), ..Head::default() },
            ),
            (b"Message-ID:  \r\nDate: yesterday\r\nFrom:\r\n\r\n", Head::default()),
            (b"Sender: s@example.org\r\n\r\n", Head { from: "s@example.org".to_owned(), ..Head::default() }),
            (
                b"Subject: \xFCber\r\nFrom: a@example.org\r\n\r\n",
                Head {
                    from: "a@example.org".to_owned(),
                    subject: "\u{FFFD}ber".to_owned(),
                    ..Head::default()
                },
            ),
            (
                b"Subject: whole\r\nFrom: cut in the mi",
                Head { subject: "whole".to_owned(), ..Head::default() },
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(read_head(message), expected, "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn an_endless_head_is_read_to_its_limit() {
        let message =
            format!("Subject: first\r\nX: {}\r\nFrom: late@example.org\r\n\r\n", "x".repeat(LONGEST_HEAD));
        let head = read_head(message.as_bytes());
        assert_eq!((head.subject.as_str(), head.from.as_str()), ("first", ""));
    }
}
