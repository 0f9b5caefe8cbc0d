//! Exchanges named tensors between a server and its clients, over the ranks that host them or with
//! processes elsewhere (`elsewhere`), counts every byte, and holds what clients keep from round to
//! round.

use super::ledger::{Amount, Direction, Entry, Ledger};
use super::remote::{At, Clients, Server};
use super::transport::Rank;
use crate::artifact::tensors::{self, TensorFile};
use crate::error::{During, Error, Result};
use crate::model::StateDict;
use crate::train::FitState;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What a message holds.
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

/// Writes the name that serde writes, as messages have it.
impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

/// The kind of what the server hands out, and a function from a node to what it receives.
pub(super) type Handout<'a> = (Kind, &'a dyn Fn(usize) -> StateDict);

/// Takes a node's part in an exchange: it is called with the node's number, what it received and
/// what it keeps, and returns its answers.
pub(super) type Client<'a, const N: usize> =
    &'a mut dyn FnMut(usize, StateDict, &StateDict) -> Result<[StateDict; N]>;

/// Is called after the answers of each node, if it is given.
pub(super) type Answered<'f, 'a> = Option<&'f mut dyn FnMut(&mut Link<'a>) -> Result<()>>;

/// The answers of each node.
pub(super) type Answers<const N: usize> = BTreeMap<usize, [StateDict; N]>;

/// What connects a process to the federation.
pub(super) enum Carrier<'a> {
    /// Ranks, of which this is one.
    Ranks(&'a mut Rank),
    /// This is the server, and its clients are elsewhere.
    Clients(&'a mut dyn Clients),
    /// This is a client, and its server is elsewhere.
    Server(&'a mut dyn Server),
}

/// Connects a rank to the federation. Rank 0 is the server; the ledger is complete there. Node i is
/// hosted by rank i mod ranks. Where the clients are elsewhere, the server hosts none, and each of
/// them itself alone.
pub struct Link<'a> {
    pub(super) carrier: Carrier<'a>,
    pub(super) ledger: Ledger,
    /// Number of complete rounds (of distributed SGD: steps), which is the number in messages.
    pub complete: usize,
    /// Number of exchanges that the round has had.
    pub(super) exchanges: usize,
    /// What each node keeps, as of the last complete round: on rank 0 that of all nodes that ranks
    /// host, elsewhere that of the nodes that are hosted there.
    pub(super) kept: BTreeMap<usize, StateDict>,
    /// What nodes will keep once the round is complete.
    pub(super) next_kept: BTreeMap<usize, StateDict>,
    /// On rank 0 the server's own state, as of the last complete round.
    pub(super) server: FitState,
}

impl<'a> From<&'a mut Rank> for Link<'a> {
    fn from(rank: &'a mut Rank) -> Self {
        Self::new(rank)
    }
}

impl<'a> Link<'a> {
    /// Returns the link of `rank`, with an empty ledger.
    pub fn new(rank: &'a mut Rank) -> Self {
        Self::over(Carrier::Ranks(rank))
    }

    /// Returns the link of a server with clients elsewhere.
    pub fn with_clients(clients: &'a mut dyn Clients) -> Self {
        Self::over(Carrier::Clients(clients))
    }

    /// Returns the link of a client with a server elsewhere.
    pub fn with_server(server: &'a mut dyn Server) -> Self {
        Self::over(Carrier::Server(server))
    }

    fn over(carrier: Carrier<'a>) -> Self {
        Self {
            carrier,
            ledger: Ledger::default(),
            complete: 0,
            exchanges: 0,
            kept: BTreeMap::new(),
            next_kept: BTreeMap::new(),
            server: FitState::default(),
        }
    }

    /// Returns true on the server.
    pub fn is_server(&self) -> bool {
        match &self.carrier {
            Carrier::Ranks(rank) => rank.number() == 0,
            Carrier::Clients(_) => true,
            Carrier::Server(_) => false,
        }
    }

    /// Returns the number of ranks.
    pub fn ranks(&self) -> usize {
        match &self.carrier {
            Carrier::Ranks(rank) => rank.ranks(),
            _ => 1,
        }
    }

    /// Returns the rank that hosts `node`.
    pub fn host(&self, node: usize) -> usize {
        node % self.ranks()
    }

    /// Returns true if this process hosts `node`.
    pub fn hosts(&self, node: usize) -> bool {
        match &self.carrier {
            Carrier::Ranks(rank) => rank.hosts(node),
            Carrier::Clients(_) => false,
            Carrier::Server(server) => server.node() == node,
        }
    }

    /// Returns true if this process holds what `node` keeps: with ranks, rank 0 holds that of all.
    pub fn holds(&self, node: usize) -> bool {
        self.is_server() && self.gathers() || self.hosts(node)
    }

    /// Returns true if this process holds what it is responsible for after the run: not on ranks
    /// other than 0, whose nodes' states rank 0 has.
    pub(super) fn gathers(&self) -> bool {
        match &self.carrier {
            Carrier::Ranks(rank) => rank.number() == 0,
            Carrier::Clients(_) => false,
            Carrier::Server(_) => true,
        }
    }

