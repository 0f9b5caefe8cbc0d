//! Named tensors between a server and its clients, over the ranks that host them, with every byte
//! counted.

use super::ledger::{Amount, Direction, Entry, Ledger};
use super::transport::Rank;
use crate::artifact::tensors;
use crate::error::{During, Error, Result};
use crate::model::StateDict;
use crate::train::FitState;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// What a message holds. Its name in the message is the variant's in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Weights (and buffers).
    Model,
    /// Numbers about a client's training: for the log, not for learning.
    Report,
    /// Images and labels that the server hands out.
    Batch,
    /// A gradient of each parameter, and a loss.
    Gradient,
    /// What a client keeps to itself, for rank 0's checkpoint and results; not in the ledger.
    Kept,
    /// A client's answers to public images: a score of each class.
    Scores,
    /// The mean of all clients' scores.
    Consensus,
}

/// One rank's end of the federation. Rank 0 is the server; the ledger is complete there. Node i is
/// hosted by rank i mod ranks.
pub struct Link<'a> {
    rank: &'a mut Rank,
    ledger: Ledger,
    /// The rounds (of distributed SGD: steps) that are complete: the number of messages.
    pub complete: usize,
}

impl<'a> Link<'a> {
    /// The end of `rank`, with an empty ledger.
    pub fn new(rank: &'a mut Rank) -> Self {
        Self {
            rank,
            ledger: Ledger::default(),
            complete: 0,
        }
    }

    /// Returns true on the server.
    pub fn is_server(&self) -> bool {
        self.rank() == 0
    }

    /// Returns this rank's number.
    pub fn rank(&self) -> usize {
        self.rank.number()
    }

    /// Returns the number of ranks.
    pub fn ranks(&self) -> usize {
        self.rank.ranks()
    }

    /// Returns true if this rank hosts `node`.
    pub fn hosts(&self, node: usize) -> bool {
        self.host(node) == self.rank()
    }

    /// Returns the rank that hosts `node`.
    pub fn host(&self, node: usize) -> usize {
        node % self.ranks()
    }

    /// Server: returns true if a message of the rank that hosts `node` has arrived.
    pub fn has_message(&mut self, node: usize) -> bool {
        self.rank.has_message(self.host(node))
    }

    /// Tells all ranks where the run resumes: rank 0 gives its `start`, if it has one, and each
    /// other rank receives the position and those tensors for which `wanted` returns true, given
    /// the rank and the tensor's name. Not in the ledger: a run that was never stopped sends none
    /// of it.
    ///
    /// # Errors
    /// Those of [`Rank::receive`]; a message that cannot be read.
    pub fn share_start(
        &mut self,
        start: Option<&FitState>,
        wanted: &dyn Fn(usize, &str) -> bool,
    ) -> Result<Option<FitState>> {
        if !self.is_server() {
            let bytes = self.rank.receive(0)?;
            return decode_start(&bytes).during(|| "receiving where the run resumes from rank 0");
        }
        for rank in 1..self.ranks() {
            let (mut named, mut metadata) = (Vec::new(), BTreeMap::new());
            if let Some(FitState { position, tensors }) = start {
                metadata.insert(POSITION.to_owned(), json!(position).to_string());
                let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
                named.extend(tensors.filter(|(name, _)| wanted(rank, name)));
            }
            self.rank.send(rank, tensors::encode(&named, &metadata)?);
        }
        Ok(start.map(FitState::share))
    }

    /// Returns the ledger so far, and begins a new one.
    pub fn take_ledger(&mut self) -> Ledger {
        std::mem::take(&mut self.ledger)
    }

    /// Lets the server and `nodes` (ascending) exchange messages: each node receives what `handout`
    /// gives it, if anything is handed out, and sends what `client` then returns, as messages of
    /// the kinds `answers`. Other ranks get theirs first, then the nodes here take their turns,
    /// then the others' answers are received. Returns the answers by node on the server, none on
    /// other ranks, where `handout` is not called.
    ///
    /// # Errors
    /// Those of [`Rank::receive`] and `client`; another message than the one expected, or none that
    /// can be read.
    pub fn exchange<const N: usize>(
        &mut self,
        nodes: &[usize],
        handout: Option<(Kind, &dyn Fn(usize) -> StateDict)>,
        answers: [Kind; N],
        client: &mut dyn FnMut(usize, StateDict) -> Result<[StateDict; N]>,
    ) -> Result<BTreeMap<usize, [StateDict; N]>> {
        let (here, remote): (Vec<usize>, Vec<usize>) =
            nodes.iter().partition(|&&node| self.hosts(node));
        let server = self.is_server();
        let mut all = BTreeMap::new();
        if let (true, Some((kind, of))) = (server, handout) {
            for &node in &remote {
                self.download(node, kind, &of(node))?;
            }
        }
        for node in here {
            let mut received = StateDict::new(Vec::new());
            if let Some((kind, of)) = handout {
                if server {
                    self.download(node, kind, &of(node))?;
                }
                received = self.receive_at(node, kind)?;
            }
            for (kind, state) in answers.into_iter().zip(client(node, received)?) {
                self.upload(node, kind, &state)?;
            }
            if server {
                all.insert(node, self.answers(node, answers)?);
            }
        }
        for node in remote.into_iter().filter(|_| server) {
            all.insert(node, self.answers(node, answers)?);
        }
        Ok(all)
    }

