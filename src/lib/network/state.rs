//! What the server knows of its clients and their uploads: the events of its journal, applied in
//! order. A restart reads the same events and comes to the same state.

use super::journal::Journal;
use super::task::Task;
use crate::artifact::atomic;
use crate::artifact::lock::{Attempt, Lock};
use crate::error::{Error, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most enrolments and uploads of a client.
pub const MOST_ATTEMPTS: u32 = 1000;

/// Reports something that happened and must survive a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The folder belongs to the task with this fingerprint.
    Began { task: String },
    /// A client declared how many images it trained on.
    Enrolled {
        client: String,
        name: String,
        images: u64,
    },
    /// A client announced an upload, which takes the place of one that it had not completed.
    Opened {
        upload: String,
        client: String,
        bytes: u64,
        sha256: String,
    },
    /// An upload is complete and valid, and its file is in `blobs`.
    Accepted { upload: String },
    /// An upload is complete and cannot be used.
    Refused { upload: String, reason: String },
    /// The deadline was moved, to seconds since 1970.
    Extended { until: i64 },
    /// No more uploads are taken; these are used, in this order.
    Closed { uploads: Vec<String> },
    /// The student is there.
    Finished { sha256: String, bytes: u64 },
    /// The work cannot go on.
    Failed { reason: String },
    /// The host starts the server again after a failure.
    Resumed,
}

/// What becomes of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Bytes are missing, or are being checked.
    Open,
    Accepted,
    Refused(String),
}

/// Holds an upload as it was announced.
#[derive(Clone, Debug)]
pub struct Upload {
    pub client: String,
    pub bytes: u64,
    pub sha256: String,
    pub outcome: Outcome,
}

/// Holds a client that has enrolled.
#[derive(Clone, Debug)]
pub struct Enrolment {
    pub name: String,
    /// Training images, synthetic ones included.
    pub images: u64,
    /// Its latest upload.
    pub upload: Option<String>,
    /// Counts its enrolments and uploads: each takes a line of the journal.
    pub attempts: u32,
}

/// How far the work is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Collecting,
    /// The uploads are complete, and the server is at work.
    Closed,
    Done {
        sha256: String,
        bytes: u64,
    },
    Failed(String),
}

/// Holds what the events make.
#[derive(Clone, Debug)]
pub struct State {
    pub task: Option<String>,
    /// By the client's id, in order of enrolment.
    pub clients: IndexMap<String, Enrolment>,
    /// The latest upload of each client, by the upload's id.
    pub uploads: IndexMap<String, Upload>,
    pub phase: Phase,
    /// The moved deadline, in seconds since 1970.
    pub extended: Option<i64>,
    /// The uploads that are used.
    pub closed: Vec<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            task: None,
            clients: IndexMap::new(),
            uploads: IndexMap::new(),
            phase: Phase::Collecting,
            extended: None,
            closed: Vec::new(),
        }
    }
}

impl State {
    /// Takes an event in.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Began { task } => self.task = Some(task),
            Event::Enrolled {
                client,
                name,
                images,
            } => self.enrol(client, name, images),
            Event::Opened {
                upload,
                client,
                bytes,
                sha256,
            } => {
                if let Some(enrolment) = self.clients.get_mut(&client) {
                    enrolment.attempts += 1;
                    if let Some(earlier) = enrolment.upload.replace(upload.clone()) {
                        self.uploads.shift_remove(&earlier);
                    }
                }
                let outcome = Outcome::Open;
                let opened = Upload {
                    client,
                    bytes,
                    sha256,
                    outcome,
                };
                self.uploads.insert(upload, opened);
            }
            Event::Accepted { upload } => self.end(&upload, Outcome::Accepted),
            Event::Refused { upload, reason } => self.end(&upload, Outcome::Refused(reason)),
            Event::Extended { until } => self.extended = Some(until),
            Event::Closed { uploads } => {
                self.closed = uploads;
                self.phase = Phase::Closed;
            }
            Event::Finished { sha256, bytes } => self.phase = Phase::Done { sha256, bytes },
            Event::Failed { reason } => self.phase = Phase::Failed(reason),
            Event::Resumed => {
                self.extended = None;
                self.phase = match self.closed.is_empty() {
                    true => Phase::Collecting,
                    false => Phase::Closed,
                };
            }
        }
    }

    fn enrol(&mut self, client: String, name: String, images: u64) {
        let enrolment = self.clients.entry(client).or_insert(Enrolment {
            name,
            images,
            upload: None,
            attempts: 0,
        });
        enrolment.images = images;
        enrolment.attempts += 1;
    }

    fn end(&mut self, upload: &str, outcome: Outcome) {
        if let Some(upload) = self.uploads.get_mut(upload) {
            upload.outcome = outcome;
        }
    }

    /// Returns the latest upload of a client, with its id.
    pub fn upload_of(&self, client: &str) -> Option<(&str, &Upload)> {
        let id = self.clients.get(client)?.upload.as_deref()?;
        Some((id, self.uploads.get(id)?))
    }

    /// Returns the ids of the accepted uploads of clients that `may` take part, in order of
    /// enrolment.
    pub fn accepted(&self, may: impl Fn(&str) -> bool) -> Vec<String> {
        let clients = self.clients.keys().filter(|client| may(client));
        let uploads = clients.filter_map(|client| self.upload_of(client));
        uploads
            .filter(|(_, upload)| upload.outcome == Outcome::Accepted)
            .map(|(id, _)| id.to_owned())
            .collect()
    }

    /// Returns the bytes that open uploads may still take.
    pub fn promised(&self) -> u64 {
        let open = self.uploads.values();
        let open = open.filter(|upload| upload.outcome == Outcome::Open);
        open.map(|upload| upload.bytes).sum()
    }
}

