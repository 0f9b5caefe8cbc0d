//! Receives files in pieces, at the offset where the last piece ended, and checks those that are
//! complete. The core of the tus protocol: a client asks for the offset and resumes from there.
//!
//! The bytes of an upload are in `uploads/ID.part`, and how many there are is the offset: nothing
//! else is recorded of a piece. One request writes to an upload at a time, and the newest wins: a
//! client whose connection broke must not wait for a request that only the server still sees.
//! A complete file is checked, linked into `blobs` under its hash, and accepted by an event of the
//! journal, in this order: a crash between two of them repeats the check.

mod disk;

use super::fault::Fault;
use super::server::Limits;
use super::state::{Event, MOST_ATTEMPTS, Outcome, Phase, State, Store, Upload};
use super::task::Task;
use super::tokens::{Client, Tokens};
use super::{random_hex, rounds, validate};
use crate::artifact::atomic;
use crate::artifact::fault::explain;
use crate::error::Error;
use crate::federated::At;
use crate::run::free_space;
use disk::{Pace, write_pieces};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Carries the number of bytes that an upload has.
pub const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// How long a request waits for the one that it takes the place of.
const HANDOVER: Duration = Duration::from_secs(10);
/// How long an upload waits until there are few enough others, before its client is asked to come
/// back.
const QUEUE: Duration = Duration::from_secs(2);
/// Pieces of a body that wait for the disk.
const WAITING: usize = 4;
/// Files that are checked at the same time.
const CHECKS: usize = 2;
/// When a check that failed on the server's own account is repeated.
const CHECK_AGAIN: Duration = Duration::from_secs(10);
/// Bytes of the disk that uploads leave free, for the work after them.
const RESERVE: u64 = 64 << 20;
/// Longest reason for a refusal, in letters.
const MOST_REASON: usize = 2000;

/// The reason for which a complete upload is refused when nobody waits for it any more.
pub const LATE: &str = "it came after the uploads were closed";

/// What a client announces before it sends bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// What is sent: `teacher`, or the `answer` of a client in rounds.
    pub kind: String,
    /// The exchange that is answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At>,
    pub bytes: u64,
    /// In lower-case hexadecimal.
    pub sha256: String,
}

/// What an upload looks like to its client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shown {
    pub id: String,
    /// `open`, `checking`, `accepted` or `refused`.
    pub status: String,
    pub offset: u64,
    pub bytes: u64,
    pub sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where the bytes of a request belong.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub offset: u64,
    pub length: u64,
}

/// Receives and checks uploads.
pub struct Uploads {
    pub store: Arc<Store>,
    pub tokens: Arc<Tokens>,
    pub task: Arc<Task>,
    limits: Limits,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    writers: Arc<Semaphore>,
    checks: Semaphore,
    checking: Mutex<HashSet<String>>,
    /// Bytes received since the start.
    pub received: AtomicU64,
}

/// Gives an upload to one request at a time.
struct Slot {
    gate: Arc<tokio::sync::Mutex<()>>,
    /// Counts the requests; one that sees a higher number than its own ends.
    newest: watch::Sender<u64>,
}

impl Uploads {
    /// Prepares to receive into the store's folder; removes what belongs to no open upload.
    ///
    /// # Errors
    /// Fails when the folders cannot be made.
    pub fn new(
        store: Arc<Store>,
        tokens: Arc<Tokens>,
        task: Arc<Task>,
        limits: Limits,
    ) -> Result<Self, Error> {
        for name in ["uploads", "blobs"] {
            atomic::create_folder(&store.folder.join(name))?;
        }
        let open = store.view(|state| {
            let open = state.uploads.iter();
            let open = open.filter(|(_, upload)| upload.outcome == Outcome::Open);
            open.map(|(id, _)| store.part(id)).collect::<HashSet<_>>()
        });
        let parts = std::fs::read_dir(store.folder.join("uploads"));
        for part in parts.into_iter().flatten().flatten() {
            if !open.contains(&part.path()) {
                let _ = std::fs::remove_file(part.path());
            }
        }
        Ok(Self {
            store,
            tokens,
            task,
            slots: Mutex::default(),
            writers: Arc::new(Semaphore::new(limits.uploads)),
            checks: Semaphore::new(CHECKS),
            checking: Mutex::default(),
            received: AtomicU64::new(0),
            limits,
        })
    }

    /// Checks the uploads that were complete when the server ended.
    pub fn resume(self: &Arc<Self>) {
        let open = |(id, upload): (&String, &Upload)| {
            (upload.outcome == Outcome::Open).then(|| id.clone())
        };
        let ids: Vec<_> = self
            .store
            .view(|state| state.uploads.iter().filter_map(open).collect());
        for id in ids {
            self.check_if_complete(&id);
        }
    }

