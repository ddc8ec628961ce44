//! An item as a mailbox keeps it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::xml;

/// What an item holds that does not change when it is delivered to several mailboxes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub class: String,
    pub subject: String,
    pub body: String,
    pub body_is_html: bool,
    pub from: Option<Person>,
    pub sender: Option<Person>,
    pub to: Vec<Person>,
    pub cc: Vec<Person>,
    pub bcc: Vec<Person>,
    pub reply_to: Vec<Person>,
    pub message_id: String,
    pub in_reply_to: String,
    pub references: String,
    pub importance: String,
    pub sensitivity: String,
    pub categories: Vec<String>,
    /// Headers that were set by extended properties of the set InternetHeaders, and those of a MIME.
    pub headers: Vec<(String, String)>,
    /// The message as it was delivered or imported; without it one is made.
    pub mime: Option<Arc<[u8]>>,
    pub attachments: Vec<Attachment>,
}

/// A name and an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Person {
    pub name: String,
    pub address: String,
}

/// A file that is attached.
#[derive(Clone, Debug)]
pub(crate) struct Attachment {
    pub number: u32,
    pub name: String,
    pub content_type: String,
    pub content_id: String,
    pub is_inline: bool,
    pub content: Arc<[u8]>,
}

/// An item in a mailbox.
#[expect(clippy::struct_excessive_bools, reason = "each is a property of its own")]
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub number: u64,
    pub folder: u32,
    pub version: u32,
    /// A version that Exchange makes by itself shortly after delivery: given out when the item is first looked at.
    pub late_version: bool,
    pub content: Arc<Content>,
    pub search_key: [u8; 16],
    /// Grows within the mailbox: `PR_INTERNET_ARTICLE_NUMBER`.
    pub article: u32,
    pub received: i64,
    pub sent: i64,
    pub created: i64,
    pub modified: i64,
    pub is_read: bool,
    pub is_draft: bool,
    /// Some client was told of it in a page of changes.
    pub told: bool,
    pub size: u32,
    /// Extended properties by their canonical names.
    pub extended: Vec<(String, Vec<String>)>,
    /// Where it stands in its folder's log.
    pub made_at: u64,
    pub changed_at: u64,
    pub only_read_flag: bool,
}

impl Person {
    /// Of an address alone.
    pub fn new(address: &str) -> Self {
        Self { name: address.split('@').next().unwrap_or_default().to_owned(), address: address.to_owned() }
    }
}

impl Item {
    /// The MIME, made of the properties if none was delivered. Always the same for the same item.
    pub fn mime(&self) -> Arc<[u8]> {
        match &self.content.mime {
            Some(mime) if self.content.attachments.is_empty() => mime.clone(),
            _ => made_mime(&self.content, self.sent).into(),
        }
    }

    /// Bytes as Exchange counts them: content and a little.
    pub fn size_of(content: &Content) -> u32 {
        let mime = content
            .mime
            .as_ref()
            .map_or_else(|| content.body.len() + content.subject.len() + 600, |mime| mime.len());
        let attached: usize = content.attachments.iter().map(|attachment| attachment.content.len()).sum();
        (mime + attached) as u32
    }

    /// An extended property by its canonical name.
    pub fn extended(&self, name: &str) -> Option<&[String]> {
        self.extended.iter().find(|(known, _)| known == name).map(|(_, values)| values.as_slice())
    }
}

