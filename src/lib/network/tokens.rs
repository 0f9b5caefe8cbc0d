//! Knows who may call: the file `clients.json` of the server's folder, with a hash of each token.
//!
//! `serve client` changes the file while the server runs, and the server reads it again when it has
//! changed, so that a revoked token ends at once. A token is 32 random bytes, shown once and kept
//! as a SHA-256: who reads the file cannot call with it.

use crate::artifact::lock::Lock;
use crate::artifact::{hash, json};
use crate::error::{Error, Result};
use crate::runtime::interrupt;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Begins every token, so that one is recognised wherever it turns up.
const PREFIX: &str = "fd_";
/// Most letters of a client's name.
const MOST_NAME: usize = 64;

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes part: uploads, and fetches the result.
    Client,
    /// Sees the status page and the metrics, and closes or aborts.
    Admin,
}

/// Holds one line of the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Tells this client from one that had the name before.
    pub id: String,
    pub name: String,
    pub role: Role,
    pub token_sha256: String,
    /// When it was added and revoked, in seconds since 1970.
    pub added: i64,
    pub revoked: Option<i64>,
}

/// Returns the path of the list in a server's folder.
fn path(folder: &Path) -> PathBuf {
    folder.join("clients.json")
}

/// Returns all clients, revoked ones too; none where there is no list.
///
/// # Errors
/// Fails for a file that cannot be read.
pub fn list(folder: &Path) -> Result<Vec<Client>> {
    let missing = |error: &Error| {
        error
            .io()
            .is_some_and(|io| io.kind() == ErrorKind::NotFound)
    };
    match json::read(&path(folder)) {
        Err(error) if missing(&error) => Ok(Vec::new()),
        listed => listed,
    }
}

/// Adds a client and returns its token, which is nowhere else.
///
/// # Errors
/// Fails for a name that is empty, too long, or taken by a client that is not revoked (usage), and
/// for a folder that cannot be written.
pub fn add(folder: &Path, name: &str, role: Role) -> Result<String> {
    let name = name.trim();
    let length = name.chars().count();
    if length == 0 || length > MOST_NAME || name.chars().any(char::is_control) {
        return Err(Error::usage("this is no name for a client")
            .note("expected", format!("1 to {MOST_NAME} letters on one line"))
            .note("found", format!("{name:?}")));
    }
    let token = format!("{PREFIX}{}", super::random_hex(32)?);
    let client = Client {
        id: super::random_hex(8)?,
        name: name.to_owned(),
        role,
        token_sha256: hash::bytes(token.as_bytes()),
        added: super::now(),
        revoked: None,
    };
    change(folder, |clients| {
        let taken = |other: &Client| other.name == name && other.revoked.is_none();
        if clients.iter().any(taken) {
            return Err(Error::usage(format!("there is a client `{name}` already")).hint(
                "choose another name, or `serve client revoke` it first: its upload is then left \
                 out",
            ));
        }
        clients.push(client);
        Ok(())
    })?;
    Ok(token)
}

/// Revokes the token of the client with this name: from then on it is refused, and its upload is
/// left out.
///
/// # Errors
/// Fails when there is no such client (usage), and for a folder that cannot be written.
pub fn revoke(folder: &Path, name: &str) -> Result<()> {
    change(folder, |clients| {
        let names: Vec<String> = clients
            .iter()
            .filter(|client| client.revoked.is_none())
            .map(|client| client.name.clone())
            .collect();
        let mut found = clients.iter_mut().filter(|client| client.revoked.is_none());
        match found.find(|client| client.name == name) {
            Some(client) => {
                client.revoked = Some(super::now());
                Ok(())
            }
            None => Err(Error::usage(format!("there is no client `{name}`")).note(
                "available",
                match names.is_empty() {
                    true => "none yet; `serve client add FOLDER NAME` adds one".into(),
                    false => names.join(", "),
                },
            )),
        }
    })
}

