//! What the server knows of its clients and their uploads: the events of its journal, applied in
//! order. A restart reads the same events and comes to the same state.

use super::journal::Journal;
use super::rounds::progress::{Asked, Closed, Progress};
use super::task::Task;
use crate::artifact::atomic;
use crate::artifact::lock::{Attempt, Lock};
use crate::error::{Error, Result};
use crate::federated::At;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The journal's file in the server's folder.
pub const JOURNAL: &str = "journal.jsonl";
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
        /// Its number among all clients, where it takes part in rounds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<usize>,
    },
    /// A client announced an upload, which takes the place of one that it had not completed.
    Opened {
        upload: String,
        client: String,
        bytes: u64,
        sha256: String,
        /// The exchange that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<At>,
    },
    /// An upload is complete and valid, and its file is in `blobs`.
    Accepted { upload: String },
    /// An upload is complete and cannot be used.
    Refused { upload: String, reason: String },
    /// The deadline was moved, to seconds since 1970.
    Extended { until: i64 },
    /// No more uploads are taken; these are used, in this order. With rounds: these clients are
    /// there, and the rounds begin.
    Closed { uploads: Vec<String> },
    /// Clients are asked to take part in an exchange, whose handout is in `blobs`.
    Asked(Asked),
    /// An exchange is over.
    Answered(Closed),
    /// The student is there.
    Finished { sha256: String, bytes: u64 },
    /// The rounds are over, and there is nothing to download.
    Ended,
    /// The work cannot continue.
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
    /// The exchange that it answers.
    pub at: Option<At>,
    pub outcome: Outcome,
}

/// Holds a client that has enrolled.
#[derive(Clone, Debug)]
pub struct Enrolment {
    pub name: String,
    /// Training images, synthetic ones included.
    pub images: u64,
    /// Its number, where it takes part in rounds.
    pub node: Option<usize>,
    /// Its latest upload.
    pub upload: Option<String>,
    /// Counts its enrolments and uploads, in rounds those of an exchange: each takes a line of the
    /// journal.
    pub attempts: u32,
}

/// How far the work is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Collecting,
    /// The uploads are complete, and the server is at work.
    Closed,
    /// The work is done, with what there is to download; nothing where each client has a result of
    /// its own.
    Done(Option<Download>),
    Failed(String),
}

/// A file among the blobs that clients download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// In lower-case hexadecimal.
    pub sha256: String,
    pub bytes: u64,
}

/// Holds what the events make.
#[derive(Clone, Debug, Default)]
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
    pub rounds: Progress,
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
                node,
            } => self.enrol(client, name, images, node),
            Event::Opened {
                upload,
                client,
                bytes,
                sha256,
                at,
            } => {
                let opened = Upload {
                    client,
                    bytes,
                    sha256,
                    at,
                    outcome: Outcome::Open,
                };
                self.open(upload, opened);
            }
            Event::Accepted { upload } => self.end(&upload, Outcome::Accepted),
            Event::Refused { upload, reason } => self.end(&upload, Outcome::Refused(reason)),
            Event::Extended { until } => self.extended = Some(until),
            Event::Closed { uploads } => {
                self.closed = uploads;
                self.phase = Phase::Closed;
            }
            Event::Asked(asked) => {
                self.extended = None;
                self.rounds.ask(asked);
            }
            Event::Answered(closed) => {
                self.extended = None;
                self.rounds.close(closed);
            }
            Event::Ended => self.phase = Phase::Done(None),
            Event::Finished { sha256, bytes } => {
                self.phase = Phase::Done(Some(Download { sha256, bytes }));
            }
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

    fn open(&mut self, id: String, opened: Upload) {
        if let Some(enrolment) = self.clients.get_mut(&opened.client) {
            let earlier = enrolment.upload.replace(id.clone());
            let earlier = earlier.and_then(|earlier| self.uploads.shift_remove(&earlier));
            if opened.at.is_some() && earlier.is_none_or(|earlier| earlier.at != opened.at) {
                enrolment.attempts = 0;
            }
            enrolment.attempts += 1;
        }
        self.uploads.insert(id, opened);
    }

    fn enrol(&mut self, client: String, name: String, images: u64, node: Option<usize>) {
        let enrolment = self.clients.entry(client).or_insert(Enrolment {
            name,
            images,
            node,
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

    /// Returns node and upload of each client whose answer to the exchange that is asked for is
    /// here, checked or not.
    pub fn answers(&self) -> impl Iterator<Item = (usize, &Upload)> {
        let at = self.rounds.current.as_ref().map(|asked| asked.at);
        let uploads = self.uploads.values();
        let of = move |upload: &'_ Upload| upload.at.is_some() && upload.at == at;
        uploads
            .filter(move |upload| of(upload))
            .filter_map(|upload| {
                let client = self.clients.get(&upload.client)?;
                Some((client.node?, upload))
            })
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
        for name in ["", "blobs", "teachers"] {
            atomic::remove_stale(&folder.join(name));
        }
        let path = folder.join(JOURNAL);
        let mut blobs = std::fs::read_dir(folder.join("blobs"))
            .into_iter()
            .flatten();
        if !path.exists() && blobs.next().is_some() {
            return Err(
                Error::failed("the server's journal is gone, but not its uploads")
                    .note("file", path.display().to_string())
                    .note("found", folder.join("blobs").display().to_string())
                    .hint("put it back, or start a new federation in a folder of its own"),
            );
        }
        let (journal, events) = Journal::open(&path)?;
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
