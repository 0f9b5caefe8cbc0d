//! How far the rounds are: what the journal's events make of them.

use crate::federated::{At, Kind};
use serde::{Deserialize, Serialize};

/// Exchanges whose missing clients are remembered, for the status page.
const REMEMBERED: usize = 20;

/// Holds an exchange that clients are asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    pub at: At,
    /// Who is asked.
    pub nodes: Vec<usize>,
    /// The messages of an answer.
    pub kinds: Vec<Kind>,
    /// SHA-256 and bytes of what they receive.
    pub handout: Option<(String, u64)>,
    /// When they were asked, and when they must have answered, in seconds since 1970.
    pub since: i64,
    pub until: i64,
}

/// Holds an exchange that is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    pub at: At,
    /// Node and SHA-256 of each answer that counts, in the order of the nodes.
    pub answers: Vec<(usize, String)>,
    /// Names of the clients that were asked and did not answer.
    pub missing: Vec<String>,
}

/// Holds how far the rounds are.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The exchange that clients are asked for now.
    pub current: Option<Asked>,
    /// Those of the latest round that are over.
    pub closed: Vec<Closed>,
    /// The latest exchanges in which clients were missing.
    pub missed: Vec<(At, Vec<String>)>,
}

impl Progress {
    /// Takes the beginning of an exchange in.
    pub fn ask(&mut self, asked: Asked) {
        if asked.at.number == 0 {
            self.closed.clear();
        }
        self.current = Some(asked);
    }

    /// Takes the end of an exchange in.
    pub fn close(&mut self, closed: Closed) {
        self.current = None;
        if !closed.missing.is_empty() {
            self.missed.push((closed.at, closed.missing.clone()));
            let surplus = self.missed.len().saturating_sub(REMEMBERED);
            self.missed.drain(..surplus);
        }
        self.closed.push(closed);
    }

    /// Returns the exchange that is asked for or was asked for last.
    pub fn at(&self) -> Option<At> {
        let current = self.current.as_ref().map(|asked| asked.at);
        current.or_else(|| self.closed.last().map(|closed| closed.at))
    }

    /// Returns the end of an exchange of the latest round, if it is over.
    pub fn closed(&self, at: At) -> Option<&Closed> {
        self.closed.iter().find(|closed| closed.at == at)
    }

    /// Returns the exchange that is asked for, if it is `at`.
    pub fn asked(&self, at: At) -> Option<&Asked> {
        self.current.as_ref().filter(|asked| asked.at == at)
    }
}
