//! Answers of every shape that servers are known to give.

use std::time::Duration;

use mailyard_policy::Timestamp;

use super::{answer, error, receive, soap, success};
use crate::codec::{
    Attached, Change, CreateAttachment, CreateFolder, CreateItem, DeleteItem, Entry, FindFolder, FindItem,
    FolderId, FolderInfo, Found, GetFolder, GetItem, ItemId, ItemInfo, ItemKind, Malformed, MoveItem,
    Operation, Refusal, SendItem, ServerVersion, SyncFolderItems, SyncPage, UpdateItem,
};

type Parts<P> = Vec<Result<P, Box<str>>>;

/// The parts of an answer, and of those that were refused the response code; the same however the answer is cut.
fn parts<O: Operation>(document: &str) -> Parts<O::Part> {
    let mut found = None;
    for step in [1, 7, document.len()] {
        let answer = receive::<O>(document.as_bytes(), step).expect("an answer");
        let messages = answer.messages.expect("no fault");
        found = Some(messages.into_iter().map(|part| part.map_err(|refusal| refusal.code)).collect());
    }
    found.expect("it was read")
}

fn id(id: &str, key: &str) -> ItemId {
    ItemId { id: id.into(), change_key: Some(key.into()) }
}

fn entry(name: &str, key: &str, kind: ItemKind, received: Option<i64>) -> Entry {
    Entry { id: id(name, key), kind, received: received.map(Timestamp::from_millis), size: None }
}

fn item(name: &str, key: &str) -> ItemInfo {
    ItemInfo {
        id: id(name, key),
        kind: ItemKind::Message,
        size: None,
        received: None,
        created: None,
        subject: None,
        is_submitted: None,
        message_id: None,
        search_key: None,
        operation_id: None,
    }
}

const CHANGES: &str = r#"<m:SyncState>H4sI</m:SyncState><m:IncludesLastItemInRange>false</m:IncludesLastItemInRange><m:Changes><t:Create><t:Message><t:ItemId Id="I1" ChangeKey="k"/><t:DateTimeReceived>2026-03-01T12:00:00Z</t:DateTimeReceived></t:Message></t:Create><t:Create><t:MeetingRequest><t:ItemId Id="i1" ChangeKey="k"/><t:DateTimeReceived>0001-01-01T00:00:00Z</t:DateTimeReceived></t:MeetingRequest></t:Create><t:Update><t:CalendarItem><t:ItemId Id="I2" ChangeKey="k"/></t:CalendarItem></t:Update><t:ReadFlagChange><t:ItemId Id="I3" ChangeKey="k"/><t:IsRead>true</t:IsRead></t:ReadFlagChange><t:Delete><t:ItemId Id="I4" ChangeKey="k"/></t:Delete><t:SoftDelete><t:ItemId Id="I5" ChangeKey="k"/></t:SoftDelete><t:Create><t:NetworkItem><t:ItemId Id="I6" ChangeKey="k"/></t:NetworkItem></t:Create><t:Create><t:Message/></t:Create></m:Changes>"#;

fn page() -> SyncPage {
    SyncPage {
        changes: vec![
            Change::Create(entry("I1", "k", ItemKind::Message, Some(1_772_366_400_000))),
            Change::Create(entry("i1", "k", ItemKind::Meeting, None)),
            Change::Update(entry("I2", "k", ItemKind::Appointment, None)),
            Change::ReadFlag(id("I3", "k"), true),
            Change::Delete(id("I4", "k")),
            Change::Create(entry("I6", "k", ItemKind::Other, None)),
        ],
        cursor: [1, 0x1F, 0x8B, 8].into(),
        last: false,
    }
}

