//! FedMD (Li and Wang 2019, "FedMD: Heterogenous Federated Learning via Model Distillation",
//! arXiv:1910.03581, algorithm 1): clients of different architectures learn from each other by what
//! they say of public images. No weights travel.
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
//! shared seed: neither costs a byte here. Nor does what clients on other ranks leave with rank 0
//! after each turn, which saves the run and has the result: in the paper's federation they keep it
//! to themselves.
//!
//! Unlike the authors' code, which stops transfer learning early on a validation set, epochs are
//! given.

mod client;
mod objective;
mod rank;
mod report;
mod server;
mod settings;

pub use report::NodeReport;
pub use settings::{Client, DigestLoss, FedMdSettings, Federation};

use super::ledger::Ledger;
use super::link::Link;
use super::transport::Transport;
use crate::error::{During, Error, Result, is_whole};
use crate::model::StateDict;
use crate::runtime::seed::Seeds;
use crate::train::{self, FitState};
use rank::Rank;

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

    /// Whether the run should be saved now; asked after each client's transfer learning and after
    /// each round.
    fn due(&self) -> bool {
        false
    }

    /// Saves the run: when it is due, when the user interrupts it and when all rounds are done.
    /// `position.epoch` counts rounds, transfer learning as one.
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

/// The public images of round `round` (from 1): `samples` of `public`, drawn without replacement;
/// ascending.
pub fn drawn(seeds: &Seeds, round: usize, public: usize, samples: usize) -> Vec<usize> {
    let mut rng = seeds.stream("fed_md/public", round as u64);
    let mut chosen = rand::seq::index::sample(&mut rng, public, samples.min(public)).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Batches of client `index` in round `round`, 0 being transfer learning.
pub fn steps(
    settings: &FedMdSettings,
    federation: &Federation,
    index: usize,
    round: usize,
) -> usize {
    let (public, batch) = (federation.public.len(), settings.batch_size);
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

/// Runs this rank's part. Returns the weights of all clients by node on rank 0, none elsewhere.
///
/// A run goes on from the `start` of rank 0, on as many ranks as there are now; on other ranks
/// `start` and `observer` do not matter (`None`, `&mut ()`).
///
/// # Errors
/// A training that diverges (names node and round), scores that are not finite or of another shape,
/// weights of another number than clients, messages that are not what they should be, ranks that
/// are gone or fail, Ctrl-C (both saved as of the last complete round; in transfer learning with
/// the clients that rank 0 knows).
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
    let mut rank = Rank::new(settings, federation, Link::new(transport));
    rank.resume(start)?;
    let outcome = rank.play(observer);
    if !rank.is_server() {
        return outcome.map(|()| Vec::new());
    }
    if is_whole(&outcome) {
        observer.save(&rank.state()).during(|| "saving the run")?;
    }
    outcome.map(|()| rank.into_states())
}
