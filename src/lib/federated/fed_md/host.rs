//! One rank of a federation in simulation: the clients that it hosts, and on rank 0 the server.

use super::client::{Trained, Trainer};
use super::report::NodeReport;
use super::settings::{Client, FedMdSettings, Federation};
use super::{RoundReport, drawn, server};
use crate::error::{During, Error, Result, is_whole};
use crate::federated::node::{owned, under};
use crate::federated::{Kind, Link, kept_by};
use crate::model::StateDict;
use crate::runtime::interrupt;
use crate::train::{Callback, FitState, Position};
use std::collections::BTreeMap;
use tch::Tensor;

/// One rank at work.
pub(super) struct Host<'a> {
    settings: &'a FedMdSettings,
    trainer: Trainer<'a>,
    /// All clients by node.
    clients: BTreeMap<usize, &'a Client>,
    /// Transfer learning counts as a round.
    link: Link<'a>,
    /// The clients by node that are hosted here; on rank 0 all of them, as of the last complete
    /// round, or in transfer learning as soon as they are known there.
    states: BTreeMap<usize, Trained>,
}

impl<'a> Host<'a> {
    /// A rank that resumes where rank 0's `start` was taken.
    pub fn new(
        settings: &'a FedMdSettings,
        federation: &'a Federation<'a>,
        mut link: Link<'a>,
        start: Option<&FitState>,
    ) -> Result<Self> {
        let ranks = link.ranks();
        let start = link.share_start(start, &|rank, name| {
            kept_by(name).is_some_and(|node| node % ranks == rank)
        })?;
        let start = start.map(|start| (start.position, start.tensors));
        let (position, tensors) = start.unwrap_or_default();
        link.complete = position.epoch;
        let kept = StateDict::new(tensors);
        let clients = federation.clients.iter();
        let task = &federation.task;
        let mut host = Self {
            settings,
            trainer: Trainer { settings, task },
            clients: clients.map(|client| (client.node, client)).collect(),
            link,
            states: BTreeMap::new(),
        };
        for &node in host.clients.keys() {
            if kept.get(&report_name(node)).is_some() {
                host.states.insert(node, decode_kept(node, &kept)?);
            } else if host.link.complete > 0 && (host.link.is_server() || host.link.hosts(node)) {
                return Err(Error::failed(format!("the saved run lacks node {node}")));
            }
        }
        Ok(host)
    }

    /// Takes this rank's part in all rounds that are left. Returns the weights of all clients by
    /// node on rank 0.
    pub fn run(
        mut self,
        callback: &mut dyn Callback<RoundReport>,
    ) -> Result<Vec<(usize, StateDict)>> {
        let result = self.rounds(callback);
        if !self.link.is_server() {
            return result.map(|()| Vec::new());
        }
        if is_whole(&result) {
            callback.save(&self.state()).during(|| "saving the run")?;
        }
        let states = self.states.into_iter();
        result.map(|()| states.map(|(node, client)| (node, client.state)).collect())
    }

    fn rounds(&mut self, callback: &mut dyn Callback<RoundReport>) -> Result<()> {
        while self.link.complete <= self.settings.rounds {
            interrupt::check()?;
            let nodes = match self.link.complete {
                0 => self.transfer(callback)?,
                _ => self.round(callback)?,
            };
            if self.link.is_server() {
                let (round, ledger) = (self.link.complete, self.link.take_ledger());
                let report = RoundReport {
                    round,
                    nodes,
                    ledger,
                };
                callback.round(None, &report)?;
            }
            self.link.complete += 1;
            self.save_if_due(callback)?;
        }
        Ok(())
    }

    /// Transfer learning. Each client is complete as soon as rank 0 knows of it.
    fn transfer(&mut self, callback: &mut dyn Callback<RoundReport>) -> Result<Vec<NodeReport>> {
        for (node, client) in self.clients.clone() {
            if !self.link.hosts(node) || self.states.contains_key(&node) {
                continue;
            }
            let trained = self.trainer.transfer(client, &mut || callback.step())?;
            if !self.link.is_server() {
                self.link.upload(node, Kind::Kept, &encode_kept(&trained))?;
            }
            self.states.insert(node, trained);
            self.save_if_due(callback)?;
            self.collect(false, callback)?;
        }
        self.collect(true, callback)?;
        let states = &self.states;
        let report = &mut |node, _| Ok([states[&node].report.encode()]);
        let reports = self
            .link
            .exchange(&self.nodes(), None, [Kind::Report], report)?;
        let report = |(node, [report]): (usize, [StateDict; 1])| NodeReport::decode(node, &report);
        reports.into_iter().map(report).collect()
    }

    /// Rank 0: completes the clients of other ranks in transfer learning whose states have arrived,
    /// or with `all` every one of them.
    fn collect(&mut self, all: bool, callback: &mut dyn Callback<RoundReport>) -> Result<()> {
        while self.link.is_server() {
            // The states of one rank's clients arrive in order.
            let mut next = BTreeMap::new();
            for node in self.nodes() {
                if !self.states.contains_key(&node) {
                    next.entry(self.link.host(node)).or_insert(node);
                }
            }
            let arrived = next.values().find(|&&node| self.link.has_message(node));
            let Some(&node) = arrived.or(next.values().next().filter(|_| all)) else {
                break;
            };
            let kept = self.link.receive_from(node, Kind::Kept)?;
            self.states.insert(node, decode_kept(node, &kept)?);
            self.save_if_due(callback)?;
        }
        Ok(())
    }

