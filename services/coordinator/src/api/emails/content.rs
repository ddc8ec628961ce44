//! The MIME of an incoming email, piece by piece.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream};
use mailyard_policy::{Reason, id::RecordId};
use mailyard_store::Store;
use mailyard_wire::{records::GetEmailContentResponse, status::refusal};
use tonic::Status;

use crate::api::{Api, refuse::Told as _};

/// Pieces in order.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<GetEmailContentResponse, Status>> + Send>>;

struct Reading {
    store: Arc<dyn Store>,
    email: RecordId,
    next: Option<Bytes>,
    read: u64,
}

/// The pieces, as far as they are read: one is in memory at a time.
pub(super) async fn pieces(api: &Api, email: RecordId) -> Result<Pieces, Status> {
    let first = api.store.email_content(email, 0).await.told()?;
    let first = first.ok_or_else(|| {
        refusal(Reason::ResourceNotFound, "name", "the content of this email is not stored any more")
    })?;
    let reading = Reading { store: api.store.clone(), email, next: Some(first), read: 0 };
    Ok(Box::pin(stream::try_unfold(reading, |mut reading| async move {
        let piece = match reading.next.take() {
            Some(first) => Some(first),
            None => reading.store.email_content(reading.email, reading.read).await.told()?,
        };
        Ok(piece.map(|piece| {
            reading.read += piece.len() as u64;
            (GetEmailContentResponse { piece: piece.into() }, reading)
        }))
    })))
}
