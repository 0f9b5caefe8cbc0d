//! What travels on the wires: messages, and what ranks tell each other about themselves.

use crate::error::{Class, Error};
use serde::{Deserialize, Serialize};

/// One parcel. On the wire its kind is the last byte, so that a message of a gigabyte need not be
/// moved to make room for it.
#[derive(Debug)]
pub(super) enum Frame {
    Message(Vec<u8>),
    /// "I am at work."
    Alive,
    /// "I have done my part."
    Done,
    Failed(Failure),
}

/// Why a run ends early. Passed on as it is, so that every rank names the one it began with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    /// Whose error it is.
    pub rank: usize,
    /// The rank that cannot be talked to any more, where that is the error.
    pub lost: Option<usize>,
    pub class: Ending,
    /// The error as the user sees it.
    pub text: String,
}

/// [`Class`], as it travels.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Ending {
    Usage,
    Failed,
    Interrupted,
}

const MESSAGE: u8 = 1;
const ALIVE: u8 = 2;
const DONE: u8 = 3;
const FAILED: u8 = 4;

impl Frame {
    pub fn encode(self) -> Vec<u8> {
        let (mut bytes, kind) = match self {
            Self::Message(bytes) => (bytes, MESSAGE),
            Self::Alive => (Vec::new(), ALIVE),
            Self::Done => (Vec::new(), DONE),
            // Numbers and text: it cannot fail.
            Self::Failed(failure) => (serde_json::to_vec(&failure).unwrap_or_default(), FAILED),
        };
        bytes.push(kind);
        bytes
    }

    /// `None` for what is no frame.
    pub fn decode(mut bytes: Vec<u8>) -> Option<Self> {
        match (bytes.pop()?, bytes.is_empty()) {
            (MESSAGE, _) => Some(Self::Message(bytes)),
            (ALIVE, true) => Some(Self::Alive),
            (DONE, true) => Some(Self::Done),
            (FAILED, _) => serde_json::from_slice(&bytes).ok().map(Self::Failed),
            _ => None,
        }
    }
}

impl Failure {
    /// `rank` fails with `error`.
    pub fn new(rank: usize, lost: Option<usize>, error: &Error) -> Self {
        let class = match error.class() {
            Class::Usage => Ending::Usage,
            Class::Failed => Ending::Failed,
            Class::Interrupted => Ending::Interrupted,
        };
        Self {
            rank,
            lost,
            class,
            text: error.to_string(),
        }
    }

    /// The error of the other ranks.
    pub fn error(&self) -> Error {
        if self.lost.is_some() {
            // The text says which rank it is.
            return Error::failed(self.text.clone());
        }
        match self.class {
            Ending::Usage => Error::usage(format!("rank {}: {}", self.rank, self.text)),
            Ending::Failed => Error::failed(format!("rank {} failed: {}", self.rank, self.text)),
            Ending::Interrupted => {
                Error::interrupted(format!("rank {} was stopped: {}", self.rank, self.text))
            }
        }
    }
}
