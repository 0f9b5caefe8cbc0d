//! FedMD (Li and Wang 2019, "FedMD: Heterogenous Federated Learning via Model Distillation", arXiv:1910.03581, algorithm 1): clients of
//! different architectures learn from each other by what they say of public images. No weights travel.
//!
//! Transfer learning: each client trains on the public set with its labels, then on its private images. Then each round: *communicate*
//! (each client sends its class scores of the round's public images), *aggregate* (the server takes their mean, the consensus),
//! *distribute* (each client receives it), *digest* (each trains to approach it on those images), *revisit* (each trains on its private
//! images). Class scores are logits and the digest minimises their mean absolute distance to the consensus, as in the authors' code
//! (<https://github.com/diogenes0319/FedMD_clean>); the paper names neither.
//!
//! Everyone holds the public set from the start, and the images of a round are drawn from the shared seed: neither costs a byte here. Nor
//! does what clients on other ranks leave with rank 0 after each turn, which saves the run and has the result: in the paper's federation they
//! keep it to themselves.
//!
//! Unlike the authors' code, which stops transfer learning early on a validation set, epochs are given.

mod client;
mod objective;
mod report;
mod server;
mod settings;

pub use report::NodeReport;
pub use settings::{Client, DigestLoss, FedMdSettings, Federation};

use super::ledger::Ledger;
use super::link::{Kind, Link};
use super::transport::Transport;
use crate::error::{Class, During, Error, Result};
use crate::model::StateDict;
use crate::runtime::interrupt;
use crate::runtime::seed::Seeds;
use crate::train::{self, FitState, Position};
use client::Clients;
use tch::Tensor;

/// What a round gave.
#[derive(Debug)]
pub struct RoundReport {
    /// From 1; 0 is transfer learning.
    pub round: usize,
    /// In the clients' order.
    pub nodes: Vec<NodeReport>,
    pub ledger: Ledger,
}

/// What listens to the server.
pub trait Rounds {
    /// After each batch of a client on rank 0.
    fn step(&self) {}

    /// After transfer learning and each round.
    ///
    /// # Errors
    /// Ends the run.
    fn round(&mut self, report: &RoundReport) -> Result<()>;

    /// Whether the run should be saved now; asked after each client's transfer learning and after each round.
    fn due(&self) -> bool {
        false
    }

