//! Bodies on SQLite: chunks under an upload, and blobs that name one upload per content.

use std::collections::BTreeMap;

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::{Org, RecordId, UploadId},
};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::{
    SqliteStore, Tx, commit,
    rows::{Columns as _, Key as _},
    script::{ROWS, Script},
};
use crate::{Error, Result, holder::Body};

/// No chunk is larger.
const CHUNK: usize = 256 << 10;
/// Chunks of one statement.
const CHUNKS_AT_ONCE: usize = 16;

impl SqliteStore {
    pub(super) async fn add_chunk(
        &self,
        upload: UploadId,
        number: u32,
        chunk: Bytes,
        at: Timestamp,
    ) -> Result<()> {
        if chunk.len() > CHUNK {
            let detail = format!("a chunk of {} bytes; at most {CHUNK} are taken", chunk.len());
            return Err(Error::refused_field(Reason::FieldInvalid, "chunk", detail));
        }
        let mut tx = self.begin().await?;
        sqlx::query("INSERT INTO upload(upload_id, at) VALUES (?,?) ON CONFLICT DO NOTHING")
            .bind(upload.key())
            .bind(at.as_millis())
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT OR REPLACE INTO blob_chunk(upload_id, n, bytes) VALUES (?,?,?)")
            .bind(upload.key())
            .bind(i64::from(number))
            .bind(Vec::from(chunk))
            .execute(&mut *tx)
            .await?;
        commit(tx).await
    }

    pub(super) async fn sweep(&self, before: Timestamp) -> Result<u64> {
        let mut tx = self.begin().await?;
        let rows = sqlx::query("DELETE FROM upload WHERE at < ? RETURNING upload_id")
            .bind(before.as_millis())
            .fetch_all(&mut *tx)
            .await?;
        for row in &rows {
            drop_chunks(&mut tx, UploadId::from_bytes(row.bytes("upload_id")?)).await?;
        }
        commit(tx).await?;
        Ok(rows.len() as u64)
    }

    /// Chunks of a body may have any size up to the largest, so the one that holds `offset` is looked for.
    pub(super) async fn content(&self, id: RecordId, offset: u64) -> Result<Option<Bytes>> {
        let rows = sqlx::query(
            "SELECT c.n, length(c.bytes) AS size, c.upload_id FROM record r
               JOIN blob b ON b.org = r.org AND b.hash = r.blob_hash JOIN blob_chunk c ON c.upload_id = b.upload_id
             WHERE r.record_id = ? ORDER BY c.n",
        )
        .bind(id.key())
        .fetch_all(&self.readers)
        .await?;
        let mut begin = 0;
        for row in rows {
            let end = begin + row.number("size")?;
            if offset < end {
                let chunk = sqlx::query(
                    "SELECT substr(bytes, ? + 1) AS bytes FROM blob_chunk WHERE upload_id = ? AND n = ?",
                )
                .bind((offset - begin) as i64)
                .bind(row.try_get::<Vec<u8>, _>("upload_id")?)
                .bind(row.try_get::<i64, _>("n")?)
                .fetch_one(&self.readers)
                .await?;
                return Ok(Some(Bytes::from(chunk.try_get::<Vec<u8>, _>("bytes")?)));
            }
            begin = end;
        }
        Ok(None)
    }
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
    new: Vec<Blob>,
    chunks: Vec<(UploadId, usize, Bytes)>,
    named_again: BTreeMap<[u8; 32], i64>,
    adopted: Vec<(UploadId, u64)>,
    unused: Vec<UploadId>,
}

struct Blob {
    hash: [u8; 32],
    upload: UploadId,
    size: u64,
}

impl Bodies {
    /// The body of a new record.
    pub(super) fn add(&mut self, record: RecordId, hash: [u8; 32], body: &Body, is_stored: bool) {
        if is_stored {
            *self.named_again.entry(hash).or_default() += 1;
            return self.leave(body);
        }
        let (upload, size) = match body {
            Body::Whole(bytes) => {
                // Of the record that it came with: later ones are greater, and chunks lie in the order of uploads.
                let upload = UploadId::from_bytes(record.to_bytes());
                let begins = (0..bytes.len()).step_by(CHUNK);
                let part = |begin| bytes.slice(begin..bytes.len().min(begin + CHUNK));
                self.chunks.extend(begins.enumerate().map(|(n, begin)| (upload, n, part(begin))));
                (upload, bytes.len() as u64)
            }
            Body::Uploaded { upload, size, .. } => {
                self.adopted.push((*upload, *size));
                (*upload, *size)
            }
        };
        self.new.push(Blob { hash, upload, size });
    }

    /// A body that is not needed.
    pub(super) fn leave(&mut self, body: &Body) {
        if let Body::Uploaded { upload, .. } = body {
            self.unused.push(*upload);
        }
    }

    /// Adopts what was uploaded, and removes what of it is not needed.
    pub(super) async fn settle_uploads(&self, tx: &mut Tx) -> Result<()> {
        for (upload, size) in &self.adopted {
            adopt(tx, *upload, *size).await?;
        }
        for upload in &self.unused {
            drop_upload(tx, *upload).await?;
        }
        Ok(())
    }

    /// Stores them.
    pub(super) fn store(&self, script: &mut Script, org: &Org) {
        for some in self.chunks.chunks(CHUNKS_AT_ONCE) {
            let text = script.begin("INSERT INTO blob_chunk(upload_id, n, bytes) ");
            text.push_values(some, |mut values, (upload, n, chunk)| {
                values.push_bind(upload.key()).push_bind(*n as i64).push_bind(chunk.to_vec());
            });
        }
        for some in self.new.chunks(ROWS) {
            let text = script.begin("INSERT INTO blob(org, hash, upload_id, size, refs) ");
            text.push_values(some, |mut values, Blob { hash, upload, size }| {
                values.push_bind(org.0.clone()).push_bind(hash.to_vec());
                values.push_bind(upload.key()).push_bind(*size as i64).push("1");
            });
        }
        for (hash, times) in &self.named_again {
            let text = script.begin("UPDATE blob SET refs = refs + ");
            text.push_bind(*times).push(" WHERE org = ").push_bind(org.0.clone());
            text.push(" AND hash = ").push_bind(hash.to_vec());
        }
    }
}

/// The upload is a blob's from now on and is swept no more.
async fn adopt(tx: &mut Tx, upload: UploadId, size: u64) -> Result<()> {
    sqlx::query("DELETE FROM upload WHERE upload_id = ?").bind(upload.key()).execute(&mut **tx).await?;
    let row =
        sqlx::query("SELECT coalesce(sum(length(bytes)), 0) AS size FROM blob_chunk WHERE upload_id = ?")
            .bind(upload.key())
            .fetch_one(&mut **tx)
            .await?;
    let found = row.number("size")?;
    if found == size {
        return Ok(());
    }
    let detail = format!("{found} of {size} bytes of the upload are there; it was swept or never ended");
    Err(Error::refused_field(Reason::FieldInvalid, "body", detail))
}

async fn drop_upload(tx: &mut Tx, upload: UploadId) -> Result<()> {
    let known =
        sqlx::query("DELETE FROM upload WHERE upload_id = ?").bind(upload.key()).execute(&mut **tx).await?;
    if known.rows_affected() == 1 { drop_chunks(tx, upload).await } else { Ok(()) }
}

async fn drop_chunks(tx: &mut Tx, upload: UploadId) -> Result<()> {
    sqlx::query("DELETE FROM blob_chunk WHERE upload_id = ?").bind(upload.key()).execute(&mut **tx).await?;
    Ok(())
}
