//! Properties: which can be set, which are told, and what a search finds by them.

use crate::stage::{Stage, all, codes, first};

const ME: &str = "mailbox00001@exchange.test";

fn create(message: &str) -> String {
    format!(
        "<m:CreateItem MessageDisposition=\"SaveOnly\"><m:Items><t:Message>{message}</t:Message></m:Items></m:CreateItem>"
    )
}

fn update(id: &str, path: &str, element: &str) -> String {
    format!(
        "<m:UpdateItem ConflictResolution=\"AlwaysOverwrite\"><m:ItemChanges><t:ItemChange><t:ItemId {id}/><t:Updates><t:SetItemField>\
         {path}<t:Message>{element}</t:Message></t:SetItemField></t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>"
    )
}

fn find_folders(restriction: &str) -> String {
    format!(
        "<m:FindFolder Traversal=\"Deep\"><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
         <t:FieldURI FieldURI=\"folder:DisplayName\"/></t:AdditionalProperties></m:FolderShape><m:Restriction>{restriction}</m:Restriction>\
         <m:ParentFolderIds><t:DistinguishedFolderId Id=\"msgfolderroot\"/></m:ParentFolderIds></m:FindFolder>"
    )
}

#[tokio::test]
async fn what_only_the_server_sets_is_refused() {
    let stage = Stage::new(1, |_| {}).await;
    let cases = [
        ("<t:Subject>x</t:Subject><t:IsRead>1</t:IsRead>", "NoError"),
        ("<t:Size>5</t:Size>", "ErrorInvalidPropertySet"),
        ("<t:IsDraft>false</t:IsDraft>", "ErrorInvalidPropertySet"),
        ("<t:DateTimeReceived>2026-06-01T08:00:00Z</t:DateTimeReceived>", "ErrorInvalidPropertySet"),
    ];
    for (message, code) in cases {
        assert_eq!(codes(&stage.answer(ME, &create(message)).await), [code], "{message}");
    }
    assert_eq!(stage.simulator.list(ME, "drafts").map(|listed| listed.len()), Some(1));
}

#[tokio::test]
async fn an_update_sets_one_property_and_the_one_that_it_names() {
    let stage = Stage::new(1, |_| {}).await;
    let id = first(&stage.answer(ME, &create("")).await, "ItemId").expect("a draft").to_owned();
    let field = |uri: &str| format!("<t:FieldURI FieldURI=\"{uri}\"/>");
    let extended = |name: &str| {
        format!(
            "<t:ExtendedFieldURI DistinguishedPropertySetId=\"PublicStrings\" PropertyName=\"{name}\" PropertyType=\"String\"/>"
        )
    };
    let property =
        format!("<t:ExtendedProperty>{}<t:Value>x</t:Value></t:ExtendedProperty>", extended("Mark"));
    let subject = "<t:Subject>x</t:Subject>";
    let cases = [
        (field("item:Subject"), subject.to_owned(), "NoError"),
        (extended("Mark"), property.clone(), "NoError"),
        (extended("Other"), property, "ErrorUpdatePropertyMismatch"),
        (field("item:Importance"), subject.to_owned(), "ErrorUpdatePropertyMismatch"),
        (field("item:Subject"), String::new(), "ErrorIncorrectUpdatePropertyCount"),
        (
            field("item:Subject"),
            format!("{subject}<t:IsRead>true</t:IsRead>"),
            "ErrorIncorrectUpdatePropertyCount",
        ),
        (field("item:Size"), "<t:Size>5</t:Size>".to_owned(), "ErrorInvalidPropertySet"),
    ];
    for (path, element, code) in cases {
        assert_eq!(codes(&stage.answer(ME, &update(&id, &path, &element)).await), [code], "{path} {element}");
    }
}

#[tokio::test]
async fn a_draft_may_bring_its_attachments() {
    let stage = Stage::new(1, |_| {}).await;
    let file = "<t:Attachments><t:FileAttachment><t:Name>a.txt</t:Name><t:Content>aGk=</t:Content></t:FileAttachment></t:Attachments>";
    let id = first(&stage.answer(ME, &create(file)).await, "ItemId").expect("a draft").to_owned();
    let get = format!(
        "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI=\"item:Attachments\"/>\
         <t:FieldURI FieldURI=\"item:HasAttachments\"/></t:AdditionalProperties></m:ItemShape><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:GetItem>"
    );
    let answer = stage.answer(ME, &get).await;
    assert_eq!((first(&answer, "Name"), first(&answer, "HasAttachments")), (Some("a.txt"), Some("true")));
}

#[tokio::test]
async fn folders_are_found_by_their_properties_and_told_as_asked() {
    let stage = Stage::new(1, |_| {}).await;
    stage.deliver(1, 2);
    let constant =
        |value: &str| format!("<t:FieldURIOrConstant><t:Constant Value=\"{value}\"/></t:FieldURIOrConstant>");
    let field = |name: &str| format!("<t:FieldURI FieldURI=\"folder:{name}\"/>");
    let cases = [
        (
            format!("<t:IsEqualTo>{}{}</t:IsEqualTo>", field("DisplayName"), constant("drafts")),
            vec!["Drafts"],
        ),
        (
            format!("<t:IsEqualTo>{}{}</t:IsEqualTo>", field("FolderClass"), constant("IPF.Task")),
            vec!["Tasks"],
        ),
        (
            format!("<t:IsGreaterThan>{}{}</t:IsGreaterThan>", field("UnreadCount"), constant("1")),
            vec!["Inbox"],
        ),
        (
            format!(
                "<t:Contains ContainmentMode=\"Substring\" ContainmentComparison=\"IgnoreCase\">{}<t:Constant Value=\"ITEMS\"/></t:Contains>",
                field("DisplayName")
            ),
            vec!["Sent Items", "Deleted Items"],
        ),
    ];
    for (restriction, names) in cases {
        let answer = stage.answer(ME, &find_folders(&restriction)).await;
        assert_eq!(all(&answer, "DisplayName").collect::<Vec<_>>(), names, "{restriction}");
        assert!(!answer.contains("TotalCount>"), "only what was asked for is told");
    }
}

#[tokio::test]
async fn a_search_by_index_is_refused_where_there_is_none() {
    let stage = Stage::new(1, |_| {}).await;
    let find = "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:ParentFolderIds>\
                <t:DistinguishedFolderId Id=\"inbox\"/></m:ParentFolderIds><m:QueryString>offer</m:QueryString></m:FindItem>";
    assert_eq!(codes(&stage.answer(ME, find).await), ["ErrorContentIndexingNotEnabled"]);
}
