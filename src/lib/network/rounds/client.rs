//! Answers a server, on a client. The client's folder has its last answer, and all that it keeps to
//! itself as of then, before the answer is sent: a client that is killed at any moment sends the
//! same again, and trains nothing twice.

use super::envelope;
use crate::artifact::fault::explain;
use crate::artifact::lock::{Attempt, Lock};
use crate::artifact::{atomic, hash};
use crate::error::{During, Error, Result};
use crate::federated::{At, Server};
use crate::model::StateDict;
use crate::network::client::Remote;
use crate::network::routes::Next;
use crate::run::checkpoint::{Checkpoints, Identity};
use crate::train::{FitState, Position};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The name of the checkpoint.
const NAME: &str = "client";

/// Reaches the server from a client.
pub struct RoundsClient<'a> {
    remote: &'a Remote,
    folder: PathBuf,
    checkpoints: Checkpoints,
    node: usize,
    /// The number of the first round.
    first_round: usize,
    /// The last answer.
    last: Option<Saved>,
    /// The hash of what was handed out last.
    handed: Option<String>,
    /// True once the server's rounds are over.
    is_over: bool,
    /// What the server's log line was.
    told: String,
    _lock: Lock,
}

/// Names an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    at: At,
    sha256: String,
    /// The hash of what the server had handed out.
    #[serde(default)]
    handout: Option<String>,
}

impl<'a> RoundsClient<'a> {
    /// Opens the folder of a client, which has this `node` at the server. Rounds count from
    /// `first_round`. Returns also what an earlier process saved there.
    ///
    /// # Errors
    /// Fails when another process has the folder, and when it is of another run.
    pub fn open(
        remote: &'a Remote,
        folder: &Path,
        identity: Identity,
        node: usize,
        first_round: usize,
    ) -> Result<(Self, Option<FitState>)> {
        atomic::create_folder(folder)?;
        refuse_run(folder)?;
        let lock = match Lock::attempt(&folder.join(".join.lock"))? {
            Attempt::Taken(lock) => lock,
            Attempt::Held(_) => {
                return Err(Error::failed(format!(
                    "another `join` has the folder `{}`",
                    folder.display()
                ))
                .hint("each client has a folder of its own: `--folder FOLDER`"));
            }
        };
        atomic::remove_stale(folder);
        // The file can be removed by hand: nothing else starts a client again.
        let checkpoints = Checkpoints::new(folder.to_owned(), identity).with_remedy(
            "`--folder FOLDER` names another folder; this one resumes its own run, with the same \
            images",
        );
        let saved = checkpoints.read::<Saved>(NAME)?;
        let (last, tensors) = match saved {
            Some(saved) => (Some(saved.state), saved.tensors),
            None => (None, Vec::new()),
        };
        let start = last.as_ref().map(|last| FitState {
            position: Position {
                epoch: last.at.round,
                ..Position::default()
            },
            tensors,
        });
        let client = Self {
            remote,
            folder: folder.to_owned(),
            checkpoints,
            node,
            first_round,
            last,
            handed: None,
            is_over: false,
            told: String::new(),
            _lock: lock,
        };
        Ok((client, start))
    }

    fn file(&self) -> PathBuf {
        self.folder.join("answer")
    }

    fn has_answered(&self, at: At) -> bool {
        self.last.as_ref().is_some_and(|last| last.at >= at)
    }

    /// Sends the last answer, unless the server waits for another by now.
    fn send(&self, at: At) -> Result<()> {
        let sent = self.remote.answer(&self.file(), at);
        let round = at.round + self.first_round;
        match sent.during(|| format!("sending the answer of round {round}"))? {
            true => tracing::info!("round {round}: the server has the answer"),
            false => tracing::warn!("round {round}: the server did not wait for it"),
        }
        Ok(())
    }

