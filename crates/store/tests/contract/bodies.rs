//! Bodies: stored once, adopted, read in parts, swept.

use std::sync::Arc;

use bytes::Bytes;
use mailyard_policy::{Reason, id::UploadId};
use mailyard_store::{
    Store,
    holder::{Body, Tracked},
    query::Filter,
};

use crate::world::{World, at, message, refused, track};

const CHUNK: usize = 256 << 10;

async fn content(store: &Arc<dyn Store>, email: &Tracked) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(part) = store.email_content(email.record, whole.len() as u64).await.unwrap() {
        assert!(!part.is_empty() && part.len() <= CHUNK);
        whole.extend(part);
    }
    whole
}

pub async fn the_same_body_is_stored_once(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let body = Bytes::from(vec![b'x'; CHUNK + 17]);
    let with = |n, item| Tracked { body: Body::Whole(body.clone()), ..message(n, item) };
    let (a, b, c) = (with(1, "a"), with(2, "b"), message(3, "c"));
    world.commit(&mut fence, track([a.clone(), b.clone(), c.clone()])).await;
    world.commit(&mut fence, track([with(4, "d")])).await;
    assert_eq!(world.emails(Filter::All).await.len(), 4);
    for email in [&a, &b] {
        assert_eq!(content(&store, email).await, body);
    }
    assert_eq!(content(&store, &c).await, b"MIME of message 3");
    let tail = store.email_content(a.record, CHUNK as u64 + 10).await.unwrap().unwrap();
    assert_eq!(tail.len(), 7);
    assert_eq!(store.email_content(a.record, CHUNK as u64 + 17).await.unwrap(), None);
}

pub async fn bodies_of_every_size_come_back(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let sizes = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK];
    let email = |(n, size): (usize, usize)| Tracked {
        body: Body::Whole(Bytes::from(vec![b'0' + n as u8; size])),
        ..message(n as u128, &format!("item-{n}"))
    };
    let emails: Vec<Tracked> = sizes.into_iter().enumerate().map(email).collect();
    let (empty, others) = emails.split_first().unwrap();
    world.commit(&mut fence, track([empty.clone()])).await;
    world.commit(&mut fence, track(others.to_vec())).await;
    for (email, (n, size)) in emails.iter().zip(sizes.into_iter().enumerate()) {
        assert_eq!(content(&store, email).await, vec![b'0' + n as u8; size], "{size} bytes");
    }
}

pub async fn a_large_body_is_adopted_and_an_unused_one_swept(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let mut fence = claimed.remove(0).fence;
    let [used, twin, idle] = [1, 2, 3].map(UploadId::new);
    for upload in [used, twin, idle] {
        for n in 0..3 {
            store.upload(upload, n, Bytes::from(vec![n as u8; 1000]), at(0)).await.unwrap();
        }
        // Written again after a lost answer.
        store.upload(upload, 2, Bytes::from(vec![2; 1000]), at(0)).await.unwrap();
    }
    let large = |n, item, upload| Tracked {
        body: Body::Uploaded { upload, hash: [7; 32], size: 3000 },
        ..message(n, item)
    };
    let (a, b) = (large(1, "a", used), large(2, "b", twin));
    world.commit(&mut fence, track([a.clone()])).await;
    world.commit(&mut fence, track([b.clone()])).await;
    assert_eq!(store.sweep_uploads(at(0)).await.unwrap(), 0, "it is not old enough");
    assert_eq!(store.sweep_uploads(at(1)).await.unwrap(), 1, "only the idle one was left");
    for email in [&a, &b] {
        let whole = content(&store, email).await;
        assert_eq!((whole.len(), whole[0], whole[1500], whole[2999]), (3000, 0, 1, 2));
    }
}

pub async fn an_upload_that_lacks_bytes_is_refused(store: Arc<dyn Store>) {
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let fence = claimed.remove(0).fence;
    let upload = UploadId::new(1);
    store.upload(upload, 0, Bytes::from_static(b"half"), at(0)).await.unwrap();
    let body = Body::Uploaded { upload, hash: [1; 32], size: 8 };
    let result = store.commit(&fence, track([message(2, "ok"), Tracked { body, ..message(1, "a") }])).await;
    assert_eq!(refused(result), (Reason::FieldInvalid, "body".to_owned()));
    assert_eq!(world.emails(Filter::All).await, [], "nothing of the transaction is there");
    let large = Bytes::from(vec![0; CHUNK + 1]);
    assert_eq!(refused(store.upload(upload, 1, large, at(0)).await).0, Reason::FieldInvalid);
}
