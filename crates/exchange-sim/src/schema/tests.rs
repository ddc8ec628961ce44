//! Good and bad requests, each with the place and the reason of its violation.

use super::*;
use crate::xml;

const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";
const IDS: &str = r#"<m:ItemIds><t:ItemId Id="I" ChangeKey="C"/></m:ItemIds>"#;
const INBOX: &str = r#"<t:DistinguishedFolderId Id="inbox"/>"#;
const SHAPE: &str = "<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>";

/// Checks an operation, or a header that is marked by `header:`. The violation comes back as `element: reason`.
fn violation(text: &str) -> Option<String> {
    let text = text.replace("IDS", IDS).replace("INBOX", INBOX).replace("SHAPE", SHAPE);
    let (header, operation) = match text.strip_prefix("header:") {
        Some(header) => {
            (header, "<m:SendItem SaveItemToFolder=\"true\">IDS</m:SendItem>".replace("IDS", IDS))
        }
        None => ("", text.clone()),
    };
    let document = format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:m=\"{MESSAGES}\" xmlns:t=\"{TYPES}\">\
         <s:Header>{header}</s:Header><s:Body>{operation}</s:Body></s:Envelope>"
    );
    let envelope = xml::parse(&document).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let body = envelope.at(&["Body"]).unwrap_or_else(|| panic!("{text}: no body"));
    let violation = validate_request(envelope.child("Header"), &body.children[0]).err()?;
    let there = &document[violation.offset + 1..];
    let element = there.split([' ', '>', '/']).next().unwrap_or_default();
    Some(format!("{element}: {}", violation.what))
}

fn message(inside: &str) -> String {
    format!(
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items><t:Message>{inside}</t:Message></m:Items></m:CreateItem>"
    )
}

fn update(inside: &str) -> String {
    format!(
        "<m:UpdateItem ConflictResolution=\"AutoResolve\"><m:ItemChanges><t:ItemChange><t:ItemId Id=\"I\"/><t:Updates>{inside}</t:Updates>\
         </t:ItemChange></m:ItemChanges></m:UpdateItem>"
    )
}

fn find(inside: &str) -> String {
    format!("<m:FindItem Traversal=\"Shallow\">{inside}</m:FindItem>")
}

fn sync(inside: &str) -> String {
    format!("<m:SyncFolderItems>{inside}</m:SyncFolderItems>")
}

fn attach(inside: &str) -> String {
    format!(
        "<m:CreateAttachment><m:ParentItemId Id=\"I\"/><m:Attachments><t:FileAttachment>{inside}</t:FileAttachment></m:Attachments>\
         </m:CreateAttachment>"
    )
}

#[test]
fn every_line_of_the_table_is_understood() {
    let facts = Facts::read(include_str!("../../schema.tsv")).expect("a table");
    for name in ["m:FindItemType", "t:MessageType", "t:ExchangeVersionType", "t:RestrictionType"] {
        assert!(facts.named(name).is_some(), "{name}");
    }
    assert!(Facts::read("type\tm:X").is_none() && Facts::read("simple\tt:X\tsomething\t1").is_none());
    assert!(is_version("Exchange2013_SP1") && is_version("V2017_07_11") && !is_version("Exchange2013_SP2"));
}

#[test]
fn every_operation_is_in_the_table() {
    for operation in crate::operation::OPERATIONS {
        let request = format!("<m:{}/>", operation.name);
        let told = violation(&request).unwrap_or_default();
        assert!(told.contains("missing") || told.contains("incomplete"), "{}: {told}", operation.name);
    }
}

