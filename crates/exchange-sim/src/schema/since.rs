//! What came with which version: a request may only use what the version that it states already had.

use super::Violation;
use crate::xml::Element;

/// The version, and what came with it: elements, fields (with a colon) and attributes (with an at sign).
const SINCE: &[(&str, &[&str])] = &[
    ("Exchange2010", &["SyncScope", "item:ConversationId", "item:UniqueBody"]),
    ("Exchange2010_SP1", &["GetStreamingEvents", "StreamingSubscriptionRequest"]),
    (
        "Exchange2013",
        &[
            "SeekToConditionPageItemView",
            "item:InstanceKey",
            "item:NormalizedBody",
            "item:Preview",
            "item:TextBody",
        ],
    ),
    ("Exchange2013_SP1", &["@SuppressReadReceipts", "item:IsClutter"]),
    (
        "Exchange2016",
        &[
            "Mentions",
            "MimeContentUTF8",
            "ReferenceAttachment",
            "item:MentionedMe",
            "item:Mentions",
            "item:MentionsPreview",
            "item:MimeContentUTF8",
        ],
    ),
];

/// The first thing in a request that came after a version.
pub(crate) fn newer_than(version: &str, element: &Element) -> Option<Violation> {
    let later = |name: &str| SINCE.iter().any(|(since, names)| *since > version && names.contains(&name));
    let field = element.attribute("FieldURI").filter(|_| element.name == "FieldURI");
    let attribute = element.attributes.iter().map(|(name, _)| format!("@{name}")).find(|name| later(name));
    let found = [Some(element.name.as_str()), field, attribute.as_deref()];
    match found.into_iter().flatten().find(|name| later(name)) {
        Some(name) => Some(Violation { offset: element.offset, what: format!("'{name}' is not known") }),
        None => element.children.iter().find_map(|child| newer_than(version, child)),
    }
}
