//! `GetStreamingEvents`: one answer that goes on, in a sequence of envelopes, for as long as was asked for.

use super::{Element, Malformed, Operation, Reader, Writer};

/// A connection reads no more subscriptions.
pub const MOST_SUBSCRIPTIONS: usize = 200;
/// A connection stays open no longer, in minutes.
pub const LONGEST_CONNECTION: u64 = 30;

/// The request.
#[derive(Clone, Debug)]
pub struct GetStreamingEvents<'a> {
    /// The names of the subscriptions, at most [`MOST_SUBSCRIPTIONS`].
    pub subscriptions: &'a [Box<str>],
    /// How long the connection shall stay open, 1 to [`LONGEST_CONNECTION`] minutes.
    pub minutes: u64,
}

/// What one envelope of the answer tells. One that tells nothing shows that the connection stands. That it is to be
/// closed is seen when it is: the status that says so may also stand beside an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Subscriptions to whose folders mail came, each once for however many.
    pub news: Vec<Box<str>>,
}

impl Operation for GetStreamingEvents<'_> {
    const NAME: &'static str = "GetStreamingEvents";
    const EFFECT: bool = false;
    type Part = Heard;

    fn write(&self, writer: &mut Writer<'_>) {
        writer.nest("m:GetStreamingEvents", |writer| {
            writer.nest("m:SubscriptionIds", |writer| {
                self.subscriptions.iter().for_each(|id| writer.text("t:SubscriptionId", id));
            });
            let minutes = self.minutes.clamp(1, LONGEST_CONNECTION);
            writer.text("m:ConnectionTimeout", &minutes.to_string());
        });
    }

    /// By local names: the schema puts `Notification` into another namespace than servers do.
    fn read(reader: &mut Reader<'_>, element: &Element<'_>, heard: &mut Heard) -> Result<(), Malformed> {
        match element.name() {
            "Notifications" => reader.children(|reader, element| match element.name() {
                "Notification" => read_notification(reader, heard),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }
    }
}

fn read_notification(reader: &mut Reader<'_>, heard: &mut Heard) -> Result<(), Malformed> {
    let (mut subscription, mut mail) = (None, false);
    reader.children(|reader, element| {
        match element.name() {
            "SubscriptionId" => subscription = Some(reader.text()?),
            "NewMailEvent" => mail = true,
            _ => {}
        }
        Ok(())
    })?;
    let subscription = subscription.filter(|_| mail);
    if let Some(id) = subscription.as_deref().map(str::trim)
        && !heard.news.iter().any(|known| **known == *id)
    {
        heard.news.push(id.into());
    }
    Ok(())
}
