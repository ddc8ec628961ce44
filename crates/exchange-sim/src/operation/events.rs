//! `Subscribe`, `Unsubscribe`, `GetEvents` and `GetStreamingEvents`.

use std::{sync::Arc, time::Duration};

use super::{Call, FOLDER_NOT_FOUND};
use crate::{
    answer::Refusal,
    event::Kind,
    fault::{self, Strike},
    stream::Stream,
    subscription::{Subscription, Wanted, Way},
    xml::{self, Element},
};

/// A streaming subscription lives on for so many minutes while nobody reads it.
const MINUTES: u32 = 30;
/// No connection reads more subscriptions.
const MOST: usize = 200;

const PUSH: Refusal = Refusal::new(
    "ErrorInvalidSubscriptionRequest",
    "Notifications are not pushed here: the server calls nobody.",
);
const SEVERAL_MAILBOXES: Refusal = Refusal::new(
    "ErrorInvalidSubscriptionRequest",
    "The folders of a subscription must be those of one mailbox.",
);
const DELEGATE: Refusal = Refusal::new(
    "ErrorSubscriptionDelegateAccessNotSupported",
    "Subscriptions are not supported for delegate access.",
);
const NOT_PULL: Refusal = Refusal::new(
    "ErrorInvalidPullSubscriptionId",
    "The subscription is not one of whose events are fetched.",
);
const NOT_STREAMING: Refusal =
    Refusal::new("ErrorInvalidSubscription", "The subscription is not one of a streaming connection.");

pub(super) fn subscribe(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    call.respond([request], "", out, |call, request, out| {
        let wanted = request.children.first().ok_or(PUSH)?;
        let way = match wanted.name.as_str() {
            "StreamingSubscriptionRequest" => Way::Streaming,
            "PullSubscriptionRequest" => Way::Pull,
            _ => return Err(PUSH),
        };
        if wanted.text_of("Watermark").is_some_and(|watermark| !watermark.is_empty()) {
            let text = "Events from before the subscription are not kept.";
            return Err(Refusal::new("ErrorEventNotFound", text));
        }
        let minutes = wanted.text_of("Timeout").and_then(|text| text.parse().ok()).unwrap_or(MINUTES);
        let kinds = wanted.child("EventTypes").map_or(&[][..], |kinds| &kinds.children);
        let wanted = Wanted {
            lifetime: minute(call) * minutes,
            folders: folders(call, wanted)?,
            kinds: kinds.iter().filter_map(|kind| Kind::named(kind.text.trim())).collect(),
        };
        let (mailbox, owner) = (call.mailbox.number, call.caller.payer());
        let subscription = Subscription::new(way, call.world.next(), mailbox, owner, call.backend, wanted);
        let subscription = Arc::new(subscription);
        call.world.subscriptions.add(subscription.clone(), call.world.settings().max_subscriptions)?;
        call.contents().watch(&subscription);
        xml::element("m:SubscriptionId", &subscription.id, out);
        if way == Way::Pull {
            xml::element("m:Watermark", &subscription.watermark(0), out);
        }
        Ok(())
    });
    Ok(())
}

fn minute(call: &Call<'_>) -> Duration {
    Duration::from_millis(call.world.settings().minute_ms)
}

/// The folders that are wanted; `None`: all.
fn folders(call: &Call<'_>, wanted: &Element) -> Result<Option<Vec<u32>>, Refusal> {
    if xml::is_true(wanted.attribute("SubscribeToAllFolders")) {
        return Ok(None);
    }
    let ids = wanted.child("FolderIds").map_or(&[][..], |ids| &ids.children);
    let foreign = ids.iter().filter(|id| call.is_foreign(id)).count();
    if foreign > 0 || call.is_delegated() {
        return Err(if foreign == 0 || foreign == ids.len() { DELEGATE } else { SEVERAL_MAILBOXES });
    }
    if ids.is_empty() {
        return Err(FOLDER_NOT_FOUND);
    }
    let contents = call.contents();
    ids.iter().map(|id| call.folder(id, &contents)).collect::<Result<_, _>>().map(Some)
}

/// The subscription that an element names.
fn named(call: &Call<'_>, id: &str) -> Result<Arc<Subscription>, Refusal> {
    call.world.subscriptions.find(id, call.caller.payer(), call.backend)
}

pub(super) fn unsubscribe(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    call.respond([request], "", out, |call, request, _| {
        let subscription = named(call, request.text_of("SubscriptionId").unwrap_or_default())?;
        call.world.subscriptions.remove(&subscription);
        Ok(())
    });
    Ok(())
}

pub(super) fn get(call: &Call<'_>, request: &Element, out: &mut String) -> Result<(), Refusal> {
    call.respond([request], "", out, |call, request, out| {
        let subscription = named(call, request.text_of("SubscriptionId").unwrap_or_default())?;
        if subscription.way != Way::Pull {
            return Err(NOT_PULL);
        }
        let fetched = subscription.fetch(request.text_of("Watermark").unwrap_or_default());
        // Of a subscription that failed there is nothing to be had any more.
        let fetched = fetched.inspect_err(|_| call.world.subscriptions.remove(&subscription))?;
        out.push_str("<m:Notification>");
        xml::element("t:SubscriptionId", &subscription.id, out);
        xml::element("t:PreviousWatermark", &subscription.watermark(fetched.previous), out);
        xml::element("t:MoreEvents", if fetched.more { "true" } else { "false" }, out);
        for (position, event) in &fetched.events {
            event.write(subscription.mailbox, Some(&subscription.watermark(*position)), out);
        }
        if fetched.events.is_empty() {
            out.push_str("<t:StatusEvent>");
            xml::element("t:Watermark", &subscription.watermark(fetched.position), out);
            out.push_str("</t:StatusEvent>");
        }
        out.push_str("</m:Notification>");
        Ok(())
    });
    Ok(())
}

/// Opens a connection for the events of several subscriptions. One that cannot be read spoils it for all.
pub(super) fn stream(call: &Call<'_>, request: &Element) -> Result<Stream, Refusal> {
    let ids = request.child("SubscriptionIds").map_or(&[][..], |ids| &ids.children);
    if ids.len() > MOST {
        let text = "A connection cannot read more than 200 subscriptions.";
        return Err(Refusal::new("ErrorInvalidRequest", text));
    }
    let settings = call.world.settings();
    let hanging = call.world.hang(call.payer)?;
    let minutes = request.text_of("ConnectionTimeout").and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut stream = Stream {
        subscriptions: Vec::with_capacity(ids.len()),
        refused: None,
        timeout: minute(call) * minutes,
        heartbeat: Duration::from_millis(settings.status_ms),
        hanging,
    };
    let struck = call.strikes(fault::Kind::ResponseCode).map(Strike::refusal);
    for id in ids.iter().map(|id| id.text.trim()) {
        let found = match &struck {
            Some(refusal) => Err(refusal.clone()),
            None => named(call, id)
                .and_then(|one| if one.way == Way::Pull { Err(NOT_STREAMING) } else { Ok(one) }),
        };
        match found {
            Ok(subscription) => stream.subscriptions.push(subscription),
            Err(refusal) => stream.refused.get_or_insert((refusal, Vec::new())).1.push(id.to_owned()),
        }
    }
    Ok(stream)
}
