//! Commits whose outcome nobody hears: connections that are cut at COMMIT, before or after the server has it, and
//! backends that are terminated at any moment.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use mailyard_store::{
    Error, Store,
    holder::{Commit, Fence},
    query::Filter,
};
use sqlx::Executor as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream, UnixStream},
};

use crate::{
    private::Database,
    world::{World, at, message, track},
};

const ROUNDS: u64 = 300;
const SEED: u64 = 7;

const PASS: u8 = 0;
const CUT_BEFORE_COMMIT: u8 = 1;
const CUT_AFTER_COMMIT: u8 = 2;

/// A proxy that does once what it is told at the next COMMIT.
struct Proxy {
    port: u16,
    fate: Arc<AtomicU8>,
}

impl Proxy {
    async fn before(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, socket) = (listener.local_addr().unwrap().port(), database.server.socket());
        let fate = Arc::new(AtomicU8::new(PASS));
        let told = fate.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&socket).await.unwrap();
                tokio::spawn(pass(client, server, told.clone()));
            }
        });
        Self { port, fate }
    }
}

/// Both connections end with this.
async fn pass(client: TcpStream, server: UnixStream, fate: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let questions = async {
        let mut begun = false;
        loop {
            // The first message has no type before its length.
            let mut head = vec![0; if begun { 5 } else { 4 }];
            from_client.read_exact(&mut head).await?;
            let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize;
            let mut body = vec![0; length - 4];
            from_client.read_exact(&mut body).await?;
            let fate = if begun && head[0] == b'Q' && body.starts_with(b"COMMIT") {
                fate.swap(PASS, Ordering::SeqCst)
            } else {
                PASS
            };
            begun = true;
            if fate == CUT_BEFORE_COMMIT {
                return Ok::<_, std::io::Error>(());
            }
            to_server.write_all(&[head, body].concat()).await?;
            if fate == CUT_AFTER_COMMIT {
                return Ok(());
            }
        }
    };
    tokio::select! {
        _ = questions => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

/// Numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[derive(Debug, Default)]
struct Told {
    landed: u32,
    refused: u32,
    doubtful_landed: u32,
    doubtful_not: u32,
}

/// One message, written until it is there; each attempt may be struck.
async fn write(store: &dyn Store, fence: &Fence, number: u64, told: &mut Told) -> Fence {
    let turn = || Commit { at: at(1), ..track([message(number.into(), &format!("item-{number}"))]) };
    loop {
        let doubtful = match store.commit(fence, turn()).await {
            Ok(committed) => {
                told.landed += 1;
                return committed.fence;
            }
            Err(Error::InDoubt(_)) => true,
            Err(Error::Unavailable(_)) => false,
            Err(other) => panic!("round {number}: {other:?}"),
        };
        let now = loop {
            match store.reload(fence).await {
                Ok(claimed) => break claimed.fence,
                Err(Error::Unavailable(_) | Error::InDoubt(_)) => {}
                Err(other) => panic!("round {number}: {other:?}"),
            }
        };
        if now != *fence {
            assert_eq!(now, Fence { commit_ver: fence.commit_ver + 1, ..*fence });
            assert!(doubtful, "round {number}: it was said that nothing was changed");
            told.doubtful_landed += 1;
            return now;
        }
        if doubtful {
            told.doubtful_not += 1;
        } else {
            told.refused += 1;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_lands_once_whatever_becomes_of_its_answer() {
    let Some(mut database) = Database::new().await else { return };
    let proxy = Proxy::before(&database).await;
    let name = database.direct.rsplit('/').next().unwrap().to_owned();
    database.url = format!("postgres://mailyard@127.0.0.1:{}/{name}?sslmode=disable", proxy.port);
    let store: Arc<dyn Store> = Arc::new(database.open(false).await.unwrap());
    let mut killer = database.connect().await;
    let (world, mut claimed) = World::with_mailboxes(store.clone(), 1).await;
    let (mut fence, mut told, mut chance) = (claimed.remove(0).fence, Told::default(), Chance(SEED));
    for number in 0..ROUNDS {
        let fate = chance.below(4);
        let writing = write(&*store, &fence, number, &mut told);
        fence = if fate < 3 {
            proxy.fate.store(fate as u8, Ordering::SeqCst);
            writing.await
        } else {
            let moment = Duration::from_micros(chance.below(4000));
            let striking = async {
                tokio::time::sleep(moment).await;
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND application_name = 'mailyard'";
                killer.execute(all).await.unwrap();
            };
            tokio::join!(writing, striking).0
        };
    }
    println!("seed {SEED}, {ROUNDS} commits: {told:?}");
    let Told { landed, refused, doubtful_landed, doubtful_not } = told;
    assert_eq!(u64::from(landed + doubtful_landed), ROUNDS);
    assert!(refused > 0 && doubtful_landed > 0 && doubtful_not > 0, "each of it has happened");
    let emails = world.emails(Filter::All).await;
    assert_eq!(emails.len() as u64, ROUNDS, "each is there once");
    assert_eq!(fence.commit_ver, ROUNDS, "and was written once");
}