    /// A round: scores to the server; the consensus from it, digest and revisit; reports and states
    /// to the server. Returns the reports on rank 0.
    fn round(&mut self, callback: &mut dyn Callback<RoundReport>) -> Result<Vec<NodeReport>> {
        let (round, nodes) = (self.link.complete, self.nodes());
        let (images, shape) = self.public_images()?;
        let (trainer, clients) = (&self.trainer, &self.clients);
        let (link, states) = (&mut self.link, &mut self.states);
        let scores = link.exchange(&nodes, None, [Kind::Scores], &mut |node, _| {
            let scores = trainer.scores(clients[&node], &states[&node].state, &images)?;
            Ok([server::message(scores)])
        })?;
        let consensus = match link.is_server() {
            true => agree(self.settings, &scores, shape)
                .during(|| format!("averaging scores in round {round}"))?,
            false => StateDict::new(Vec::new()),
        };
        let handout = |_| StateDict::new(owned(&consensus));
        let mut pending = BTreeMap::new();
        let answers = link.exchange(
            &nodes,
            Some((Kind::Consensus, &handout)),
            [Kind::Report, Kind::Kept],
            &mut |node, message| {
                let consensus = server::scores(&message, shape, "the server")?;
                let step = &mut || callback.step();
                let (client, state) = (clients[&node], &states[&node].state);
                let trained = trainer.round(round, client, state, (&images, &consensus), step)?;
                let answer = [trained.report.encode(), encode_kept(&trained)];
                pending.insert(node, trained);
                Ok(answer)
            },
        )?;
        let mut reports = Vec::new();
        for (node, [report, kept]) in answers {
            reports.push(NodeReport::decode(node, &report)?);
            if !link.hosts(node) {
                pending.insert(node, decode_kept(node, &kept)?);
            }
        }
        states.append(&mut pending);
        Ok(reports)
    }

    /// Returns the round's public images u8 [S,C,H,W], and the shape [S, classes] of their scores.
    fn public_images(&self) -> Result<(Tensor, [i64; 2])> {
        let task = self.trainer.task;
        let samples = self.settings.samples(task.public.len());
        let chosen = drawn(&task.seeds, self.link.complete, task.public.len(), samples);
        // All clients have as many classes.
        let classes = self.clients.values().map(|client| client.spec.classes);
        let shape = [samples as i64, classes.max().unwrap_or(0)];
        Ok((task.public.select(&chosen)?.images, shape))
    }

    fn nodes(&self) -> Vec<usize> {
        self.clients.keys().copied().collect()
    }

    fn save_if_due(&self, callback: &mut dyn Callback<RoundReport>) -> Result<()> {
        match self.link.is_server() && callback.due() {
            true => callback.save(&self.state()),
            false => Ok(()),
        }
    }

    /// Returns the run after the last complete round, or in transfer learning the last complete
    /// client.
    fn state(&self) -> FitState {
        let position = Position {
            epoch: self.link.complete,
            ..Position::default()
        };
        let tensors = self
            .states
            .values()
            .flat_map(|client| owned(&encode_kept(client)));
        FitState {
            position,
            tensors: tensors.collect(),
        }
    }
}

/// Server: returns the consensus of the scores that clients sent.
fn agree(
    settings: &FedMdSettings,
    messages: &BTreeMap<usize, [StateDict; 1]>,
    shape: [i64; 2],
) -> Result<StateDict> {
    let scores = |(node, [message]): (&usize, &[StateDict; 1])| {
        server::scores(message, shape, &format!("node {node}"))
    };
    let scores = messages.iter().map(scores).collect::<Result<_>>()?;
    server::consensus(scores, settings.weights.as_deref())
}

fn report_name(node: usize) -> String {
    format!("report.{node}")
}

/// Returns a client as a checkpoint has it, and as it is sent to rank 0: `model.NODE.*` and
/// `report.NODE`.
fn encode_kept(client: &Trained) -> StateDict {
    let node = client.report.node;
    let named = |(name, tensor)| (format!("model.{node}.{name}"), tensor);
    let report = owned(&client.report.encode()).into_iter();
    let report = report.map(|(_, numbers)| (report_name(node), numbers));
    StateDict::new(
        owned(&client.state)
            .into_iter()
            .map(named)
            .chain(report)
            .collect(),
    )
}

/// Returns the client that [`encode_kept`] made tensors of.
fn decode_kept(node: usize, tensors: &StateDict) -> Result<Trained> {
    let report = tensors.get(&report_name(node));
    let report = report.map(|numbers| ("report".to_owned(), numbers.shallow_clone()));
    Ok(Trained {
        state: under(&format!("model.{node}."), tensors),
        report: NodeReport::decode(node, &StateDict::new(report.into_iter().collect()))?,
    })
}
