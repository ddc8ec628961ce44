//! Secrets at rest: the master key of a data directory, and envelopes of AES-256-GCM under it.
//!
//! Each secret is encrypted with a data key of its own, and the data key with the master key. Both are bound to the
//! row they stand in: an envelope that was copied to another row does not open.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::Path,
};

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead as _, KeyInit as _, Payload},
};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{Error, Result};

const KEY: usize = 32;
const NONCE: usize = 12;

/// The key under which every secret of a store stands. Its bytes never leave this module.
pub struct MasterKey {
    cipher: Aes256Gcm,
    id: String,
    path: String,
}

/// A secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Which master key wraps the data key.
    pub key_id: String,
    /// The data key, wrapped: nonce and ciphertext.
    pub wrapped_key: Vec<u8>,
    /// The secret: nonce and ciphertext.
    pub sealed: Vec<u8>,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl MasterKey {
    /// Reads the key file, or makes it (mode 0600, 64 hexadecimal digits) if there is none.
    pub fn load_or_create(path: &Path) -> Result<Self> {
        match Self::load(path) {
            Err(Error::Key { .. }) if !path.exists() => Self::create(path),
            loaded => loaded,
        }
    }

    /// Reads the key file. [`Error::Key`] if it is missing, malformed, or others than its owner may read it.
    pub fn load(path: &Path) -> Result<Self> {
        let unusable = |detail: String| Error::Key { path: path.display().to_string(), detail };
        let mut file = fs::File::open(path).map_err(|error| unusable(error.to_string()))?;
        let meta = file.metadata().map_err(|error| unusable(error.to_string()))?;
        if !meta.is_file() {
            return Err(unusable("it is not a file".to_owned()));
        }
        if let Some(mode) = open_to_others(&meta) {
            return Err(unusable(format!(
                "others than its owner may use it (mode {mode:04o}); chmod it to 0600"
            )));
        }
        let mut text = Zeroizing::new(String::with_capacity(4 * KEY));
        (&mut file)
            .take(4 * KEY as u64)
            .read_to_string(&mut text)
            .map_err(|error| unusable(error.to_string()))?;
        let key = from_hex(text.trim_end()).ok_or_else(|| {
            unusable("it does not hold 64 hexadecimal digits; restore it from a backup".to_owned())
        })?;
        Self::from_bytes(&key, path)
    }

    fn create(path: &Path) -> Result<Self> {
        let unusable = |detail: String| Error::Key { path: path.display().to_string(), detail };
        let key = random::<KEY>()?;
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY + 1));
        for byte in key.iter() {
            text.push_str(&Zeroizing::new(format!("{byte:02x}")));
        }
        text.push('\n');
        let written = create_private(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|error| unusable(format!("it cannot be made: {error}")))?;
        Self::from_bytes(&key, path)
    }

    fn from_bytes(key: &[u8; KEY], path: &Path) -> Result<Self> {
        let path = path.display().to_string();
        let cipher = Aes256Gcm::new_from_slice(key)
            .map_err(|_| Error::Key { path: path.clone(), detail: "its length is wrong".to_owned() })?;
        let digest = Sha256::new().chain_update(b"mailyard master key id").chain_update(key).finalize();
        let id = digest.iter().take(8).fold(String::new(), |id, byte| id + &format!("{byte:02x}"));
        Ok(Self { cipher, id, path })
    }

    /// The key's name: 16 hexadecimal digits that tell nothing of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Encrypts a secret for the row that `place` names.
    pub fn seal(&self, place: &str, secret: &SecretString) -> Result<Envelope> {
        let data_key = random::<KEY>()?;
        let cipher = Aes256Gcm::new_from_slice(data_key.as_slice()).map_err(|_| self.broken())?;
        Ok(Envelope {
            key_id: self.id.clone(),
            wrapped_key: self.encrypt(&self.cipher, place, data_key.as_slice())?,
            sealed: self.encrypt(&cipher, place, secret.expose_secret().as_bytes())?,
        })
    }

    /// Decrypts the secret of the row that `place` names. [`Error::Key`] if it was encrypted with another key, for
    /// another row, or was changed.
    pub fn open(&self, place: &str, envelope: &Envelope) -> Result<SecretString> {
        if envelope.key_id != self.id {
            return Err(Error::Key {
                path: self.path.clone(),
                detail: format!("its id is {}, and the secret needs the key {}", self.id, envelope.key_id),
            });
        }
        let data_key = self.decrypt(&self.cipher, place, &envelope.wrapped_key)?;
        let cipher = Aes256Gcm::new_from_slice(&data_key).map_err(|_| self.broken())?;
        let secret = self.decrypt(&cipher, place, &envelope.sealed)?;
        let text = std::str::from_utf8(&secret).map_err(|_| self.broken())?;
        Ok(SecretString::from(text))
    }

    fn encrypt(&self, cipher: &Aes256Gcm, place: &str, message: &[u8]) -> Result<Vec<u8>> {
        let nonce = random::<NONCE>()?;
        let sealed = cipher
            .encrypt(&(*nonce).into(), Payload { msg: message, aad: place.as_bytes() })
            .map_err(|_| self.broken())?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    fn decrypt(&self, cipher: &Aes256Gcm, place: &str, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = stored.split_first_chunk::<NONCE>().ok_or_else(|| self.broken())?;
        cipher
            .decrypt(&(*nonce).into(), Payload { msg: sealed, aad: place.as_bytes() })
            .map(Zeroizing::new)
            .map_err(|_| self.broken())
    }

    fn broken(&self) -> Error {
        Error::Key {
            path: self.path.clone(),
            detail: "it does not open what is stored: another key was used, or the row was changed"
                .to_owned(),
        }
    }
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Error::Unavailable(format!("the system gives no random bytes: {error}").into()))?;
    Ok(bytes)
}

/// Makes a file that only its owner may use; fails if there is one.
pub(crate) fn create_private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(unix)]
fn open_to_others(meta: &fs::Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::MetadataExt::mode(meta) & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn open_to_others(_: &fs::Metadata) -> Option<u32> {
    None
}

fn from_hex(text: &str) -> Option<Zeroizing<[u8; KEY]>> {
    let mut key = Zeroizing::new([0; KEY]);
    if text.len() != 2 * KEY {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = pair.iter().map(|digit| char::from(*digit).to_digit(16));
        *byte =
            digits.reduce(|high, low| Some(high? << 4 | low?))?.and_then(|value| u8::try_from(value).ok())?;
    }
    Some(key)
}
