//! A command under way: its options, its streams, and how results are written.

use serde::Serialize;
use tonic::transport::Channel;

use crate::{
    failure::Failure,
    global::{Global, Output},
    object::Object,
    screen::Screen,
    server::Server,
    table::{self, Column},
};

/// A command under way.
pub(crate) struct Ctl {
    pub(crate) global: Global,
    pub(crate) screen: Screen,
    /// To whom it speaks instead of the server of the data directory.
    pub(crate) channel: Option<Channel>,
}

impl Ctl {
    pub(crate) fn new(global: Global, screen: Screen) -> Self {
        Self { global, screen, channel: None }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.global.output == Output::Json
    }

    /// Connects to the server.
    pub(crate) async fn server(&self) -> Result<Server, Failure> {
        match &self.channel {
            Some(channel) => Ok(Server::over(channel.clone(), &self.global)),
            None => Server::connect(&self.global).await,
        }
    }

    /// Writes many objects: one array, or one table.
    pub(crate) fn list(&mut self, objects: &[Object], columns: &[Column]) -> Result<(), Failure> {
        let text = if self.is_json() {
            let lines: Vec<String> = objects.iter().map(json).collect();
            if lines.is_empty() { "[]\n".to_owned() } else { format!("[\n{}\n]\n", lines.join(",\n")) }
        } else {
            table::table(objects, columns)
        };
        Ok(self.screen.write(text.as_bytes())?)
    }

    /// Writes one object.
    pub(crate) fn object(&mut self, object: &Object) -> Result<(), Failure> {
        let text = if self.is_json() { json(object) + "\n" } else { table::page(object) };
        Ok(self.screen.write(text.as_bytes())?)
    }

    /// Writes what was done: the object for programs; for people the text, and a command to go on with, if there is one.
    pub(crate) fn done(&mut self, object: &Object, text: &str, next: Option<&str>) -> Result<(), Failure> {
        if self.is_json() {
            return self.object(object);
        }
        let mut text = format!("{}\n", crate::values::printable(text));
        if let Some(next) = next {
            text.push_str(&format!("next: {}\n", self.global.invocation(next)));
        }
        Ok(self.screen.write(text.as_bytes())?)
    }

    /// Writes one object, and for people a command to go on with.
    pub(crate) fn object_then(&mut self, object: &Object, next: &str) -> Result<(), Failure> {
        self.object(object)?;
        if self.is_json() {
            return Ok(());
        }
        let text = format!("\nnext: {}\n", self.global.invocation(next));
        Ok(self.screen.write(text.as_bytes())?)
    }
}

fn json(value: &impl Serialize) -> String {
    // Objects have texts as keys and nothing else that JSON cannot take.
    serde_json::to_string(value).unwrap_or_default()
}
