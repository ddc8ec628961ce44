//! The data directory of a server: who holds it, its token, its certificates, and where the server is found.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::identity;

/// A client's look at the lock is over within this,
const LOOK: Duration = Duration::from_millis(20);
/// and so many in a row are hardly ever met.
const LOOKED_AT: u32 = 10;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server runs on it.
    #[error("{path} is held by another server (process {pid}); stop that one, or use another directory")]
    Held {
        /// The directory.
        path: PathBuf,
        /// The process that holds it.
        pid: String,
    },
    /// A secret can be read by others.
    #[error("{path} can be read by others than its owner (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{path}: {detail}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Nobody serves this directory.
    #[error("no server runs on {path}; start one with: mailyard serve --data {path}")]
    NobodyThere {
        /// The directory.
        path: PathBuf,
    },
}

/// What a server tells when it is ready, and what its clients look for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// True once it can be called.
    pub ready: bool,
    /// Where gRPC is served.
    pub grpc: Vec<String>,
    /// The authority to trust.
    pub ca_file: PathBuf,
    /// The bearer token.
    pub token_file: PathBuf,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// A data directory that this process holds until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { path, source }
}

/// Takes the lock. Clients that look for a server hold it for an instant: one that is taken is tried again for a moment.
fn hold(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOOKED_AT {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK),
            other => return other,
        }
    }
    lock.try_lock()
}

impl DataDir {
    /// Makes the directory if it is not there (0700), and holds it.
    ///
    /// # Errors
    /// [`Error::Held`] if another process holds it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(at(&path))?;
        let path = path.canonicalize().map_err(at(&path))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        match hold(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).map_err(at(&lock_path))?;
                return Err(Error::Held { path, pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(Error::Io { path: lock_path, source }),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        written.map_err(at(&lock_path))?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The bearer token of the administrator; made when it is first asked for.
    ///
    /// # Errors
    /// [`Error::Exposed`] if others can read it.
    pub fn token(&self) -> Result<String, Error> {
        let path = self.path.join("token");
        match read_secret(&path) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).map_err(|error| Error::Damaged {
                    path: path.clone(),
                    detail: format!("the operating system gives no random numbers: {error}"),
                })?;
                let token = URL_SAFE_NO_PAD.encode(bytes);
                write_atomically(&path, &format!("{token}\n"))?;
                Ok(token)
            }
            other => other,
        }
    }

    /// The certificate of this server, and the authority that vouches for it; made when they are first asked for and
    /// renewed before they expire.
    ///
    /// # Errors
    /// [`Error::Damaged`] if what is there cannot be used.
    pub fn identity(&self) -> Result<identity::Identity, Error> {
        identity::load_or_make(&self.path.join("tls"))
    }

    /// Writes where this server is found.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn publish(&self, grpc: Vec<String>) -> Result<Endpoint, Error> {
        let endpoint = Endpoint {
            ready: true,
            grpc,
            ca_file: self.path.join("tls").join("ca.pem"),
            token_file: self.path.join("token"),
            pid: Some(std::process::id()),
        };
        let path = self.path.join("endpoint.json");
        let text = serde_json::to_string(&endpoint)
            .map_err(|error| Error::Damaged { path: path.clone(), detail: error.to_string() })?;
        write_atomically(&path, &text)?;
        Ok(endpoint)
    }

    /// Takes back where this server is found: it stops.
    pub fn withdraw(&self) {
        // If it was never published, there is nothing to take back.
        let _absent = fs::remove_file(self.path.join("endpoint.json"));
    }
}

impl Endpoint {
    /// The server that runs on a directory.
    ///
    /// # Errors
    /// [`Error::NobodyThere`], also if a server died and left its file behind.
    pub fn find(path: &Path) -> Result<Self, Error> {
        let nobody = || Error::NobodyThere { path: path.to_owned() };
        let file = path.join("endpoint.json");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Err(nobody()),
            Err(source) => return Err(Error::Io { path: file, source }),
        };
        if let Ok(lock) = OpenOptions::new().read(true).write(true).open(path.join("lock"))
            && lock.try_lock().is_ok()
        {
            return Err(nobody());
        }
        serde_json::from_str(&text).map_err(|error| Error::Damaged { path: file, detail: error.to_string() })
    }
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// [`Error::Exposed`] if others may.
pub fn read_secret(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(at(path))?;
    let mode = file.metadata().map_err(at(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(at(path))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Writes a file as a whole or not at all, readable by its owner only.
pub(crate) fn write_atomically(path: &Path, text: &str) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    written.map_err(at(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn a_directory_has_one_holder() -> Outcome {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("data");
        let held = DataDir::open(&path)?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o700);
        let second = DataDir::open(&path);
        let pid = std::process::id().to_string();
        assert!(matches!(&second, Err(Error::Held { pid: holder, .. }) if *holder == pid), "{second:?}");
        drop(held);
        assert!(DataDir::open(&path).is_ok());
        Ok(())
    }

    #[test]
    fn the_token_stays_and_is_for_its_owner_alone() -> Outcome {
        let folder = tempfile::tempdir()?;
        let data = DataDir::open(folder.path())?;
        let token = data.token()?;
        assert_eq!((token.len(), data.token()?), (43, token));
        let path = data.path().join("token");
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        assert!(matches!(data.token(), Err(Error::Exposed { mode: 0o644, .. })));
        Ok(())
    }

    #[test]
    fn a_server_is_found_while_it_runs_and_not_after() -> Outcome {
        let folder = tempfile::tempdir()?;
        assert!(matches!(Endpoint::find(folder.path()), Err(Error::NobodyThere { .. })));
        let data = DataDir::open(folder.path())?;
        let published = data.publish(vec!["https://127.0.0.1:5".to_owned()])?;
        assert_eq!(Endpoint::find(data.path())?, published);
        drop(data);
        assert!(
            matches!(Endpoint::find(folder.path()), Err(Error::NobodyThere { .. })),
            "it died and left its file"
        );
        let data = DataDir::open(folder.path())?;
        data.publish(Vec::new())?;
        data.withdraw();
        assert!(matches!(Endpoint::find(folder.path()), Err(Error::NobodyThere { .. })));
        Ok(())
    }
}