    /// Returns this process's rank.
    ///
    /// # Errors
    /// Fails where there are none.
    pub(super) fn rank(&mut self) -> Result<&mut Rank> {
        match &mut self.carrier {
            Carrier::Ranks(rank) => Ok(rank),
            _ => Err(Error::failed("only ranks can do this")),
        }
    }

    /// Returns the exchange that comes next.
    pub(super) fn at(&self) -> At {
        At {
            round: self.complete,
            number: self.exchanges,
        }
    }

    /// Returns those of `nodes` that can take part in the next exchange: on ranks all of them, on a
    /// client itself.
    ///
    /// # Errors
    /// Fails as [`Clients::present`] does.
    pub(super) fn present(&mut self, nodes: Vec<usize>) -> Result<Vec<usize>> {
        let at = self.at();
        match &mut self.carrier {
            Carrier::Ranks(_) => Ok(nodes),
            Carrier::Clients(clients) => clients.present(at, &nodes),
            Carrier::Server(server) => Ok(vec![server.node()]),
        }
    }

    /// Returns the ledger so far, and begins a new one.
    pub fn take_ledger(&mut self) -> Ledger {
        std::mem::take(&mut self.ledger)
    }

    /// Lets the server and `nodes` (ascending) exchange messages: each node receives what `handout`
    /// gives it, if anything is handed out, and sends what `client` then returns, as messages of
    /// the kinds `answers`; that of [`Kind::Kept`] is what it keeps after the round. Other ranks
    /// get theirs first, then the nodes here take their turns; the others' answers are received as
    /// they arrive. `answered` is called after the answers of each node: on the server of all
    /// nodes, on other ranks of those that they host. Returns the answers by node on the server,
    /// none on other ranks, where `handout` is not called.
    ///
    /// Where the clients are elsewhere, all receive the same handout, that of the first node; some
    /// may not answer; models are not among the answers, but read one at a time (`model`); and what
    /// a client keeps stays with it.
    ///
    /// # Errors
    /// Fails as [`Rank::receive`], `client` and `answered` do, and on another message than the one
    /// expected, or one that cannot be read.
    pub fn exchange<const N: usize>(
        &mut self,
        nodes: &[usize],
        handout: Option<Handout>,
        answers: [Kind; N],
        client: Client<N>,
        answered: Answered<'_, 'a>,
    ) -> Result<Answers<N>> {
        let all = match &self.carrier {
            Carrier::Ranks(_) => self.over_ranks(nodes, handout, answers, client, answered),
            Carrier::Clients(_) => self.with_clients_elsewhere(nodes, handout, answers, answered),
            Carrier::Server(_) => {
                self.with_server_elsewhere(nodes, handout, answers, client, answered)?;
                Ok(Answers::new())
            }
        };
        self.exchanges += 1;
        all
    }

    fn over_ranks<const N: usize>(
        &mut self,
        nodes: &[usize],
        handout: Option<Handout>,
        answers: [Kind; N],
        client: Client<N>,
        mut answered: Answered<'_, 'a>,
    ) -> Result<Answers<N>> {
        let hosted = |node: &&usize| self.hosts(**node);
        let (own, mut remote): (Vec<usize>, Vec<usize>) = nodes.iter().partition(hosted);
        let (mut own, mut all) = (own.into_iter(), BTreeMap::new());
        remote.retain(|_| self.is_server());
        for &node in &remote {
            self.hand_out(node, handout)?;
        }
        loop {
            let hosts: Vec<usize> = remote.iter().map(|&node| self.host(node)).collect();
            let rank = self.rank()?;
            let arrived = hosts.iter().find(|&&host| rank.has_message(host));
            // A rank's messages arrive in the order of its nodes: it is the first of them, also
            // where the message came after the look that was for that one.
            let first = hosts.iter().position(|host| Some(host) == arrived);
            let node = if let Some(index) = first {
                remote.remove(index)
            } else if let Some(node) = own.next() {
                self.take_turn(node, handout, answers, client)?;
                node
            } else if !remote.is_empty() {
                remote.remove(0)
            } else {
                return Ok(all);
            };
            if self.is_server() {
                all.insert(node, self.receive_answers(node, answers)?);
            }
            if let Some(answered) = &mut answered {
                answered(self)?;
            }
        }
    }

    /// Server: sends `node` what is handed out. Does nothing on other ranks.
    fn hand_out(&mut self, node: usize, handout: Option<Handout>) -> Result<()> {
        match handout {
            Some((kind, state)) if self.is_server() => self.download(node, kind, &state(node)),
            _ => Ok(()),
        }
    }