    fn answers<const N: usize>(&mut self, node: usize, kinds: [Kind; N]) -> Result<[StateDict; N]> {
        let states = kinds.iter().map(|&kind| self.receive_from(node, kind));
        let states: Vec<StateDict> = states.collect::<Result<_>>()?;
        // There is one of each kind.
        Ok(states.try_into().expect("as many states as kinds"))
    }

    /// Sends `state` from the server to all ranks, each as the node of its number; returns what
    /// this one receives.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub fn broadcast(&mut self, kind: Kind, state: Option<&StateDict>) -> Result<StateDict> {
        if let Some(state) = state {
            (0..self.ranks()).try_for_each(|rank| self.download(rank, kind, state))?;
        }
        self.receive_at(self.rank(), kind)
    }

    /// Server: sends `state` to `node`.
    fn download(&mut self, node: usize, kind: Kind, state: &StateDict) -> Result<()> {
        let envelope = self.envelope(node, kind);
        let bytes = envelope.encode(state)?;
        self.count(&envelope, Direction::Download, state, bytes.len());
        self.rank.send(self.host(node), bytes);
        Ok(())
    }

    /// Client: receives what the server sent to `node`. On the CPU, by name.
    fn receive_at(&mut self, node: usize, kind: Kind) -> Result<StateDict> {
        let bytes = self.rank.receive(0)?;
        let state = self.envelope(node, kind).decode(&bytes);
        state.during(|| format!("receiving from the server for node {node}"))
    }

    /// Client: sends `state` to the server.
    ///
    /// # Errors
    /// A state that cannot be encoded.
    pub fn upload(&mut self, node: usize, kind: Kind, state: &StateDict) -> Result<()> {
        let bytes = self.envelope(node, kind).encode(state)?;
        self.rank.send(0, bytes);
        Ok(())
    }

    /// Server: receives what `node` sent. On the CPU, by name.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub fn receive_from(&mut self, node: usize, kind: Kind) -> Result<StateDict> {
        let bytes = self.rank.receive(self.host(node))?;
        let envelope = self.envelope(node, kind);
        let state = envelope.decode(&bytes);
        let state = state.during(|| format!("receiving from node {node}"))?;
        self.count(&envelope, Direction::Upload, &state, bytes.len());
        Ok(state)
    }

    fn envelope(&self, node: usize, kind: Kind) -> Envelope {
        Envelope {
            round: self.complete,
            node,
            kind,
        }
    }

    fn count(&mut self, of: &Envelope, direction: Direction, state: &StateDict, bytes: usize) {
        if of.kind == Kind::Kept {
            return;
        }
        let entry = Entry {
            round: of.round,
            node: of.node,
            kind: of.kind,
            direction,
        };
        let amount = Amount {
            values: state.bytes(),
            bytes: bytes as u64,
        };
        self.ledger.record(entry, amount);
    }
}

/// What a message is, as its metadata tell.
struct Envelope {
    round: usize,
    node: usize,
    kind: Kind,
}

impl Envelope {
    fn metadata(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("round".to_owned(), self.round.to_string()),
            ("node".to_owned(), self.node.to_string()),
            ("kind".to_owned(), format!("{:?}", self.kind).to_lowercase()),
        ])
    }

    fn encode(&self, state: &StateDict) -> Result<Vec<u8>> {
        tensors::encode(&state.iter().collect::<Vec<_>>(), &self.metadata())
    }

    fn decode(&self, bytes: &[u8]) -> Result<StateDict> {
        let message = tensors::decode(bytes)
            .map_err(|error| unreadable(bytes, &error.what()).caused_by(error))?;
        let expected = self.metadata();
        match message.metadata == expected {
            true => Ok(StateDict::new(message.tensors)),
            false => Err(Error::failed("a message is not the one expected")
                .note("expected", format!("{expected:?}"))
                .note("found", format!("{:?}", message.metadata))),
        }
    }
}

/// The metadata key of a position.
const POSITION: &str = "position";

fn decode_start(bytes: &[u8]) -> Result<Option<FitState>> {
    let message = tensors::decode(bytes)
        .map_err(|error| unreadable(bytes, &error.what()).caused_by(error))?;
    let Some(position) = message.metadata.get(POSITION) else {
        return Ok(None);
    };
    Ok(Some(FitState {
        position: serde_json::from_str(position)
            .map_err(|error| unreadable(bytes, &error.to_string()).caused_by(error))?,
        tensors: message.tensors,
    }))
}

fn unreadable(bytes: &[u8], why: &str) -> Error {
    Error::failed("a message cannot be read").note("found", format!("{} bytes; {why}", bytes.len()))
}
