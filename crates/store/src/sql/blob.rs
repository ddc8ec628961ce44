//! Bodies: chunks under an upload, and blobs that name one upload per content.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::{Org, RecordId, UploadId},
};
use sha2::{Digest as _, Sha256};

use super::{Backend, Columns as _, Script, Session, Statement, Type};
use crate::{Error, Result, holder::Body};

/// No chunk is larger.
const CHUNK: usize = 256 << 10;
/// Chunks of one statement.
const CHUNKS_AT_ONCE: usize = 16;

pub(super) async fn add_chunk<B: Backend>(
    store: &B,
    upload: UploadId,
    number: u32,
    chunk: Bytes,
    at: Timestamp,
) -> Result<()> {
    if chunk.len() > CHUNK {
        let detail = format!("a chunk of {} bytes; at most {CHUNK} are taken", chunk.len());
        return Err(Error::refused_field(Reason::FieldInvalid, "chunk", detail));
    }
    let mut tx = store.begin().await?;
    let begun = Statement::new("INSERT INTO upload(upload_id, at) VALUES (?,?) ON CONFLICT DO NOTHING");
    tx.run(begun.bind(upload).bind(at)).await?;
    let written = Statement::new(
        "INSERT INTO blob_chunk(upload_id, n, bytes) VALUES (?,?,?)
         ON CONFLICT (upload_id, n) DO UPDATE SET bytes = excluded.bytes",
    );
    tx.run(written.bind(upload).bind(number).bind(chunk)).await?;
    tx.commit().await
}

pub(super) async fn sweep<B: Backend>(store: &B, before: Timestamp) -> Result<u64> {
    let mut tx = store.begin().await?;
    let old = Statement::new("DELETE FROM upload WHERE at < ? RETURNING upload_id").bind(before);
    let rows = tx.rows(old).await?;
    for row in &rows {
        drop_chunks(&mut tx, UploadId::from_bytes(row.bytes("upload_id")?)).await?;
    }
    tx.commit().await?;
    Ok(rows.len() as u64)
}

/// Chunks of a body may have any size up to the largest, so the one that holds `offset` is looked for.
pub(super) async fn content<B: Backend>(store: &B, id: RecordId, offset: u64) -> Result<Option<Bytes>> {
    let chunks = Statement::new(
        "SELECT c.n, CAST(length(c.bytes) AS bigint) AS size, c.upload_id FROM record r
           JOIN blob b ON b.org = r.org AND b.hash = r.blob_hash JOIN blob_chunk c ON c.upload_id = b.upload_id
         WHERE r.record_id = ? ORDER BY c.n",
    );
    let mut begin = 0;
    for row in store.read(chunks.bind(id)).await? {
        let end = begin + row.number("size")?;
        if offset < end {
            let rest = Statement::new(
                "SELECT substr(bytes, CAST(? AS integer) + 1) AS bytes FROM blob_chunk WHERE upload_id = ? AND n = ?",
            );
            let upload = UploadId::from_bytes(row.bytes("upload_id")?);
            let chunk = store.read_one(rest.bind(offset - begin).bind(upload).bind(row.number("n")?)).await?;
            return chunk.map(|chunk| chunk.blob("bytes")).transpose();
        }
        begin = end;
    }
    Ok(None)
}

/// The hash of a body's content.
pub(super) fn hash(body: &Body) -> [u8; 32] {
    match body {
        Body::Whole(bytes) => Sha256::digest(bytes).into(),
        Body::Uploaded { hash, .. } => *hash,
    }
}

/// Bodies of one transaction: the same content is stored once, and counted as often as records name it.
#[derive(Default)]
pub(super) struct Bodies {
    new: BTreeMap<[u8; 32], Blob>,
    named_again: BTreeMap<[u8; 32], i64>,
    unused: Vec<UploadId>,
}

struct Blob {
    upload: UploadId,
    size: u64,
    /// Its content; `None`: it was uploaded before.
    content: Option<Bytes>,
}

impl Bodies {
    /// The body of a new record.
    pub(super) fn add(&mut self, record: RecordId, hash: [u8; 32], body: &Body, is_stored: bool) {
        if is_stored {
            *self.named_again.entry(hash).or_default() += 1;
            return self.leave(body);
        }
        let blob = match body {
            // Under the id of the record that it came with: later ones are greater, and chunks lie in their order.
            Body::Whole(bytes) => Blob {
                upload: UploadId::from_bytes(record.to_bytes()),
                size: bytes.len() as u64,
                content: Some(bytes.clone()),
            },
            Body::Uploaded { upload, size, .. } => Blob { upload: *upload, size: *size, content: None },
        };
        self.new.insert(hash, blob);
    }

