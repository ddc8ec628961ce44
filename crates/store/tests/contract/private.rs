//! Databases on private servers, one of each kind for all cases, each database made from one that is up to date.

#[path = "../../../../tests/src/postgres.rs"]
#[allow(dead_code)]
mod server;

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use mailyard_store::{MasterKey, PostgresOptions, PostgresStore, Result};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;

pub use server::Server;

const TEMPLATE: &str = "mailyard_template";

static POSTGRES: LazyLock<Option<Server>> = LazyLock::new(Server::postgres);
static PGBOUNCER: LazyLock<Option<Server>> = LazyLock::new(|| POSTGRES.as_ref().and_then(Server::pgbouncer));
static MADE: OnceCell<()> = OnceCell::const_new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A database with the schema and nothing in it.
pub struct Database {
    /// Where it is.
    pub server: &'static Server,
    /// Its URL, also behind a pooler.
    pub url: String,
    /// Its URL on its server.
    pub direct: String,
}

impl Database {
    /// `None`: there is no server.
    pub async fn new() -> Option<Self> {
        let server = POSTGRES.as_ref()?;
        let admin = server.url("postgres");
        MADE.get_or_init(async || {
            create(&admin, TEMPLATE, "template0").await;
            let options = PostgresOptions::new(server.url(TEMPLATE));
            PostgresStore::open(&options, key(server)).await.unwrap().close().await;
        })
        .await;
        Some(Self::from(server, TEMPLATE).await)
    }

    /// One in which nothing is, not even the schema.
    pub async fn empty() -> Option<Self> {
        Some(Self::from(POSTGRES.as_ref()?, "template0").await)
    }

    async fn from(server: &'static Server, template: &str) -> Self {
        let name = format!("case_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        create(&server.url("postgres"), &name, template).await;
        let direct = server.url(&name);
        Self { server, url: direct.clone(), direct }
    }

    /// The same, reached by a pooler.
    pub async fn pooled() -> Option<Self> {
        let database = Self::new().await?;
        let name = database.url.rsplit('/').next()?.to_owned();
        Some(Self { url: PGBOUNCER.as_ref()?.url(&name), ..database })
    }

    /// The store in it; `pooler`: as it is used behind a pooler.
    pub async fn open(&self, pooler: bool) -> Result<PostgresStore> {
        let options = PostgresOptions { pooler, ..PostgresOptions::new(self.url.as_str()) };
        PostgresStore::open(&options, key(self.server)).await
    }

    /// A connection beside the store's.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.direct).await.unwrap()
    }
}

/// One for all databases of a server: they are copies of one.
fn key(server: &Server) -> MasterKey {
    MasterKey::load_or_create(&server.folder().join("master.key")).unwrap()
}

async fn create(admin: &str, name: &str, template: &str) {
    let mut admin = PgConnection::connect(admin).await.unwrap();
    let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
    admin.execute(AssertSqlSafe(sql)).await.unwrap();
}
