//! Takes `MimeContent` out of an answer while it arrives: base64 is decoded on the fly and never becomes XML text.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{Malformed, text};

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const LONGEST_REFERENCE: usize = 16;

/// One content that was taken out.
#[derive(Debug, Default)]
pub struct Mime {
    /// What is decoded and was not drained yet.
    pub bytes: Vec<u8>,
    /// How many bytes were decoded in all.
    pub total: u64,
    /// It held something that is not base64: the content cannot be trusted.
    pub broken: bool,
}

/// Splits an answer that arrives in pieces into a document without contents, and the contents.
#[derive(Debug)]
pub struct Sieve {
    document: Vec<u8>,
    mimes: Vec<Mime>,
    decoder: Decoder,
    state: State,
    markup: usize,
    inside: bool,
    limits: Limits,
}

/// How much of an answer is kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the document without its contents.
    pub document: usize,
    /// Bytes of all contents together, decoded.
    pub content: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    Reference,
    Markup,
    Quoted(u8),
    Comment,
    CData,
    Instruction,
}

impl Sieve {
    /// An empty sieve.
    pub fn new(limits: Limits) -> Self {
        Self {
            document: Vec::new(),
            mimes: Vec::new(),
            decoder: Decoder::default(),
            state: State::Text,
            markup: 0,
            inside: false,
            limits,
        }
    }

