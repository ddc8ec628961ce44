//! An answer while it is taken off the network, and what it says once it is whole.

use mailyard_policy::{Reason, Timestamp, outbox::Execution};

use crate::{
    Failure,
    codec::{self, Limits, Operation, ServerVersion, Sieve},
    connection::Taker,
    http1::Head,
};

/// No answer's document, without its contents, is larger.
const LARGEST_DOCUMENT: usize = 16 << 20;
/// A body that is not SOAP is read so far and no further.
const LARGEST_REFUSAL: usize = 64 << 10;
/// A content is handed on in pieces of this size.
pub(crate) const CHUNK: usize = 256 << 10;

/// A call that the server answered.
#[derive(Debug)]
pub struct Reply<P> {
    /// One result per part of the request, in its order.
    pub parts: Vec<Result<P, Failure>>,
    /// The server's clock.
    pub date: Option<Timestamp>,
    /// The server's build.
    pub version: Option<ServerVersion>,
    /// The cookie that leads to the server that answered.
    pub(crate) affinity: Option<String>,
}

impl<P> Reply<P> {
    /// The only part.
    ///
    /// # Errors
    /// The failure of that part; `EWS_PROTOCOL_ERROR` if the server sent none.
    pub fn one(self) -> Result<P, Failure> {
        self.parts.into_iter().next().unwrap_or_else(|| {
            let detail = "the answer holds no response message";
            Err(Failure::new(Reason::EwsProtocolError, Execution::Maybe, detail))
        })
    }
}

/// Takes a large content while it arrives.
pub trait ContentSink: Send {
    /// The next piece, of at most 256 KiB.
    ///
    /// # Errors
    /// Whatever keeps it from being taken: the call ends with it.
    fn take(&mut self, piece: Vec<u8>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// False: contents stay in the answer.
    fn wants(&self) -> bool {
        true
    }

    /// An answer begins, with this status of HTTP.
    fn hear_head(&mut self, _status: u16) {}

    /// The request carries this value of the header Authorization.
    fn hear_authorization(&mut self, _value: &str) {}

    /// The next piece of an answer, as it came over the wire.
    fn hear(&mut self, _piece: &[u8]) {}
}

/// Contents stay in the answer.
pub(crate) struct Gathered;

impl ContentSink for Gathered {
    async fn take(&mut self, _piece: Vec<u8>) -> Result<(), Failure> {
        Ok(())
    }

    fn wants(&self) -> bool {
        false
    }
}

/// An answer while it is taken.
pub(crate) struct Taken<'a, S> {
    sieve: Sieve,
    plain: bool,
    content: bool,
    soap: bool,
    most: usize,
    sink: &'a mut S,
}

impl<'a, S: ContentSink> Taken<'a, S> {
    pub fn new(largest_content: u64, content: bool, sink: &'a mut S) -> Self {
        let limits = Limits { document: LARGEST_DOCUMENT, content: largest_content };
        let sieve = Sieve::new(limits);
        Self { sieve, plain: !content, content, soap: false, most: LARGEST_DOCUMENT, sink }
    }

    pub fn read<O: Operation>(self, head: Head) -> Result<Reply<O::Part>, Failure> {
        if !self.soap {
            return Err(Failure::of_status(head.status, head.location.as_deref(), head.retry_after));
        }
        let (document, mimes) = self.sieve.finish();
        let answer = codec::text(&document)
            .and_then(|document| codec::read::<O>(&document, mimes))
            .map_err(Failure::of_malformed);
        let answer = match (answer, head.status) {
            (Ok(answer), _) => answer,
            (Err(_), 200) if !is_soap(&document) => return Err(Failure::of_page()),
            (Err(failure), 200) => return Err(failure),
            // A page for people, although it says that it is XML.
            (Err(_), status) => return Err(Failure::of_status(status, None, head.retry_after)),
        };
        let parts = answer.messages.map_err(|fault| Failure {
            back_off: fault.back_off.or(head.retry_after),
            ..Failure::of_refusal(&fault)
        })?;
        let parts = parts.into_iter().map(|part| part.map_err(|refusal| Failure::of_refusal(&refusal)));
        Ok(Reply {
            parts: parts.collect(),
            date: head.date,
            version: answer.version,
            affinity: head.affinity,
        })
    }
}

impl<S: ContentSink> Taker for Taken<'_, S> {
    fn authorization(&mut self, value: &str) {
        self.sink.hear_authorization(value);
    }

    fn head(&mut self, head: &Head) -> Result<(), Failure> {
        self.sink.hear_head(head.status);
        self.soap =
            head.status == 200 || (head.xml && (500..600).contains(&head.status) && head.status != 503);
        self.most = if self.soap { LARGEST_DOCUMENT } else { LARGEST_REFUSAL };
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.sink.hear(piece);
        if self.plain || !self.soap {
            let document = self.sieve.document_mut();
            if document.len() + piece.len() > self.most {
                let detail = "the answer is larger than any answer may be";
                return Err(Failure::new(Reason::EwsAnswerTooLarge, Execution::Maybe, detail));
            }
            document.extend_from_slice(piece);
            return Ok(());
        }
        self.sieve.push(piece).map_err(Failure::of_malformed)
    }

    async fn rest(&mut self) -> Result<(), Failure> {
        while self.content && self.sink.wants() && self.sieve.waiting() >= CHUNK {
            self.sink.take(self.sieve.drain(CHUNK)).await?;
        }
        Ok(())
    }
}

/// An answer of which only the head counts.
#[derive(Default)]
pub(crate) struct Passed {
    bytes: usize,
}

impl Taker for Passed {
    fn head(&mut self, _head: &Head) -> Result<(), Failure> {
        Ok(())
    }

    fn piece(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.bytes += piece.len();
        if self.bytes > LARGEST_REFUSAL {
            let detail = "the answer is larger than any answer may be";
            return Err(Failure::new(Reason::EwsAnswerTooLarge, Execution::Not, detail));
        }
        Ok(())
    }

    async fn rest(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// True if an answer that cannot be read was meant as one: a page for people has no envelope.
pub(crate) fn is_soap(document: &[u8]) -> bool {
    let beginning = document.get(..1024).unwrap_or(document);
    memchr::memmem::find(beginning, b"Envelope").is_some()
}

/// A part that the server throttled.
pub(crate) fn throttled_part<P>(reply: &Reply<P>) -> Option<&Failure> {
    let throttled = |failure: &&Failure| failure.reason.nature() == mailyard_policy::Nature::Throttled;
    reply.parts.iter().filter_map(|part| part.as_ref().err()).find(throttled)
}
