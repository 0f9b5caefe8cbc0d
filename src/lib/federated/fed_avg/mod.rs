//! Federated averaging (McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks
//! from Decentralized Data", arXiv:1602.05629, algorithm 1), with server optimisers (Reddi et al.
//! 2021, "Adaptive Federated Optimization", arXiv:2003.00295: FedAvgM, FedAdam) and FedProx's
//! proximal term (Li et al. 2020, arXiv:1812.06127).
//!
//! Unlike the FedAdam of Reddi et al., Adam's moments are corrected for their start at zero, as
//! PyTorch's are.
//!
//! [`Server`] and [`Client`] are the algorithm: weights in, weights out. [`run`] lets ranks
//! simulate a federation with them. Rounds count from 1.

mod client;
mod host;
mod objective;
mod server;
mod settings;

pub use super::node::NodeData;
pub use client::{Client, NodeReport, Update};
pub use server::Server;
pub use settings::{FedAvgSettings, Federation, Statistics, Task};

use super::ledger::Ledger;
use super::link::Link;
use super::transport::Rank;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::runtime::seed::Seeds;
use crate::train::{Callback, FitState};
use host::Host;

/// What a round gave.
#[derive(Debug)]
pub struct RoundReport {
    pub round: usize,
    /// The clients that took part, by ascending node.
    pub nodes: Vec<NodeReport>,
    pub ledger: Ledger,
}

impl RoundReport {
    /// Returns the mean of a number over the clients, weighted by their images.
    pub fn mean(&self, of: fn(&NodeReport) -> f64) -> f64 {
        let images: usize = self.nodes.iter().map(|node| node.images).sum();
        let weighted = |node: &NodeReport| of(node) * node.images as f64;
        self.nodes.iter().map(weighted).sum::<f64>() / images as f64
    }
}

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

/// Takes this rank's part in all rounds. Returns the global model on rank 0, `None` on the others.
///
/// A run resumes from the `start` of rank 0, whose position's epoch counts complete rounds, on as
/// many ranks as there are now. On other ranks `start` and `callback` do not matter (`None`,
/// `&mut ()`). The callback saves the run when it is due, after the last round, and when the run is
/// stopped, as of the last complete round.
///
/// # Errors
/// A training that diverges (names node and round), messages that are not what they should be,
/// ranks that are lost or fail, Ctrl-C.
pub fn run(
    settings: &FedAvgSettings,
    federation: &Federation,
    rank: &mut Rank,
    start: Option<&FitState>,
    callback: &mut dyn Callback<RoundReport>,
) -> Result<Option<Model>> {
    if federation.nodes.is_empty() {
        return Err(Error::failed("a federation needs at least one client"));
    }
    Host::new(settings, federation, Link::new(rank), start)?.run(callback)
}
