//! One conversation with every operation, kept as golden files: what is asked, what is answered.
//!
//! `MAILYARD_GOLDEN=write` writes the files anew: what changed is then seen in the difference. `tests/xsd` holds them
//! against Microsoft's schema; names with `refused` are those that the schema does not allow.

use std::{collections::HashMap, fs, path::PathBuf};

use mailyard_exchange_sim::{Made, Scheme};

use crate::{
    oauth::Application,
    stage::{Stage, envelope, first, soap},
};

/// A request by its name. `{name:Element}` stands for what an earlier answer holds in its first such element.
type Step = (&'static str, &'static str);

const IDS: &str = "<m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>";
const ITEM_IDS: &str = "<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>";
const INBOX: &str = "<t:DistinguishedFolderId Id=\"inbox\"/>";
const OPERATION_ID: &str = "<t:ExtendedFieldURI PropertySetId=\"6D61696C-7961-7264-8000-000000000001\" PropertyName=\"OperationId\" \
                            PropertyType=\"String\"/>";
const SEARCH_KEY: &str = "<t:ExtendedFieldURI PropertyTag=\"0x300B\" PropertyType=\"Binary\"/>";

const FOLDERS: &[Step] = &[
    ("GetFolder.test", "<m:GetFolder>IDS<m:FolderIds>INBOX</m:FolderIds></m:GetFolder>"),
    (
        "GetFolder.several",
        "<m:GetFolder><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:FolderIds>INBOX\
         <t:DistinguishedFolderId Id=\"calendar\"><t:Mailbox><t:EmailAddress>mailbox00001@exchange.test</t:EmailAddress></t:Mailbox>\
         </t:DistinguishedFolderId><t:DistinguishedFolderId Id=\"contacts\"/><t:DistinguishedFolderId Id=\"tasks\"/>\
         <t:DistinguishedFolderId Id=\"voicemail\"/><t:FolderId Id=\"AAMk\"/><t:DistinguishedFolderId Id=\"inbox\"><t:Mailbox>\
         <t:EmailAddress>mailbox00002@exchange.test</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId></m:FolderIds></m:GetFolder>",
    ),
    (
        "FindFolder.deep",
        "<m:FindFolder Traversal=\"Deep\"><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape>\
         <m:IndexedPageFolderView MaxEntriesReturned=\"5\" Offset=\"2\" BasePoint=\"Beginning\"/>\
         <m:ParentFolderIds><t:DistinguishedFolderId Id=\"msgfolderroot\"/></m:ParentFolderIds></m:FindFolder>",
    ),
    ("SyncFolderHierarchy.first", "<m:SyncFolderHierarchy>IDS</m:SyncFolderHierarchy>"),
    (
        "CreateFolder",
        "<m:CreateFolder><m:ParentFolderId>INBOX</m:ParentFolderId><m:Folders><t:Folder><t:FolderClass>IPF.Note</t:FolderClass>\
         <t:DisplayName>Offers &amp; more</t:DisplayName></t:Folder><t:CalendarFolder><t:DisplayName>Team</t:DisplayName>\
         </t:CalendarFolder><t:Folder><t:DisplayName>offers &amp; more</t:DisplayName></t:Folder></m:Folders></m:CreateFolder>",
    ),
    (
        "CreateFolder.orphan",
        "<m:CreateFolder><m:ParentFolderId><t:DistinguishedFolderId Id=\"voicemail\"/></m:ParentFolderId><m:Folders><t:Folder>\
         <t:DisplayName>x</t:DisplayName></t:Folder></m:Folders></m:CreateFolder>",
    ),
    (
        "SyncFolderHierarchy",
        "<m:SyncFolderHierarchy>IDS<m:SyncState>{SyncFolderHierarchy.first:SyncState}</m:SyncState></m:SyncFolderHierarchy>",
    ),
    (
        "FindFolder.name",
        "<m:FindFolder Traversal=\"Shallow\">IDS<m:Restriction><t:IsEqualTo><t:FieldURI FieldURI=\"folder:DisplayName\"/>\
         <t:FieldURIOrConstant><t:Constant Value=\"Offers &amp; more\"/></t:FieldURIOrConstant></t:IsEqualTo></m:Restriction>\
         <m:ParentFolderIds>INBOX</m:ParentFolderIds></m:FindFolder>",
    ),
];