#[test]
fn good_requests_pass() {
    let restriction = "<m:Restriction><t:And><t:Exists><t:FieldURI FieldURI=\"item:Subject\"/></t:Exists><t:Not><t:IsEqualTo>\
        <t:ExtendedFieldURI PropertyTag=\"0x300B\" PropertyType=\"Binary\"/><t:FieldURIOrConstant><t:Constant Value=\"AA==\"/>\
        </t:FieldURIOrConstant></t:IsEqualTo></t:Not></t:And></m:Restriction>";
    let good = [
        "<m:SendItem SaveItemToFolder=\"true\">IDS</m:SendItem>".to_owned(),
        "<m:SendItem SaveItemToFolder=\"1\">IDS<m:SavedItemFolderId>INBOX</m:SavedItemFolderId></m:SendItem>".to_owned(),
        "<m:MoveItem><m:ToFolderId>INBOX</m:ToFolderId>IDS<m:ReturnNewItemIds>false</m:ReturnNewItemIds></m:MoveItem>".to_owned(),
        "<m:DeleteItem DeleteType=\"HardDelete\">IDS</m:DeleteItem>".to_owned(),
        "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds>INBOXINBOX</m:FolderIds></m:GetFolder>".to_owned(),
        "<m:SyncFolderHierarchy><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape></m:SyncFolderHierarchy>".to_owned(),
        "<m:ConvertId DestinationFormat=\"EwsId\"><m:SourceIds><t:AlternateId Format=\"OwaId\" Id=\"x\" Mailbox=\"a@b\"/></m:SourceIds></m:ConvertId>".to_owned(),
        find(&format!("SHAPE{restriction}<m:ParentFolderIds>INBOX</m:ParentFolderIds>")),
        find("SHAPE<m:IndexedPageItemView MaxEntriesReturned=\"10\" Offset=\"0\" BasePoint=\"End\"/><m:ParentFolderIds>INBOX</m:ParentFolderIds>"),
        sync("SHAPE<m:SyncFolderId>INBOX</m:SyncFolderId><m:MaxChangesReturned>512</m:MaxChangesReturned>"),
        message("<t:MimeContent CharacterSet=\"UTF-8\">AA==</t:MimeContent><t:Subject/><t:ToRecipients/><t:IsRead> true </t:IsRead>"),
        update("<t:SetItemField><t:FieldURI FieldURI=\"item:Subject\"/><t:Message><t:Subject>x</t:Subject></t:Message></t:SetItemField>"),
        update("<t:DeleteItemField><t:FieldURI FieldURI=\"item:Categories\"/></t:DeleteItemField>"),
        attach("<t:Name>a</t:Name><t:ContentType>text/plain</t:ContentType><t:IsInline>false</t:IsInline><t:Content>aGk=</t:Content>"),
        "header:<t:RequestServerVersion Version=\"Exchange2016\"/><other xmlns=\"urn:x\" a=\"1\"/>".to_owned(),
        "header:<t:ExchangeImpersonation><t:ConnectingSID><t:SID>S-1-5</t:SID></t:ConnectingSID></t:ExchangeImpersonation>".to_owned(),
        "header:<t:TimeZoneContext><t:TimeZoneDefinition Id=\"UTC\"/></t:TimeZoneContext>".to_owned(),
    ];
    for request in good {
        assert_eq!(violation(&request), None, "{request}");
    }
}

/// Each request is refused with this violation, told with the element at which it is found.
fn refuses(bad: &[(String, &str)]) {
    for (request, expected) in bad {
        assert_eq!(violation(request).as_deref(), Some(*expected), "{request}");
    }
}