#[test]
fn changes_are_read_however_they_are_written() {
    let usual = answer("SyncFolderItems", &success("SyncFolderItems", CHANGES));
    let odd_prefixes = usual
        .replace("<t:", "<ns-1:")
        .replace("</t:", "</ns-1:")
        .replace("xmlns:t=", "xmlns:ns-1=")
        .replace("<m:", "<_x:")
        .replace("</m:", "</_x:")
        .replace("xmlns:m=", "xmlns:_x=");
    let default_namespaces = soap(&format!(
        r#"<SyncFolderItemsResponse xmlns="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">{}</SyncFolderItemsResponse>"#,
        format!("<m:ResponseMessages>{}</m:ResponseMessages>", success("SyncFolderItems", CHANGES))
            .replace("<m:", "<")
            .replace("</m:", "</")
    ));
    let types_by_default = usual
        .replace(
            "<m:Changes>",
            r#"<m:Changes xmlns="http://schemas.microsoft.com/exchange/services/2006/types">"#,
        )
        .replace("<t:", "<")
        .replace("</t:", "</");
    let swapped = usual.replace(
        "<t:Create><t:Message><t:ItemId Id=\"I1\"",
        r#"<t:Create xmlns:other="urn:other"><other:Message><t:ItemId Id="no"/></other:Message><t:Message><other:ItemId Id="no"/><t:ItemId other:Id="no" Id="I1""#,
    );
    let spread = usual.replace("><", ">\r\n  <!-- <t:Create/> --><?odd?>\t<");
    let with_mark = format!("\u{FEFF}{usual}");
    let with_controls = usual.replace("<m:SyncState>H4sI", "\u{1}<m:SyncState>H4\u{0}sI\u{FFFE}");
    let with_references = usual
        .replace("Id=\"I1\"", "Id=\"&#x49;&#x0;1&#xFFFF;\"")
        .replace(">H4sI<", ">H4&#x1A;s&#73;&#xD800;<")
        .replace("true</t:IsRead>", "<![CDATA[tr]]>ue</t:IsRead>");
    for document in [
        &usual,
        &odd_prefixes,
        &default_namespaces,
        &types_by_default,
        &swapped,
        &spread,
        &with_mark,
        &with_controls,
        &with_references,
    ] {
        assert_eq!(parts::<SyncFolderItems<'_>>(document), [Ok(page())], "{document}");
    }
}

#[test]
fn an_empty_page_and_a_refused_one() {
    let empty =
        "<m:SyncState>x</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange><m:Changes/>";
    let expected = SyncPage { changes: Vec::new(), cursor: [0, b'x'].into(), last: true };
    let document = answer("SyncFolderItems", &success("SyncFolderItems", empty));
    assert_eq!(parts::<SyncFolderItems<'_>>(&document), [Ok(expected)]);
    let refused = error("SyncFolderItems", "Error", "ErrorInvalidSyncStateData");
    let document = answer("SyncFolderItems", &refused);
    assert_eq!(parts::<SyncFolderItems<'_>>(&document), [Err("ErrorInvalidSyncStateData".into())]);
    assert_eq!(parts::<SyncFolderItems<'_>>(&answer("SyncFolderItems", "")), []);
}

#[test]
fn a_batch_of_items_tells_of_each_in_its_place() {
    let fetched = |name: &str, content: &str| {
        let item = format!(
            r#"<m:Items><t:Message>{content}<t:ItemId Id="{name}" ChangeKey="k"/><t:Size>6144</t:Size></t:Message></m:Items>"#
        );
        success("GetItem", &item)
    };
    let content = |bytes: &str| format!(r#"<t:MimeContent CharacterSet="UTF-8">{bytes}</t:MimeContent>"#);
    let messages = [
        fetched("I1", &content("Rmly&#xD;\n c3Q=")),
        error("GetItem", "Error", "ErrorItemNotFound"),
        fetched("I2", ""),
        error("GetItem", "Error", "ErrorMimeContentConversionFailed"),
        fetched("I3", &content("")),
        fetched("I4", "<t:MimeContent/>"),
        fetched("I5", &content("VGhpcmQ*")),
        error("GetItem", "Warning", "ErrorBatchProcessingStopped"),
        error("GetItem", "", "ErrorNobodyKnows"),
    ];
    let document = answer("GetItem", &messages.concat());
    let found: Vec<_> = parts::<GetItem<'_>>(&document)
        .into_iter()
        .map(|part| {
            part.map(|fetched| {
                let name = fetched.item.map(|item| (item.id.id, item.size)).expect("an item");
                (
                    name,
                    fetched
                        .content
                        .map(|mime| (String::from_utf8_lossy(&mime.bytes).into_owned(), mime.broken)),
                )
            })
        })
        .collect();
    let good = |name: &str, content: Option<(&str, bool)>| {
        Ok(((name.into(), Some(6144)), content.map(|(text, broken)| (text.to_owned(), broken))))
    };
    let expected = [
        good("I1", Some(("First", false))),
        Err("ErrorItemNotFound".into()),
        good("I2", None),
        Err("ErrorMimeContentConversionFailed".into()),
        good("I3", Some(("", false))),
        good("I4", Some(("", false))),
        good("I5", Some(("Third", true))),
        Err("ErrorBatchProcessingStopped".into()),
        Err("ErrorNobodyKnows".into()),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_content_outside_of_an_item_is_nobodys() {
    let stray = r#"<x:Box xmlns:x="urn:x"><x:MimeContent>U3RyYXk=</x:MimeContent></x:Box>"#;
    let document = answer("GetItem", &(stray.to_owned() + &error("GetItem", "Error", "ErrorItemNotFound")));
    let read = receive::<GetItem<'_>>(document.as_bytes(), 64);
    assert_eq!(read.map(|_| ()), Err(Malformed::Unexpected("place for a content")));
}

#[test]
fn properties_of_found_items_are_read() {
    let items = r#"<m:RootFolder IndexedPagingOffset="2" TotalItemsInView="2" IncludesLastItemInRange="true"><t:Items><t:Message><t:ItemId Id="I1" ChangeKey="k"/><t:Subject>a &amp; b</t:Subject><t:DateTimeReceived>2026-03-01T12:00:00</t:DateTimeReceived><t:Size>12</t:Size><t:IsSubmitted>false</t:IsSubmitted><t:DateTimeCreated>2026-03-01T13:00:00+01:00</t:DateTimeCreated><t:ExtendedProperty><t:ExtendedFieldURI PropertyTag="0x300b" PropertyType="Binary"/><t:Value>AAEC</t:Value></t:ExtendedProperty><t:ExtendedProperty><t:ExtendedFieldURI PropertySetId="6D61696C-7961-7264-8000-000000000001" PropertyName="operationid" PropertyType="String"/><t:Value>01J</t:Value></t:ExtendedProperty><t:ExtendedProperty><t:ExtendedFieldURI PropertyTag="0x0E07" PropertyType="Integer"/><t:Value>1</t:Value></t:ExtendedProperty><t:InternetMessageId>&lt;1@x&gt;</t:InternetMessageId></t:Message><t:Message><t:ItemId Id="I2" ChangeKey="k"/><t:Size>much</t:Size></t:Message></t:Items></m:RootFolder>"#;
    let noon = Some(Timestamp::from_millis(1_772_366_400_000));
    let first = ItemInfo {
        size: Some(12),
        received: noon,
        created: noon,
        subject: Some("a & b".into()),
        is_submitted: Some(false),
        message_id: Some("<1@x>".into()),
        search_key: Some([0, 1, 2].into()),
        operation_id: Some("01J".into()),
        ..item("I1", "k")
    };
    let document = answer("FindItem", &success("FindItem", items));
    let found = Found { items: vec![first, item("I2", "k")], last: true };
    assert_eq!(parts::<FindItem<'_>>(&document), [Ok(found)]);
}

#[test]
fn every_other_answer_is_read() {
    let folder = |name: Option<&str>| FolderInfo {
        id: Some(FolderId::new("F1")),
        name: name.map(Into::into),
        total_count: Some(3),
    };
    let folders = r#"<m:Folders><t:Folder><t:FolderId Id="F1" ChangeKey="k"/><t:DisplayName>Mail &lt;1&gt;</t:DisplayName><t:TotalCount>3</t:TotalCount></t:Folder></m:Folders>"#;
    let rooted = folders.replace("m:Folders>", "t:Folders>");
    let rooted = format!(
        r#"<m:RootFolder TotalItemsInView="1" IncludesLastItemInRange="true">{rooted}</m:RootFolder>"#
    );
    let named = vec![folder(Some("Mail <1>"))];
    let of = |operation: &str, content: &str| answer(operation, &success(operation, content));
    assert_eq!(parts::<GetFolder<'_>>(&of("GetFolder", folders)), [Ok(named.clone())]);
    assert_eq!(parts::<CreateFolder<'_>>(&of("CreateFolder", folders)), [Ok(named.clone())]);
    assert_eq!(parts::<FindFolder<'_>>(&of("FindFolder", &rooted)), [Ok(named)]);
    let items = r#"<m:Items><t:Message><t:ItemId Id="I9" ChangeKey="k2"/></t:Message></m:Items>"#;
    let new = [Ok(Some(id("I9", "k2")))];
    assert_eq!(parts::<CreateItem<'_>>(&of("CreateItem", items)), new);
    assert_eq!(parts::<MoveItem<'_>>(&of("MoveItem", items)), new);
    assert_eq!(parts::<UpdateItem<'_>>(&of("UpdateItem", items)), new);
    assert_eq!(parts::<CreateItem<'_>>(&of("CreateItem", "<m:Items/>")), [Ok(None)]);
    let attached = r#"<m:Attachments><t:FileAttachment><t:AttachmentId Id="A1" RootItemId="I9" RootItemChangeKey="k3"/></t:FileAttachment></m:Attachments>"#;
    let attached_to = Attached { id: "A1".into(), parent: Some(id("I9", "k3")) };
    assert_eq!(parts::<CreateAttachment<'_>>(&of("CreateAttachment", attached)), [Ok(attached_to)]);
    assert_eq!(parts::<SendItem<'_>>(&of("SendItem", "")), [Ok(())]);
    assert_eq!(parts::<DeleteItem<'_>>(&of("DeleteItem", "")), [Ok(())]);
}

fn fault(code: &str, detail: &str) -> String {
    soap(&format!(
        r#"<s:Fault><faultcode xmlns:a="http://schemas.microsoft.com/exchange/services/2006/types">{code}</faultcode><faultstring xml:lang="en-US">Said for people.</faultstring>{detail}</s:Fault>"#
    ))
}

fn detail(code: &str, values: &str) -> String {
    format!(
        r#"<detail><e:ResponseCode xmlns:e="http://schemas.microsoft.com/exchange/services/2006/errors">{code}</e:ResponseCode><e:Message xmlns:e="http://schemas.microsoft.com/exchange/services/2006/errors">x</e:Message><t:MessageXml xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types">{values}</t:MessageXml></detail>"#
    )
}

#[test]
fn faults_tell_their_code_and_how_long_to_wait() {
    let refusal = |code: &str, inner: Option<&str>, millis: Option<u64>| Refusal {
        code: code.into(),
        text: "Said for people.".into(),
        inner_code: inner.map(Into::into),
        back_off: millis.map(Duration::from_millis),
        fault: true,
        subscriptions: Vec::new(),
    };
    let wait =
        r#"<t:Value Name="PolicyPart">x</t:Value><t:Value Name="BackOffMilliseconds"> 5000 </t:Value>"#;
    let inner = r#"<t:Value Name="InnerErrorResponseCode">ErrorServerBusy</t:Value>"#;
    let cases = [
        (
            fault("a:ErrorServerBusy", &detail("ErrorServerBusy", wait)),
            refusal("ErrorServerBusy", None, Some(5000)),
        ),
        (fault("a:ErrorServerBusy", ""), refusal("ErrorServerBusy", None, None)),
        (
            fault("s:Server", &detail("ErrorInternalServerError", inner)),
            refusal("ErrorInternalServerError", Some("ErrorServerBusy"), None),
        ),
        (
            fault(
                "s:Client",
                &detail("ErrorSchemaValidation", r#"<t:Value Name="BackOffMilliseconds">soon</t:Value>"#),
            ),
            refusal("ErrorSchemaValidation", None, None),
        ),
        (fault("s:Client", "<detail/>"), refusal("Client", None, None)),
    ];
    for (document, expected) in cases {
        let answer = receive::<SyncFolderItems<'_>>(document.as_bytes(), 33).expect("a fault can be read");
        assert_eq!(answer.messages, Err(expected), "{document}");
        let version = ServerVersion { major: 15, minor: 2, build: 1544, revision: 4 };
        assert_eq!(answer.version, Some(version));
    }
}

#[test]
fn a_part_may_ask_to_wait_as_well() {
    let part = r#"<m:GetItemResponseMessage ResponseClass="Error"><m:MessageText>x</m:MessageText><m:ResponseCode>ErrorInternalServerError</m:ResponseCode><m:MessageXml><t:Value Name="InnerErrorResponseCode">ErrorServerBusy</t:Value><t:Value Name="BackOffMilliseconds">7000</t:Value></m:MessageXml><m:Items/></m:GetItemResponseMessage>"#;
    let read = receive::<GetItem<'_>>(answer("GetItem", part).as_bytes(), 33).expect("an answer");
    let mut messages = read.messages.expect("no fault");
    let refusal = messages.pop().expect("a part").expect_err("an error");
    assert_eq!(refusal.inner_code.as_deref(), Some("ErrorServerBusy"));
    assert_eq!((refusal.back_off, refusal.fault), (Some(Duration::from_secs(7)), false));
}