const READING: &[Step] = &[
    (
        "SyncFolderItems.first",
        "<m:SyncFolderItems>ITEM_IDS<m:SyncFolderId>INBOX</m:SyncFolderId><m:MaxChangesReturned>2</m:MaxChangesReturned></m:SyncFolderItems>",
    ),
    (
        "SyncFolderItems.second",
        "<m:SyncFolderItems><m:ItemShape><t:BaseShape>Default</t:BaseShape></m:ItemShape><m:SyncFolderId>INBOX</m:SyncFolderId>\
         <m:SyncState>{SyncFolderItems.first:SyncState}</m:SyncState><m:MaxChangesReturned>512</m:MaxChangesReturned></m:SyncFolderItems>",
    ),
    (
        "SyncFolderItems.damaged",
        "<m:SyncFolderItems>ITEM_IDS<m:SyncFolderId>INBOX</m:SyncFolderId><m:SyncState>H4sIAAAA</m:SyncState>\
         <m:MaxChangesReturned>512</m:MaxChangesReturned></m:SyncFolderItems>",
    ),
    (
        "SyncFolderItems.body",
        "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI=\"item:Body\"/>\
         </t:AdditionalProperties></m:ItemShape><m:SyncFolderId>INBOX</m:SyncFolderId><m:MaxChangesReturned>1</m:MaxChangesReturned>\
         </m:SyncFolderItems>",
    ),
    (
        "FindItem",
        "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
         <t:FieldURI FieldURI=\"item:Subject\"/>SEARCH_KEY</t:AdditionalProperties></m:ItemShape>\
         <m:IndexedPageItemView MaxEntriesReturned=\"2\" Offset=\"0\" BasePoint=\"Beginning\"/>\
         <m:SortOrder><t:FieldOrder Order=\"Ascending\"><t:FieldURI FieldURI=\"item:Subject\"/></t:FieldOrder></m:SortOrder>\
         <m:ParentFolderIds>INBOX</m:ParentFolderIds></m:FindItem>",
    ),
    (
        "FindItem.restricted",
        "<m:FindItem Traversal=\"Shallow\">ITEM_IDS<m:Restriction><t:And><t:Contains ContainmentMode=\"Substring\" \
         ContainmentComparison=\"IgnoreCase\"><t:FieldURI FieldURI=\"item:Subject\"/><t:Constant Value=\"MIME\"/></t:Contains>\
         <t:Not><t:Exists><t:ExtendedFieldURI PropertyTag=\"0x7001\" PropertyType=\"String\"/></t:Exists></t:Not></t:And></m:Restriction>\
         <m:ParentFolderIds>INBOX<t:DistinguishedFolderId Id=\"voicemail\"/></m:ParentFolderIds></m:FindItem>",
    ),
    (
        "GetItem.all",
        "<m:GetItem><m:ItemShape><t:BaseShape>AllProperties</t:BaseShape><t:BodyType>Text</t:BodyType><t:AdditionalProperties>SEARCH_KEY\
         <t:ExtendedFieldURI PropertyTag=\"0x0E07\" PropertyType=\"Integer\"/></t:AdditionalProperties></m:ItemShape>\
         <m:ItemIds><t:ItemId {SyncFolderItems.first:ItemId}/></m:ItemIds></m:GetItem>",
    ),
    (
        "GetItem.mime",
        "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent></m:ItemShape>\
         <m:ItemIds><t:ItemId {SyncFolderItems.second:ItemId}/><t:ItemId Id=\"AAMkAD\"/></m:ItemIds></m:GetItem>",
    ),
    (
        "ConvertId",
        "<m:ConvertId DestinationFormat=\"OwaId\"><m:SourceIds><t:AlternateId Format=\"EwsId\" Id=\"{GetFolder.test:FolderId@Id}\" \
         Mailbox=\"mailbox00001@exchange.test\"/><t:AlternateId Format=\"EwsId\" Id=\"DUMMY\" Mailbox=\"foo@example.com\"/></m:SourceIds>\
         </m:ConvertId>",
    ),
    (
        "ResolveNames",
        "<m:ResolveNames ReturnFullContactData=\"false\"><m:UnresolvedEntry>smtp:mailbox00002@exchange.test</m:UnresolvedEntry></m:ResolveNames>",
    ),
    (
        "ResolveNames.several",
        "<m:ResolveNames ReturnFullContactData=\"false\"><m:UnresolvedEntry>mailbox</m:UnresolvedEntry></m:ResolveNames>",
    ),
    (
        "ResolveNames.nobody",
        "<m:ResolveNames ReturnFullContactData=\"false\"><m:UnresolvedEntry>nobody</m:UnresolvedEntry></m:ResolveNames>",
    ),
];

