//! Encodes what a transport carries: messages, and what ranks tell each other about themselves.

use crate::error::{Class, Error};
use serde::{Deserialize, Serialize};

/// Holds one piece of traffic: the bytes of a message, or JSON. Which of both it is, is its last
/// byte, so that a message of a gigabyte need not be moved to make room for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Frame {
    #[serde(skip)]
    Message(Vec<u8>),
    /// The sender is at work.
    Working,
    /// The sender has done its part.
    Done,
    /// The sender has failed, or passes a failure on.
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
const JSON: u8 = 2;

impl Frame {
    /// Returns the bytes of the frame.
    pub fn encode(self) -> Vec<u8> {
        let (mut bytes, kind) = match self {
            Self::Message(bytes) => (bytes, MESSAGE),
            // It consists of numbers and text: that cannot fail.
            frame => (serde_json::to_vec(&frame).unwrap_or_default(), JSON),
        };
        bytes.push(kind);
        bytes
    }

    /// Returns the frame, or `None` if the bytes are none.
    pub fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        match bytes.pop()? {
            MESSAGE => Some(Self::Message(bytes)),
            JSON => serde_json::from_slice(&bytes).ok(),
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
