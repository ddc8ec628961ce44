//! Reads an answer element by element: prefix-agnostic, bounded in depth, deaf to what it does not know.

use std::borrow::Cow;

use quick_xml::events::{BytesStart, Event};

use super::{Malformed, mime::Mime, text};

const MAX_DEPTH: usize = 64;

/// Of Exchange Web Services.
const NAMESPACES: &[&str] = &[
    "http://schemas.xmlsoap.org/soap/envelope/",
    "http://schemas.microsoft.com/exchange/services/2006/types",
    "http://schemas.microsoft.com/exchange/services/2006/messages",
    "http://schemas.microsoft.com/exchange/services/2006/errors",
];

/// A cursor over an answer. [`Reader::children`] and [`Reader::text`] read the element that was opened last.
pub struct Reader<'x> {
    events: quick_xml::Reader<&'x [u8]>,
    namespaces: &'static [&'static str],
    depth: usize,
    bindings: Vec<Binding>,
    mimes: std::vec::IntoIter<Mime>,
}

/// A prefix in force; elements whose namespace is foreign are passed over with all they hold.
struct Binding {
    depth: usize,
    prefix: Box<str>,
    foreign: bool,
}

/// The start of an element.
pub struct Element<'x> {
    start: BytesStart<'x>,
}

enum Token<'x> {
    Start(Element<'x>),
    Foreign,
    End,
    Text(Cow<'x, str>),
    Nothing,
}

impl<'x> Reader<'x> {
    /// A reader over a document; `mimes` are the contents that were taken out of it, in order.
    pub fn new(document: &'x str, mimes: Vec<Mime>) -> Self {
        Self { mimes: mimes.into_iter(), ..Self::of(document, NAMESPACES) }
    }

    /// A reader over a document whose elements are in these namespaces, or in none.
    pub fn of(document: &'x str, namespaces: &'static [&'static str]) -> Self {
        let mut events = quick_xml::Reader::from_str(document);
        events.config_mut().expand_empty_elements = true;
        let (bindings, mimes) = (Vec::with_capacity(8), Vec::new().into_iter());
        Self { events, namespaces, depth: 0, bindings, mimes }
    }

    /// Reads the root element.
    ///
    /// # Errors
    /// [`Malformed`] if the document is not well-formed, or if there is no root element.
    pub fn root(&mut self) -> Result<Element<'x>, Malformed> {
        loop {
            match self.next()? {
                Token::Start(element) => return Ok(element),
                Token::Foreign | Token::End => return Err(Malformed::Unexpected("root element")),
                Token::Text(_) | Token::Nothing => {}
            }
        }
    }

    /// Shows each child of the element that was opened last; what `visit` leaves unread is skipped.
    pub fn children(
        &mut self,
        mut visit: impl FnMut(&mut Self, &Element<'x>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let level = self.depth;
        loop {
            match self.next()? {
                Token::Start(element) => {
                    visit(self, &element)?;
                    self.skip_to(level)?;
                }
                Token::Foreign => self.skip_to(level)?,
                Token::End => return Ok(()),
                Token::Text(_) | Token::Nothing => {}
            }
        }
    }

    /// The text of the element that was opened last, without that of its children.
    pub fn text(&mut self) -> Result<Cow<'x, str>, Malformed> {
        let level = self.depth;
        let mut whole = Cow::Borrowed("");
        loop {
            match self.next()? {
                Token::Start(_) | Token::Foreign => self.skip_to(level)?,
                Token::End => return Ok(whole),
                Token::Text(part) if whole.is_empty() => whole = part,
                Token::Text(part) => whole.to_mut().push_str(&part),
                Token::Nothing => {}
            }
        }
    }

    /// The text of the element as an owned string.
    pub fn boxed_text(&mut self) -> Result<Box<str>, Malformed> {
        Ok(self.text()?.into())
    }

    /// The next of the contents that were taken out of the document.
    pub fn next_mime(&mut self) -> Option<Mime> {
        self.mimes.next()
    }

    /// True if a content was taken out that belongs to no item.
    pub fn has_stray_mime(&self) -> bool {
        self.mimes.len() > 0
    }

    fn skip_to(&mut self, level: usize) -> Result<(), Malformed> {
        while self.depth > level {
            self.next()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Token<'x>, Malformed> {
        Ok(match self.events.read_event().map_err(|_| Malformed::Syntax)? {
            Event::Start(start) => self.enter(start)?,
            Event::End(_) => {
                self.depth -= 1;
                while self.bindings.last().is_some_and(|binding| binding.depth > self.depth) {
                    self.bindings.pop();
                }
                Token::End
            }
            Event::Text(part) => Token::Text(part.into_inner()),
            Event::CData(part) => Token::Text(part.into_inner()),
            Event::GeneralRef(name) => match text::resolve(&name)? {
                Some(character) => Token::Text(Cow::Owned(character.to_string())),
                None => Token::Nothing,
            },
            Event::DocType(_) => return Err(Malformed::DocumentType),
            Event::Eof => return Err(Malformed::Truncated),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::Empty(_) => Token::Nothing,
        })
    }

    fn enter(&mut self, start: BytesStart<'x>) -> Result<Token<'x>, Malformed> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Malformed::Depth);
        }
        if memchr::memmem::find(start.attributes_raw().as_bytes(), b"xmlns").is_some() {
            self.bind(&start)?;
        }
        let foreign = {
            let name = start.name();
            let prefix = name.prefix().map_or("", quick_xml::name::Prefix::into_inner);
            match self.bindings.iter().rev().find(|binding| *binding.prefix == *prefix) {
                Some(binding) => binding.foreign,
                None => !prefix.is_empty(),
            }
        };
        Ok(if foreign { Token::Foreign } else { Token::Start(Element { start }) })
    }

    fn bind(&mut self, start: &BytesStart<'x>) -> Result<(), Malformed> {
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| Malformed::Syntax)?;
            let prefix = match attribute.key.into_inner() {
                "xmlns" => "",
                key => match key.strip_prefix("xmlns:") {
                    Some(prefix) => prefix,
                    None => continue,
                },
            };
            let foreign = !attribute.value.is_empty() && !self.namespaces.contains(&&*attribute.value);
            self.bindings.push(Binding { depth: self.depth, prefix: prefix.into(), foreign });
        }
        Ok(())
    }
}

impl Element<'_> {
    /// The name without its prefix.
    pub fn name(&self) -> &str {
        self.start.local_name().into_inner()
    }

    /// The value of an attribute. Those of EWS have no prefix: one with a prefix is another.
    pub fn attribute(&self, name: &str) -> Result<Option<Box<str>>, Malformed> {
        for attribute in self.start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| Malformed::Syntax)?;
            if attribute.key.into_inner() == name {
                return Ok(Some(text::unescape(&attribute.value)?.into()));
            }
        }
        Ok(None)
    }
}