const SENDING: &[Step] = &[
    (
        "CreateItem.draft",
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:SavedItemFolderId><t:DistinguishedFolderId Id=\"drafts\"/></m:SavedItemFolderId>\
         <m:Items><t:Message><t:Subject>Offer</t:Subject><t:Body BodyType=\"HTML\">&lt;p&gt;Grüße&lt;/p&gt;</t:Body>\
         <t:Importance>High</t:Importance><t:InReplyTo>&lt;0@crm.example&gt;</t:InReplyTo><t:ExtendedProperty>OPERATION_ID\
         <t:Value>01JZ8Q4T5W6X7Y8Z9ABCDEFGHJ</t:Value></t:ExtendedProperty><t:ToRecipients><t:Mailbox><t:Name>Jane Doe</t:Name>\
         <t:EmailAddress>mailbox00002@exchange.test</t:EmailAddress></t:Mailbox></t:ToRecipients><t:BccRecipients><t:Mailbox>\
         <t:EmailAddress>hidden@outside.example</t:EmailAddress></t:Mailbox></t:BccRecipients>\
         <t:InternetMessageId>&lt;1@crm.example&gt;</t:InternetMessageId></t:Message></m:Items></m:CreateItem>",
    ),
    (
        "CreateItem.mime",
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:SavedItemFolderId>INBOX</m:SavedItemFolderId><m:Items><t:Message>\
         <t:MimeContent CharacterSet=\"UTF-8\">U3ViamVjdDogSW1wb3J0ZWQNCk1lc3NhZ2UtSUQ6IDwyQGNybS5leGFtcGxlPg0KDQpIaQ0K</t:MimeContent>\
         <t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"0x0E07\" PropertyType=\"Integer\"/><t:Value>1</t:Value></t:ExtendedProperty>\
         </t:Message></m:Items></m:CreateItem>",
    ),
    (
        "CreateItem.send",
        "<m:CreateItem MessageDisposition=\"SendAndSaveCopy\"><m:Items><t:Message><t:Subject>At once</t:Subject>\
         <t:Body BodyType=\"Text\">Hello</t:Body><t:ToRecipients><t:Mailbox><t:EmailAddress>mailbox00002@exchange.test</t:EmailAddress>\
         </t:Mailbox></t:ToRecipients></t:Message><t:Message><t:Subject>To nobody</t:Subject></t:Message></m:Items></m:CreateItem>",
    ),
    (
        "CreateItem.refusals",
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items><t:Message><t:MimeContent>?</t:MimeContent></t:Message>\
         <t:Contact><t:DisplayName>Jane</t:DisplayName></t:Contact></m:Items></m:CreateItem>",
    ),
    ("CreateItem.disposition", "<m:CreateItem><m:Items><t:Message/></m:Items></m:CreateItem>"),
    (
        "CreateAttachment",
        "<m:CreateAttachment><m:ParentItemId {CreateItem.draft:ItemId}/><m:Attachments><t:FileAttachment><t:Name>plan.txt</t:Name>\
         <t:ContentType>text/plain</t:ContentType><t:ContentId>plan@mail</t:ContentId><t:IsInline>false</t:IsInline><t:Content>SGVsbG8=</t:Content>\
         </t:FileAttachment></m:Attachments></m:CreateAttachment>",
    ),
    (
        "GetAttachment",
        "<m:GetAttachment><m:AttachmentIds><t:AttachmentId Id=\"{CreateAttachment:AttachmentId@Id}\"/><t:AttachmentId Id=\"AAMk\"/>\
         </m:AttachmentIds></m:GetAttachment>",
    ),
    (
        "SendItem.stale",
        "<m:SendItem SaveItemToFolder=\"true\"><m:ItemIds><t:ItemId {CreateItem.draft:ItemId}/></m:ItemIds></m:SendItem>",
    ),
    (
        "GetItem.draft",
        "<m:GetItem><m:ItemShape><t:BaseShape>Default</t:BaseShape><t:BodyType>Best</t:BodyType><t:AdditionalProperties>\
         <t:FieldURI FieldURI=\"item:Attachments\"/><t:FieldURI FieldURI=\"item:Body\"/><t:FieldURI FieldURI=\"item:IsDraft\"/>\
         <t:FieldURI FieldURI=\"message:BccRecipients\"/>OPERATION_ID</t:AdditionalProperties></m:ItemShape>\
         <m:ItemIds><t:ItemId {CreateItem.draft:ItemId}/></m:ItemIds></m:GetItem>",
    ),
    (
        "SendItem",
        "<m:SendItem SaveItemToFolder=\"true\"><m:ItemIds><t:ItemId {GetItem.draft:ItemId}/></m:ItemIds>\
         <m:SavedItemFolderId><t:DistinguishedFolderId Id=\"sentitems\"/></m:SavedItemFolderId></m:SendItem>",
    ),
    (
        "SendItem.again",
        "<m:SendItem SaveItemToFolder=\"true\"><m:ItemIds><t:ItemId {GetItem.draft:ItemId}/></m:ItemIds></m:SendItem>",
    ),
    (
        "FindItem.sent",
        "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>OPERATION_ID\
         </t:AdditionalProperties></m:ItemShape><m:Restriction><t:IsEqualTo>OPERATION_ID<t:FieldURIOrConstant>\
         <t:Constant Value=\"01JZ8Q4T5W6X7Y8Z9ABCDEFGHJ\"/></t:FieldURIOrConstant></t:IsEqualTo></m:Restriction>\
         <m:ParentFolderIds><t:DistinguishedFolderId Id=\"sentitems\"/></m:ParentFolderIds></m:FindItem>",
    ),
];

