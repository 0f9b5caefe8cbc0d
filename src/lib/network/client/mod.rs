//! Calls a server: asks for the task, enrols, sends an upload from the offset that the server has,
//! waits, and fetches the result. Whatever fails on the way is tried again, except what cannot get
//! better: a certificate that does not hold, a token that is refused, an upload that is refused.

mod connection;
mod trouble;

pub use connection::Settings;

use super::routes::{Enrol, Next};
use super::task::Task;
use super::uploads::{Announce, LATE, Shown};
use crate::artifact::fault::explain;
use crate::artifact::{atomic, hash};
use crate::error::{Error, Result};
use crate::federated::At;
use crate::runtime::{Progress, interrupt};
use connection::{Connection, Payload, Stoppable};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;
use trouble::{Patience, Trouble, interrupt_or_sleep, trouble};
use ureq::http::Method;

/// How long the server holds a question for news, in seconds.
const NEWS: u64 = 25;
/// Bytes between two looks at whether to stop.
const CHUNK: usize = 64 << 10;

/// Calls one server with one token.
pub struct Remote {
    connection: Connection,
}

impl Remote {
    /// Prepares to call a server.
    ///
    /// # Errors
    /// Fails for an address that is none, and certificates that cannot be read (usage).
    pub fn new(settings: Settings) -> Result<Self> {
        let connection = Connection::new(settings)?;
        Ok(Self { connection })
    }

    /// Returns the server's task and its fingerprint.
    ///
    /// # Errors
    /// Fails when the server cannot be reached for too long, and when it refuses the token.
    pub fn task(&self) -> Result<(Task, String)> {
        let (task, fingerprint, _) = self.task_and_node()?;
        Ok((task, fingerprint))
    }

    /// Returns the server's task, its fingerprint, and this client's number in its rounds.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does.
    pub fn task_and_node(&self) -> Result<(Task, String, Option<usize>)> {
        #[derive(serde::Deserialize)]
        struct Answer {
            fingerprint: String,
            task: Task,
            #[serde(default)]
            node: Option<usize>,
        }
        let answer: Answer = self.connection.ask(Method::GET, "/v1/task", None)?;
        answer.task.check().map_err(Error::into_failed)?;
        Ok((answer.task, answer.fingerprint, answer.node))
    }

    /// Enrols with a number of training images, for the task with this fingerprint.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does, and when the server does not take the client.
    pub fn enrol(&self, images: u64, fingerprint: &str) -> Result<()> {
        let enrol = Enrol {
            images,
            task: fingerprint.to_owned(),
        };
        let _: serde_json::Value =
            self.connection
                .ask(Method::PUT, "/v1/clients/me", Some(json(&enrol)?))?;
        Ok(())
    }

    /// Sends the file at `path`, from where an earlier attempt ended, and returns once the server
    /// has accepted it.
    ///
    /// # Errors
    /// Fails when the server refuses the file, and says why; as [`Remote::task`] does; and for a
    /// file that cannot be read.
    pub fn send(&self, path: &Path) -> Result<()> {
        match self.upload(path, "teacher", None)? {
            true => Ok(()),
            false => Err(Error::failed("the server takes no more uploads")),
        }
    }

    /// Sends the file at `path` as the answer to an exchange, as [`Remote::send`] does. Returns
    /// false if the server does not wait for it any more.
    ///
    /// # Errors
    /// Fails as [`Remote::send`] does.
    pub fn answer(&self, path: &Path, at: At) -> Result<bool> {
        self.upload(path, "answer", Some(at))
    }

    /// Asks what to do next: at once, or when there is `news`.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does.
    pub fn next(&self, news: bool) -> Result<Next> {
        let wait = if news { NEWS } else { 0 };
        self.connection
            .ask(Method::GET, &format!("/v1/next?wait={wait}"), None)
    }

    /// Returns the error for a server whose work failed.
    pub fn failed(&self, next: Next) -> Error {
        Error::failed("the server could not finish its work")
            .note("reason", next.message)
            .hint("once its host has started it again, the same command resumes")
    }