    /// Sends the last answer if it is the one that the server asks for, with the `handout` of this
    /// hash.
    fn send_again(&self, asked: At, handout: Option<&str>) -> Result<bool> {
        let Some(last) = self.last.as_ref().filter(|last| last.at == asked) else {
            return Ok(false);
        };
        let known = last.handout.as_deref();
        if known.zip(handout).is_some_and(|(known, now)| known != now) {
            return Err(Error::failed(
                "the server asks this round with other values than it did before",
            )
            .note(
                "expected",
                format!("what has the SHA-256 {}", known.unwrap_or_default()),
            )
            .note(
                "found",
                format!("what has the SHA-256 {}", handout.unwrap_or_default()),
            )
            .hint("was the federation begun anew? start in another folder: `--folder FOLDER`"));
        }
        let is_there = self.file().exists() && hash::file(&self.file())?.1 == last.sha256;
        if !is_there {
            return Err(Error::failed("the answer that the server asks for is gone")
                .note("file", self.file().display().to_string())
                .hint("start again in another folder: `--folder FOLDER`"));
        }
        self.send(asked)?;
        Ok(true)
    }

    /// Returns what is handed out; `None` if the server is done with it.
    fn handout(&self, at: At, handout: Option<(String, u64)>) -> Result<Option<Vec<u8>>> {
        let Some((sha256, bytes)) = handout else {
            return Ok(Some(Vec::new()));
        };
        let path = self.folder.join("handout");
        let place = format!("/v1/rounds/{}/handout", at.round);
        if !self.remote.fetch_from(&place, &path, &sha256, bytes)? {
            return Ok(None);
        }
        let bytes = std::fs::read(&path).map_err(|error| explain("read", &path, error))?;
        let _ = std::fs::remove_file(&path);
        Ok(Some(bytes))
    }

    /// Asks the server what to do, at first at once and then when there is news.
    fn next(&mut self) -> Result<Next> {
        let next = self.remote.next(!self.told.is_empty())?;
        if next.message != self.told && next.action != "train" {
            tracing::info!("{}", next.message);
        }
        self.told.clone_from(&next.message);
        Ok(next)
    }
}

/// Refuses the folder of a stage's run, which has a manifest.
fn refuse_run(folder: &Path) -> Result<()> {
    let files = std::fs::read_dir(folder).map_err(|error| explain("read", folder, error))?;
    for file in files.flatten() {
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("manifest") && name.ends_with(".json") {
            let text = format!("`{}` is the folder of another run", folder.display());
            return Err(Error::usage(text)
                .note("found", name.into_owned())
                .hint("a client has a folder of its own: `--folder FOLDER`"));
        }
    }
    Ok(())
}

impl Server for RoundsClient<'_> {
    fn node(&self) -> usize {
        self.node
    }

    fn receive(&mut self, at: At) -> Result<Option<Vec<u8>>> {
        self.told.clear();
        while !self.is_over {
            let next = self.next()?;
            if next.action == "failed" {
                return Err(self.remote.failed(next));
            }
            match (next.action.as_str(), next.at) {
                ("train", Some(asked)) => {
                    let handout = next.handout.as_ref().map(|(sha256, _)| sha256.as_str());
                    if self.send_again(asked, handout)? {
                        continue;
                    }
                    if asked > at {
                        return Ok(None);
                    }
                    if asked < at || self.has_answered(at) {
                        return Err(Error::failed(
                            "the server is behind this client: it asks for what was answered",
                        )
                        .note("expected", format!("exchange {at}"))
                        .note("found", format!("exchange {asked}"))
                        .hint("was the server's folder put back? start in another folder"));
                    }
                    self.handed = handout.map(str::to_owned);
                    if let Some(bytes) = self.handout(at, next.handout)? {
                        return Ok(Some(bytes));
                    }
                }
                ("wait", now) => {
                    if self.has_answered(at) || now.is_some_and(|now| now > at) {
                        return Ok(None);
                    }
                }
                ("done", _) => self.is_over = true,
                (_, _) => {
                    return Err(
                        Error::failed("the server does not know this client any more")
                            .note("reason", next.message)
                            .hint("the same command enrols again"),
                    );
                }
            }
        }
        Ok(None)
    }

    fn answer(&mut self, at: At, messages: &[Vec<u8>], kept: &StateDict) -> Result<()> {
        envelope::write(&self.file(), messages)?;
        let (_, sha256) = hash::file(&self.file())?;
        let saved = Saved {
            at,
            sha256,
            handout: self.handed.take(),
        };
        let tensors: Vec<_> = kept.iter().collect();
        self.checkpoints.write(NAME, &saved, &tensors)?;
        self.last = Some(saved);
        match self.is_over {
            true => Ok(()),
            false => self.send(at),
        }
    }
}
