//! HTTP/1.1 as far as an EWS client needs it, without IO: heads, and bodies that arrive in pieces.

use std::{io::Write as _, mem::MaybeUninit, time::Duration};

use flate2::write::GzDecoder;
use httparse::ParserConfig;
use mailyard_policy::Timestamp;

/// No head of an answer is longer.
pub(crate) const LONGEST_HEAD: usize = 64 << 10;

/// The headers that are looked at; all others are passed over.
const HEADERS: [&str; 14] = [
    "content-length",
    "transfer-encoding",
    "content-encoding",
    "content-type",
    "connection",
    "date",
    "retry-after",
    "location",
    "www-authenticate",
    "x-ms-diagnostics",
    "x-ms-credential-service-credexpired",
    "server",
    "via",
    "set-cookie",
];

/// By more a server's clock may not differ from this machine's: tokens and NTLM are refused by then.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// The cookie that leads to one server behind the others.
pub(crate) const AFFINITY: &str = "X-BackEndOverrideCookie";

/// What the head of an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub status: u16,
    pub framing: Framing,
    pub gzip: bool,
    pub close: bool,
    pub xml: bool,
    pub date: Option<Timestamp>,
    pub retry_after: Option<Duration>,
    pub location: Option<String>,
    /// The schemes that the server offers with a 401.
    pub challenges: Vec<Challenge>,
    /// Why Exchange refused a token, by its number.
    pub diagnostics: Option<String>,
    /// `true`: Exchange says that the password has expired.
    pub password_expired: Option<String>,
    /// What answered in the server's place, or handed its answer on, if it says so.
    pub proxy: Option<String>,
    /// The value of [`AFFINITY`]. No other cookie is kept.
    pub affinity: Option<String>,
}

impl Head {
    /// By how much the server's clock and this one differ, if that is more than five minutes.
    pub fn clock_skew(&self, now: Timestamp) -> Option<Duration> {
        let theirs = self.date?;
        Some(theirs.since(now).max(now.since(theirs))).filter(|skew| *skew > CLOCK_SKEW)
    }
}

/// A scheme that a server offers (RFC 9110 11.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// As it was written: case means nothing in it.
    pub scheme: String,
    /// Its token, or its parameters separated by commas.
    pub data: String,
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// With the connection.
    #[default]
    UntilClose,
}

/// The answer is no HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotHttp;

/// Reads a head; `None`: it is not complete yet. Interim answers (1xx) are passed over. Returns how many bytes it has.
pub(crate) fn read_head(bytes: &[u8], now: Timestamp) -> Result<Option<(Head, usize)>, NotHttp> {
    let mut skipped = 0;
    loop {
        let rest = bytes.get(skipped..).unwrap_or_default();
        let mut headers = [const { MaybeUninit::uninit() }; 96];
        let mut response = httparse::Response::new(&mut []);
        let parsed =
            ParserConfig::default().parse_response_with_uninit_headers(&mut response, rest, &mut headers);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() <= LONGEST_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) | Err(_) => return Err(NotHttp),
        };
        let status = response.code.ok_or(NotHttp)?;
        skipped += length;
        if status / 100 != 1 {
            let head = interpret(status, response.version == Some(0), response.headers, now)?;
            return Ok(Some((head, skipped)));
        }
    }
}

fn interpret(
    status: u16,
    old: bool,
    headers: &[httparse::Header<'_>],
    now: Timestamp,
) -> Result<Head, NotHttp> {
    let mut head = Head { status, close: old, ..Head::default() };
    let mut length = None;
    for header in headers {
        let Some(name) = HEADERS.into_iter().find(|name| header.name.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let has = |token: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token));
        match name {
            "content-length" => {
                let stated = value.parse().map_err(|_| NotHttp)?;
                if length.is_some_and(|before| before != stated) {
                    return Err(NotHttp);
                }
                length = Some(stated);
            }
            "transfer-encoding" if has("chunked") => head.framing = Framing::Chunked,
            "transfer-encoding" => return Err(NotHttp),
            "content-encoding" => head.gzip = has("gzip") || has("x-gzip"),
            "content-type" => head.xml = value.to_ascii_lowercase().contains("xml"),
            "connection" if has("close") => head.close = true,
            "connection" if has("keep-alive") => head.close = false,
            "date" => head.date = http_date(value),
            "retry-after" => head.retry_after = retry_after(value, now),
            "location" => head.location = Some(value.to_owned()),
            "x-ms-diagnostics" => head.diagnostics = Some(value.to_owned()),
            "x-ms-credential-service-credexpired" => head.password_expired = Some(value.to_owned()),
            "via" => head.proxy = Some(value.to_owned()),
            // Exchange is a part of Microsoft-IIS.
            "server" if !value.starts_with("Microsoft-") && !value.is_empty() => {
                head.proxy.get_or_insert_with(|| value.to_owned());
            }
            "set-cookie" => head.affinity = affinity(value).or(head.affinity),
            "www-authenticate" => read_challenges(value, &mut head.challenges),
            _ => {}
        }
    }
    if head.framing != Framing::Chunked
        && let Some(length) = length
    {
        head.framing = Framing::Length(length);
    }
    if matches!(status, 204 | 304) {
        head.framing = Framing::Length(0);
    }
    head.close |= head.framing == Framing::UntilClose;
    Ok(head)
}

