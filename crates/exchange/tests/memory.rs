//! What the largest message costs: it passes through in pieces, and no more of it is ever held.
#![allow(clippy::expect_used)]

#[path = "client/scripted.rs"]
#[allow(dead_code)]
mod scripted;

use mailyard_exchange::{ContentSink, Failure, codec::ItemId};
use peak_alloc::PeakAlloc;
use scripted::{Act, LINE, Server};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// Checks what comes and keeps nothing.
#[derive(Default)]
struct Counting {
    bytes: usize,
    wrong: usize,
}

impl ContentSink for Counting {
    async fn take(&mut self, piece: Vec<u8>) -> Result<(), Failure> {
        let expected = LINE.bytes().cycle().skip(self.bytes % LINE.len());
        self.wrong += piece.iter().zip(expected).filter(|(came, expected)| **came != *expected).count();
        self.bytes += piece.len();
        Ok(())
    }
}

/// 50 MB of MIME are 67 MB on the wire.
#[tokio::test]
async fn fifty_megabytes_pass_through_sixteen() {
    let size = (50 << 20) / LINE.len() * LINE.len();
    let server =
        Server::start([Act::Answer(scripted::ok(scripted::folder_answer())), Act::Stream(size)]).await;
    let mailbox = server.client().mailbox("anna@example.org");
    let inbox = mailyard_exchange::codec::WellKnown::Inbox.into();
    mailbox.get_folder(&inbox).await.expect("the connection is warm");
    let idle = HEAP.current_usage();
    HEAP.reset_peak_usage();
    let mut sink = Counting::default();
    let fetched = mailbox.fetch_large(&ItemId::new("I1"), &mut sink).await.expect("it is fetched");
    let above = HEAP.peak_usage() - idle;
    assert_eq!((sink.bytes, sink.wrong, fetched.value.bytes), (size, 0, size as u64));
    assert!(above <= 16 << 20, "{above} bytes above idle");
}
