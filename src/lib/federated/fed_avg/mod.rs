//! Federated averaging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks
//! from Decentralized Data", arXiv:1602.05629, algorithm 1), with server optimisers (Reddi et al.
//! 2021, "Adaptive Federated Optimization", arXiv:2003.00295: FedAvgM, FedAdam) and FedProx's
//! proximal term (Li et al. 2020, arXiv:1812.06127).
//!
//! Unlike the FedAdam of Reddi et al., Adam's moments are corrected for their start at zero, as
//! PyTorch's are.

mod client;
mod objective;
mod server;
mod settings;

pub use super::node::NodeData;
pub use client::NodeReport;
pub use settings::{FedAvgSettings, Federation, Statistics};

use super::ledger::Ledger;
use super::link::{Kind, Link};
use super::transport::Transport;
use crate::error::{During, Error, Result, is_whole};
use crate::model::{Model, StateDict};
use crate::runtime::interrupt;
use crate::runtime::seed::Seeds;
use crate::train::FitState;
use client::Clients;
use server::Server;

/// What a round gave.
#[derive(Debug)]
pub struct RoundReport {
    /// From 0.
    pub round: usize,
    /// The nodes that took part, ascending.
    pub nodes: Vec<NodeReport>,
    pub ledger: Ledger,
}

impl RoundReport {
    /// Mean of a number over the nodes, weighted by their images.
    pub fn mean(&self, of: fn(&NodeReport) -> f64) -> f64 {
        let images: usize = self.nodes.iter().map(|node| node.images).sum();
        let sum: f64 = self
            .nodes
            .iter()
            .map(|node| of(node) * node.images as f64)
            .sum();
        sum / images as f64
    }
}

/// What listens to the server.
pub trait Rounds {
    /// After each batch of a node on rank 0.
    fn step(&self) {}

    /// After each round, with the global model.
    ///
    /// # Errors
    /// Ends the run.
    fn round(&mut self, model: &Model, report: &RoundReport) -> Result<()>;

    /// Whether the run should be saved now; asked after each round.
    fn due(&self) -> bool {
        false
    }

    /// Saves the run: when it is due, when the user interrupts it and when all rounds are done.
    /// `position.epoch` counts rounds.
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
    fn round(&mut self, _: &Model, _: &RoundReport) -> Result<()> {
        Ok(())
    }
}

/// The nodes of round `round` (from 0): `fraction` of `nodes`, at least one, drawn without
/// replacement; ascending.
pub fn selected(seeds: &Seeds, round: usize, nodes: usize, fraction: f64) -> Vec<usize> {
    let count = ((nodes as f64 * fraction).round() as usize).clamp(1, nodes);
    let mut rng = seeds.stream("fed_avg/selection", round as u64);
    let mut chosen = rand::seq::index::sample(&mut rng, nodes, count).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Runs this rank's part. All ranks begin with the same weights, drawn from the shared seed at no
/// cost, as the teachers do. Returns the global model on rank 0, `None` elsewhere.
///
/// A run goes on from the `start` of rank 0, on as many ranks as there are now; on other ranks
/// `start` and `observer` do not matter (`None`, `&mut ()`).
///
/// # Errors
/// A training that diverges (names node and round), messages that are not what they should be,
/// ranks that are gone or fail, Ctrl-C (both saved as of the last complete round).
pub fn run(
    settings: &FedAvgSettings,
    federation: &Federation,
    transport: &mut dyn Transport,
    start: Option<&FitState>,
    observer: &mut dyn Rounds,
) -> Result<Option<Model>> {
    if federation.nodes.is_empty() {
        return Err(Error::failed("a federation needs at least one node"));
    }
    let mut link = Link::new(transport);
    let start = link.spread(start, &|name| name.starts_with(client::KEPT))?;
    let mut rng = federation.seeds.stream("teacher/initialisation", 0);
    let initial = Model::new(&federation.spec, federation.device, &mut rng)?.state();
    let clients = Clients::new(settings, federation, &initial)?;
    let mut rank = Rank {
        settings,
        federation,
        link,
        clients,
        round: start.as_ref().map_or(0, |start| start.position.epoch),
        last: None,
    };
    if let Some(start) = &start {
        rank.clients.restore(start);
    }
    if !rank.link.is_server() {
        return rank.follow().map(|()| None);
    }
    let mut server = Server::new(settings, federation, &initial)?;
    if let Some(start) = &start {
        server.restore(start)?;
    }
    let outcome = rank.lead(&mut server, observer);
    if is_whole(&outcome) {
        let now = || server.state(rank.round, rank.clients.tensors());
        let state = rank.last.take().unwrap_or_else(now);
        observer.save(&state).during(|| "saving the run")?;
    }
    outcome.map(|()| Some(server.model))
}

/// One rank at work.
struct Rank<'a> {
    settings: &'a FedAvgSettings,
    federation: &'a Federation<'a>,
    link: Link<'a>,
    clients: Clients<'a>,
    /// Rounds that are complete.
    round: usize,
    /// Rank 0: the run after them, while the server takes the next.
    last: Option<FitState>,
}