const CHANGING: &[Step] = &[
    (
        "UpdateItem",
        "<m:UpdateItem ConflictResolution=\"NeverOverwrite\" MessageDisposition=\"SaveOnly\"><m:ItemChanges><t:ItemChange>\
         <t:ItemId {GetItem.all:ItemId}/><t:Updates><t:SetItemField><t:FieldURI FieldURI=\"item:Subject\"/><t:Message>\
         <t:Subject>Changed</t:Subject></t:Message></t:SetItemField><t:DeleteItemField><t:FieldURI FieldURI=\"item:Categories\"/>\
         </t:DeleteItemField></t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>",
    ),
    (
        "UpdateItem.conflict",
        "<m:UpdateItem ConflictResolution=\"NeverOverwrite\"><m:ItemChanges><t:ItemChange><t:ItemId {GetItem.all:ItemId}/><t:Updates>\
         <t:SetItemField><t:FieldURI FieldURI=\"message:IsRead\"/><t:Message><t:IsRead>true</t:IsRead></t:Message></t:SetItemField>\
         </t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>",
    ),
    (
        "UpdateItem.read",
        "<m:UpdateItem ConflictResolution=\"AlwaysOverwrite\" SuppressReadReceipts=\"true\"><m:ItemChanges><t:ItemChange>\
         <t:ItemId Id=\"{GetItem.mime:ItemId@Id}\"/><t:Updates><t:SetItemField><t:FieldURI FieldURI=\"message:IsRead\"/><t:Message>\
         <t:IsRead>true</t:IsRead></t:Message></t:SetItemField></t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>",
    ),
    (
        "MoveItem",
        "<m:MoveItem><m:ToFolderId><t:FolderId {CreateFolder:FolderId}/></m:ToFolderId><m:ItemIds><t:ItemId {CreateItem.mime:ItemId}/>\
         <t:ItemId {CreateItem.mime:ItemId}/></m:ItemIds><m:ReturnNewItemIds>true</m:ReturnNewItemIds></m:MoveItem>",
    ),
    (
        "MoveItem.nowhere",
        "<m:MoveItem><m:ToFolderId><t:DistinguishedFolderId Id=\"voicemail\"/></m:ToFolderId><m:ItemIds><t:ItemId {MoveItem:ItemId}/>\
         </m:ItemIds></m:MoveItem>",
    ),
    (
        "DeleteItem",
        "<m:DeleteItem DeleteType=\"MoveToDeletedItems\" SendMeetingCancellations=\"SendToNone\" AffectedTaskOccurrences=\"AllOccurrences\" \
         SuppressReadReceipts=\"true\"><m:ItemIds><t:ItemId {MoveItem:ItemId}/><t:ItemId {MoveItem:ItemId}/></m:ItemIds></m:DeleteItem>",
    ),
    (
        "DeleteItem.hard",
        "<m:DeleteItem DeleteType=\"HardDelete\"><m:ItemIds><t:ItemId Id=\"{FindItem:ItemId@Id}\"/></m:ItemIds></m:DeleteItem>",
    ),
    (
        "SyncFolderItems.changes",
        "<m:SyncFolderItems>ITEM_IDS<m:SyncFolderId>INBOX</m:SyncFolderId><m:SyncState>{SyncFolderItems.second:SyncState}</m:SyncState>\
         <m:MaxChangesReturned>512</m:MaxChangesReturned></m:SyncFolderItems>",
    ),
];