    /// Takes the next piece of the answer.
    ///
    /// # Errors
    /// [`Malformed::DocumentTooLarge`] or [`Malformed::ContentTooLarge`] when a limit is passed.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), Malformed> {
        while !piece.is_empty() {
            let taken = match self.state {
                State::Text => self.take_text(piece),
                State::Reference => self.take_reference(piece),
                State::Markup => self.take_markup(piece),
                State::Quoted(quote) => self.take_until(quote, piece, |_| Some(State::Markup)),
                State::Comment => {
                    self.take_until(b'>', piece, |kept| kept.ends_with(b"-->").then_some(State::Text))
                }
                State::Instruction => {
                    self.take_until(b'>', piece, |kept| kept.ends_with(b"?>").then_some(State::Text))
                }
                State::CData => self.take_cdata(piece),
            };
            piece = piece.get(taken..).unwrap_or_default();
            if self.document.len() > self.limits.document {
                return Err(Malformed::DocumentTooLarge);
            }
            if self.content_so_far() > self.limits.content {
                return Err(Malformed::ContentTooLarge);
            }
        }
        Ok(())
    }

    /// Bytes of the last content that are decoded and wait.
    pub fn waiting(&self) -> usize {
        self.mimes.last().map_or(0, |mime| mime.bytes.len())
    }

    /// Takes what is decoded of the last content, at most so many bytes.
    pub fn drain(&mut self, most: usize) -> Vec<u8> {
        let Some(mime) = self.mimes.last_mut() else { return Vec::new() };
        let rest = mime.bytes.split_off(most.min(mime.bytes.len()));
        std::mem::replace(&mut mime.bytes, rest)
    }

    /// The document and the contents.
    pub fn finish(mut self) -> (Vec<u8>, Vec<Mime>) {
        self.end_content();
        (self.document, self.mimes)
    }

    /// A sieve for an answer that holds no contents, filled at once.
    pub fn document_mut(&mut self) -> &mut Vec<u8> {
        &mut self.document
    }

    fn content_so_far(&self) -> u64 {
        self.mimes.iter().map(|mime| mime.total).sum()
    }

    fn take_text(&mut self, piece: &[u8]) -> usize {
        let end = if self.inside { memchr::memchr2(b'<', b'&', piece) } else { memchr::memchr(b'<', piece) };
        self.put(piece.get(..end.unwrap_or(piece.len())).unwrap_or_default());
        match end {
            None => piece.len(),
            Some(at) => {
                self.markup = self.document.len();
                self.state = if piece.get(at) == Some(&b'<') { State::Markup } else { State::Reference };
                self.document.extend(piece.get(at));
                at + 1
            }
        }
    }

    /// A reference inside a content, such as the `&#xD;` of a wrapped line.
    fn take_reference(&mut self, piece: &[u8]) -> usize {
        let room = LONGEST_REFERENCE.saturating_sub(self.document.len() - self.markup);
        // What is no reference ends where markup begins.
        let end = piece.iter().take(room).position(|byte| matches!(byte, b';' | b'<'));
        let taken = match end {
            Some(at) if piece.get(at) == Some(&b'<') => at,
            Some(at) => at + 1,
            None => room.min(piece.len()),
        };
        self.document.extend_from_slice(piece.get(..taken).unwrap_or_default());
        if end.is_none() && taken < room {
            return taken;
        }
        let reference = self.document.split_off(self.markup);
        let name = reference.strip_prefix(b"&").and_then(|name| name.strip_suffix(b";"));
        let name = name.and_then(|name| std::str::from_utf8(name).ok());
        match name.map(text::resolve) {
            Some(Ok(Some(character))) => self.put(character.encode_utf8(&mut [0; 4]).as_bytes()),
            Some(Ok(None)) => {}
            _ => self.put(b"&"),
        }
        self.state = State::Text;
        taken
    }

    fn take_markup(&mut self, piece: &[u8]) -> usize {
        let seen = self.document.get(self.markup..).unwrap_or_default();
        if seen.len() < 9 && (seen.len() == 1 || matches!(seen.get(1), Some(b'!'))) {
            let Some(byte) = piece.first() else { return 0 };
            self.document.push(*byte);
            self.state = match self.document.get(self.markup..) {
                Some(b"<!--") => State::Comment,
                Some(b"<![CDATA[") => State::CData,
                Some(b"<?") => State::Instruction,
                Some(seen) if *byte == b'>' && seen.len() > 1 => return self.end_markup(),
                _ => State::Markup,
            };
            if self.state == State::CData && self.inside {
                self.document.truncate(self.markup);
            }
            return 1;
        }
        let Some(at) = memchr::memchr3(b'>', b'"', b'\'', piece) else {
            self.document.extend_from_slice(piece);
            return piece.len();
        };
        self.document.extend_from_slice(piece.get(..=at).unwrap_or_default());
        match piece.get(at) {
            Some(b'>') => {
                self.end_markup();
            }
            Some(quote) => self.state = State::Quoted(*quote),
            None => {}
        }
        at + 1
    }

    fn end_markup(&mut self) -> usize {
        self.state = State::Text;
        let tag = self.document.get(self.markup..).unwrap_or_default();
        if self.inside {
            if tag.starts_with(b"</") {
                self.inside = false;
                self.end_content();
            }
        } else if opens_content(tag) {
            self.mimes.push(Mime::default());
            self.decoder = Decoder::default();
            self.inside = !tag.ends_with(b"/>");
        }
        1
    }

    fn take_cdata(&mut self, piece: &[u8]) -> usize {
        if !self.inside {
            return self.take_until(b'>', piece, |kept| kept.ends_with(b"]]>").then_some(State::Text));
        }
        // No character of base64 is one of the three that end the section: they are dropped where they stand.
        let end = memchr::memchr(b'>', piece);
        let content = piece.get(..end.unwrap_or(piece.len())).unwrap_or_default();
        for part in content.split(|byte| *byte == b']') {
            self.put(part);
        }
        if end.is_some() {
            self.state = State::Text;
        }
        end.map_or(piece.len(), |at| at + 1)
    }

    fn take_until(&mut self, last: u8, piece: &[u8], next: impl Fn(&[u8]) -> Option<State>) -> usize {
        let taken = memchr::memchr(last, piece).map_or(piece.len(), |at| at + 1);
        let piece = piece.get(..taken).unwrap_or_default();
        self.document.extend_from_slice(piece);
        if piece.last() == Some(&last)
            && let Some(state) = next(self.document.get(self.markup..).unwrap_or_default())
        {
            self.state = state;
        }
        taken
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.mimes.last_mut() {
            Some(mime) if self.inside => self.decoder.push(bytes, mime),
            _ => self.document.extend_from_slice(bytes),
        }
    }

    fn end_content(&mut self) {
        if let Some(mime) = self.mimes.last_mut() {
            self.decoder.finish(mime);
        }
    }
}

