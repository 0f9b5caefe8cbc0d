//! One rank of a federation in simulation: the clients that it hosts, and on rank 0 the server.

use super::client::{Client, NodeReport};
use super::server::Server;
use super::settings::{FedAvgSettings, Federation};
use super::{RoundReport, selected};
use crate::error::{During, Result, is_whole};
use crate::federated::node::owned;
use crate::federated::{Kind, Link, kept_by};
use crate::model::{Model, StateDict, weighted_mean};
use crate::runtime::interrupt;
use crate::train::{Callback, FitState};
use std::collections::BTreeMap;

/// How the names of a checkpoint's tensors begin that clients keep: `statistics.NODE.*`.
const KEPT: &str = "statistics";

/// One rank at work.
pub(super) struct Host<'a> {
    settings: &'a FedAvgSettings,
    federation: &'a Federation<'a>,
    link: Link<'a>,
    client: Client<'a>,
    /// On rank 0.
    server: Option<Server>,
    /// Batch norm's statistics that clients keep, by node: on rank 0 those of all clients, as of
    /// the last complete round.
    statistics: BTreeMap<usize, StateDict>,
    /// On rank 0, the run after the last complete round, while the server ends the next.
    before: Option<FitState>,
}

impl<'a> Host<'a> {
    /// A rank that resumes where rank 0's `start` was taken.
    pub fn new(
        settings: &'a FedAvgSettings,
        federation: &'a Federation<'a>,
        mut link: Link<'a>,
        start: Option<&FitState>,
    ) -> Result<Self> {
        let ranks = link.ranks();
        let start = link.share_start(start, &|rank, name| {
            name.starts_with(KEPT) && kept_by(name).is_some_and(|node| node % ranks == rank)
        })?;
        let mut host = Self {
            client: Client::new(settings, &federation.task)?,
            server: match link.is_server() {
                true => Some(Server::new(settings, &federation.task)?),
                false => None,
            },
            settings,
            federation,
            link,
            statistics: BTreeMap::new(),
            before: None,
        };
        if let Some(start) = &start {
            host.link.complete = start.position.epoch;
            host.restore(start)?;
        }
        Ok(host)
    }

    fn restore(&mut self, state: &FitState) -> Result<()> {
        for node in 0..self.federation.nodes.len() {
            let kept = state.part(&format!("{KEPT}.{node}"));
            if !kept.is_empty() {
                self.statistics.insert(node, kept);
            }
        }
        self.server
            .iter_mut()
            .try_for_each(|server| server.restore(state))
    }

    /// Takes this rank's part in all rounds that are left. Returns the global model on rank 0.
    pub fn run(mut self, callback: &mut dyn Callback<RoundReport>) -> Result<Option<Model>> {
        let result = self.rounds(callback);
        let now = self.server.as_ref().map(|server| self.state(server));
        if let Some(state) = self.before.or(now).filter(|_| is_whole(&result)) {
            callback.save(&state).during(|| "saving the run")?;
        }
        result.map(|()| self.server.map(|server| server.model))
    }

    fn rounds(&mut self, callback: &mut dyn Callback<RoundReport>) -> Result<()> {
        while self.link.complete < self.settings.rounds {
            interrupt::check()?;
            let answers = self.exchange(callback)?;
            if let Some(mut server) = self.server.take() {
                let ended = self.end_round(&mut server, answers, callback);
                self.server = Some(server);
                ended?;
            }
            self.link.complete += 1;
            self.before = None;
            if let Some(server) = self.server.as_ref().filter(|_| callback.due()) {
                callback.save(&self.state(server))?;
            }
        }
        Ok(())
    }

    /// The messages of the next round: weights to the clients that take part; their weights,
    /// reports and statistics back.
    fn exchange(
        &mut self,
        callback: &mut dyn Callback<RoundReport>,
    ) -> Result<BTreeMap<usize, [StateDict; 3]>> {
        let (federation, round) = (self.federation, self.link.complete + 1);
        let (seeds, nodes) = (&federation.task.seeds, federation.nodes.len());
        let server = self.server.as_ref();
        let handout = |_| server.map_or_else(|| StateDict::new(Vec::new()), Server::handout);
        self.link.exchange(
            &selected(seeds, round, nodes, self.settings.fraction),
            Some((Kind::Model, &handout)),
            [Kind::Model, Kind::Report, Kind::Kept],
            &mut |node, received| {
                let (data, own) = (&federation.nodes[node], self.statistics.get(&node));
                let step = &mut || callback.step();
                let update = self
                    .client
                    .round(round, (node, data), &received, own, step)?;
                // Rank 0 takes them when the round is complete.
                if server.is_none() {
                    self.statistics.insert(node, update.statistics.deep_clone());
                }
                Ok([update.weights, update.report.encode(), update.statistics])
            },
        )
    }

    /// Rank 0: takes the answers of a round's clients.
    fn end_round(
        &mut self,
        server: &mut Server,
        answers: BTreeMap<usize, [StateDict; 3]>,
        callback: &mut dyn Callback<RoundReport>,
    ) -> Result<()> {
        let report =
            |(&node, [_, report, _]): (&usize, &[StateDict; 3])| NodeReport::decode(node, report);
        let report = RoundReport {
            round: self.link.complete + 1,
            nodes: answers.iter().map(report).collect::<Result<_>>()?,
            ledger: self.link.take_ledger(),
        };
        let images = report.nodes.iter().map(|node| node.images as f64);
        let weights: Vec<&StateDict> = answers.values().map(|[weights, ..]| weights).collect();
        let mean = weighted_mean(&weights, &images.collect::<Vec<_>>())?;
        self.before = Some(self.state(server).copy());
        server.step(&mean)?;
        callback.round(Some(&server.model), &report)?;
        let kept = answers
            .into_iter()
            .map(|(node, [.., statistics])| (node, statistics));
        self.statistics.extend(kept);
        Ok(())
    }

    /// Rank 0: returns the run after the last complete round, as views.
    fn state(&self, server: &Server) -> FitState {
        let mut state = server.state(self.link.complete);
        for (node, statistics) in &self.statistics {
            let named = |(name, tensor)| (format!("{KEPT}.{node}.{name}"), tensor);
            state
                .tensors
                .extend(owned(statistics).into_iter().map(named));
        }
        state
    }
}
