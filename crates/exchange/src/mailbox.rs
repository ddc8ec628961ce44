//! A mailbox as its actor sees it: the calls that it makes, each with its own answer.

use std::{slice, sync::Arc};

use mailyard_policy::{Reason, Timestamp, outbox::Execution};

use crate::{
    Client, ContentSink, Failure, Reply, Warrant,
    answer::CHUNK,
    codec::{
        Attachment, Content, CreateAttachment, CreateFolder, CreateItem, Criterion, DeleteItem, Deletion,
        Fetched, FindFolder, FindItem, Folder, FolderId, FolderInfo, GetFolder, GetItem, ItemId, ItemInfo,
        Mime, MoveItem, Operation, Properties, Property, SendItem, ServerVersion, Shape, SyncFolderItems,
        SyncPage, Update, UpdateItem,
    },
};

/// What is told of items before and with their contents.
const OF_CONTENT: Properties = Properties::of(&[Property::Size, Property::Received]);
/// What is told of items that are looked for.
const OF_SEARCH: Properties = Properties::of(&[
    Property::Received,
    Property::Created,
    Property::Submitted,
    Property::MessageId,
    Property::SearchKey,
    Property::OperationId,
]);
/// Items of one request for their sizes: servers put pauses between the items of large batches.
const SIZES_AT_ONCE: usize = 100;
/// More items of one mark than this do not come about.
const MOST_FOUND: u16 = 50;

/// One mailbox of a server. Its clones are the same mailbox.
#[derive(Clone)]
pub struct Mailbox {
    client: Client,
    address: Arc<str>,
    warrant: Option<Warrant>,
}

/// What the server answered, and when by its own clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// The server's clock.
    pub date: Option<Timestamp>,
    /// The server's build.
    pub version: Option<ServerVersion>,
}

/// One result per item, in the order of the request.
pub type PerItem<T> = Vec<Result<T, Failure>>;

/// A message with its whole content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, size and time.
    pub item: ItemInfo,
    /// The message in MIME.
    pub content: Vec<u8>,
}

/// A message whose content went into a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// Its id, size and time.
    pub item: ItemInfo,
    /// Bytes that the sink was given.
    pub bytes: u64,
}

impl Client {
    /// The mailbox with this primary address.
    pub fn mailbox(&self, address: impl Into<Arc<str>>) -> Mailbox {
        Mailbox { client: self.clone(), address: address.into(), warrant: None }
    }
}

impl Mailbox {
    /// The same mailbox; what has an effect is begun and goes on only as the warrant allows. What is not begun fails
    /// with `REQUEST_NOT_BEGUN`.
    #[must_use]
    pub fn under(&self, warrant: Warrant) -> Self {
        Self { warrant: Some(warrant), ..self.clone() }
    }

    /// Its primary address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The client that it is reached by.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The next page of what changed in a folder, at most `max` (1 to 512) changes. `None` begins at the beginning.
    ///
    /// # Errors
    /// `MAILBOX_SYNC_STATE_INVALID` if the server does not know the cursor any more; [`Failure`] otherwise.
    pub async fn sync_items(
        &self,
        folder: &Folder,
        cursor: Option<&[u8]>,
        max: u16,
        shape: Shape,
    ) -> Result<Answer<SyncPage>, Failure> {
        let answer = self.one(&SyncFolderItems { folder, cursor, max, shape }).await;
        let answer = answer.map_err(Failure::of_folder)?;
        // A page that names no next one would make the folder begin anew without end.
        if answer.value.cursor.len() < 2 {
            return Err(unusable("the page of changes holds no sync state"));
        }
        Ok(answer)
    }

