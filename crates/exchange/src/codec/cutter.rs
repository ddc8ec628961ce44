//! Cuts a stream of bytes into documents: where an element at the top is closed, a document ends, whatever its name is
//! and however the bytes arrive.

use super::Malformed;

/// Gathers one document at a time. It looks at markup only, and leaves everything else to whoever reads the document.
#[derive(Debug)]
pub struct Cutter {
    document: Vec<u8>,
    most: usize,
    /// Elements that are open.
    depth: usize,
    /// Where the markup begins that is being read.
    markup: Option<usize>,
    /// The mark by which the value of an attribute will end.
    quote: Option<u8>,
}

impl Cutter {
    /// No document is larger than `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { document: Vec::new(), most, depth: 0, markup: None, quote: None }
    }

    /// Takes what arrived and hands on each document that became complete.
    ///
    /// # Errors
    /// [`Malformed::DocumentTooLarge`], [`Malformed::Syntax`] where something is closed that was not open, or what
    /// `whole` says: nothing more can be cut then.
    pub fn push<E: From<Malformed>>(
        &mut self,
        mut bytes: &[u8],
        mut whole: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let (taken, ends) = self.take(bytes)?;
            bytes = bytes.get(taken..).unwrap_or_default();
            if ends {
                whole(&std::mem::take(&mut self.document))?;
            }
        }
        Ok(())
    }

    /// What is left of a document that is not complete.
    pub fn rest(&self) -> &[u8] {
        &self.document
    }

    /// Takes bytes up to where the next markup begins or ends. Returns how many, and whether a document ends there.
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let found = match (self.markup, self.quote) {
            (None, _) => memchr::memchr(b'<', bytes),
            (Some(_), Some(quote)) => memchr::memchr(quote, bytes),
            (Some(_), None) => memchr::memchr3(b'>', b'"', b'\'', bytes),
        };
        let taken = found.map_or(bytes.len(), |at| at + 1);
        let before = self.document.len();
        if before + taken > self.most {
            return Err(Malformed::DocumentTooLarge);
        }
        self.document.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        let Some(mark) = found.and_then(|at| bytes.get(at)) else { return Ok((taken, false)) };
        let Some(begun) = self.markup else {
            self.markup = Some(before + taken - 1);
            return Ok((taken, false));
        };
        let markup = self.document.get(begun..).unwrap_or_default();
        if *mark != b'>' {
            // Only the tag that opens an element has attributes.
            let has_values = !matches!(markup.get(1), Some(b'!' | b'?' | b'/'));
            self.quote = if has_values && self.quote.is_none() { Some(*mark) } else { None };
            return Ok((taken, false));
        }
        if !is_whole(markup) {
            return Ok((taken, false));
        }
        let (opens, closes) = match markup {
            [b'<', b'!' | b'?', ..] => (false, false),
            [b'<', b'/', ..] => (false, true),
            [.., b'/', b'>'] => (true, true),
            _ => (true, false),
        };
        self.markup = None;
        self.depth += usize::from(opens);
        if !closes {
            return Ok((taken, false));
        }
        self.depth = self.depth.checked_sub(1).ok_or(Malformed::Syntax)?;
        Ok((taken, self.depth == 0))
    }
}

/// True if a markup that has come to a `>` ends there.
fn is_whole(markup: &[u8]) -> bool {
    let ending: &[u8] = match markup {
        [b'<', b'!', b'-', b'-', ..] => b"-->",
        [b'<', b'!', b'[', ..] => b"]]>",
        [b'<', b'?', ..] => b"?>",
        _ => b">",
    };
    markup.ends_with(ending)
}
