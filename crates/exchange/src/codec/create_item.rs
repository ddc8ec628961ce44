//! `CreateItem`: a draft, from properties or from MIME; it is saved and not sent.

use super::{Element, Folder, ItemId, Malformed, Operation, Reader, Writer, item, property};

/// A name and an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The name that people read.
    pub name: Option<String>,
    /// The SMTP address.
    pub address: String,
}

/// The text of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Plain text.
    Text(String),
    /// HTML.
    Html(String),
}

/// How important a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Importance {
    /// Low.
    Low,
    /// Normal.
    #[default]
    Normal,
    /// High.
    High,
}

/// A message by its properties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The subject.
    pub subject: String,
    /// The text.
    pub body: Body,
    /// How important it is.
    pub importance: Importance,
    /// On whose behalf it is sent; the mailbox itself if `None`.
    pub from: Option<Address>,
    /// Recipients.
    pub to: Vec<Address>,
    /// Recipients of a copy.
    pub cc: Vec<Address>,
    /// Recipients that the others do not see.
    pub bcc: Vec<Address>,
    /// Where answers shall go.
    pub reply_to: Vec<Address>,
    /// `Message-ID`, with its angle brackets; the server makes one if `None`.
    pub message_id: Option<String>,
    /// `In-Reply-To`.
    pub in_reply_to: Option<String>,
    /// `References`.
    pub references: Option<String>,
}

/// What a new item holds.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// Properties.
    Draft(&'a Draft),
    /// A whole message in MIME, and the recipients that its headers do not name.
    Mime {
        /// The message.
        message: &'a [u8],
        /// Recipients that the others do not see.
        bcc: &'a [Address],
    },
}

/// The request.
#[derive(Clone, Debug)]
pub struct CreateItem<'a> {
    /// Where to save it.
    pub folder: &'a Folder,
    /// What to save.
    pub content: Content<'a>,
    /// The mark of the operation that makes it: as a named property, to find it again, and as an internet header.
    pub operation_id: &'a str,
}

impl Operation for CreateItem<'_> {
    const NAME: &'static str = "CreateItem";
    const EFFECT: bool = true;
    type Part = Option<ItemId>;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.element("m:CreateItem", &[("MessageDisposition", "SaveOnly")], |writer| {
            self.folder.write_in(writer, "m:SavedItemFolderId");
            writer.nest("m:Items", |writer| {
                writer.nest("t:Message", |writer| match self.content {
                    Content::Draft(draft) => draft.write(writer, self.operation_id),
                    Content::Mime { message, bcc } => {
                        writer.element("t:MimeContent", &[("CharacterSet", "UTF-8")], |writer| {
                            writer.base64_content(message);
                        });
                        property::write_operation_marks(writer, self.operation_id);
                        write_addresses(writer, "t:BccRecipients", bcc);
                    }
                });
            });
        });
    }

    fn read(reader: &mut Reader<'_>, element: &Element<'_>, part: &mut Self::Part) -> Result<(), Malformed> {
        if element.name() == "Items" {
            item::read_all(reader, |info, _| *part = Some(info.id))?;
        }
        Ok(())
    }
}

impl Draft {
    fn write(&self, writer: &mut Writer<'_>, operation_id: &str) {
        writer.text("t:Subject", &self.subject);
        let (kind, text) = match &self.body {
            Body::Text(text) => ("Text", text),
            Body::Html(text) => ("HTML", text),
        };
        writer.element("t:Body", &[("BodyType", kind)], |writer| writer.content(text));
        match self.importance {
            Importance::Low => writer.text("t:Importance", "Low"),
            Importance::Normal => {}
            Importance::High => writer.text("t:Importance", "High"),
        }
        writer.optional_text("t:InReplyTo", self.in_reply_to.as_deref());
        property::write_operation_marks(writer, operation_id);
        write_addresses(writer, "t:ToRecipients", &self.to);
        write_addresses(writer, "t:CcRecipients", &self.cc);
        write_addresses(writer, "t:BccRecipients", &self.bcc);
        if let Some(from) = &self.from {
            writer.nest("t:From", |writer| from.write(writer));
        }
        writer.optional_text("t:InternetMessageId", self.message_id.as_deref());
        writer.optional_text("t:References", self.references.as_deref());
        write_addresses(writer, "t:ReplyTo", &self.reply_to);
    }
}

impl Address {
    /// An address without a name.
    pub fn new(address: impl Into<String>) -> Self {
        Self { name: None, address: address.into() }
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("t:Mailbox", |writer| {
            writer.optional_text("t:Name", self.name.as_deref());
            writer.text("t:EmailAddress", &self.address);
        });
    }
}

fn write_addresses(writer: &mut Writer<'_>, name: &str, addresses: &[Address]) {
    if !addresses.is_empty() {
        writer.nest(name, |writer| addresses.iter().for_each(|address| address.write(writer)));
    }
}