#[test]
fn the_order_of_elements_is_enforced() {
    refuses(&[
        (
            "<m:MoveItem>IDS<m:ToFolderId>INBOX</m:ToFolderId></m:MoveItem>".to_owned(),
            "m:ItemIds: 'm:ItemIds' stands in 'm:MoveItem' where 'm:ToFolderId' is expected",
        ),
        (
            message("<t:Body BodyType=\"Text\">x</t:Body><t:Subject>x</t:Subject>"),
            "t:Subject: 't:Subject' is not expected in 't:Message': it is out of order or there are too many",
        ),
        (
            message("<t:Subject>x</t:Subject><t:MimeContent>AA==</t:MimeContent>"),
            "t:MimeContent: 't:MimeContent' is not expected in 't:Message': it is out of order or there are too many",
        ),
        (
            message("<t:ToRecipients/><t:ExtendedProperty><t:ExtendedFieldURI PropertyType=\"String\"/></t:ExtendedProperty>"),
            "t:ExtendedProperty: 't:ExtendedProperty' is not expected in 't:Message': it is out of order or there are too many",
        ),
        (
            attach("<t:Content>aGk=</t:Content><t:Name>a</t:Name>"),
            "t:Name: 't:Name' is not expected in 't:FileAttachment': it is out of order or there are too many",
        ),
        (
            find("SHAPE<m:ParentFolderIds>INBOX</m:ParentFolderIds><m:SortOrder><t:FieldOrder Order=\"Ascending\"><t:FieldURI FieldURI=\"item:Size\"/></t:FieldOrder></m:SortOrder>"),
            "m:SortOrder: 'm:SortOrder' is not expected in 'm:FindItem': it is out of order or there are too many",
        ),
        (
            sync("SHAPE<m:SyncFolderId>INBOX</m:SyncFolderId><m:MaxChangesReturned>1</m:MaxChangesReturned><m:SyncState>x</m:SyncState>"),
            "m:SyncState: 'm:SyncState' is not expected in 'm:SyncFolderItems': it is out of order or there are too many",
        ),
        (
            "<m:GetItem><m:ItemShape><t:BodyType>Best</t:BodyType><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>IDS</m:GetItem>".to_owned(),
            "t:BodyType: 't:BodyType' stands in 'm:ItemShape' where 't:BaseShape' is expected",
        ),
        (
            "<m:MoveItem><m:ToFolderId>INBOX</m:ToFolderId><m:ReturnNewItemIds>true</m:ReturnNewItemIds>IDS</m:MoveItem>".to_owned(),
            "m:ReturnNewItemIds: 'm:ReturnNewItemIds' stands in 'm:MoveItem' where 'm:ItemIds' is expected",
        ),
        (
            "<m:SendItem SaveItemToFolder=\"true\"><m:SavedItemFolderId>INBOX</m:SavedItemFolderId>IDS</m:SendItem>".to_owned(),
            "m:SavedItemFolderId: 'm:SavedItemFolderId' stands in 'm:SendItem' where 'm:ItemIds' is expected",
        ),
        (
            "<m:CreateFolder><m:ParentFolderId>INBOX</m:ParentFolderId><m:Folders><t:Folder><t:DisplayName>a</t:DisplayName>\
             <t:FolderClass>IPF.Note</t:FolderClass></t:Folder></m:Folders></m:CreateFolder>".to_owned(),
            "t:FolderClass: 't:FolderClass' is not expected in 't:Folder': it is out of order or there are too many",
        ),
        (
            message("<t:ToRecipients><t:Mailbox><t:EmailAddress>a@b</t:EmailAddress><t:Name>A</t:Name></t:Mailbox></t:ToRecipients>"),
            "t:Name: 't:Name' is not expected in 't:Mailbox': it is out of order or there are too many",
        ),
        (
            update("<t:SetItemField><t:Message><t:Subject>x</t:Subject></t:Message><t:FieldURI FieldURI=\"item:Subject\"/></t:SetItemField>"),
            "t:Message: 't:Message' stands in 't:SetItemField' where 't:FieldURI', 't:IndexedFieldURI', 't:ExtendedFieldURI' is expected",
        ),
    ]);
}

#[test]
fn what_is_missing_and_what_is_too_much_is_refused() {
    refuses(&[
        (
            sync("SHAPE<m:SyncFolderId>INBOX</m:SyncFolderId>"),
            "m:SyncFolderItems: 'm:SyncFolderItems' is incomplete: 'm:MaxChangesReturned' is expected",
        ),
        (
            "<m:SendItem SaveItemToFolder=\"true\"><m:ItemIds/></m:SendItem>".to_owned(),
            "m:ItemIds: 'm:ItemIds' is incomplete: 't:ItemId', 't:OccurrenceItemId', 't:RecurringMasterItemId', 't:RecurringMasterItemIdRanges' is expected",
        ),
        (
            message("<t:From/>"),
            "t:From: 't:From' is incomplete: 't:Mailbox' is expected",
        ),
        (
            message("<t:Subject>x</t:Subject><t:Subject>y</t:Subject>"),
            "t:Subject: 't:Subject' is not expected in 't:Message': it is out of order or there are too many",
        ),
        (
            update("<t:SetItemField><t:FieldURI FieldURI=\"item:Subject\"/></t:SetItemField>"),
            "t:SetItemField: 't:SetItemField' is incomplete: 't:Item', 't:Message', 't:SharingMessage', 't:CalendarItem' and 11 more is expected",
        ),
        (
            "header:<t:ExchangeImpersonation><t:ConnectingSID><t:SID>S</t:SID><t:PrincipalName>a</t:PrincipalName></t:ConnectingSID></t:ExchangeImpersonation>".to_owned(),
            "t:PrincipalName: 't:PrincipalName' is not expected in 't:ConnectingSID': it is out of order or there are too many",
        ),
    ]);
}