const REFUSED: &[Step] = &[
    (
        "Order.refused",
        "<m:MoveItem><m:ItemIds><t:ItemId Id=\"AAMk\"/></m:ItemIds><m:ToFolderId>INBOX</m:ToFolderId></m:MoveItem>",
    ),
    (
        "Attribute.refused",
        "<m:SendItem>\n  <m:ItemIds>\n    <t:ItemId ChangeKey=\"CQ==\"/>\n  </m:ItemIds>\n</m:SendItem>",
    ),
    (
        "Value.refused",
        "<m:SyncFolderItems>ITEM_IDS<m:SyncFolderId>INBOX</m:SyncFolderId><m:MaxChangesReturned>513</m:MaxChangesReturned></m:SyncFolderItems>",
    ),
];

/// Requests that are refused for what stands around them: their headers, and the rule that stands meanwhile.
const AROUND: &[(&str, &str, &str)] = &[
    ("FindItem.newer", "<t:RequestServerVersion Version=\"Exchange2010_SP2\"/>", ""),
    ("FindItem.many", "", r#"{"kind":"concurrency","limit":0,"count":1}"#),
    ("FindItem.busy", "", r#"{"kind":"concurrency","limit":0,"hint_ms":1500,"count":1}"#),
    ("FindItem.application", "", ""),
];

/// Its fields came with Exchange 2013.
const PREVIEWS: &str = "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
                        <t:FieldURI FieldURI=\"item:Preview\"/></t:AdditionalProperties></m:ItemShape><m:ParentFolderIds>\
                        <t:DistinguishedFolderId Id=\"inbox\"/></m:ParentFolderIds></m:FindItem>";

/// Writes a step's request: names become what they stand for, references what earlier answers hold.
fn request(template: &str, answers: &HashMap<&str, String>) -> String {
    let mut text = template.to_owned();
    for (name, value) in [
        ("SEARCH_KEY", SEARCH_KEY),
        ("OPERATION_ID", OPERATION_ID),
        ("ITEM_IDS", ITEM_IDS),
        ("IDS", IDS),
        ("INBOX", INBOX),
    ] {
        text = text.replace(name, value);
    }
    while let Some((before, rest)) = text.split_once('{') {
        let (reference, after) = rest.split_once('}').expect("a closed reference");
        let (step, element) = reference.split_once(':').expect("a step and an element");
        let (element, attribute) = element.split_once('@').unwrap_or((element, ""));
        let answer = answers.get(step).unwrap_or_else(|| panic!("{step} was not answered yet"));
        let found = first(answer, element).unwrap_or_else(|| panic!("no {element} in {step}: {answer}"));
        let value = if attribute.is_empty() {
            found
        } else {
            crate::stage::attribute(found, attribute).expect("an attribute")
        };
        text = format!("{before}{value}{after}");
    }
    soap(Some("mailbox00001@exchange.test"), &text)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Holds a text against its file, or writes it.
pub fn golden(name: &str, text: &str) {
    let file = folder().join(name);
    if std::env::var("MAILYARD_GOLDEN").is_ok_and(|value| value == "write") {
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
        fs::write(&file, text).expect("the folder can be written");
    }
    assert_eq!(text, fs::read_to_string(&file).unwrap_or_default(), "{}", file.display());
}

/// How many golden files a folder has.
pub fn count(below: &str) -> usize {
    let files = fs::read_dir(folder().join(below)).expect("the folder is there");
    files.filter(|file| file.as_ref().is_ok_and(|file| file.path().is_file())).count()
}

async fn stage() -> Stage {
    let stage = Stage::new(2, |options| options.auth = vec![Scheme::Basic, Scheme::OAuth]).await;
    let me = vec![stage.address(1)];
    let made = |made: Made| assert_eq!(stage.simulator.deliver(&made), 1);
    made(Made { to: me.clone(), subject: Some("Über <uns> & mehr".to_owned()), ..Made::default() });
    made(Made { to: me.clone(), from: Some("jane@outside.example".to_owned()), ..Made::default() });
    let mime = "From: \"Doe, Jane\" <jane@outside.example>\nTo: mailbox00001@exchange.test\nSubject: =?utf-8?Q?MIME_=C3=BC?=\n\
                Message-ID: <3@outside.example>\nX-Mark: yes\n\nHello\n";
    made(Made { to: me, mime: Some(mime.to_owned()), ..Made::default() });
    stage
}

#[tokio::test]
async fn the_conversation_is_that_of_the_golden_files() {
    let stage = stage().await;
    let mut answers = HashMap::new();
    for (name, template) in [FOLDERS, READING, SENDING, CHANGING, REFUSED].concat() {
        let asked = request(template, &answers);
        golden(&format!("{name}.request.xml"), &asked);
        let user = stage.simulator.ready().user.clone();
        let answer = stage.post(&user, "mailbox00001@exchange.test", &asked).await.expect("an answer");
        assert_eq!(answer.headers["content-type"], "text/xml; charset=utf-8", "{name}");
        assert_eq!(answer.status, if answer.body.contains("<s:Fault>") { 500 } else { 200 }, "{name}");
        golden(&format!("{name}.answer.xml"), &answer.body);
        answers.insert(name, answer.body);
    }
    let token = Application::new(&stage).token(&stage, "golden").await;
    let mut line = stage.line().await;
    for (name, header, rule) in AROUND {
        if !rule.is_empty() {
            stage.fault(rule);
        }
        let asked = envelope(header, PREVIEWS);
        golden(&format!("{name}.request.xml"), &asked);
        let bearer = format!("Bearer {token}");
        let service = "svc-mailyard@exchange.test";
        let answer = if *name == "FindItem.application" {
            line.post(Some(&bearer), service, &asked).await
        } else {
            stage.post(service, service, &asked).await
        };
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 500, "{name}");
        golden(&format!("{name}.answer.xml"), &answer.body);
        answers.insert(name, answer.body);
    }
    assert_eq!(count(""), 2 * answers.len(), "every golden file has its step");
    assert_eq!(stage.simulator.submissions().len(), 2);
    assert_eq!(stage.simulator.stats()["wrong_anchor_mailbox"], 0);
}
