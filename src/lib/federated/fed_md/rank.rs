//! A rank's part in every round: the clients that it hosts, and on rank 0 the server.

use super::client::{Clients, REPORTS};
use super::report::NodeReport;
use super::settings::{FedMdSettings, Federation};
use super::{RoundReport, Rounds, drawn, server};
use crate::error::{During, Result};
use crate::federated::{Kind, Link};
use crate::model::StateDict;
use crate::runtime::interrupt;
use crate::train::{FitState, Position};
use tch::Tensor;

/// One rank at work.
pub(super) struct Rank<'a> {
    settings: &'a FedMdSettings,
    federation: &'a Federation<'a>,
    link: Link<'a>,
    clients: Clients<'a>,
    /// Rounds that are complete, transfer learning as one: the number of the round in hand.
    round: usize,
}

impl<'a> Rank<'a> {
    pub fn new(
        settings: &'a FedMdSettings,
        federation: &'a Federation<'a>,
        link: Link<'a>,
    ) -> Self {
        Self {
            settings,
            federation,
            link,
            clients: Clients::new(settings, federation),
            round: 0,
        }
    }

    /// Whether this is rank 0.
    pub fn is_server(&self) -> bool {
        self.link.is_server()
    }

    /// Goes on where rank 0 does: clients on other ranks get back what they left there.
    pub fn resume(&mut self, start: Option<&FitState>) -> Result<()> {
        let start = self.link.spread(start, &|name| name.starts_with(REPORTS))?;
        let Some(start) = start else {
            return Ok(());
        };
        self.round = start.position.epoch;
        let server = self.link.is_server();
        if server {
            self.clients.restore(&start)?;
        }
        let reports = start.part(REPORTS);
        for (index, client) in self.federation.clients.iter().enumerate() {
            let (node, here) = (client.node, self.link.hosts(client.node));
            if server == here || reports.get(&node.to_string()).is_none() {
                continue;
            }
            match server {
                true => self
                    .link
                    .give_back(self.round, node, &self.clients.left(index)?)?,
                false => {
                    let left = self.link.from_server(self.round, node, Kind::Kept)?;
                    self.clients.take(index, &left)?;
                }
            }
        }
        self.clients.commit();
        Ok(())
    }

    /// All rounds that are left.
    pub fn play(&mut self, observer: &mut dyn Rounds) -> Result<()> {
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
        let nodes = self
            .federation
            .clients
            .iter()
            .map(|client| client.node)
            .enumerate();
        nodes.filter(|(_, node)| self.link.hosts(*node)).collect()
    }

    /// Rank 0: the clients of other ranks, which leave with it what comes of their turns. None on
    /// those.
    fn guests(&self) -> Vec<(usize, usize)> {
        let nodes = self
            .federation
            .clients
            .iter()
            .map(|client| client.node)
            .enumerate();
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
            self.welcome(false, observer)?;
        }
        self.welcome(true, observer)
    }

    /// Rank 0: completes the guests that have had their turn, or `all`, for whom it waits.
    fn welcome(&mut self, all: bool, observer: &mut dyn Rounds) -> Result<()> {
        loop {
            let mut missing = self.guests();
            missing.retain(|(index, _)| !self.clients.knows(*index));
            let arrived = missing.iter().find(|(_, node)| self.link.has_heard(*node));
            let next = match arrived {
                // What a rank leaves comes in the order of its clients.
                Some(&(_, node)) => missing
                    .iter()
                    .find(|(_, other)| self.link.together(*other, node)),
                None if all => missing.first(),
                None => None,
            };
            let Some(&(index, node)) = next else {
                return Ok(());
            };
            self.fetch(index, node)?;
            self.clients.commit();
            self.save_if_due(observer)?;
        }
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
        Ok((
            images,
            [samples as i64, self.federation.clients[0].spec.classes],
        ))
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
        let (here, elsewhere): (Vec<usize>, Vec<usize>) =
            nodes.partition(|&node| self.link.hosts(node));
        for node in elsewhere.into_iter().chain(here) {
            self.link
                .download(self.round, node, Kind::Consensus, &consensus)?;
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
    pub fn state(&self) -> FitState {
        FitState {
            position: Position {
                epoch: self.round,
                ..Position::default()
            },
            tensors: self.clients.tensors(),
        }
    }

    /// The weights of the clients known here, by node: on rank 0 in the end all.
    pub fn into_states(self) -> Vec<(usize, StateDict)> {
        self.clients.into_states()
    }
}