fn opens_content(tag: &[u8]) -> bool {
    let name = tag.get(1..).unwrap_or_default();
    let end = name.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'));
    let name = name.get(..end.unwrap_or(name.len())).unwrap_or_default();
    name.rsplit(|byte| *byte == b':').next() == Some(b"MimeContent") && !tag.starts_with(b"</")
}

/// Decodes base64 in pieces; forgives white space, control characters and wrong padding.
#[derive(Debug, Default)]
struct Decoder {
    carry: [u8; 4],
    held: usize,
}

/// The fast way; false, and nothing done, if the piece is not plain base64.
fn push_quads(quads: &[u8], into: &mut Mime) -> bool {
    let start = into.bytes.len();
    into.bytes.resize(start + quads.len() / 4 * 3, 0);
    let done = ENGINE.decode_slice(quads, into.bytes.get_mut(start..).unwrap_or_default());
    into.bytes.truncate(start + done.as_ref().copied().unwrap_or(0));
    done.is_ok()
}

impl Decoder {
    fn push(&mut self, mut piece: &[u8], into: &mut Mime) {
        let before = into.bytes.len();
        while self.held > 0
            && let Some((byte, rest)) = piece.split_first()
        {
            self.push_byte(*byte, into);
            piece = rest;
        }
        let whole = piece.len() / 4 * 4;
        let (quads, rest) = piece.split_at(whole);
        if !push_quads(quads, into) {
            quads.iter().for_each(|byte| self.push_byte(*byte, into));
        }
        rest.iter().for_each(|byte| self.push_byte(*byte, into));
        into.total += (into.bytes.len() - before) as u64;
    }