    /// Announces an upload. Returns it, and true if it is new. It blocks on the disk.
    ///
    /// # Errors
    /// Fails when the client has not enrolled, has had another upload accepted, or uploads are no
    /// longer taken; for a size beyond the limits; for a disk that is full.
    pub fn announce(&self, client: &Client, wanted: &Announce) -> Result<(Shown, bool), Fault> {
        self.check_announcement(wanted)?;
        let id = random_hex(16)?;
        let (mut known, mut replaced) = (None, None);
        self.store.commit(|state| {
            let Some(enrolment) = state.clients.get(&client.id) else {
                return Err(Fault::new(
                    StatusCode::CONFLICT,
                    "not_enrolled",
                    "this client has not enrolled",
                )
                .hint("PUT /v1/clients/me first"));
            };
            if let Some((id, upload)) = state.upload_of(&client.id) {
                let is_same = upload.sha256 == wanted.sha256
                    && upload.bytes == wanted.bytes
                    && upload.at == wanted.at;
                match &upload.outcome {
                    Outcome::Open | Outcome::Accepted if is_same => {
                        known = Some(id.to_owned());
                        return Ok(None);
                    }
                    // Of an earlier exchange there may be another.
                    Outcome::Accepted if upload.at == wanted.at => {
                        return Err(already_accepted(&upload.sha256));
                    }
                    _ => replaced = Some(id.to_owned()),
                }
            }
            refuse_late(state, &client.id, wanted.at)?;
            if enrolment.attempts >= MOST_ATTEMPTS {
                return Err(Fault::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "too_many_attempts",
                    format!("this client has begun {MOST_ATTEMPTS} uploads"),
                )
                .hint("ask the host of the server for a new token"));
            }
            self.refuse_full_disk(state, wanted.bytes, replaced.as_deref())?;
            Ok(Some(Event::Opened {
                upload: id.clone(),
                client: client.id.clone(),
                bytes: wanted.bytes,
                sha256: wanted.sha256.clone(),
                at: wanted.at,
            }))
        })?;
        if let Some(id) = known {
            return Ok((self.shown(client, &id)?, false));
        }
        if let Some(earlier) = replaced {
            self.forget(&earlier);
        }
        tracing::info!(
            "{}: an upload of {} bytes begins",
            client.name,
            wanted.bytes
        );
        Ok((self.shown(client, &id)?, true))
    }

    fn check_announcement(&self, wanted: &Announce) -> Result<(), Fault> {
        let wrong = |what: &str| Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "announcement", what);
        let hexadecimal = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        let (kind, has_rounds) = match self.task.rounds {
            None => ("teacher", false),
            Some(_) => ("answer", true),
        };
        if wanted.kind != kind || wanted.at.is_some() != has_rounds {
            let with = if has_rounds { ", with `at`" } else { "" };
            return Err(wrong(&format!(
                "the server takes uploads of the kind `{kind}`{with}"
            )));
        }
        if wanted.sha256.len() != 64 || !wanted.sha256.bytes().all(hexadecimal) {
            return Err(wrong("`sha256` is 64 lower-case hexadecimal digits"));
        }
        if wanted.bytes == 0 {
            return Err(wrong("an upload has a byte or more"));
        }
        let most = self.task.max_bytes;
        if wanted.bytes > most {
            let text = format!("the upload has {} bytes", wanted.bytes);
            return Err(
                Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text).hint(format!(
                    "the task takes at most {most} bytes; is it the right file?"
                )),
            );
        }
        Ok(())
    }

    /// Refuses to promise more bytes than the quota has, or the disk beside what is still to come.
    /// The upload that is `replaced` gives its place back, and an answer that is late takes none.
    fn refuse_full_disk(
        &self,
        state: &State,
        bytes: u64,
        replaced: Option<&str>,
    ) -> Result<(), Fault> {
        let (mut promised, mut lacking) = (bytes, bytes);
        let others = self
            .open(state)
            .filter(|(id, _)| Some(id.as_str()) != replaced);
        let is_late =
            |upload: &Upload| upload.at.is_some_and(|at| state.rounds.asked(at).is_none());
        for (id, upload) in others.filter(|(_, upload)| !is_late(upload)) {
            promised = promised.saturating_add(upload.bytes);
            lacking = lacking.saturating_add(upload.bytes - self.offset(id)?.min(upload.bytes));
        }
        let free = free_space(&self.store.folder).unwrap_or(u64::MAX);
        match promised <= self.limits.quota && lacking <= free.saturating_sub(RESERVE) {
            true => Ok(()),
            false => Err(Fault::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk_full",
                "the server has no space for this upload",
            )
            .hint("try again later, or tell the host of the server")
            .retry_after(60)),
        }
    }

    /// Returns an upload of this client as it is now.
    ///
    /// # Errors
    /// Fails when the client has no upload with this id: another client's is as unknown as one that
    /// does not exist.
    pub fn shown(&self, client: &Client, id: &str) -> Result<Shown, Fault> {
        let upload = self.find(client, id)?;
        let offset = match upload.outcome {
            Outcome::Open => self.offset(id)?,
            _ => upload.bytes,
        };
        let (status, reason) = match upload.outcome {
            Outcome::Open if offset < upload.bytes => ("open", None),
            Outcome::Open => ("checking", None),
            Outcome::Accepted => ("accepted", None),
            Outcome::Refused(reason) => ("refused", Some(reason)),
        };
        Ok(Shown {
            id: id.to_owned(),
            status: status.to_owned(),
            offset,
            bytes: upload.bytes,
            sha256: upload.sha256,
            reason,
        })
    }

    fn find(&self, client: &Client, id: &str) -> Result<Upload, Fault> {
        let found = self.store.view(|state| state.uploads.get(id).cloned());
        let own = found.filter(|upload| upload.client == client.id);
        own.ok_or_else(|| {
            Fault::new(
                StatusCode::NOT_FOUND,
                "no_upload",
                "there is no such upload",
            )
            .hint("POST /v1/uploads begins one; a newer one replaces one that is not complete")
        })
    }

    /// Returns how many bytes of an open upload are here; `id` is one of the state's.
    pub fn offset(&self, id: &str) -> Result<u64, Fault> {
        let path = self.store.part(id);
        match std::fs::metadata(&path) {
            Ok(data) => Ok(data.len()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
            Err(error) => Err(explain("read", &path, error).into()),
        }
    }

    /// Returns true if the bytes of an open upload that is `wanted` are complete. It counts if it
    /// is accepted, however long the check takes.
    pub fn has_unchecked(&self, state: &State, wanted: impl Fn(&Upload) -> bool) -> bool {
        let open = self.open(state).filter(|(_, upload)| wanted(upload));
        let mut offsets = open.map(|(id, upload)| (self.offset(id).ok(), upload.bytes));
        offsets.any(|(offset, bytes)| offset == Some(bytes))
    }

    /// Returns the open uploads of clients whose tokens are valid.
    fn open<'a>(&self, state: &'a State) -> impl Iterator<Item = (&'a String, &'a Upload)> {
        let open = state.uploads.iter();
        open.filter(|(_, upload)| upload.outcome == Outcome::Open)
            .filter(|(_, upload)| self.tokens.is_valid(&upload.client))
    }

    /// Receives a piece of an upload, and returns the upload as it is then.
    ///
    /// # Errors
    /// Fails when the piece does not begin where the last one ended or is too long, when a newer
    /// request takes over, when the bytes come too slowly, and when the disk is full. What came
    /// before the failure is kept.
    pub async fn receive(
        self: &Arc<Self>,
        client: &Client,
        id: &str,
        piece: Piece,
        body: Incoming,
    ) -> Result<Shown, Fault> {
        self.find(client, id)?;
        let slot = self.slot(id);
        let mut turn = 0;
        slot.newest.send_modify(|count| {
            *count += 1;
            turn = *count;
        });
        let mut newest = slot.newest.subscribe();
        let gate = timeout(HANDOVER, Arc::clone(&slot.gate).lock_owned()).await;
        let gate = gate.map_err(|_| superseded())?;
        if *newest.borrow_and_update() != turn {
            return Err(superseded());
        }
        let shown = self.check_piece(client, id, piece)?;
        if shown.status != "open" {
            return Ok(shown);
        }
        let permit = tokio::select! {
            biased;
            _ = newest.changed() => return Err(superseded()),
            permit = timeout(QUEUE, Arc::clone(&self.writers).acquire_owned()) => permit,
        };
        let Ok(Ok(permit)) = permit else {
            return Err(Fault::new(
                StatusCode::TOO_MANY_REQUESTS,
                "busy",
                format!("{} uploads are being received", self.limits.uploads),
            )
            .retry_after(1));
        };
        let path = self.store.part(id);
        let (pieces, waiting) = mpsc::channel(WAITING);
        // The writer keeps the gate: when a connection ends, this function is dropped before it.
        let writer = tokio::task::spawn_blocking(move || {
            let written = write_pieces(&path, piece.offset, waiting);
            drop((gate, permit));
            written
        });
        let ended = self.relay(client, piece, body, pieces, &mut newest).await;
        let written = writer.await;
        // All bytes may be here although the last of them, or its caller, met a failure.
        self.check_if_complete(id);
        match written {
            Ok(written) => written.map_err(Fault::from)?,
            Err(error) => return Err(Error::failed(format!("the writer ended: {error}")).into()),
        }
        ended?;
        self.shown(client, id)
    }

    /// Checks that a piece begins at the end of what is here, and fits. Returns the upload.
    fn check_piece(&self, client: &Client, id: &str, piece: Piece) -> Result<Shown, Fault> {
        let shown = self.shown(client, id)?;
        if piece.offset != shown.offset {
            let text = format!("the piece begins at {}, not {}", piece.offset, shown.offset);
            return Err(Fault::new(StatusCode::CONFLICT, "wrong_offset", text)
                .hint("HEAD gives the offset to resume from")
                .header(OFFSET, HeaderValue::from(shown.offset)));
        }
        if piece.length > shown.bytes - shown.offset {
            let text = format!("the upload lacks {} bytes", shown.bytes - shown.offset);
            return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text));
        }
        if shown.status == "open" {
            self.store.view(|state| {
                let at = state.uploads.get(id).and_then(|upload| upload.at);
                refuse_late(state, &client.id, at)
            })?;
        }
        Ok(shown)
    }

    /// Passes the bytes of a body to the disk until they end, or must end.
    async fn relay(
        &self,
        client: &Client,
        piece: Piece,
        mut body: Incoming,
        pieces: mpsc::Sender<Bytes>,
        newest: &mut watch::Receiver<u64>,
    ) -> Result<(), Fault> {
        let mut pace = Pace::new(&self.limits);
        let mut checked = Instant::now();
        loop {
            let frame = tokio::select! {
                biased;
                _ = newest.changed() => return Err(superseded()),
                frame = timeout_at(pace.deadline(), body.frame()) => frame,
            };
            let frame = match frame {
                Err(_) => return Err(self.too_slow()),
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => frame.map_err(|error| {
                    let text = format!("the connection ended in the middle: {error}");
                    Fault::new(StatusCode::BAD_REQUEST, "cut", text)
                })?,
            };
            let Ok(bytes) = frame.into_data() else {
                continue;
            };
            pace.count(bytes.len());
            self.received
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if pace.bytes > piece.length {
                let text = "the body is longer than its Content-Length";
                return Err(Fault::new(StatusCode::BAD_REQUEST, "too_long", text));
            }
            // The writer has ended; its error is the answer.
            if pieces.send(bytes).await.is_err() {
                return Ok(());
            }
            if checked.elapsed() > Duration::from_secs(1) {
                checked = Instant::now();
                if !self.tokens.is_valid(&client.id) {
                    let text = "the token was revoked";
                    return Err(Fault::new(StatusCode::UNAUTHORIZED, "revoked", text));
                }
            }
        }
    }

    fn too_slow(&self) -> Fault {
        let text = format!("less than {} bytes a second arrived", self.limits.rate);
        Fault::new(StatusCode::REQUEST_TIMEOUT, "too_slow", text)
            .hint("what arrived is kept: resume from the offset that HEAD gives")
    }

    fn slot(&self, id: &str) -> Arc<Slot> {
        let mut slots = held(&self.slots);
        let new = || {
            Arc::new(Slot {
                gate: Arc::default(),
                newest: watch::Sender::new(0),
            })
        };
        Arc::clone(slots.entry(id.to_owned()).or_insert_with(new))
    }

    /// Ends the request that writes to an upload, and removes its bytes.
    fn forget(&self, id: &str) {
        if let Some(slot) = held(&self.slots).remove(id) {
            slot.newest.send_modify(|count| *count += 1);
        }
        let _ = std::fs::remove_file(self.store.part(id));
    }

    /// Checks an upload in the background if all of its bytes are here, and it is not being
    /// checked.
    pub fn check_if_complete(self: &Arc<Self>, id: &str) {
        let wanted = self.store.view(|state| {
            let open = state.uploads.get(id);
            open.filter(|upload| upload.outcome == Outcome::Open)
                .map(|upload| upload.bytes)
        });
        let complete = wanted.is_some() && self.offset(id).ok() == wanted;
        if !complete || !held(&self.checking).insert(id.to_owned()) {
            return;
        }
        let (own, id) = (Arc::clone(self), id.to_owned());
        tokio::spawn(async move {
            let permit = own.checks.acquire().await;
            let (judge, which) = (Arc::clone(&own), id.clone());
            let judged = tokio::task::spawn_blocking(move || judge.judge(&which)).await;
            drop(permit);
            let failed = match judged {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(format!("a check ended: {error}")),
            };
            match &failed {
                None => own.forget(&id),
                Some(problem) => {
                    tracing::error!("{problem}");
                    sleep(CHECK_AGAIN).await;
                }
            }
            held(&own.checking).remove(&id);
            // Its client may be gone, and the deadline waits for the check.
            if failed.is_some() {
                own.check_if_complete(&id);
            }
        });
    }

    /// Accepts or refuses a complete upload. It blocks on the disk.
    fn judge(&self, id: &str) -> Result<(), Error> {
        let found = self.store.view(|state| {
            let upload = state.uploads.get(id)?;
            let enrolment = state.clients.get(&upload.client)?;
            let asked = upload.at.map(|at| state.rounds.asked(at).cloned());
            Some((upload.clone(), enrolment.clone(), asked))
        });
        let Some((upload, enrolment, asked)) = found else {
            return Ok(());
        };
        let part = self.store.part(id);
        let announced = validate::Announced {
            bytes: upload.bytes,
            sha256: upload.sha256.clone(),
            images: enrolment.images,
        };
        let judged = match (&asked, enrolment.node) {
            (None, _) => validate::upload(&part, &announced, &self.task),
            (Some(Some(asked)), Some(node)) => {
                rounds::check::answer(&part, &announced, asked, node, &self.task)
            }
            (Some(_), _) => Err(Error::failed(LATE)),
        };
        let refusal = match judged {
            Ok(()) => None,
            // A file that ends too early is a wrong file; anything else is the disk's fault.
            Err(error)
                if error
                    .io()
                    .is_some_and(|io| io.kind() != ErrorKind::UnexpectedEof) =>
            {
                return Err(error);
            }
            Err(error) => Some(error.to_string().chars().take(MOST_REASON).collect()),
        };
        if refusal.is_none() {
            atomic::link_or_copy(&part, &self.store.blob(&upload.sha256))?;
        }
        let name = &enrolment.name;
        self.store.commit(|state| {
            let is_open = |upload: &&Upload| upload.outcome == Outcome::Open;
            if state.uploads.get(id).filter(is_open).is_none() {
                return Ok(None);
            }
            let late = refuse_late(state, &upload.client, upload.at).is_err();
            let refusal = match late {
                true => Some(LATE.to_owned()),
                false => refusal,
            };
            let upload = id.to_owned();
            Ok::<_, Error>(Some(match refusal {
                None => {
                    tracing::info!("{name}: the upload is accepted");
                    Event::Accepted { upload }
                }
                Some(reason) => {
                    // Names of classes are the client's: no line of the log is made of them.
                    let told = reason.replace('\n', "\n    ");
                    tracing::warn!("{name}: the upload is refused: {told}");
                    Event::Refused { upload, reason }
                }
            }))
        })
    }
}