    /// Saves the run: when it is due, when the user interrupts it and when all rounds are done. `position.epoch` counts rounds, transfer
    /// learning as one.
    ///
    /// # Errors
    /// Ends the run.
    fn save(&mut self, state: &FitState) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// Hears nothing, saves nothing.
impl Rounds for () {
    fn round(&mut self, _: &RoundReport) -> Result<()> {
        Ok(())
    }
}

/// The public images of round `round` (from 1): `samples` of `public`, drawn without replacement; ascending.
pub fn drawn(seeds: &Seeds, round: usize, public: usize, samples: usize) -> Vec<usize> {
    let mut rng = seeds.stream("fed_md/public", round as u64);
    let mut chosen = rand::seq::index::sample(&mut rng, public, samples.min(public)).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Batches of client `index` in round `round`, 0 being transfer learning.
pub fn steps(settings: &FedMdSettings, federation: &Federation, index: usize, round: usize) -> usize {
    let (public, batch) = (federation.public.len(), settings.batch_size);
    let private = train::steps(federation.clients[index].data.train.len(), batch);
    match round {
        0 => settings.public_epochs * train::steps(public, batch) + settings.private_epochs * private,
        _ => {
            let digest = train::steps(settings.samples(public), settings.digest_batch_size);
            settings.digest_epochs * digest + settings.revisit_epochs * private
        }
    }
}

/// Runs this rank's part. Returns the weights of all clients by node on rank 0, none elsewhere.
///
/// A run goes on from the `start` of rank 0, on as many ranks as there are now; on other ranks `start` and `observer` do not matter (`None`,
/// `&mut ()`).
///
/// # Errors
/// A training that diverges (names node and round), scores that are not finite or of another shape, weights of another number than
/// clients, messages that are not what they should be, ranks that are gone, Ctrl-C (saved as of the last complete round; in transfer learning
/// with the clients that rank 0 knows).
pub fn run(
    settings: &FedMdSettings,
    federation: &Federation,
    transport: &mut dyn Transport,
    start: Option<&FitState>,
    observer: &mut dyn Rounds,
) -> Result<Vec<(usize, StateDict)>> {
    if federation.clients.is_empty() {
        return Err(Error::failed("a federation needs at least one client"));
    }
    let mut rank = Rank {
        settings,
        federation,
        link: Link::new(transport),
        clients: Clients::new(settings, federation),
        round: 0,
    };
    rank.resume(start)?;
    let outcome = rank.play(observer);
    if !rank.link.is_server() {
        return outcome.map(|()| Vec::new());
    }
    let stopped = matches!(&outcome, Err(error) if error.class() == Class::Interrupted);
    if stopped || outcome.is_ok() {
        observer.save(&rank.state()).during(|| "saving the run")?;
    }
    outcome.map(|()| rank.clients.into_states())
}

/// One rank at work.
struct Rank<'a> {
    settings: &'a FedMdSettings,
    federation: &'a Federation<'a>,
    link: Link<'a>,
    clients: Clients<'a>,
    /// Rounds that are complete, transfer learning as one: the number of the round in hand.
    round: usize,
}

impl Rank<'_> {
    /// Goes on where rank 0 does: clients on other ranks get back what they left there.
    fn resume(&mut self, start: Option<&FitState>) -> Result<()> {
        let start = self.link.spread(start, &|name| name.starts_with(client::REPORTS))?;
        let Some(start) = start else {
            return Ok(());
        };
        self.round = start.position.epoch;
        let server = self.link.is_server();
        if server {
            self.clients.restore(&start)?;
        }
        let reports = start.part(client::REPORTS);
        for (index, client) in self.federation.clients.iter().enumerate() {
            let (node, here) = (client.node, self.link.hosts(client.node));
            if server == here || reports.get(&node.to_string()).is_none() {
                continue;
            }
            match server {
                true => self.link.give_back(self.round, node, &self.clients.left(index)?)?,
                false => {
                    let left = self.link.from_server(self.round, node, Kind::Kept)?;
                    self.clients.take(index, &left)?;
                }
            }
        }
        self.clients.commit();
        Ok(())
    }

    fn play(&mut self, observer: &mut dyn Rounds) -> Result<()> {
        while self.round <= self.settings.rounds {
            interrupt::check()?;
            match self.round {
                0 => self.transfer(observer)?,
                _ => self.discuss(observer)?,
            }
            let nodes = self.reports()?;
            self.clients.commit();
            if self.link.is_server() {
                observer.round(&RoundReport {
                    round: self.round,
                    nodes,
                    ledger: self.link.take_ledger(),
                })?;
            }
            self.round += 1;
            self.save_if_due(observer)?;
        }
        Ok(())
    }

    /// The clients here, by index and node.
    fn here(&self) -> Vec<(usize, usize)> {
        let nodes = self.federation.clients.iter().map(|client| client.node).enumerate();
        nodes.filter(|(_, node)| self.link.hosts(*node)).collect()
    }

    /// Rank 0: the clients of other ranks, which leave with it what comes of their turns. None on those.
    fn guests(&self) -> Vec<(usize, usize)> {
        let nodes = self.federation.clients.iter().map(|client| client.node).enumerate();
        nodes
            .filter(|(_, node)| self.link.is_server() && !self.link.hosts(*node))
            .collect()
    }

    /// Each client is complete as soon as rank 0 knows of it.
    fn transfer(&mut self, observer: &mut dyn Rounds) -> Result<()> {
        for (index, node) in self.here() {
            if self.clients.knows(index) {
                continue;
            }
            self.clients
                .transfer(index, &|| observer.step())
                .during(|| format!("training node {node} before round 1"))?;
            self.leave(index, node)?;
            self.clients.commit();
            self.save_if_due(observer)?;
        }
        for (index, node) in self.guests() {
            if self.clients.knows(index) {
                continue;
            }
            self.fetch(index, node)?;
            self.clients.commit();
            self.save_if_due(observer)?;
        }
        Ok(())
    }

