//! Named tensors between a server and its nodes, over any transport, with every byte counted.

use super::ledger::{Amount, Direction, Entry, Ledger};
use super::transport::Transport;
use crate::artifact::tensors;
use crate::error::{During, Error, Result};
use crate::model::StateDict;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Tensor;

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Weights (and buffers).
    Model,
    /// Numbers about a node's training: for the log, not for learning.
    Report,
    /// Images and labels that the server hands out.
    Batch,
    /// A gradient of each parameter, and a loss.
    Gradient,
    /// A node's answers to public images: a score of each class.
    Scores,
    /// The mean of all nodes' scores.
    Consensus,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Report => "report",
            Self::Batch => "batch",
            Self::Gradient => "gradient",
            Self::Scores => "scores",
            Self::Consensus => "consensus",
        }
    }
}

/// One rank's end of the network. Rank 0 is the server; the ledger is complete there.
pub struct Link<'a> {
    transport: &'a mut dyn Transport,
    ledger: Ledger,
}

impl<'a> Link<'a> {
    /// Over `transport`, with an empty ledger.
    pub fn new(transport: &'a mut dyn Transport) -> Self {
        Self {
            transport,
            ledger: Ledger::default(),
        }
    }

    /// Whether this rank is the server.
    pub fn is_server(&self) -> bool {
        self.transport.rank() == 0
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.transport.rank()
    }

    /// Number of ranks.
    pub fn ranks(&self) -> usize {
        self.transport.size()
    }

    /// Whether this rank hosts `node`.
    pub fn hosts(&self, node: usize) -> bool {
        self.host(node) == self.rank()
    }

    fn host(&self, node: usize) -> usize {
        node % self.transport.size()
    }

    /// The ledger so far, which begins anew.
    pub fn take_ledger(&mut self) -> Ledger {
        std::mem::take(&mut self.ledger)
    }

    /// Server: sends `state` to `node`.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn download(&mut self, round: usize, node: usize, kind: Kind, state: &StateDict) -> Result<()> {
        let bytes = encode(round, node, kind, state)?;
        self.count(round, node, kind, Direction::Download, state, bytes.len());
        self.transport.send(self.host(node), bytes)
    }

    /// Node: receives what the server sent it. On the CPU, by name.
    ///
    /// # Errors
    /// Those of the transport; another message than the one expected, or none that can be read.
    pub fn from_server(&mut self, round: usize, node: usize, kind: Kind) -> Result<StateDict> {
        let bytes = self.transport.receive(0)?;
        decode(&bytes, round, node, kind).during(|| format!("receiving from the server for node {node}"))
    }

    /// Node: sends `state` to the server.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn upload(&mut self, round: usize, node: usize, kind: Kind, state: &StateDict) -> Result<()> {
        self.transport.send(0, encode(round, node, kind, state)?)
    }

    /// Server: receives what `node` sent. On the CPU, by name.
    ///
    /// # Errors
    /// Those of the transport; another message than the one expected, or none that can be read.
    pub fn from_node(&mut self, round: usize, node: usize, kind: Kind) -> Result<StateDict> {
        let bytes = self.transport.receive(self.host(node))?;
        let state = decode(&bytes, round, node, kind).during(|| format!("receiving from node {node}"))?;
        self.count(round, node, kind, Direction::Upload, &state, bytes.len());
        Ok(state)
    }

    fn count(&mut self, round: usize, node: usize, kind: Kind, direction: Direction, state: &StateDict, bytes: usize) {
        let entry = Entry {
            round,
            node,
            kind,
            direction,
        };
        let amount = Amount {
            values: state.bytes(),
            bytes: bytes as u64,
        };
        self.ledger.record(entry, amount);
    }
}

/// Says in the metadata what the message is.
fn envelope(round: usize, node: usize, kind: Kind) -> BTreeMap<String, String> {
    let text = [
        ("round", round.to_string()),
        ("node", node.to_string()),
        ("kind", kind.name().to_owned()),
    ];
    text.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn encode(round: usize, node: usize, kind: Kind, state: &StateDict) -> Result<Vec<u8>> {
    let tensors: Vec<(&str, &Tensor)> = state.iter().collect();
    tensors::encode(&tensors, &envelope(round, node, kind))
}

fn decode(bytes: &[u8], round: usize, node: usize, kind: Kind) -> Result<StateDict> {
    let message = tensors::decode(bytes).map_err(|error| {
        Error::failed("a message cannot be read").note("found", format!("{} bytes; {}", bytes.len(), error.what()))
    })?;
    let expected = envelope(round, node, kind);
    if message.metadata != expected {
        return Err(Error::failed("a message is not the one expected")
            .note("expected", format!("{expected:?}"))
            .note("found", format!("{:?}", message.metadata)));
    }
    Ok(StateDict::new(message.tensors))
}
