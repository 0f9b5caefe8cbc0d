//! Defines the two ends of a federation whose clients are processes of their own, each with its own
//! images alone: what the server asks of its clients, and a client of its server. What carries the
//! bytes implements them, and decides who is there and how long to wait.

use super::link::Kind;
use crate::error::Result;
use crate::model::StateDict;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names an exchange of a federated run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Rounds that are complete before it.
    pub round: usize,
    /// Its number in the round, from 0.
    pub number: usize,
}

/// Writes both numbers: `3-0`.
impl fmt::Display for At {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.round, self.number)
    }
}

/// Holds what a server asks of its clients.
#[derive(Debug)]
pub struct Call {
    /// Which exchange it is.
    pub at: At,
    /// The clients that are asked, ascending.
    pub nodes: Vec<usize>,
    /// The messages that each sends back, in this order.
    pub kinds: Vec<Kind>,
    /// What each receives, the same for all: a message of safetensors.
    pub handout: Option<Vec<u8>>,
}

/// Reaches the clients, on the server.
pub trait Clients {
    /// Returns those of `nodes` that can be asked in this exchange, ascending. Waits until there
    /// are enough of them. An exchange that an earlier process began has those that it asked.
    ///
    /// # Errors
    /// Fails when there are too few for too long, and on Ctrl-C.
    fn present(&mut self, at: At, nodes: &[usize]) -> Result<Vec<usize>>;

    /// Asks the clients, and waits for their answers. Returns those that answered, ascending. An
    /// exchange that an earlier process ended has the answers that it had then.
    ///
    /// # Errors
    /// Fails when too few answer for too long, and on Ctrl-C.
    fn exchange(&mut self, call: Call) -> Result<Vec<usize>>;

    /// Returns a message of the answer of `node` in the last exchange, by its index among the
    /// call's kinds.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    fn message(&mut self, node: usize, index: usize) -> Result<Vec<u8>>;
}

/// Reaches the server, on a client.
pub trait Server {
    /// Returns this client's number.
    fn node(&self) -> usize;

    /// Waits until the server asks this client to take part in an exchange. Returns what is handed
    /// out, empty if nothing is; `None` if there is nothing to do in it: the server continued
    /// without this client, or has its answer from an earlier process.
    ///
    /// # Errors
    /// Fails when the server cannot be reached for too long, when its run failed, and on Ctrl-C.
    fn receive(&mut self, at: At) -> Result<Option<Vec<u8>>>;

    /// Saves this client's answer with all that it `kept`, so that a killed client resumes from
    /// there, and then sends the answer.
    ///
    /// # Errors
    /// Fails when it cannot be saved, when the server refuses it, and as
    /// [`receive`](Self::receive) does.
    fn answer(&mut self, at: At, messages: &[Vec<u8>], kept: &StateDict) -> Result<()>;
}