#[test]
fn what_nobody_knows_is_refused() {
    refuses(&[
        (
            message("<t:Subjekt>x</t:Subjekt>"),
            "t:Subjekt: 't:Subjekt' is not expected in 't:Message': it is not known there",
        ),
        (
            message("<m:Subject>x</m:Subject>"),
            "m:Subject: 'm:Subject' is not expected in 't:Message': it is not known there",
        ),
        (
            message("<t:Subject><t:Bold/></t:Subject>"),
            "t:Bold: 't:Bold' is not expected in 't:Subject': it is not known there",
        ),
        (message("text"), "t:Message: 't:Message' must not contain text"),
    ]);
}

#[test]
fn attributes_and_values_are_checked() {
    refuses(&[
        (
            "<m:SendItem>IDS</m:SendItem>".to_owned(),
            "m:SendItem: the required attribute 'SaveItemToFolder' of 'm:SendItem' is missing",
        ),
        (
            "<m:DeleteItem>IDS</m:DeleteItem>".to_owned(),
            "m:DeleteItem: the required attribute 'DeleteType' of 'm:DeleteItem' is missing",
        ),
        (
            "<m:UpdateItem><m:ItemChanges/></m:UpdateItem>".to_owned(),
            "m:UpdateItem: the required attribute 'ConflictResolution' of 'm:UpdateItem' is missing",
        ),
        (
            "<m:DeleteItem DeleteType=\"HardDelete\" Quietly=\"true\">IDS</m:DeleteItem>".to_owned(),
            "m:DeleteItem: the attribute 'Quietly' is not known in 'm:DeleteItem'",
        ),
        (
            "<m:SendItem SaveItemToFolder=\"yes\">IDS</m:SendItem>".to_owned(),
            "m:SendItem: the attribute 'SaveItemToFolder' of 'm:SendItem': 'yes' is not true or false",
        ),
        (
            "<m:DeleteItem DeleteType=\"Shred\">IDS</m:DeleteItem>".to_owned(),
            "m:DeleteItem: the attribute 'DeleteType' of 'm:DeleteItem': 'Shred' is not one of HardDelete, SoftDelete, MoveToDeletedItems",
        ),
        (
            "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds><t:DistinguishedFolderId/></m:FolderIds></m:GetFolder>".to_owned(),
            "t:DistinguishedFolderId: the required attribute 'Id' of 't:DistinguishedFolderId' is missing",
        ),
        (
            message("<t:ExtendedProperty><t:ExtendedFieldURI PropertySetId=\"12-34\" PropertyName=\"a\" PropertyType=\"String\"/><t:Value>x</t:Value></t:ExtendedProperty>"),
            "t:ExtendedFieldURI: the attribute 'PropertySetId' of 't:ExtendedFieldURI': '12-34' is not a GUID",
        ),
        (
            sync("SHAPE<m:SyncFolderId>INBOX</m:SyncFolderId><m:MaxChangesReturned>513</m:MaxChangesReturned>"),
            "m:MaxChangesReturned: the value of 'm:MaxChangesReturned': '513' is not a whole number between 1 and 512",
        ),
        (
            "<m:GetItem><m:ItemShape><t:BaseShape>All</t:BaseShape></m:ItemShape>IDS</m:GetItem>".to_owned(),
            "t:BaseShape: the value of 't:BaseShape': 'All' is not one of IdOnly, Default, AllProperties, PcxPeopleSearch",
        ),
        (
            attach("<t:Name>a</t:Name><t:Content>a-b</t:Content>"),
            "t:Content: the value of 't:Content': 'a-b' is not valid base64",
        ),
        (
            message("<t:Importance>high</t:Importance>"),
            "t:Importance: the value of 't:Importance': 'high' is not one of Low, Normal, High",
        ),
        (
            "header:<t:ExchangeImpersonation><t:ConnectingSID><t:SID></t:SID></t:ConnectingSID></t:ExchangeImpersonation>".to_owned(),
            "t:SID: the value of 't:SID': '' is not at least 1 characters long",
        ),
        // One name that is not known spoils the whole request.
        (
            "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds>INBOX<t:DistinguishedFolderId Id=\"attic\"/>\
             </m:FolderIds></m:GetFolder>".to_owned(),
            "t:DistinguishedFolderId: the attribute 'Id' of 't:DistinguishedFolderId': 'attic' is not one of calendar, contacts, deleteditems, drafts, \
             inbox, journal, notes, outbox, sentitems, tasks, msgfolderroot, publicfoldersroot and 55 more",
        ),
    ]);
}
