//! Writes XML into a byte buffer: every text escaped, illegal characters left out, every element closed.

use base64::Engine as _;

use super::text;

/// Writes elements one after the other; what is opened is closed by construction.
pub struct Writer<'b> {
    out: &'b mut Vec<u8>,
    mailbox: Option<&'b str>,
}

impl<'b> Writer<'b> {
    /// A writer that appends to `out`.
    pub fn new(out: &'b mut Vec<u8>) -> Self {
        Self { out, mailbox: None }
    }

    /// Whose folders are meant, where it is not the caller's own.
    #[must_use]
    pub fn in_mailbox(self, address: &'b str) -> Self {
        Self { mailbox: Some(address), ..self }
    }

    /// See [`Self::in_mailbox`].
    pub fn mailbox(&self) -> Option<&'b str> {
        self.mailbox
    }

    /// Markup that was written by us and is complete.
    pub fn raw(&mut self, markup: &str) {
        self.out.extend_from_slice(markup.as_bytes());
    }

    /// An element with attributes and whatever `content` writes.
    pub fn element(&mut self, name: &str, attributes: &[(&str, &str)], content: impl FnOnce(&mut Self)) {
        self.start(name, attributes);
        self.raw(">");
        content(self);
        self.raw("</");
        self.raw(name);
        self.raw(">");
    }

    /// An element without attributes.
    pub fn nest(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.element(name, &[], content);
    }

    /// An element without content.
    pub fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.start(name, attributes);
        self.raw("/>");
    }

    /// An element that holds a text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.nest(name, |writer| writer.content(text));
    }

    /// An element that holds a text, if there is one.
    pub fn optional_text(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(name, text);
        }
    }

    /// An element that holds bytes in base64.
    pub fn base64(&mut self, name: &str, bytes: &[u8]) {
        self.nest(name, |writer| writer.base64_content(bytes));
    }

    /// Text inside the element that is open.
    pub fn content(&mut self, text: &str) {
        text::escape_into(self.out, text);
    }

    /// Bytes in base64 inside the element that is open.
    pub fn base64_content(&mut self, bytes: &[u8]) {
        let start = self.out.len();
        let room = base64::encoded_len(bytes.len(), true).unwrap_or(0);
        self.out.resize(start + room, 0);
        let written = base64::engine::general_purpose::STANDARD
            .encode_slice(bytes, self.out.get_mut(start..).unwrap_or_default())
            .unwrap_or(0);
        self.out.truncate(start + written);
    }

    fn start(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.raw("<");
        self.raw(name);
        for (key, value) in attributes {
            self.raw(" ");
            self.raw(key);
            self.raw("=\"");
            text::escape_into(self.out, value);
            self.raw("\"");
        }
    }
}
