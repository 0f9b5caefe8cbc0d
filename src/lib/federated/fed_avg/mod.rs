//! Federated averaging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks
//! from Decentralized Data", arXiv:1602.05629, algorithm 1), with server optimisers (Reddi et al.
//! 2021, "Adaptive Federated Optimization", arXiv:2003.00295: FedAvgM, FedAdam) and FedProx's
//! proximal term (Li et al. 2020, arXiv:1812.06127).
//!
//! Unlike the FedAdam of Reddi et al., Adam's moments are corrected for their start at zero, as
//! PyTorch's are.
//!
//! Rounds count from 1. In each, the server hands out the weights (`server`), clients train
//! (`client`, towards `objective`) and return theirs, and the server moves by their mean.

mod client;
mod objective;
mod report;
mod server;
mod settings;

pub use super::node::NodeData;
pub use report::NodeReport;
pub use settings::{FedAvgSettings, Federation, Statistics, Task};

use super::link::{Kind, Link};
use super::report::Report;
use super::rounds::{self, Algorithm};
use crate::error::{Error, Result};
use crate::model::{Model, weighted_mean_of};
use crate::runtime::seed::Seeds;
use crate::train::{Callback, FitState, Position};
use server::Server;

/// Reports a round.
pub type RoundReport = rounds::RoundReport<NodeReport>;

/// Returns the nodes that take part in round `round`: `fraction` of `nodes`, at least one, drawn
/// without replacement; ascending.
pub fn selected(seeds: &Seeds, round: usize, nodes: usize, fraction: f64) -> Vec<usize> {
    let count = ((nodes as f64 * fraction).round() as usize).clamp(1, nodes);
    // Streams count rounds from 0.
    let mut rng = seeds.stream("fed_avg/selection", round as u64 - 1);
    let mut chosen = rand::seq::index::sample(&mut rng, nodes, count).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Takes this process's part in all rounds: a rank's (`&mut Rank`), or that of a server or a client
/// whose other side is elsewhere (a [`Link`]). Returns the global model on the server, `None` on
/// the others.
///
/// A run resumes from the `start` of rank 0, whose position's epoch counts complete rounds, on as
/// many ranks as there are now. On other ranks `start` and `callback` do not matter (`None`,
/// `&mut ()`). The callback saves the run when it is due, after the last round, and when the run is
/// stopped, as of the last complete round. A client elsewhere resumes from its own `start`, with
/// what it keeps.
///
/// # Errors
/// Fails when a training diverges (naming node and round), when messages are not what they should
/// be, when ranks are lost or fail, and on Ctrl-C.
pub fn run<'a>(
    settings: &FedAvgSettings,
    federation: &Federation,
    link: impl Into<Link<'a>>,
    start: Option<&FitState>,
    callback: &mut dyn Callback<RoundReport>,
) -> Result<Option<Model>> {
    if federation.nodes.is_empty() {
        return Err(Error::failed("a federation needs at least one client"));
    }
    let link = link.into();
    let server = link
        .is_server()
        .then(|| Server::new(settings, &federation.task));
    let fed_avg = FedAvg {
        settings,
        federation,
        server: server.transpose()?,
        client: federation.task.initial()?,
    };
    let (fed_avg, _) = rounds::run(fed_avg, settings.rounds, link, start, callback)?;
    Ok(fed_avg.server.map(|server| server.model))
}

/// Takes part in federated averaging, on one rank.
struct FedAvg<'a> {
    settings: &'a FedAvgSettings,
    federation: &'a Federation<'a>,
    /// On rank 0.
    server: Option<Server>,
    /// The model in which the clients of this rank take turns.
    client: Model,
}

impl Algorithm for FedAvg<'_> {
    type Report = NodeReport;
    const FIRST: usize = 1;
    /// Batch norm's statistics, where they do not travel.
    const KEPT: &'static [&'static str] = &["statistics"];

    fn round(
        &mut self,
        link: &mut Link,
        callback: &mut dyn Callback<RoundReport>,
    ) -> Result<Vec<NodeReport>> {
        let round = link.complete + 1;
        let nodes = link.present((0..self.federation.nodes.len()).collect())?;
        let (seeds, fraction) = (&self.federation.task.seeds, self.settings.fraction);
        let chosen = selected(seeds, round, nodes.len(), fraction);
        let chosen: Vec<usize> = chosen.into_iter().map(|index| nodes[index]).collect();
        let weights = self
            .server
            .as_ref()
            .map(Server::weights)
            .unwrap_or_default();
        let answers = link.exchange(
            &chosen,
            Some((Kind::Model, &|_| weights.share())),
            [Kind::Report, Kind::Model, Kind::Kept],
            &mut |node, weights, kept| self.client_round(round, node, weights, kept, callback),
            None,
        )?;
        let reports = NodeReport::decode_all(&answers)?;
        if let Some(server) = &mut self.server {
            let images: Vec<f64> = reports.iter().map(|node| node.images as f64).collect();
            let models: Vec<_> = answers
                .iter()
                .map(|(&node, states)| (node, &states[1]))
                .collect();
            let mean = weighted_mean_of(models.len(), &images, |index| {
                let (node, model) = models[index];
                link.model(node, 1, model)
            })?;
            server.step(&mean)?;
        }
        Ok(reports)
    }

    fn model(&self) -> Option<&Model> {
        self.server.as_ref().map(|server| &server.model)
    }

    fn state(&self, position: Position) -> FitState {
        let server = self.server.as_ref();
        server
            .map(|server| server.state(position))
            .unwrap_or_default()
    }

    fn restore(&mut self, state: &FitState, _: &Link) -> Result<()> {
        let mut server = self.server.iter_mut();
        server.try_for_each(|server| server.restore(state))
    }
}
