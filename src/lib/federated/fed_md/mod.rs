//! FedMD (Li and Wang 2019, "FedMD: Heterogenous Federated Learning via Model Distillation",
//! arXiv:1910.03581, algorithm 1): clients of different architectures learn from each other's class
//! scores of public images. No weights travel.
//!
//! Transfer learning: each client trains on the public set with its labels, then on its private
//! images. Then each round: *communicate* (each client sends its class scores of the round's public
//! images), *aggregate* (the server takes their mean, the consensus), *distribute* (each client
//! receives it), *digest* (each trains to approach it on those images), *revisit* (each trains on
//! its private images). Class scores are logits and the digest minimises their mean absolute
//! distance to the consensus, as in the authors' code
//! (<https://github.com/diogenes0319/FedMD_clean>); the paper names neither.
//!
//! Everyone holds the public set from the start, and the images of a round are drawn from the
//! shared seed: neither costs a byte here. Nor do the states that clients on other ranks send to
//! rank 0 after each round, which saves the run and has the result: in the paper's federation
//! clients keep them to themselves.
//!
//! Unlike the authors' code, which stops transfer learning early on a validation set, epochs are
//! given.
//!
//! [`Trainer`] and [`consensus`] are the algorithm of client and server. [`run`] lets ranks
//! simulate a federation with them. Rounds count from 1; round 0 is transfer learning.

mod client;
mod host;
mod objective;
mod report;
mod server;
mod settings;

pub use client::{Trained, Trainer};
pub use report::NodeReport;
pub use server::consensus;
pub use settings::{Client, DigestLoss, FedMdSettings, Federation, Task};

use super::ledger::Ledger;
use super::link::Link;
use super::transport::Rank;
use crate::error::{Error, Result};
use crate::model::StateDict;
use crate::runtime::seed::Seeds;
use crate::train::{self, Callback, FitState};
use host::Host;

/// What a round gave.
#[derive(Debug)]
pub struct RoundReport {
    pub round: usize,
    /// In the clients' order.
    pub nodes: Vec<NodeReport>,
    pub ledger: Ledger,
}

/// Returns the public images of round `round`: `samples` of `public`, drawn without replacement;
/// ascending.
pub fn drawn(seeds: &Seeds, round: usize, public: usize, samples: usize) -> Vec<usize> {
    let mut rng = seeds.stream("fed_md/public", round as u64);
    let mut chosen = rand::seq::index::sample(&mut rng, public, samples.min(public)).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Returns the number of batches of client `index` in round `round`.
pub fn steps(
    settings: &FedMdSettings,
    federation: &Federation,
    index: usize,
    round: usize,
) -> usize {
    let (public, batch) = (federation.task.public.len(), settings.batch_size);
    let private = train::steps(federation.clients[index].data.train.len(), batch);
    match round {
        0 => {
            settings.public_epochs * train::steps(public, batch) + settings.private_epochs * private
        }
        _ => {
            let digest = train::steps(settings.samples(public), settings.digest_batch_size);
            settings.digest_epochs * digest + settings.revisit_epochs * private
        }
    }
}

/// Takes this rank's part in all rounds. Returns the weights of all clients by node on rank 0, none
/// on the others.
///
/// A run resumes from the `start` of rank 0, whose position's epoch counts complete rounds,
/// transfer learning as one, on as many ranks as there are now. On other ranks `start` and
/// `callback` do not matter (`None`, `&mut ()`). The callback saves the run when it is due (it is
/// asked after each client's transfer learning and after each round), after the last round, and
/// when the run is stopped: as of the last complete round, in transfer learning with the clients
/// that rank 0 knows.
///
/// # Errors
/// A training that diverges (names node and round), scores that are not finite or of another shape,
/// weights of another number than clients, messages that are not what they should be, ranks that
/// are lost or fail, Ctrl-C.
pub fn run(
    settings: &FedMdSettings,
    federation: &Federation,
    rank: &mut Rank,
    start: Option<&FitState>,
    callback: &mut dyn Callback<RoundReport>,
) -> Result<Vec<(usize, StateDict)>> {
    if federation.clients.is_empty() {
        return Err(Error::failed("a federation needs at least one client"));
    }
    Host::new(settings, federation, Link::new(rank), start)?.run(callback)
}