    /// Sizes and times of items, without their contents.
    ///
    /// # Errors
    /// [`Failure`] of the whole call; what fails of one item stands in its place.
    pub async fn sizes(&self, ids: &[ItemId]) -> Result<Answer<PerItem<ItemInfo>>, Failure> {
        let mut whole = Answer { value: Vec::with_capacity(ids.len()), date: None, version: None };
        for ids in ids.chunks(SIZES_AT_ONCE) {
            let answer = self.fetch(ids, false).await?;
            whole.value.extend(answer.value.into_iter().map(|part| part.and_then(known_item)));
            (whole.date, whole.version) = (answer.date, answer.version);
        }
        Ok(whole)
    }

    /// Items with their contents, in one request: as many as the caller has memory for.
    ///
    /// # Errors
    /// [`Failure`] of the whole call, `EWS_ANSWER_TOO_LARGE` among them; what fails of one item stands in its place.
    pub async fn get_items(&self, ids: &[ItemId]) -> Result<Answer<PerItem<Message>>, Failure> {
        if ids.is_empty() {
            return Ok(Answer { value: Vec::new(), date: None, version: None });
        }
        let Answer { value, date, version } = self.fetch(ids, true).await?;
        let message = |fetched| {
            let (item, content) = with_content(fetched)?;
            Ok(Message { item, content: content.bytes })
        };
        let value = value.into_iter().map(|part| part.and_then(message)).collect();
        Ok(Answer { value, date, version })
    }

    /// One item whose content goes into the sink while it arrives, in pieces of at most 256 KiB.
    ///
    /// # Errors
    /// [`Failure`], also the sink's own: what the sink was given until then is not the whole content.
    pub async fn fetch_large(
        &self,
        id: &ItemId,
        sink: &mut impl ContentSink,
    ) -> Result<Answer<Streamed>, Failure> {
        let operation = GetItem { ids: slice::from_ref(id), properties: OF_CONTENT, content: true };
        let reply = self.client.call_streaming(&self.address, &operation, sink).await?;
        let Answer { value, date, version } = reply.answer().map_err(Failure::of_lone_item)?;
        let (item, content) = with_content(value)?;
        for piece in content.bytes.chunks(CHUNK) {
            sink.take(piece.to_vec()).await?;
        }
        Ok(Answer { value: Streamed { item, bytes: content.total }, date, version })
    }

    /// What stands behind an id now: whether it is there, on its way out, and which change key it has.
    ///
    /// # Errors
    /// `ITEM_NOT_FOUND` if it is gone; [`Failure`] otherwise.
    pub async fn get_item(&self, id: &ItemId) -> Result<Answer<ItemInfo>, Failure> {
        let answer =
            self.one(&GetItem { ids: slice::from_ref(id), properties: OF_SEARCH, content: false }).await?;
        answer.and_then(known_item)
    }

    /// The items of a folder that carry the mark of an operation, the newest first.
    ///
    /// # Errors
    /// [`Failure`] of the call.
    pub async fn find_by_operation_id(
        &self,
        folder: &Folder,
        operation_id: &str,
    ) -> Result<Answer<Vec<ItemInfo>>, Failure> {
        let mut answer = self.find(folder, Criterion::OperationId(operation_id)).await?;
        answer.value.retain(|item| item.operation_id.as_deref() == Some(operation_id));
        Ok(answer)
    }

    /// The items of a folder with a search key, which survives moves and copies, the newest first.
    ///
    /// # Errors
    /// [`Failure`] of the call.
    pub async fn find_by_search_key(
        &self,
        folder: &Folder,
        search_key: &[u8],
    ) -> Result<Answer<Vec<ItemInfo>>, Failure> {
        let mut answer = self.find(folder, Criterion::SearchKey(search_key)).await?;
        answer.value.retain(|item| item.search_key.as_deref() == Some(search_key));
        Ok(answer)
    }