/// RFC 3339 without a fraction, as Exchange writes dates.
pub(crate) fn date(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis)
        .map(|moment| moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

fn mime_date(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis)
        .map(|moment| moment.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
        .unwrap_or_default()
}

fn header_text(text: &str) -> String {
    if text.is_ascii() && !text.contains(['\r', '\n']) {
        return text.to_owned();
    }
    text.as_bytes()
        .chunks(42)
        .map(|part| format!("=?utf-8?B?{}?=", STANDARD.encode(part)))
        .collect::<Vec<_>>()
        .join("\r\n ")
}

fn people(people: &[Person]) -> String {
    let one = |person: &Person| format!("{} <{}>", header_text(&person.name), person.address);
    people.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn wrapped(bytes: &[u8]) -> String {
    let encoded = STANDARD.encode(bytes);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    lines.join("\r\n")
}

fn made_mime(content: &Content, sent: i64) -> Vec<u8> {
    let mut head = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    };
    line("From", &people(content.from.as_slice()));
    if content.sender != content.from {
        line("Sender", &people(content.sender.as_slice()));
    }
    line("To", &people(&content.to));
    line("CC", &people(&content.cc));
    line("Reply-To", &people(&content.reply_to));
    line("Subject", &header_text(&content.subject));
    line("Date", &mime_date(sent));
    line("Message-ID", &content.message_id);
    line("In-Reply-To", &content.in_reply_to);
    line("References", &content.references);
    for (name, value) in &content.headers {
        line(name, &header_text(value));
    }
    line("MIME-Version", "1.0");
    let kind = if content.body_is_html { "text/html" } else { "text/plain" };
    let body = format!(
        "Content-Type: {kind}; charset=\"utf-8\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
        wrapped(content.body.as_bytes())
    );
    if content.attachments.is_empty() {
        return (head + &body).into_bytes();
    }
    let border = "=_mixed_part_border";
    let mut text =
        format!("{head}Content-Type: multipart/mixed; boundary=\"{border}\"\r\n\r\n--{border}\r\n{body}");
    for attachment in &content.attachments {
        let (kind, name) = (&attachment.content_type, header_text(&attachment.name));
        text.push_str(&format!(
            "--{border}\r\nContent-Type: {kind}; name=\"{name}\"\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\
             Content-Transfer-Encoding: base64\r\n\r\n{}\r\n",
            wrapped(&attachment.content)
        ));
    }
    text.push_str(&format!("--{border}--\r\n"));
    text.into_bytes()
}

/// What the head of a MIME says, as far as a mailbox keeps it as properties. Unfolded, decoded where it is simple.
pub(crate) fn read_mime(mime: &[u8]) -> Content {
    let text = String::from_utf8_lossy(mime);
    let (head, body) = text.split_once("\r\n\r\n").or_else(|| text.split_once("\n\n")).unwrap_or((&text, ""));
    let unfolded = head.replace("\r\n", "\n").replace("\n ", " ").replace("\n\t", " ");
    let mut content = Content {
        class: "IPM.Note".to_owned(),
        importance: "Normal".to_owned(),
        sensitivity: "Normal".to_owned(),
        mime: Some(mime.into()),
        ..Content::default()
    };
    for line in unfolded.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "from" => content.from = read_people(value).into_iter().next(),
            "sender" => content.sender = read_people(value).into_iter().next(),
            "to" => content.to = read_people(value),
            "cc" => content.cc = read_people(value),
            "bcc" => content.bcc = read_people(value),
            "reply-to" => content.reply_to = read_people(value),
            "subject" => content.subject = read_words(value),
            "message-id" => content.message_id = value.to_owned(),
            "in-reply-to" => content.in_reply_to = value.to_owned(),
            "references" => content.references = value.to_owned(),
            known if known.starts_with("x-") => {
                content.headers.push((name.trim().to_owned(), read_words(value)));
            }
            _ => {}
        }
    }
    content.body = body.to_owned();
    content
}

/// A MIME as its recipients get it: its field Bcc stays with the sender.
pub(crate) fn without_hidden(mime: &[u8]) -> Arc<[u8]> {
    let mut kept = Vec::with_capacity(mime.len());
    let (mut in_head, mut hidden) = (true, false);
    for line in mime.split_inclusive(|byte| *byte == b'\n') {
        if in_head {
            in_head = !line.trim_ascii().is_empty();
            let is_folded = line.starts_with(b" ") || line.starts_with(b"\t");
            hidden = in_head && if is_folded { hidden } else { is_bcc(line) };
        }
        if !hidden {
            kept.extend_from_slice(line);
        }
    }
    kept.into()
}