/// One header may hold several challenges, and a challenge several parameters: commas stand between all of them.
fn read_challenges(value: &str, challenges: &mut Vec<Challenge>) {
    let mut quoted = false;
    let parts = value.split(|letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    });
    let mut last: Option<Challenge> = None;
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
        let rest = rest.trim_start();
        let is_parameter = word.contains('=') || rest.starts_with('=');
        match &mut last {
            Some(challenge) if is_parameter => {
                challenge.data.push_str(", ");
                challenge.data.push_str(part);
            }
            _ if is_parameter => {}
            _ => {
                let challenge = Challenge { scheme: word.to_owned(), data: rest.to_owned() };
                challenges.extend(last.replace(challenge));
            }
        }
    }
    challenges.extend(last);
}

fn affinity(cookie: &str) -> Option<String> {
    let (name, value) = cookie.split(';').next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    (name.eq_ignore_ascii_case(AFFINITY) && !value.is_empty()).then(|| value.to_owned())
}

fn http_date(value: &str) -> Option<Timestamp> {
    let moment = httpdate::parse_http_date(value).ok()?;
    let since = moment.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Timestamp::from_millis)
}

/// Seconds, or a date.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    value.parse().map(Duration::from_secs).ok().or_else(|| http_date(value).map(|date| date.since(now)))
}

/// Takes a body out of its framing and its compression, piece by piece.
pub(crate) struct Body {
    framing: Framing,
    chunk: Chunk,
    left: u64,
    done: bool,
    gzip: Option<Unpacker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Size,
    Extension,
    Data,
    DataEnd,
    Trailer { empty: bool },
}

impl Body {
    pub(crate) fn new(head: &Head) -> Self {
        let left = match head.framing {
            Framing::Length(length) => length,
            Framing::Chunked | Framing::UntilClose => 0,
        };
        Self {
            framing: head.framing,
            chunk: Chunk::Size,
            left,
            done: head.framing == Framing::Length(0),
            gzip: head.gzip.then(Unpacker::default),
        }
    }

    /// True once nothing more belongs to it.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// The connection ended; true if the body may end so.
    pub(crate) fn may_end(&self) -> bool {
        self.done || self.framing == Framing::UntilClose
    }