/// Refuses a folder that is none of a server.
///
/// # Errors
/// Fails (usage) where there is no task.
pub fn refuse_other_folder(folder: &Path) -> Result<()> {
    match folder.join("task.json").is_file() {
        true => Ok(()),
        false => {
            let text = format!("`{}` is no folder of a server", folder.display());
            Err(Error::usage(text).hint(
                "`serve task FOLDER …` makes one, and the same FOLDER goes before the client's \
                 name",
            ))
        }
    }
}

/// Changes the list, one process at a time.
fn change(folder: &Path, with: impl FnOnce(&mut Vec<Client>) -> Result<()>) -> Result<()> {
    refuse_other_folder(folder)?;
    let _lock = Lock::wait(&folder.join(".clients.lock"), interrupt::check)?;
    let mut clients = list(folder)?;
    with(&mut clients)?;
    json::write(&path(folder), &clients)
}

/// Reads the list again whenever it has changed.
#[derive(Debug)]
pub struct Tokens {
    folder: PathBuf,
    known: Mutex<(Stamp, Arc<Vec<Client>>)>,
}

/// Tells one version of the file from another: it is replaced as a whole.
type Stamp = Option<(u64, i64, i64)>;

impl Tokens {
    /// Reads the list of a server's folder.
    ///
    /// # Errors
    /// Fails for a file that cannot be read.
    pub fn open(folder: &Path) -> Result<Self> {
        let known = (stamp(folder), Arc::new(list(folder)?));
        Ok(Self {
            folder: folder.to_path_buf(),
            known: Mutex::new(known),
        })
    }

    /// Returns the clients as they are now. A file that is damaged lets nobody in; for one that
    /// cannot be read now, such as where too many files are open, those known before stand, since
    /// clients do not come back from a refusal. So they do where the file is gone: nothing removes
    /// it.
    pub fn clients(&self) -> Arc<Vec<Client>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.folder);
        if known.0 != stamp {
            match list(&self.folder) {
                Ok(_) if stamp.is_none() => {
                    known.0 = stamp;
                    tracing::error!("`{}` is gone", path(&self.folder).display());
                }
                Ok(clients) => *known = (stamp, Arc::new(clients)),
                Err(error) if error.io().is_some() => tracing::error!("{error}"),
                Err(error) => {
                    tracing::error!("{error}");
                    *known = (stamp, Arc::default());
                }
            }
        }
        Arc::clone(&known.1)
    }

    /// Returns the client that has `token`, or had it until it was revoked.
    pub fn holder(&self, token: &str) -> Option<Client> {
        let given = hash::bytes(token.as_bytes());
        let clients = self.clients();
        // Every client is compared, in a time that does not depend on the token.
        let mut found = None;
        for client in clients.iter() {
            if same(client.token_sha256.as_bytes(), given.as_bytes()) {
                found = Some(client);
            }
        }
        found.cloned()
    }

    /// Returns the number of the client with this id among all that were ever added, from 0: its
    /// node in rounds. It never changes.
    pub fn node(&self, id: &str) -> Option<usize> {
        let clients = self.clients();
        let mut parties = clients.iter().filter(|client| client.role == Role::Client);
        parties.position(|client| client.id == id)
    }

    /// Returns the number of clients that were ever added.
    pub fn parties(&self) -> usize {
        let clients = self.clients();
        let parties = clients.iter().filter(|client| client.role == Role::Client);
        parties.count()
    }

    /// Reports whether the client with this id may still call.
    pub fn is_valid(&self, id: &str) -> bool {
        let clients = self.clients();
        let mut valid = clients.iter().filter(|client| client.revoked.is_none());
        valid.any(|client| client.id == id)
    }
}

fn stamp(folder: &Path) -> Stamp {
    let data = std::fs::metadata(path(folder)).ok()?;
    Some((data.ino(), data.mtime(), data.mtime_nsec()))
}

/// Compares two texts in a time that depends on their lengths alone.
fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let differing = pairs.fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    one.len() == other.len() && differing == 0
}