fn is_bcc(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    name.trim_ascii_end().eq_ignore_ascii_case(b"bcc")
}

fn read_people(value: &str) -> Vec<Person> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut inside) = (false, false);
    for character in value.chars() {
        match character {
            '"' => quoted = !quoted,
            '<' if !quoted => inside = true,
            '>' if !quoted => inside = false,
            ',' if !quoted && !inside => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    let read = |part: String| {
        let part = part.trim();
        match part.rsplit_once('<') {
            Some((name, address)) => {
                let address = address.trim_end_matches('>').trim();
                let name = read_words(name.trim().trim_matches('"'));
                Person {
                    name: if name.is_empty() { Person::new(address).name } else { name },
                    address: address.to_owned(),
                }
            }
            None => Person::new(part),
        }
    };
    parts.into_iter().filter(|part| part.contains('@')).map(read).collect()
}

/// Encoded words of RFC 2047 in UTF-8; others stay as they are.
fn read_words(value: &str) -> String {
    let mut out = String::new();
    let mut plain = false;
    for word in value.split(' ') {
        let inner = word.strip_prefix("=?").and_then(|word| word.strip_suffix("?="));
        let decoded = inner.and_then(|inner| {
            let parts: Vec<&str> = inner.splitn(3, '?').collect();
            let [charset, kind, text] = parts[..] else { return None };
            let utf8 = charset.eq_ignore_ascii_case("utf-8");
            let bytes = match kind {
                "B" | "b" if utf8 => STANDARD.decode(text).ok()?,
                "Q" | "q" if utf8 => unquote(text),
                _ => return None,
            };
            String::from_utf8(bytes).ok()
        });
        // Between two encoded words the space belongs to the encoding.
        if !out.is_empty() && (plain || decoded.is_none()) {
            out.push(' ');
        }
        plain = decoded.is_none();
        out.push_str(&decoded.unwrap_or_else(|| word.to_owned()));
    }
    out
}

fn unquote(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'_' => bytes.push(b' '),
            b'=' => {
                let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    bytes.push(byte);
                    rest = rest.get(2..).unwrap_or_default();
                }
            }
            _ => bytes.push(*first),
        }
    }
    bytes
}

/// Adds `<t:Mailbox>` of a person.
pub(crate) fn write_person(person: &Person, out: &mut String) {
    out.push_str("<t:Mailbox>");
    xml::element("t:Name", &person.name, out);
    xml::element("t:EmailAddress", &person.address, out);
    out.push_str("<t:RoutingType>SMTP</t:RoutingType><t:MailboxType>Mailbox</t:MailboxType></t:Mailbox>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_recipients_stay_with_the_sender() {
        let mime = b"To: a@x.example\r\nBCC : b@x.example,\r\n c@x.example\r\nSubject: s\r\n t\r\n\r\nBcc: of the text\r\n";
        let kept = String::from_utf8_lossy(&without_hidden(mime)).into_owned();
        assert_eq!(kept, "To: a@x.example\r\nSubject: s\r\n t\r\n\r\nBcc: of the text\r\n");
    }

    #[test]
    fn encoded_words_join_and_plain_ones_stay_apart() {
        for (text, expected) in [
            ("Re: =?utf-8?q?Gr=C3=BC=C3=9Fe?=", "Re: Grüße"),
            ("=?UTF-8?Q?Gr=C3=BC?= =?utf-8?B?w59l?= an alle", "Grüße an alle"),
            ("=?koi8-r?B?4Q==?= a", "=?koi8-r?B?4Q==?= a"),
        ] {
            assert_eq!(read_words(text), expected);
        }
    }
}
