//! Encodes what a transport carries: messages, and what ranks tell each other about themselves.

use crate::error::{Class, Error};
use serde::{Deserialize, Serialize};

/// Holds one piece of traffic. Its kind is its last byte, so that a message of a gigabyte need not
/// be moved to make room for it.
#[derive(Debug)]
pub(super) enum Frame {
    Message(Vec<u8>),
    /// The sender is at work.
    Working,
    /// The sender has done its part.
    Done,
    Failed(Failure),
}

/// Reports why a run ends early. It is passed on as it is, so that every rank names the same cause.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    /// The rank that failed, or found another lost.
    pub rank: usize,
    /// The rank that is dead or silent, or sends nonsense, where that is the cause.
    pub lost: Option<usize>,
    #[serde(with = "ClassInFrame")]
    class: Class,
    /// The error as the user sees it.
    text: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Class")]
enum ClassInFrame {
    Usage,
    Failed,
    Interrupted,
}

const MESSAGE: u8 = 1;
const WORKING: u8 = 2;
const DONE: u8 = 3;
const FAILED: u8 = 4;

impl Frame {
    pub fn encode(self) -> Vec<u8> {
        let (mut bytes, kind) = match self {
            Self::Message(bytes) => (bytes, MESSAGE),
            Self::Working => (Vec::new(), WORKING),
            Self::Done => (Vec::new(), DONE),
            // It consists of numbers and text: that cannot fail.
            Self::Failed(failure) => (serde_json::to_vec(&failure).unwrap_or_default(), FAILED),
        };
        bytes.push(kind);
        bytes
    }

    /// Returns `None` for what is no frame.
    pub fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        match (bytes.pop()?, bytes.is_empty()) {
            (MESSAGE, _) => Some(Self::Message(bytes)),
            (WORKING, true) => Some(Self::Working),
            (DONE, true) => Some(Self::Done),
            (FAILED, _) => serde_json::from_slice(&bytes).ok().map(Self::Failed),
            _ => None,
        }
    }
}

impl Failure {
    /// Returns the failure of `rank` with `error`.
    pub fn new(rank: usize, lost: Option<usize>, error: &Error) -> Self {
        Self {
            rank,
            lost,
            class: error.class(),
            text: error.to_string(),
        }
    }

    /// Returns the error that other ranks, and those that lost one, end with.
    pub fn error(&self) -> Error {
        let Self { rank, text, .. } = self;
        match self.class {
            // The text names the lost rank.
            _ if self.lost.is_some() => Error::failed(text.clone()),
            Class::Usage => Error::usage(format!("rank {rank}: {text}")),
            Class::Failed => Error::failed(format!("rank {rank} failed: {text}")),
            Class::Interrupted => Error::interrupted(format!("rank {rank} was stopped: {text}")),
        }
    }
}