    /// A body that is not needed.
    pub(super) fn leave(&mut self, body: &Body) {
        if let Body::Uploaded { upload, .. } = body {
            self.unused.push(*upload);
        }
    }

    /// Adopts what was uploaded, and removes what of it is not needed.
    pub(super) async fn settle_uploads<S: Session>(&self, tx: &mut S) -> Result<()> {
        for blob in self.new.values().filter(|blob| blob.content.is_none()) {
            adopt(tx, blob.upload, blob.size).await?;
        }
        for upload in &self.unused {
            drop_upload(tx, *upload).await?;
        }
        Ok(())
    }

    /// Takes those out that somebody else has stored meanwhile, and counts them there.
    pub(super) async fn give_way<S: Session>(&mut self, tx: &mut S, org: &Org) -> Result<()> {
        let mut mine = Script::default();
        self.name(
            &mut mine,
            org,
            " ON CONFLICT (org, hash) DO UPDATE SET refs = blob.refs + 1 RETURNING hash, upload_id",
        );
        let mut stands = HashMap::new();
        for statement in mine.rounds.into_iter().flatten() {
            for row in tx.rows(statement).await? {
                stands.insert(row.bytes::<32>("hash")?, UploadId::from_bytes(row.bytes("upload_id")?));
            }
        }
        for (hash, blob) in std::mem::take(&mut self.new) {
            if stands.get(&hash) == Some(&blob.upload) {
                self.new.insert(hash, blob);
            } else if blob.content.is_none() {
                drop_chunks(tx, blob.upload).await?;
            }
        }
        Ok(())
    }

    /// Stores them; `named`: they are named already.
    pub(super) fn store(&self, script: &mut Script, org: &Org, named: bool) {
        let mut chunks: Vec<_> = self.new.values().flat_map(Blob::chunks).collect();
        chunks.sort_by_key(|(upload, n, _)| (*upload, *n));
        for some in chunks.chunks(CHUNKS_AT_ONCE) {
            script.insert(
                "INSERT INTO blob_chunk(upload_id, n, bytes) ",
                &[Type::Id, Type::Number, Type::Bytes],
                some,
                |(upload, n, chunk)| vec![(*upload).into(), (*n).into(), chunk.clone().into()],
                "",
            );
        }
        if !named {
            self.name(script, org, "");
        }
        for (hash, times) in &self.named_again {
            let again = Statement::new("UPDATE blob SET refs = refs + ? WHERE org = ? AND hash = ?");
            script.add(again.bind(*times).bind(org).bind(*hash));
        }
    }

    fn name(&self, script: &mut Script, org: &Org, tail: &str) {
        script.insert(
            "INSERT INTO blob(org, hash, upload_id, size, refs) ",
            &[Type::Text, Type::Bytes, Type::Id, Type::Number, Type::Number],
            &self.new,
            |(hash, blob)| {
                vec![org.into(), (*hash).into(), blob.upload.into(), blob.size.into(), 1_i64.into()]
            },
            tail,
        );
    }
}

impl Blob {
    fn chunks(&self) -> impl Iterator<Item = (UploadId, usize, Bytes)> {
        let content = self.content.clone().unwrap_or_default();
        let begins = (0..content.len()).step_by(CHUNK);
        let part = move |begin| content.slice(begin..content.len().min(begin + CHUNK));
        let upload = self.upload;
        begins.enumerate().map(move |(n, begin)| (upload, n, part(begin)))
    }
}

/// The upload is a blob's from now on and is swept no more.
async fn adopt<S: Session>(tx: &mut S, upload: UploadId, size: u64) -> Result<()> {
    tx.run(Statement::new("DELETE FROM upload WHERE upload_id = ?").bind(upload)).await?;
    let whole = Statement::new(
        "SELECT CAST(coalesce(sum(length(bytes)), 0) AS bigint) AS size FROM blob_chunk WHERE upload_id = ?",
    );
    let found = tx.the_row(whole.bind(upload)).await?.number("size")?;
    if found == size {
        return Ok(());
    }
    let detail = format!("{found} of {size} bytes of the upload are there; it was swept or never ended");
    Err(Error::refused_field(Reason::FieldInvalid, "body", detail))
}

async fn drop_upload<S: Session>(tx: &mut S, upload: UploadId) -> Result<()> {
    let known = tx.run(Statement::new("DELETE FROM upload WHERE upload_id = ?").bind(upload)).await?;
    if known == 1 { drop_chunks(tx, upload).await } else { Ok(()) }
}

async fn drop_chunks<S: Session>(tx: &mut S, upload: UploadId) -> Result<()> {
    tx.run(Statement::new("DELETE FROM blob_chunk WHERE upload_id = ?").bind(upload)).await?;
    Ok(())
}
