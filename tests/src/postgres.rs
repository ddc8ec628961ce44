//! Private servers of PostgreSQL, and poolers before them, each in a folder of its own and on a socket in it. They end
//! with whoever started them, however that ends, and their folders with them.

#![allow(clippy::expect_used, reason = "a test whose server does not begin has nothing to go on with")]

use std::{
    env, fs, io,
    os::unix::{fs::chown, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What runs a server until its standard input ends, and then takes its folder away.
const KEEPER: &str = r#"trap "" INT TERM; folder=$1; shift; "$@" >"$folder/log" 2>&1 </dev/null & server=$!
read -r _; kill -KILL $server; wait $server; rm -rf "$folder""#;
/// No server takes longer to begin.
const BEGIN: Duration = Duration::from_mins(1);

/// A server.
#[derive(Debug)]
pub struct Server {
    keeper: Child,
    folder: PathBuf,
}

impl Server {
    /// Starts PostgreSQL without durability: what it says is in its memory. `None`: Debian's `postgresql` is not here,
    /// which fails where everything is required.
    ///
    /// # Panics
    /// If it is here and does not start.
    pub fn postgres() -> Option<Self> {
        let bin = binaries()?;
        let folder = folder("postgres");
        let data = folder.join("data");
        let mut initdb = unprivileged(&bin.join("initdb"));
        initdb.args(["-A", "trust", "-U", "mailyard", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        let made = initdb.arg(&data).output().expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let sockets = format!("unix_socket_directories={}", folder.display());
        let mut settings = vec!["-D".to_owned(), data.display().to_string()];
        for setting in
            ["listen_addresses=", &sockets, "fsync=off", "full_page_writes=off", "max_connections=200"]
        {
            settings.extend(["-c".to_owned(), setting.to_owned()]);
        }
        let server = Self::keep(folder, &bin.join("postgres"), &settings);
        // It listens before it answers.
        while !Command::new(bin.join("pg_isready"))
            .args(["-q", "-h"])
            .arg(&server.folder)
            .status()
            .is_ok_and(|is| is.success())
        {
            thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    /// Starts PgBouncer in transaction mode before a server. `None`: Debian's `pgbouncer` is not here.
    ///
    /// # Panics
    /// If it is here and does not start.
    pub fn pgbouncer(before: &Self) -> Option<Self> {
        let program = Path::new("/usr/sbin/pgbouncer");
        if !program.exists() {
            missing("pgbouncer");
            return None;
        }
        let folder = folder("pgbouncer");
        let file = folder.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={} user=mailyard\n[pgbouncer]\nlisten_addr =\nlisten_port = 5432\nunix_socket_dir = {}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 400\n",
            before.folder.display(),
            folder.display()
        );
        fs::write(&file, text).expect("a configuration");
        Some(Self::keep(folder, program, &[file.display().to_string()]))
    }

    fn keep(folder: PathBuf, program: &Path, arguments: &[String]) -> Self {
        let mut keeper = unprivileged(Path::new("/bin/sh"));
        keeper.args(["-c", KEEPER, "keeper"]).arg(&folder).arg(program).args(arguments);
        let keeper = keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let server = Self { keeper, folder };
        let begun = Instant::now();
        while let Err(error) = UnixStream::connect(server.socket()) {
            let log = fs::read_to_string(server.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < BEGIN, "{} does not start: {error}\n{log}", program.display());
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(".s.PGSQL.5432")
    }

    /// A folder that goes away with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://mailyard@{}/{database}", self.folder.display().to_string().replace('/', "%2F"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// The newest of Debian's versions that is new enough.
fn binaries() -> Option<PathBuf> {
    let named = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
        let bin = path.join("bin");
        (version >= 15 && bin.join("initdb").exists()).then_some((version, bin))
    };
    let found = fs::read_dir("/usr/lib/postgresql").ok().and_then(|all| all.filter_map(named).max());
    if found.is_none() {
        missing("postgresql");
    }
    found.map(|(_, bin)| bin)
}

fn missing(package: &str) {
    assert!(
        env::var("MAILYARD_REQUIRE").as_deref() != Ok("all"),
        "Debian's {package} is missing, and MAILYARD_REQUIRE=all"
    );
    eprintln!("SKIPPED: Debian's {package} is not here");
}

/// Servers of PostgreSQL do not run as root.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/tmp");
    command
}

fn folder(name: &str) -> PathBuf {
    let folder =
        tempfile::Builder::new().prefix(&format!("mailyard-{name}-")).tempdir().expect("a folder").keep();
    if is_root() {
        chown(&folder, Some(number("-u")), Some(number("-g"))).expect("a folder of its own");
    }
    folder
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n")
}

/// The number of the user or group that runs servers.
fn number(of: &str) -> u32 {
    let said = Command::new("id").args([of, "postgres"]).output().expect("id runs");
    String::from_utf8_lossy(&said.stdout).trim().parse().expect("Debian's postgresql has made its user")
}