    fn upload(&self, path: &Path, kind: &str, at: Option<At>) -> Result<bool> {
        let (bytes, sha256) = hash::file(path)?;
        let announce = Announce {
            kind: kind.into(),
            at,
            bytes,
            sha256,
        };
        let announce = json(&announce)?;
        let mut patience = Patience::new(&self.connection.settings);
        let mut told = 0;
        loop {
            // An upload that the server has lost is announced again; one that it has is found.
            let connection = &self.connection;
            let attempt = connection
                .call(Method::POST, "/v1/uploads", Some(announce.clone()))
                .and_then(|response| connection.decoded::<Shown>(response))
                .and_then(|shown| {
                    if shown.offset > told {
                        patience.progress();
                    }
                    self.continue_upload(path, shown, &mut told, &mut patience)
                });
            match attempt {
                Ok(()) => return Ok(true),
                Err(Trouble::Late(_)) => return Ok(false),
                Err(trouble) => patience.pause(trouble, &self.connection)?,
            }
        }
    }

    /// Sends the bytes that an upload lacks, and waits until it is checked.
    fn continue_upload(
        &self,
        path: &Path,
        mut shown: Shown,
        told: &mut u64,
        patience: &mut Patience,
    ) -> Result<(), Trouble> {
        let place = format!("/v1/uploads/{}", shown.id);
        loop {
            match shown.status.as_str() {
                "accepted" => return Ok(()),
                "refused" if shown.reason.as_deref() == Some(LATE) => {
                    return Err(Trouble::Late(LATE.into()));
                }
                "refused" => {
                    let reason = shown.reason.unwrap_or_default();
                    return Err(Error::failed("the server refused the upload")
                        .note("reason", reason.replace('\n', "\n    "))
                        .note("file", path.display().to_string())
                        .into());
                }
                "open" => {
                    match shown.offset {
                        0 => tracing::info!("sending {} bytes", shown.bytes),
                        offset if *told == 0 => tracing::info!("resuming after {offset} bytes"),
                        _ => {}
                    }
                    *told = shown.offset;
                    self.patch(path, &place, &shown)?;
                }
                // Being checked.
                _ => interrupt_or_sleep(Duration::from_millis(200))?,
            }
            let then = shown;
            shown = self
                .connection
                .decoded(self.connection.call(Method::GET, &place, None)?)?;
            if then.status == "open" {
                if shown.status == "open" && shown.offset <= then.offset {
                    return Err(Trouble::Again {
                        problem: "the bytes that were sent did not arrive".into(),
                        answered: true,
                        wait: None,
                    });
                }
                patience.progress();
            }
        }
    }

    /// Sends the rest of a file from an offset on.
    fn patch(&self, path: &Path, place: &str, shown: &Shown) -> Result<(), Trouble> {
        let broken = |error| Trouble::Final(explain("read", path, error));
        let mut file = File::open(path).map_err(broken)?;
        file.seek(SeekFrom::Start(shown.offset)).map_err(broken)?;
        let rest = shown.bytes.saturating_sub(shown.offset);
        let request = self
            .connection
            .request(Method::PATCH, place)
            .header("Content-Type", "application/offset+octet-stream")
            .header("Content-Length", rest)
            .header("Upload-Offset", shown.offset)
            .header("Tus-Resumable", "1.0.0")
            // A refusal then comes before the bytes, and not as a broken connection.
            .header("Expect", "100-continue");
        let progress = Progress::of_bytes("sending", shown.bytes);
        progress.skip(shown.offset);
        self.connection
            .perform(request, Payload::File(Stoppable(file.take(rest), progress)))
            .map(drop)
    }

    /// Waits until the server is done, and returns hash and length of the result. Tells the log
    /// what the server is waiting for.
    ///
    /// # Errors
    /// Fails when the server's work failed; when it waits for this client itself, which `hint`
    /// tells what to do; as [`Remote::task`] does.
    pub fn wait(&self, hint: &str) -> Result<(String, u64)> {
        let mut told = String::new();
        loop {
            // What the server is waiting for is told at once, and then what is new.
            let next = self.next(!told.is_empty())?;
            if next.message != told {
                tracing::info!("{}", next.message);
                told = next.message.clone();
            }
            if next.action == "failed" {
                return Err(self.failed(next));
            }
            match (next.action.as_str(), next.result) {
                ("done", Some(result)) => return Ok(result),
                ("wait", _) => interrupt::check()?,
                (_, _) => {
                    return Err(Error::failed("the server waits for this client")
                        .note("reason", next.message)
                        .hint(hint));
                }
            }
        }
    }