/// Refuses an upload once they are closed: in rounds, the answer to an exchange that `client` is
/// not asked for now.
fn refuse_late(state: &State, client: &str, at: Option<At>) -> Result<(), Fault> {
    let Some(at) = at else {
        return match state.phase {
            Phase::Collecting => Ok(()),
            _ => Err(Fault::new(
                StatusCode::CONFLICT,
                "closed",
                "the server takes no more uploads",
            )
            .hint("GET /v1/next tells how far it is")),
        };
    };
    let enrolment = state.clients.get(client);
    let node = enrolment.and_then(|enrolment| enrolment.node);
    let asked = state.rounds.asked(at).zip(node);
    match asked.is_some_and(|(asked, node)| asked.nodes.contains(&node)) {
        true => Ok(()),
        false => {
            let name = enrolment.map_or("?", |enrolment| enrolment.name.as_str());
            tracing::warn!("{name}: an answer to exchange {at} came too late");
            Err(Fault::new(StatusCode::CONFLICT, "late", LATE)
                .hint("GET /v1/next tells what the server waits for now"))
        }
    }
}

fn already_accepted(sha256: &str) -> Fault {
    Fault::new(
        StatusCode::CONFLICT,
        "other_accepted",
        format!("another upload of this client is accepted: {sha256}"),
    )
    .hint(
        "one upload a client; to replace it, the host revokes the token and adds the client again",
    )
}

fn superseded() -> Fault {
    Fault::new(
        StatusCode::LOCKED,
        "superseded",
        "a newer request writes to this upload",
    )
    .retry_after(1)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
