//! Messages that are made for tests, and folders as tests want to see them.

use serde::{Deserialize, Serialize};

use crate::{
    item::{Content, Person, read_mime},
    world::World,
};

/// A row of a folder's listing.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    /// Its id.
    pub item_id: String,
    /// Its Message-ID.
    pub internet_message_id: String,
    /// Its subject.
    pub subject: String,
    /// Its sender's address.
    pub from: String,
    /// Its recipients' addresses.
    pub to: Vec<String>,
    /// When it was received.
    pub received_time: String,
    /// The operation id that it carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_key: Option<String>,
    /// Some client was told of it in a page of changes.
    pub told: bool,
}

/// Messages to be made and delivered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// Addresses of mailboxes.
    pub to: Vec<String>,
    /// The sender's address.
    #[serde(default)]
    pub from: Option<String>,
    /// The subject; several messages get a number behind it.
    #[serde(default)]
    pub subject: Option<String>,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
    /// How many messages.
    #[serde(default)]
    pub count: Option<u32>,
    /// Bytes of the text, filled up.
    #[serde(default)]
    pub size: Option<usize>,
    /// A whole message instead.
    #[serde(default)]
    pub mime: Option<String>,
}

impl Made {
    /// The message of this number among them.
    pub(crate) fn content(&self, world: &World, number: u32) -> Content {
        if let Some(mime) = &self.mime {
            let mime = mime.replace("\r\n", "\n").replace('\n', "\r\n");
            let content = read_mime(mime.as_bytes());
            if !content.message_id.is_empty() {
                return content;
            }
            let with_id = format!("Message-ID: {}\r\n{mime}", world.message_id());
            return read_mime(with_id.as_bytes());
        }
        let mut subject = self.subject.clone().unwrap_or_else(|| "A message".to_owned());
        if self.count.unwrap_or(1) > 1 {
            subject.push_str(&format!(" {}", number + 1));
        }
        let mut body = self.text.clone().unwrap_or_else(|| "Hello.\r\n".to_owned());
        if let Some(size) = self.size {
            while body.len() < size {
                body.push_str("The quick brown fox jumps over the lazy dog. 0123456789 abcdef\r\n");
            }
            body.truncate((0..=size).rev().find(|at| body.is_char_boundary(*at)).unwrap_or_default());
        }
        let from = self.from.clone().unwrap_or_else(|| "sender@outside.example".to_owned());
        Content {
            class: "IPM.Note".to_owned(),
            importance: "Normal".to_owned(),
            sensitivity: "Normal".to_owned(),
            subject,
            body,
            from: Some(Person::new(&from)),
            sender: Some(Person::new(&from)),
            to: self.to.iter().map(|to| Person::new(to)).collect(),
            message_id: world.message_id(),
            ..Content::default()
        }
    }
}