    /// Downloads the result, which has this hash and length, to `path`.
    ///
    /// The bytes are written to `path` + `.part`, which a later call resumes, and renamed when
    /// their hash is right.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does, when the hash is another, and when the file cannot be
    /// written.
    pub fn fetch(&self, path: &Path, sha256: &str, bytes: u64) -> Result<()> {
        match self.fetch_from("/v1/result", path, sha256, bytes)? {
            true => Ok(()),
            false => Err(Error::failed("the server has no such result")),
        }
    }

    /// Downloads what is at `place` of the server, as [`Remote::fetch`] does. Returns false if it
    /// is not there any more.
    ///
    /// # Errors
    /// Fails as [`Remote::fetch`] does.
    pub fn fetch_from(&self, place: &str, path: &Path, sha256: &str, bytes: u64) -> Result<bool> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = path.with_file_name(format!("{name}.part"));
        let folder = crate::artifact::fault::folder_of(path);
        atomic::create_folder(folder)?;
        // What an earlier process left may be the beginning of another file.
        let mut is_resumed = length(&part) > 0;
        loop {
            if !self.fetch_part(place, &part, sha256, bytes)? {
                let _ = std::fs::remove_file(&part);
                return Ok(false);
            }
            let (_, found) = hash::file(&part)?;
            if found == sha256 {
                break;
            }
            std::fs::remove_file(&part).map_err(|error| explain("remove", &part, error))?;
            if !std::mem::take(&mut is_resumed) {
                return Err(Error::failed("what arrived is not what the server has")
                    .note("expected", sha256)
                    .note("found", found)
                    .hint("the same command fetches it again"));
            }
        }
        std::fs::rename(&part, path)
            .and_then(|()| atomic::sync_folder(folder))
            .map_err(|error| explain("write", path, error))?;
        Ok(true)
    }

    /// Appends to a file what it lacks, until it has `bytes`. Returns false if the server does not
    /// have it any more.
    fn fetch_part(&self, place: &str, part: &Path, sha256: &str, bytes: u64) -> Result<bool> {
        let mut patience = Patience::new(&self.connection.settings);
        loop {
            let have = length(part);
            if have > bytes {
                std::fs::remove_file(part).map_err(|error| explain("remove", part, error))?;
                continue;
            }
            if have == bytes {
                return Ok(true);
            }
            let fetched = self.fetch_rest(place, part, have..bytes, sha256);
            if length(part) > have {
                patience.progress();
            }
            let trouble = match fetched {
                Ok(()) if length(part) > have => continue,
                Ok(()) => Trouble::Again {
                    problem: format!("the server sent less than {bytes} bytes"),
                    answered: true,
                    wait: None,
                },
                Err(Trouble::Late(_)) => return Ok(false),
                Err(trouble) => trouble,
            };
            patience.pause(trouble, &self.connection)?;
        }
    }

    /// Appends to a file the bytes from where it ends.
    fn fetch_rest(
        &self,
        place: &str,
        part: &Path,
        lacking: Range<u64>,
        sha256: &str,
    ) -> Result<(), Trouble> {
        let have = lacking.start;
        let broken = |error| Trouble::Final(explain("write", part, error));
        let mut request = self.connection.request(Method::GET, place);
        if have > 0 {
            request = request
                .header("Range", format!("bytes={have}-"))
                .header("If-Range", format!("\"{sha256}\""));
        }
        let response = self.connection.perform(request, Payload::None)?;
        let start = match response.status().as_u16() {
            206 => have,
            _ => 0,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(part)
            .map_err(broken)?;
        file.set_len(start).map_err(broken)?;
        let progress = Progress::of_bytes("fetching", lacking.end);
        progress.skip(start);
        let body = response.into_body().into_reader();
        let mut body = Stoppable(body.take(lacking.end - start), progress);
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = body
                .read(&mut chunk)
                .map_err(|error| trouble(error.into(), &self.connection.settings))?;
            if count == 0 {
                return file.sync_all().map_err(broken);
            }
            file.write_all(&chunk[..count]).map_err(broken)?;
        }
    }
}

/// Returns the length of the file at `path`; 0 if there is none.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    Ok(crate::artifact::json::value(value)?
        .to_string()
        .into_bytes())
}