    /// A client here has had its turn.
    fn leave(&mut self, index: usize, node: usize) -> Result<()> {
        match self.link.is_server() {
            true => Ok(()),
            false => self.link.keep(self.round, node, &self.clients.left(index)?),
        }
    }

    /// Rank 0: a guest has had its turn.
    fn fetch(&mut self, index: usize, node: usize) -> Result<()> {
        let left = self.link.kept(self.round, node)?;
        self.clients.take(index, &left)
    }

    /// A round: scores to the server, the consensus from it, digest and revisit.
    fn discuss(&mut self, observer: &dyn Rounds) -> Result<()> {
        let (images, shape) = self.images()?;
        let here = self.here();
        for &(index, node) in &here {
            let scores = server::message(self.clients.scores(index, &images)?);
            self.link.upload(self.round, node, Kind::Scores, &scores)?;
        }
        if self.link.is_server() {
            self.agree(shape)?;
        }
        for (index, node) in here {
            let message = self.link.from_server(self.round, node, Kind::Consensus)?;
            let consensus = server::scores(&message, shape, "the server")?;
            self.clients
                .listen(self.round, index, &images, &consensus, &|| observer.step())
                .during(|| format!("training node {node} in round {}", self.round))?;
            self.leave(index, node)?;
        }
        for (index, node) in self.guests() {
            self.fetch(index, node)?;
        }
        Ok(())
    }

    /// The round's public images u8 [S,C,H,W], and the shape [S, classes] of their scores.
    fn images(&self) -> Result<(Tensor, [i64; 2])> {
        let public = self.federation.public.len();
        let samples = self.settings.samples(public);
        let chosen = drawn(&self.federation.seeds, self.round, public, samples);
        let images = self.federation.public.select(&chosen)?.images;
        Ok((images, [samples as i64, self.federation.clients[0].spec.classes]))
    }

    /// Server: all clients' scores in, the consensus out; other ranks get theirs first.
    fn agree(&mut self, shape: [i64; 2]) -> Result<()> {
        let mut all = Vec::new();
        for client in &self.federation.clients {
            let message = self.link.from_node(self.round, client.node, Kind::Scores)?;
            let scores = server::scores(&message, shape, &format!("node {}", client.node));
            all.push(scores.during(|| format!("averaging scores in round {}", self.round))?);
        }
        let consensus = server::consensus(all, self.settings.weights.as_deref())?;
        let nodes = self.federation.clients.iter().map(|client| client.node);
        let (here, elsewhere): (Vec<usize>, Vec<usize>) = nodes.partition(|&node| self.link.hosts(node));
        for node in elsewhere.into_iter().chain(here) {
            self.link.download(self.round, node, Kind::Consensus, &consensus)?;
        }
        Ok(())
    }

    /// All clients' reports, in their order; on rank 0 alone.
    fn reports(&mut self) -> Result<Vec<NodeReport>> {
        for (index, node) in self.here() {
            let report = self.clients.report(index)?.to_state();
            self.link.upload(self.round, node, Kind::Report, &report)?;
        }
        if !self.link.is_server() {
            return Ok(Vec::new());
        }
        let mut reports = Vec::new();
        for client in &self.federation.clients {
            let report = self.link.from_node(self.round, client.node, Kind::Report)?;
            reports.push(NodeReport::from_state(client.node, &report)?);
        }
        Ok(reports)
    }

    fn save_if_due(&self, observer: &mut dyn Rounds) -> Result<()> {
        match self.link.is_server() && observer.due() {
            true => observer.save(&self.state()),
            false => Ok(()),
        }
    }

    /// As of the last complete round, or in transfer learning the last complete client.
    fn state(&self) -> FitState {
        FitState {
            position: Position {
                epoch: self.round,
                ..Position::default()
            },
            tensors: self.clients.tensors(),
        }
    }
}