/// Holds the state with its journal, under a lock on the folder.
pub struct Store {
    pub folder: PathBuf,
    inner: Mutex<(Journal, State)>,
    /// Counts changes, for those that wait for one.
    changed: watch::Sender<u64>,
    _lock: Lock,
}

impl Store {
    /// Opens the server's folder for `task`.
    ///
    /// # Errors
    /// Fails when another server has the folder, when it belongs to another task, and when its
    /// journal is damaged.
    pub fn open(folder: &Path, task: &Task) -> Result<Self> {
        atomic::create_folder(folder)?;
        let path = folder.join(".serve.lock");
        let lock = match Lock::attempt(&path)? {
            Attempt::Taken(lock) => lock,
            Attempt::Held(holder) => {
                return Err(Error::failed(format!(
                    "another `serve` has the folder `{}`",
                    folder.display()
                ))
                .note("file", path.display().to_string())
                .note("found", holder)
                .hint("stop that one first, or give this one a folder of its own"));
            }
        };
        let (journal, events) = Journal::open(&folder.join("journal.jsonl"))?;
        let mut state = State::default();
        events.into_iter().for_each(|event| state.apply(event));
        let store = Self {
            folder: folder.to_path_buf(),
            inner: Mutex::new((journal, state)),
            changed: watch::Sender::new(0),
            _lock: lock,
        };
        let fingerprint = task.fingerprint()?;
        match store.view(|state| state.task.clone()) {
            None => store.commit(|_| Ok::<_, Error>(Some(Event::Began { task: fingerprint })))?,
            Some(begun) if begun == fingerprint => {}
            Some(_) => {
                return Err(Error::usage(format!(
                    "`{}` was begun with another task",
                    folder.join("task.json").display()
                ))
                .hint(
                    "images, classes, normalisation and models cannot change under the clients: \
                     put the earlier task back, or give the new one a folder of its own",
                ));
            }
        }
        Ok(store)
    }

    /// Returns what `look` makes of the state as it is now.
    pub fn view<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner().1)
    }

    /// Lets `decide` look at the state, and makes the event that it returns durable and part of the
    /// state, before anything else can happen.
    ///
    /// # Errors
    /// Fails as `decide` does, and when the journal cannot be written; then nothing has happened.
    pub fn commit<E: From<Error>>(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<Event>, E>,
    ) -> Result<(), E> {
        let (journal, state) = &mut *self.inner();
        if let Some(event) = decide(state)? {
            journal.append(&event)?;
            state.apply(event);
            self.changed.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Returns what tells of changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Returns the path of the bytes of an upload that is not complete; `id` is one of the state's.
    pub fn part(&self, id: &str) -> PathBuf {
        self.folder.join("uploads").join(format!("{id}.part"))
    }

    /// Returns the path of the file with this hash; `sha256` is one of the state's.
    pub fn blob(&self, sha256: &str) -> PathBuf {
        self.folder.join("blobs").join(sha256)
    }

    fn inner(&self) -> MutexGuard<'_, (Journal, State)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