impl Rank<'_> {
    fn selected(&self) -> Vec<usize> {
        let (seeds, nodes) = (&self.federation.seeds, self.federation.nodes.len());
        selected(seeds, self.round, nodes, self.settings.fraction)
    }

    /// Every rank but the server's.
    fn follow(&mut self) -> Result<()> {
        while self.round < self.settings.rounds {
            for node in self.selected() {
                if self.link.hosts(node) {
                    self.clients
                        .serve(&mut self.link, self.round, node, &|| ())?;
                }
            }
            self.clients.commit();
            self.round += 1;
        }
        Ok(())
    }

    fn lead(&mut self, server: &mut Server, observer: &mut dyn Rounds) -> Result<()> {
        while self.round < self.settings.rounds {
            interrupt::check()?;
            let (updates, nodes) = self.exchange(&server.handout(), observer)?;
            self.last = Some(server.state(self.round, self.clients.tensors()).copy());
            server.absorb(&updates, &nodes)?;
            self.clients.commit();
            let report = RoundReport {
                round: self.round,
                nodes,
                ledger: self.link.take_ledger(),
            };
            observer.round(&server.model, &report)?;
            self.round += 1;
            self.last = None;
            if observer.due() {
                observer.save(&server.state(self.round, self.clients.tensors()))?;
            }
        }
        Ok(())
    }

    /// A round's messages: other ranks get theirs first, then the nodes here have their turn, then
    /// the others' answers are read.
    fn exchange(
        &mut self,
        handout: &StateDict,
        observer: &dyn Rounds,
    ) -> Result<(Vec<StateDict>, Vec<NodeReport>)> {
        let (here, elsewhere): (Vec<usize>, Vec<usize>) = self
            .selected()
            .into_iter()
            .partition(|&node| self.link.hosts(node));
        for &node in &elsewhere {
            self.link.download(self.round, node, Kind::Model, handout)?;
        }
        let mut answers = Vec::new();
        for node in here {
            self.link.download(self.round, node, Kind::Model, handout)?;
            self.clients
                .serve(&mut self.link, self.round, node, &|| observer.step())?;
            answers.push(self.answer(node)?);
        }
        for node in elsewhere {
            answers.push(self.answer(node)?);
        }
        answers.sort_by_key(|(_, report)| report.node);
        Ok(answers.into_iter().unzip())
    }

    fn answer(&mut self, node: usize) -> Result<(StateDict, NodeReport)> {
        let update = self.link.from_node(self.round, node, Kind::Model)?;
        let report = self.link.from_node(self.round, node, Kind::Report)?;
        if self.settings.statistics == Statistics::Local && !self.link.hosts(node) {
            self.clients.take(node, self.link.kept(self.round, node)?);
        }
        Ok((update, NodeReport::from_state(node, &report)?))
    }
}
