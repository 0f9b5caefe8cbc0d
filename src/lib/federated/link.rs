//! Named tensors between a server and its nodes, over any transport, with every byte counted.

use super::ledger::{Amount, Direction, Entry, Ledger};
use super::transport::Transport;
use crate::artifact::tensors;
use crate::error::{During, Error, Result};
use crate::model::StateDict;
use crate::train::FitState;
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
    /// What a node keeps to itself, for rank 0's checkpoint and results; not in the ledger.
    Kept,
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
            Self::Kept => "kept",
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

    /// Tells all ranks where the run goes on: rank 0 gives its `start`, if it has one, and the
    /// others receive the position and those tensors whose names `wanted` holds of. Not in the
    /// ledger: a run that was never stopped sends none of it.
    ///
    /// # Errors
    /// Those of the transport; a message that cannot be read.
    pub fn spread(
        &mut self,
        start: Option<&FitState>,
        wanted: &dyn Fn(&str) -> bool,
    ) -> Result<Option<FitState>> {
        if self.is_server() {
            for rank in 1..self.ranks() {
                self.transport.send(rank, encode_start(start, wanted)?)?;
            }
            return Ok(start.map(FitState::share));
        }
        let bytes = self.transport.receive(0)?;
        decode_start(&bytes).during(|| "receiving where the run goes on from rank 0")
    }

    /// Node on another rank than 0: leaves `state` with rank 0, for the checkpoint.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn keep(&mut self, round: usize, node: usize, state: &StateDict) -> Result<()> {
        self.transport
            .send(0, encode(round, node, Kind::Kept, state)?)
    }

    /// Rank 0: what a node on another rank left.
    ///
    /// # Errors
    /// As [`from_node`](Self::from_node).
    pub fn kept(&mut self, round: usize, node: usize) -> Result<StateDict> {
        let bytes = self.transport.receive(self.host(node))?;
        decode(&bytes, round, node, Kind::Kept).during(|| format!("receiving from node {node}"))
    }

    /// Whether two nodes are on one rank.
    pub fn together(&self, a: usize, b: usize) -> bool {
        self.host(a) == self.host(b)
    }

    /// Rank 0: whether a node's rank has said something that nobody has asked for yet.
    pub fn has_heard(&mut self, node: usize) -> bool {
        self.transport.has_arrived(self.host(node))
    }

    /// Rank 0: gives a node on another rank back what it left, when a run goes on; the node hears
    /// it [from the server](Self::from_server) as [`Kind::Kept`].
    ///
    /// # Errors
    /// Those of the transport.
    pub fn give_back(&mut self, round: usize, node: usize, state: &StateDict) -> Result<()> {
        self.transport
            .send(self.host(node), encode(round, node, Kind::Kept, state)?)
    }

    /// The ledger so far, which begins anew.
    pub fn take_ledger(&mut self) -> Ledger {
        std::mem::take(&mut self.ledger)
    }

    /// Server: sends `state` to `node`.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn download(
        &mut self,
        round: usize,
        node: usize,
        kind: Kind,
        state: &StateDict,
    ) -> Result<()> {
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
        decode(&bytes, round, node, kind)
            .during(|| format!("receiving from the server for node {node}"))
    }

    /// Node: sends `state` to the server.
    ///
    /// # Errors
    /// Those of the transport.
    pub fn upload(
        &mut self,
        round: usize,
        node: usize,
        kind: Kind,
        state: &StateDict,
    ) -> Result<()> {
        self.transport.send(0, encode(round, node, kind, state)?)
    }

    /// Server: receives what `node` sent. On the CPU, by name.
    ///
    /// # Errors
    /// Those of the transport; another message than the one expected, or none that can be read.
    pub fn from_node(&mut self, round: usize, node: usize, kind: Kind) -> Result<StateDict> {
        let bytes = self.transport.receive(self.host(node))?;
        let state =
            decode(&bytes, round, node, kind).during(|| format!("receiving from node {node}"))?;
        self.count(round, node, kind, Direction::Upload, &state, bytes.len());
        Ok(state)
    }

    fn count(
        &mut self,
        round: usize,
        node: usize,
        kind: Kind,
        direction: Direction,
        state: &StateDict,
        bytes: usize,
    ) {
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
    text.into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// The metadata key of a position.
const POSITION: &str = "position";

fn encode_start(start: Option<&FitState>, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u8>> {
    let Some(start) = start else {
        return tensors::encode(&[], &BTreeMap::new());
    };
    let position = serde_json::to_string(&start.position)
        .map_err(|error| Error::failed(format!("cannot tell where the run goes on: {error}")))?;
    let named = start
        .tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor));
    let named: Vec<(&str, &Tensor)> = named.filter(|(name, _)| wanted(name)).collect();
    tensors::encode(&named, &BTreeMap::from([(POSITION.to_owned(), position)]))
}

fn decode_start(bytes: &[u8]) -> Result<Option<FitState>> {
    let message = tensors::decode(bytes).map_err(|error| unreadable(bytes, &error))?;
    let Some(position) = message.metadata.get(POSITION) else {
        return Ok(None);
    };
    let position = serde_json::from_str(position)
        .map_err(|error| unreadable(bytes, &Error::failed(error.to_string())))?;
    Ok(Some(FitState {
        position,
        tensors: message.tensors,
    }))
}

fn unreadable(bytes: &[u8], error: &Error) -> Error {
    Error::failed("a message cannot be read")
        .note("found", format!("{} bytes; {}", bytes.len(), error.what()))
}

fn encode(round: usize, node: usize, kind: Kind, state: &StateDict) -> Result<Vec<u8>> {
    let tensors: Vec<(&str, &Tensor)> = state.iter().collect();
    tensors::encode(&tensors, &envelope(round, node, kind))
}

fn decode(bytes: &[u8], round: usize, node: usize, kind: Kind) -> Result<StateDict> {
    let message = tensors::decode(bytes).map_err(|error| unreadable(bytes, &error))?;
    let expected = envelope(round, node, kind);
    if message.metadata != expected {
        return Err(Error::failed("a message is not the one expected")
            .note("expected", format!("{expected:?}"))
            .note("found", format!("{:?}", message.metadata)));
    }
    Ok(StateDict::new(message.tensors))
}