    /// Lets `node`, which is hosted here, receive what is handed out, work, and send its answers.
    fn take_turn<const N: usize>(
        &mut self,
        node: usize,
        handout: Option<Handout>,
        answers: [Kind; N],
        client: Client<N>,
    ) -> Result<()> {
        self.hand_out(node, handout)?;
        let received = handout.map(|(kind, _)| self.receive_at(node, kind));
        let received = received.transpose()?.unwrap_or_default();
        let nothing = StateDict::default();
        let states = client(node, received, self.kept.get(&node).unwrap_or(&nothing))?;
        for (kind, state) in answers.into_iter().zip(states) {
            self.upload(node, kind, &state)?;
            if kind == Kind::Kept {
                self.next_kept.insert(node, state.deep_clone());
            }
        }
        Ok(())
    }

    /// Server: receives one message of each of `kinds` from `node`.
    fn receive_answers<const N: usize>(
        &mut self,
        node: usize,
        kinds: [Kind; N],
    ) -> Result<[StateDict; N]> {
        let mut states = Vec::new();
        for kind in kinds {
            let host = self.host(node);
            let bytes = self.rank()?.receive(host)?;
            let state = self.decode(Some(node), kind, &bytes);
            let state = state.during(|| format!("receiving from node {node}"))?;
            self.count(node, kind, Direction::Upload, &state, bytes.len());
            if kind == Kind::Kept {
                // That of a node here is there already.
                self.next_kept.entry(node).or_insert(state.share());
            }
            states.push(state);
        }
        // There is one of each kind.
        Ok(states.try_into().expect("as many states as kinds"))
    }

    /// Sends `state` from the server to all ranks, each as the node of its number; returns what
    /// this one receives.
    ///
    /// # Errors
    /// Fails as [`exchange`](Self::exchange) does.
    pub fn broadcast(&mut self, kind: Kind, state: Option<&StateDict>) -> Result<StateDict> {
        if let Some(state) = state {
            (0..self.ranks()).try_for_each(|rank| self.download(rank, kind, state))?;
        }
        let own = self.rank()?.number();
        self.receive_at(own, kind)
    }

    /// Server: sends `state` to `node`.
    fn download(&mut self, node: usize, kind: Kind, state: &StateDict) -> Result<()> {
        let (bytes, host) = (self.encode(Some(node), kind, state)?, self.host(node));
        self.count(node, kind, Direction::Download, state, bytes.len());
        self.rank()?.send(host, bytes);
        Ok(())
    }

    /// Client: receives what the server sent to `node`, on the CPU.
    fn receive_at(&mut self, node: usize, kind: Kind) -> Result<StateDict> {
        let bytes = self.rank()?.receive(0)?;
        let state = self.decode(Some(node), kind, &bytes);
        state.during(|| format!("receiving from the server for node {node}"))
    }

    /// Client: sends `state` to the server.
    ///
    /// # Errors
    /// Fails when the state cannot be encoded.
    pub fn upload(&mut self, node: usize, kind: Kind, state: &StateDict) -> Result<()> {
        let bytes = self.encode(Some(node), kind, state)?;
        self.rank()?.send(0, bytes);
        Ok(())
    }

    pub(super) fn count(
        &mut self,
        node: usize,
        kind: Kind,
        direction: Direction,
        state: &StateDict,
        bytes: usize,
    ) {
        if kind != Kind::Kept {
            let (round, values) = (self.complete, state.bytes());
            let entry = Entry {
                round,
                node,
                kind,
                direction,
            };
            let bytes = bytes as u64;
            self.ledger.record(entry, Amount { values, bytes });
        }
    }

    pub(super) fn encode(
        &self,
        node: Option<usize>,
        kind: Kind,
        state: &StateDict,
    ) -> Result<Vec<u8>> {
        let tensors: Vec<_> = state.iter().collect();
        tensors::encode(&tensors, &label(self.complete, node, kind))
    }

    pub(super) fn decode(
        &self,
        node: Option<usize>,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<StateDict> {
        let (message, expected) = (decode(bytes)?, label(self.complete, node, kind));
        match message.metadata == expected {
            true => Ok(StateDict::new(message.tensors)),
            false => Err(Error::failed("a message is not the one expected")
                .note("expected", format!("{expected:?}"))
                .note("found", format!("{:?}", message.metadata))),
        }
    }
}

/// Returns what tells a message from others of its run: its text entries. `round` rounds are
/// complete; `node` is `None` in what is handed out to all clients elsewhere.
pub fn label(round: usize, node: Option<usize>, kind: Kind) -> BTreeMap<String, String> {
    let node = node.map_or_else(|| "all".to_owned(), |node| node.to_string());
    BTreeMap::from([
        ("round".to_owned(), round.to_string()),
        ("node".to_owned(), node),
        ("kind".to_owned(), kind.to_string()),
    ])
}

pub(super) fn decode(bytes: &[u8]) -> Result<TensorFile> {
    tensors::decode(bytes).map_err(|error| unreadable(bytes, &error.what()).caused_by(error))
}

pub(super) fn unreadable(bytes: &[u8], why: &str) -> Error {
    Error::failed("a message cannot be read").note("found", format!("{} bytes; {why}", bytes.len()))
}