    fn push_byte(&mut self, byte: u8, into: &mut Mime) {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => {
                if let Some(slot) = self.carry.get_mut(self.held) {
                    *slot = byte;
                    self.held += 1;
                }
                if self.held == 4 {
                    self.flush(into);
                }
            }
            b'=' => self.flush(into),
            0..=b' ' => {}
            _ => into.broken = true,
        }
    }

    fn flush(&mut self, into: &mut Mime) {
        if self.held > 1 {
            let mut bytes = [0; 3];
            let quantum = self.carry.get(..self.held).unwrap_or_default();
            let decoded = ENGINE.decode_slice(quantum, &mut bytes).unwrap_or(0);
            into.bytes.extend(bytes.iter().take(decoded));
        }
        self.held = 0;
    }

    fn finish(&mut self, into: &mut Mime) {
        let before = into.bytes.len();
        self.flush(into);
        into.total += (into.bytes.len() - before) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Limits = Limits { document: 1 << 20, content: 1 << 20 };

    fn sift(text: &str, step: usize) -> (String, Vec<(String, bool)>) {
        let mut sieve = Sieve::new(ROOMY);
        for piece in text.as_bytes().chunks(step) {
            sieve.push(piece).expect("small enough");
        }
        let (document, mimes) = sieve.finish();
        let mimes = mimes.into_iter().map(|mime| {
            assert_eq!(mime.total, mime.bytes.len() as u64);
            (String::from_utf8_lossy(&mime.bytes).into_owned(), mime.broken)
        });
        (String::from_utf8(document).expect("UTF-8"), mimes.collect())
    }

    #[test]
    fn contents_are_taken_out_however_the_answer_is_cut() {
        type Case = (&'static str, &'static str, &'static [(&'static str, bool)]);
        let cases: [Case; 16] = [
            ("<a>text</a>", "<a>text</a>", &[]),
            (
                "<a><t:MimeContent>SGVsbG8=</t:MimeContent>b</a>",
                "<a><t:MimeContent></t:MimeContent>b</a>",
                &[("Hello", false)],
            ),
            (
                "<MimeContent CharacterSet='a>b'>SGVsbG8</MimeContent>",
                "<MimeContent CharacterSet='a>b'></MimeContent>",
                &[("Hello", false)],
            ),
            (
                "<x><MimeContent/><MimeContent />y</x>",
                "<x><MimeContent/><MimeContent />y</x>",
                &[("", false), ("", false)],
            ),
            (
                "<MimeContent>SG\r\nVs bG8=\n</MimeContent>",
                "<MimeContent></MimeContent>",
                &[("Hello", false)],
            ),
            (
                "<MimeContent>SGVs&#xD;&#10;bG8=</MimeContent>",
                "<MimeContent></MimeContent>",
                &[("Hello", false)],
            ),
            (
                "<MimeContent>SGVs&#x2B;bG8</MimeContent>",
                "<MimeContent></MimeContent>",
                &[("Hel\u{FFFD}\u{6}", false)],
            ),
            (
                "<MimeContent><![CDATA[SGVsbG8=]]></MimeContent>",
                "<MimeContent></MimeContent>",
                &[("Hello", false)],
            ),
            (
                "<MimeContent>SGVs<!-- > --><?p ?>bG8=</MimeContent>",
                "<MimeContent><!-- > --><?p ?></MimeContent>",
                &[("Hello", false)],
            ),
            ("<MimeContent>SGVs*bG8=</MimeContent>", "<MimeContent></MimeContent>", &[("Hello", true)]),
            ("<MimeContent>SGVs&bG8=</MimeContent>", "<MimeContent></MimeContent>", &[("Hel", true)]),
            ("<MimeContent>SGVsbG8===</MimeContent>", "<MimeContent></MimeContent>", &[("Hello", false)]),
            (
                "<!-- <MimeContent>SGVs</MimeContent> --><a/>",
                "<!-- <MimeContent>SGVs</MimeContent> --><a/>",
                &[],
            ),
            ("<a><![CDATA[<MimeContent>]]></a>", "<a><![CDATA[<MimeContent>]]></a>", &[]),
            (
                "<?xml version='1.0'?><a b=\"<MimeContent>\"/>",
                "<?xml version='1.0'?><a b=\"<MimeContent>\"/>",
                &[],
            ),
            ("<MimeContentUTF8>SGVs</MimeContentUTF8>", "<MimeContentUTF8>SGVs</MimeContentUTF8>", &[]),
        ];
        for (text, document, mimes) in cases {
            let mimes: Vec<_> = mimes.iter().map(|(text, broken)| ((*text).to_owned(), *broken)).collect();
            for step in [1, 2, 3, 5, 7, 4096] {
                let found = sift(text, step);
                assert_eq!(found.0, document, "{text} in steps of {step}");
                if !text.contains("&bG8") && !text.contains("&#x2B") {
                    assert_eq!(found.1, mimes, "{text} in steps of {step}");
                }
                assert_eq!(
                    found.1.first().map(|mime| mime.1),
                    mimes.first().map(|mime| mime.1),
                    "{text} {step}"
                );
            }
        }
    }

    #[test]
    fn limits_hold() {
        let limits = Limits { document: 100, content: 10 };
        assert!(matches!(Sieve::new(limits).push(&[b'x'; 101]), Err(Malformed::DocumentTooLarge)));
        let mut sieve = Sieve::new(limits);
        assert!(matches!(
            sieve.push(b"<MimeContent>QUFBQUFBQUFBQUFBQUFBQQ==</MimeContent>"),
            Err(Malformed::ContentTooLarge)
        ));
    }

    #[test]
    fn a_drained_content_keeps_its_length() {
        let mut sieve = Sieve::new(ROOMY);
        sieve.push(b"<MimeContent>SGVsbG8g").expect("fits");
        assert_eq!((sieve.waiting(), sieve.drain(4), sieve.drain(9)), (6, b"Hell".to_vec(), b"o ".to_vec()));
        sieve.push(b"d29ybGQ</MimeContent>").expect("fits");
        let (_, mimes) = sieve.finish();
        assert_eq!((mimes[0].total, mimes[0].bytes.as_slice()), (11, b"world".as_slice()));
    }
}
