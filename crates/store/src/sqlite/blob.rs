//! Bodies on SQLite: chunks under an upload, and blobs that name one upload per content.

use std::collections::HashSet;

use bytes::Bytes;
use mailyard_policy::{
    Reason, Timestamp,
    id::{Org, RecordId, UploadId},
};
use sha2::{Digest as _, Sha256};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::{
    SqliteStore, Tx, commit,
    rows::{Columns as _, Key as _},
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

/// Stores the bodies of new records; the same content is stored once. Returns their hashes.
pub(super) async fn store<'a>(
    tx: &mut Tx,
    org: &Org,
    bodies: impl Iterator<Item = &'a Body>,
) -> Result<Vec<[u8; 32]>> {
    let bodies: Vec<(&Body, [u8; 32])> = bodies.map(|body| (body, hash(body))).collect();
    if bodies.is_empty() {
        return Ok(Vec::new());
    }
    let mut stored = stored(tx, org, &bodies).await?;
    let (mut new, mut chunks) = (Vec::new(), Vec::new());
    for (body, hash) in &bodies {
        if stored.insert(*hash) {
            new.push((upload_of(body, hash), *hash, size(body)));
            match body {
                Body::Whole(bytes) => {
                    let upload = upload_of(body, hash);
                    chunks.extend(bytes.chunks(CHUNK).enumerate().map(|(n, chunk)| (upload, n, chunk)));
                }
                Body::Uploaded { upload, size, .. } => adopt(tx, *upload, *size).await?,
            }
        } else if let Body::Uploaded { upload, .. } = body {
            drop_upload(tx, *upload).await?;
        }
    }
    insert_chunks(tx, &chunks).await?;
    insert_blobs(tx, org, &new).await?;
    count_references(tx, org, &bodies, &new).await?;
    Ok(bodies.into_iter().map(|(_, hash)| hash).collect())
}

/// Removes what was uploaded for bodies that are not needed.
pub(super) async fn drop_uploads(tx: &mut Tx, bodies: Vec<Body>) -> Result<()> {
    for body in bodies {
        if let Body::Uploaded { upload, .. } = body {
            drop_upload(tx, upload).await?;
        }
    }
    Ok(())
}

fn hash(body: &Body) -> [u8; 32] {
    match body {
        Body::Whole(bytes) => Sha256::digest(bytes).into(),
        Body::Uploaded { hash, .. } => *hash,
    }
}

fn size(body: &Body) -> u64 {
    match body {
        Body::Whole(bytes) => bytes.len() as u64,
        Body::Uploaded { size, .. } => *size,
    }
}

/// A whole body's upload is named by its hash.
fn upload_of(body: &Body, hash: &[u8; 32]) -> UploadId {
    match body {
        Body::Whole(_) => UploadId::from_bytes(std::array::from_fn(|at| hash[at])),
        Body::Uploaded { upload, .. } => *upload,
    }
}

async fn stored(tx: &mut Tx, org: &Org, bodies: &[(&Body, [u8; 32])]) -> Result<HashSet<[u8; 32]>> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT hash FROM blob WHERE org = ");
    query.push_bind(org.0.clone()).push(" AND hash IN (");
    let mut list = query.separated(", ");
    for (_, hash) in bodies {
        list.push_bind(hash.to_vec());
    }
    let rows = query.push(")").build().fetch_all(&mut **tx).await?;
    rows.iter().map(|row| row.bytes("hash")).collect()
}

/// Bodies that came whole, several with each statement.
async fn insert_chunks(tx: &mut Tx, chunks: &[(UploadId, usize, &[u8])]) -> Result<()> {
    for some in chunks.chunks(CHUNKS_AT_ONCE) {
        let mut query =
            QueryBuilder::<Sqlite>::new("INSERT OR REPLACE INTO blob_chunk(upload_id, n, bytes) ");
        query.push_values(some, |mut values, (upload, n, chunk)| {
            values.push_bind(upload.key()).push_bind(*n as i64).push_bind(chunk.to_vec());
        });
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
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

async fn insert_blobs(tx: &mut Tx, org: &Org, new: &[(UploadId, [u8; 32], u64)]) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO blob(org, hash, upload_id, size, refs) ");
    query.push_values(new, |mut values, (upload, hash, size)| {
        values
            .push_bind(org.0.clone())
            .push_bind(hash.to_vec())
            .push_bind(upload.key())
            .push_bind(*size as i64)
            .push("1");
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Counts a reference for each body beyond the one that made the blob.
async fn count_references(
    tx: &mut Tx,
    org: &Org,
    bodies: &[(&Body, [u8; 32])],
    new: &[(UploadId, [u8; 32], u64)],
) -> Result<()> {
    let mut first: HashSet<[u8; 32]> = new.iter().map(|(_, hash, _)| *hash).collect();
    for (_, hash) in bodies {
        if !first.remove(hash) {
            sqlx::query("UPDATE blob SET refs = refs + 1 WHERE org = ? AND hash = ?")
                .bind(&org.0)
                .bind(hash.to_vec())
                .execute(&mut **tx)
                .await?;
        }
    }
    Ok(())
}