    /// A folder of this name beneath another: the one that is there, or a new one.
    ///
    /// # Errors
    /// [`Failure`] of the call; whatever became of it, the next call finds the folder if it was made.
    pub async fn ensure_folder(&self, parent: &Folder, name: &str) -> Result<Answer<FolderId>, Failure> {
        if let Some(found) = self.find_folder(parent, name).await? {
            return Ok(found);
        }
        match self.one(&CreateFolder { parent, name }).await {
            Ok(made) => made.and_then(|folders| folder_id(&folders)),
            // Somebody else was faster.
            Err(failure) if failure.code.as_deref() == Some("ErrorFolderExists") => {
                self.find_folder(parent, name).await?.ok_or(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// A folder: the cheapest proof that the mailbox can be reached.
    ///
    /// # Errors
    /// `MAILBOX_FOLDER_MISSING` if there is none; [`Failure`] otherwise.
    pub async fn get_folder(&self, folder: &Folder) -> Result<Answer<FolderInfo>, Failure> {
        let missing = || unusable("the answer holds no folder");
        self.one(&GetFolder { folder })
            .await
            .map_err(Failure::of_folder)?
            .and_then(|folders| folders.into_iter().next().ok_or_else(missing))
    }

    /// Saves a draft that carries the mark of an operation. It is not sent.
    ///
    /// # Errors
    /// [`Failure`], whose `execution` tells whether a draft may be there all the same.
    pub async fn create_draft(
        &self,
        folder: &Folder,
        content: Content<'_>,
        operation_id: &str,
    ) -> Result<Answer<ItemId>, Failure> {
        self.new_id(&CreateItem { folder, content, operation_id }).await
    }

    /// Adds a file to a draft. Returns the draft with its new change key.
    ///
    /// # Errors
    /// [`Failure`], whose `execution` tells whether the file may be there all the same.
    pub async fn attach(
        &self,
        draft: &ItemId,
        attachment: Attachment<'_>,
    ) -> Result<Answer<ItemId>, Failure> {
        let Answer { value, date, version } =
            self.one(&CreateAttachment { parent: draft, attachment }).await?;
        match value.parent {
            Some(value) => Ok(Answer { value, date, version }),
            None => self.get_item(draft).await?.and_then(|item| Ok(item.id)),
        }
    }

    /// Submits a draft; its copy is kept in `copy_to`.
    ///
    /// # Errors
    /// [`Failure`], whose `execution` tells whether it may be sent all the same.
    pub async fn send_item(&self, draft: &ItemId, copy_to: &Folder) -> Result<Answer<()>, Failure> {
        self.one(&SendItem { id: draft, copy_to }).await
    }

    /// Moves an item. Returns its new id.
    ///
    /// # Errors
    /// [`Failure`], whose `execution` tells whether it may be moved all the same.
    pub async fn move_item(&self, id: &ItemId, to: &Folder) -> Result<Answer<ItemId>, Failure> {
        self.new_id(&MoveItem { id, to }).await
    }

    /// Sets a property of a message. Returns its id with the new change key.
    ///
    /// # Errors
    /// [`Failure`], whose `execution` tells whether it may be set all the same.
    pub async fn update_item(&self, id: &ItemId, update: Update<'_>) -> Result<Answer<ItemId>, Failure> {
        self.new_id(&UpdateItem { id, update }).await
    }

    /// Deletes an item. One that is gone already is deleted.
    ///
    /// # Errors
    /// [`Failure`] of the call.
    pub async fn delete_item(&self, id: &ItemId, deletion: Deletion) -> Result<(), Failure> {
        match self.one(&DeleteItem { ids: slice::from_ref(id), deletion }).await {
            Err(failure) if failure.reason != Reason::ItemNotFound => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn one<O: Operation + Sync>(&self, operation: &O) -> Result<Answer<O::Part>, Failure> {
        self.client.call_under(self.warrant.as_ref(), &self.address, operation).await?.answer()
    }

    async fn new_id<O: Operation<Part = Option<ItemId>> + Sync>(
        &self,
        operation: &O,
    ) -> Result<Answer<ItemId>, Failure> {
        self.one(operation).await?.and_then(|id| id.ok_or_else(|| unusable("the answer holds no item id")))
    }

    /// Servers answer one part per item; for what is missing nothing was attempted.
    async fn fetch(&self, ids: &[ItemId], content: bool) -> Result<Answer<PerItem<Fetched>>, Failure> {
        let reply =
            self.client.call(&self.address, &GetItem { ids, properties: OF_CONTENT, content }).await?;
        let Reply { parts: mut value, date, version, .. } = reply;
        value.resize_with(ids.len(), || {
            let detail = "the answer ends before this item";
            Err(Failure::new(Reason::ItemNotAttempted, Execution::Not, detail))
        });
        blame(&mut value);
        Ok(Answer { value, date, version })
    }

    /// Callers hold what is found against what was looked for: some servers do not know every restriction.
    async fn find(
        &self,
        folder: &Folder,
        criterion: Criterion<'_>,
    ) -> Result<Answer<Vec<ItemInfo>>, Failure> {
        let operation = FindItem { folder, criterion, properties: OF_SEARCH, max: MOST_FOUND };
        self.one(&operation).await?.and_then(|found| Ok(found.items))
    }

    async fn find_folder(&self, parent: &Folder, name: &str) -> Result<Option<Answer<FolderId>>, Failure> {
        let Answer { value, date, version } = self.one(&FindFolder { parent, name }).await?;
        // Names of folders differ by more than the case of their letters.
        let lower = name.to_lowercase();
        let named =
            |folder: &FolderInfo| folder.name.as_deref().is_some_and(|name| name.to_lowercase() == lower);
        let found = value.into_iter().find(named).and_then(|folder| folder.id);
        Ok(found.map(|value| Answer { value, date, version }))
    }
}

/// Who is to blame for what fails of a batch: items that fail beside others that come through do so by themselves, and
/// so does a lone one of a mailbox that was read just now. Where nothing comes through, the mailbox fails.
fn blame<T>(parts: &mut [Result<T, Failure>]) {
    if parts.len() > 1 && parts.iter().all(Result::is_err) {
        return;
    }
    for part in parts.iter_mut() {
        if let Err(failure) = part {
            *failure = failure.clone().of_lone_item();
        }
    }
}

impl<T> Answer<T> {
    /// The answer with another value, if that can be had.
    fn and_then<U>(self, next: impl FnOnce(T) -> Result<U, Failure>) -> Result<Answer<U>, Failure> {
        Ok(Answer { value: next(self.value)?, date: self.date, version: self.version })
    }
}

impl<P> Reply<P> {
    /// The only part, with the server's clock and build.
    ///
    /// # Errors
    /// As [`Self::one`].
    pub fn answer(self) -> Result<Answer<P>, Failure> {
        let (date, version) = (self.date, self.version);
        Ok(Answer { value: self.one()?, date, version })
    }
}

fn known_item(fetched: Fetched) -> Result<ItemInfo, Failure> {
    fetched.item.ok_or_else(|| unusable("the answer holds no item"))
}

fn with_content(fetched: Fetched) -> Result<(ItemInfo, Mime), Failure> {
    let unreadable = |detail: &str| Failure::new(Reason::ItemContentUnreadable, Execution::Not, detail);
    let Fetched { item, content } = fetched;
    let item = item.ok_or_else(|| unusable("the answer holds no item"))?;
    let content = content.ok_or_else(|| unreadable("the server sent no content of this item"))?;
    if content.broken {
        return Err(unreadable("the content of this item is not base64"));
    }
    Ok((item, content))
}

fn folder_id(folders: &[FolderInfo]) -> Result<FolderId, Failure> {
    let id = folders.first().and_then(|folder| folder.id.clone());
    id.ok_or_else(|| unusable("the answer holds no folder id"))
}

/// The server did something, but what it told of it is of no use.
fn unusable(detail: &str) -> Failure {
    Failure::new(Reason::EwsProtocolError, Execution::Maybe, detail)
}