    /// Takes what arrived, hands its contents to `sink`, and says how many bytes belonged to it.
    pub(crate) fn push<E>(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, PushError<E>> {
        let mut taken = 0;
        while !self.done && taken < bytes.len() {
            let rest = bytes.get(taken..).unwrap_or_default();
            taken += match self.framing {
                Framing::UntilClose => self.data(rest, &mut sink)?,
                Framing::Length(_) => self.counted(rest, &mut sink)?,
                Framing::Chunked => self.chunked(rest, &mut sink)?,
            };
        }
        Ok(taken)
    }

    fn counted<E>(
        &mut self,
        rest: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, PushError<E>> {
        let length = self.left.min(rest.len() as u64) as usize;
        self.data(rest.get(..length).unwrap_or_default(), sink)?;
        self.left -= length as u64;
        self.done |= self.left == 0 && self.framing != Framing::Chunked;
        Ok(length)
    }

    fn chunked<E>(
        &mut self,
        rest: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, PushError<E>> {
        if self.chunk == Chunk::Data {
            let taken = self.counted(rest, sink)?;
            if self.left == 0 {
                self.chunk = Chunk::DataEnd;
            }
            return Ok(taken);
        }
        let Some(byte) = rest.first().copied() else { return Ok(0) };
        self.chunk = match (self.chunk, byte) {
            (Chunk::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.left = self.left.checked_mul(16).ok_or(PushError::NotHttp)? + u64::from(digit);
                Chunk::Size
            }
            (Chunk::Size | Chunk::Extension, b'\n') if self.left == 0 => Chunk::Trailer { empty: true },
            (Chunk::Size | Chunk::Extension, b'\n') => Chunk::Data,
            (Chunk::Size, b';' | b' ' | b'\t' | b'\r') | (Chunk::Extension, _) => Chunk::Extension,
            (Chunk::DataEnd, b'\r') => Chunk::DataEnd,
            (Chunk::DataEnd, b'\n') => Chunk::Size,
            (Chunk::Trailer { empty: true }, b'\n') => {
                self.done = true;
                Chunk::Size
            }
            (Chunk::Trailer { empty }, b'\r') => Chunk::Trailer { empty },
            (Chunk::Trailer { .. }, b'\n') => Chunk::Trailer { empty: true },
            (Chunk::Trailer { .. }, _) => Chunk::Trailer { empty: false },
            (Chunk::Size | Chunk::DataEnd | Chunk::Data, _) => return Err(PushError::NotHttp),
        };
        Ok(1)
    }

    fn data<E>(
        &mut self,
        data: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<usize, PushError<E>> {
        let Some(gzip) = &mut self.gzip else {
            sink(data).map_err(PushError::Sink)?;
            return Ok(data.len());
        };
        // Small steps: a bomb is seen by the sink's limit long before it is unpacked.
        for step in data.chunks(4 << 10) {
            gzip.push(step, sink)?;
        }
        Ok(data.len())
    }

    /// What the decompression still held back.
    pub(crate) fn finish<E>(self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), PushError<E>> {
        self.gzip.map_or(Ok(()), |gzip| gzip.finish(&mut sink))
    }
}

/// Unpacks what gzip packed: members behind each other (RFC 1952 2.2), with zeros between and behind them as some pad
/// them. There may be none: an empty body is packed by nobody, whatever its head says.
#[derive(Default)]
struct Unpacker {
    member: Option<GzDecoder<Vec<u8>>>,
    /// A member has ended.
    is_later: bool,
}

impl Unpacker {
    fn push<E>(
        &mut self,
        mut packed: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), PushError<E>> {
        while let Some(first) = packed.first() {
            if self.member.is_none() && self.is_later && *first == 0 {
                packed = packed.get(1..).unwrap_or_default();
                continue;
            }
            let member = self.member.get_or_insert_with(|| GzDecoder::new(Vec::new()));
            let taken = member.write(packed).map_err(|_| PushError::Packing)?;
            if taken == 0 {
                self.end(sink)?;
                continue;
            }
            let unpacked = std::mem::take(member.get_mut());
            sink(&unpacked).map_err(PushError::Sink)?;
            packed = packed.get(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// The member is over: the next byte is none of its own.
    fn end<E>(&mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), PushError<E>> {
        let Some(mut member) = self.member.take() else { return Ok(()) };
        self.is_later = true;
        member.try_finish().map_err(|_| PushError::Packing)?;
        sink(member.get_ref()).map_err(PushError::Sink)
    }

    fn finish<E>(mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), PushError<E>> {
        self.end(sink)
    }
}

/// Why a body could not be taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PushError<E> {
    /// It is not framed as its head says.
    NotHttp,
    /// It is not compressed as its head says.
    Packing,
    /// Who takes it does not want it.
    Sink(E),
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_772_366_400_000);

    fn take(answer: &[u8], step: usize) -> Result<(Head, String, usize), NotHttp> {
        let (head, length) = read_head(answer, NOW)?.ok_or(NotHttp)?;
        let mut body = Body::new(&head);
        let mut text = Vec::new();
        let mut taken = length;
        for piece in answer[length..].chunks(step) {
            let sink = |bytes: &[u8]| {
                text.extend_from_slice(bytes);
                Ok::<(), ()>(())
            };
            taken += body.push(piece, sink).map_err(|_| NotHttp)?;
        }
        if !body.may_end() {
            return Err(NotHttp);
        }
        body.finish(|bytes| {
            text.extend_from_slice(bytes);
            Ok::<(), ()>(())
        })
        .map_err(|_: PushError<()>| NotHttp)?;
        Ok((head, String::from_utf8(text).map_err(|_| NotHttp)?, taken))
    }

    #[test]
    fn bodies_come_out_of_every_framing_however_they_are_cut() {
        let cases: [(&str, Result<&str, NotHttp>, bool); 12] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloGET", Ok("hello"), false),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                Ok("hello"),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
                Ok("hello"),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\nC: d\r\n\r\n",
                Ok("hello"),
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                Ok("hello"),
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\nhello", Ok("hello"), true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", Ok("hello"), true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok("hello"), true),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(""), false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", Err(NotHttp), false),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Err(NotHttp), false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", Err(NotHttp), false),
        ];
        for (answer, expected, close) in cases {
            for step in [1, 2, 3, 100] {
                let taken = take(answer.as_bytes(), step);
                let found = taken.as_ref().map(|(_, text, _)| text.as_str()).map_err(|_| NotHttp);
                assert_eq!(found, expected, "{answer:?} in steps of {step}");
                assert!(taken.is_err() || taken.is_ok_and(|(head, _, _)| head.close == close), "{answer:?}");
            }
        }
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).expect("memory");
        packed.finish().expect("memory")
    }

    type Case<'a> = (&'a [&'a [u8]], Result<&'a str, NotHttp>);

    #[test]
    fn compressed_bodies_come_out_whole() {
        let text = "hello ".repeat(5000);
        let (one, other) = (packed(&text), packed("and more"));
        let whole = format!("{text}and more");
        let cases: [Case<'_>; 11] = [
            (&[&one], Ok(&text)),
            (&[&one, &other], Ok(&whole)),
            (&[&one, &[0; 600]], Ok(&text)),
            (&[&one, &[0; 3], &other, &[0]], Ok(&whole)),
            (&[], Ok("")),
            (&[&packed("")], Ok("")),
            (&[&one[..one.len() - 9]], Err(NotHttp)),
            (&[&one, &other[..5]], Err(NotHttp)),
            (&[&one, b"behind"], Err(NotHttp)),
            (&[&[0], &one], Err(NotHttp)),
            (&[b"hello"], Err(NotHttp)),
        ];
        for (case, (parts, expected)) in cases.into_iter().enumerate() {
            let body = parts.concat();
            let length = format!("Content-Length: {}", body.len());
            for framing in [length.as_str(), "Connection: close"] {
                let head = format!("HTTP/1.1 401 No\r\nContent-Encoding: gzip\r\n{framing}\r\n\r\n");
                let answer = [head.as_bytes(), &body].concat();
                for step in [1, 7, 4096, 1 << 20] {
                    let found = take(&answer, step).map(|(_, text, _)| text);
                    assert_eq!(found.as_deref(), expected.as_deref(), "{case}: {framing} in steps of {step}");
                }
            }
        }
    }

    #[test]
    fn challenges_are_told_apart() {
        let cases: [(&str, &[(&str, &str)]); 7] = [
            ("NTLM", &[("NTLM", "")]),
            ("NTLM TlRM==", &[("NTLM", "TlRM==")]),
            (
                "Negotiate, NTLM,Basic realm=\"a, b\"",
                &[("Negotiate", ""), ("NTLM", ""), ("Basic", "realm=\"a, b\"")],
            ),
            ("Basic realm = \"x\", charset=\"UTF-8\"", &[("Basic", "realm = \"x\", charset=\"UTF-8\"")]),
            ("Bearer a=\"b\",  c=d, NTLM", &[("Bearer", "a=\"b\", c=d"), ("NTLM", "")]),
            ("realm=\"of nobody\"", &[]),
            (" , ,", &[]),
        ];
        for (value, expected) in cases {
            let mut found = Vec::new();
            read_challenges(value, &mut found);
            let found: Vec<_> = found.iter().map(|one| (&*one.scheme, &*one.data)).collect();
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn heads_tell_of_dates_waits_and_schemes() {
        let answer = "HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\nwww-authenticate: NTLM abc\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
            Date: Sun, 01 Mar 2026 12:00:00 GMT\r\nRetry-After: 7\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: 0\r\n\r\n";
        let (head, length) = read_head(answer.as_bytes(), NOW).expect("HTTP").expect("complete");
        assert_eq!(length, answer.len());
        let challenges: Vec<_> =
            head.challenges.iter().map(|offered| (&*offered.scheme, &*offered.data)).collect();
        assert_eq!(challenges, [("Negotiate", ""), ("NTLM", "abc"), ("Basic", "realm=\"x\"")]);
        assert_eq!((head.date, head.retry_after, head.xml), (Some(NOW), Some(Duration::from_secs(7)), true));
        let later = "HTTP/1.1 503 Busy\r\nRetry-After: Sun, 01 Mar 2026 12:01:00 GMT\r\n\r\n";
        let (head, _) = read_head(later.as_bytes(), NOW).expect("HTTP").expect("complete");
        assert_eq!(head.retry_after, Some(Duration::from_mins(1)));
        for (bytes, expected) in [("", Ok(None)), ("HTTP/1.1 200", Ok(None)), ("SSH-2.0-x\r\n", Err(NotHttp))]
        {
            assert_eq!(read_head(bytes.as_bytes(), NOW).map(|found| found.map(|_| ())), expected, "{bytes}");
        }
        assert_eq!(read_head(&[b'x'; 9].repeat(9000), NOW), Err(NotHttp));
    }
}
