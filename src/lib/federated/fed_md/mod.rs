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
//! Rounds count from 1; round 0 is transfer learning. `client` has what a client does in each
//! phase, `server` the mean of the scores.

mod client;
mod objective;
mod report;
mod server;
mod settings;

pub use report::NodeReport;
pub use settings::{Client, DigestLoss, FedMdSettings, Federation, Task};

use super::link::{Answers, Kind, Link};
use super::report::Report;
use super::rounds::{self, Algorithm};
use crate::error::{During, Error, Result};
use crate::model::StateDict;
use crate::runtime::seed::Seeds;
use crate::train::{self, Callback, FitState};
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::Tensor;

/// Reports a round.
pub type RoundReport = rounds::RoundReport<NodeReport>;

/// Returns the public images of round `round`: `samples` of `public`, drawn without replacement;
/// ascending.
pub fn drawn(seeds: &Seeds, round: usize, public: usize, samples: usize) -> Vec<usize> {
    let mut rng = seeds.stream("fed_md/public", round as u64);
    let mut chosen = rand::seq::index::sample(&mut rng, public, samples.min(public)).into_vec();
    chosen.sort_unstable();
    chosen
}

/// Returns the number of batches of client `index` in round `round`, or the largest number where it
/// is beyond that.
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
            let first = settings
                .public_epochs
                .saturating_mul(train::steps(public, batch));
            first.saturating_add(settings.private_epochs.saturating_mul(private))
        }
        _ => {
            let digest = train::steps(settings.samples(public), settings.digest_batch_size());
            let digest = settings.digest_epochs.saturating_mul(digest);
            digest.saturating_add(settings.revisit_epochs.saturating_mul(private))
        }
    }
}

/// Takes this process's part in all rounds: a rank's (`&mut Rank`), or that of a server or a client
/// whose other side is elsewhere (a [`Link`]). Returns the weights of all clients by node on rank
/// 0, of itself on a client elsewhere, none on the others.
///
/// A run resumes from the `start` of rank 0, whose position's epoch counts complete rounds,
/// transfer learning as one, on as many ranks as there are now. On other ranks `start` and
/// `callback` do not matter (`None`, `&mut ()`). The callback saves the run when it is due (it is
/// asked after each client's transfer learning and after each round), after the last round, and
/// when the run is stopped: as of the last complete round, in transfer learning with the clients
/// that rank 0 knows. A client elsewhere resumes from its own `start`, with what it keeps.
///
/// # Errors
/// Fails when a training diverges (naming node and round), when scores are not finite or of another
/// shape, when weights are of another number than clients, when messages are not what they should
/// be, when ranks are lost or fail, and on Ctrl-C.
pub fn run<'a>(
    settings: &FedMdSettings,
    federation: &Federation,
    link: impl Into<Link<'a>>,
    start: Option<&FitState>,
    callback: &mut dyn Callback<RoundReport>,
) -> Result<Vec<(usize, StateDict)>> {
    if federation.clients.is_empty() {
        return Err(Error::failed("a federation needs at least one client"));
    }
    let clients = federation.clients.iter();
    let fed_md = FedMd {
        settings,
        task: &federation.task,
        clients: clients.map(|client| (client.node, client)).collect(),
    };
    // Transfer learning is one more.
    let rounds = settings.rounds + 1;
    let (_, link) = rounds::run(fed_md, rounds, link.into(), start, callback)?;
    let kept = link.kept.iter().filter(|_| link.gathers());
    Ok(kept
        .map(|(&node, kept)| (node, client::weights(node, kept)))
        .collect())
}

/// Takes part in federated distillation, on one rank.
struct FedMd<'a> {
    settings: &'a FedMdSettings,
    task: &'a Task<'a>,
    /// All clients by node.
    clients: BTreeMap<usize, &'a Client>,
}

impl Algorithm for FedMd<'_> {
    type Report = NodeReport;
    const FIRST: usize = 0;
    /// A client's weights and its last report. In transfer learning clients keep them as soon as
    /// rank 0 has them.
    const KEPT: &'static [&'static str] = &["model", "report"];

    fn round(
        &mut self,
        link: &mut Link,
        callback: &mut dyn Callback<RoundReport>,
    ) -> Result<Vec<NodeReport>> {
        match link.complete {
            0 => self.transfer(link, callback),
            round => self.learn_from_each_other(round, link, callback),
        }
    }

    fn restore(&mut self, _: &FitState, link: &Link) -> Result<()> {
        let mut needed = self.clients.keys().filter(|node| link.holds(**node));
        match needed.find(|node| link.complete > 0 && !link.kept.contains_key(node)) {
            Some(node) => Err(Error::failed(format!("the saved run lacks node {node}"))),
            None => Ok(()),
        }
    }
}

impl FedMd<'_> {
    /// Lets the clients that rank 0 does not know yet take part in transfer learning. Returns the
    /// reports of all.
    fn transfer(
        &self,
        link: &mut Link,
        callback: &mut dyn Callback<RoundReport>,
    ) -> Result<Vec<NodeReport>> {
        let mut missing = link.present(self.nodes())?;
        missing.retain(|node| !link.kept.contains_key(node));
        // Both closures need it.
        let callback = RefCell::new(callback);
        link.exchange(
            &missing,
            None,
            [Kind::Kept],
            &mut |node, _, _| {
                let client = self.clients[&node];
                Ok([self.transfer_client(client, &mut **callback.borrow_mut())?])
            },
            Some(&mut |link| {
                link.commit_kept();
                link.save_if_due(&mut **callback.borrow_mut())
            }),
        )?;
        let report = &mut |node, _, kept: &StateDict| Ok([client::report(node, kept)]);
        let nodes = link.present(self.nodes())?;
        let answers = link.exchange(&nodes, None, [Kind::Report], report, None)?;
        NodeReport::decode_all(&answers)
    }

    /// Lets the clients send scores to the server, receive the consensus, digest it and revisit
    /// their images. Returns their reports.
    fn learn_from_each_other(
        &self,
        round: usize,
        link: &mut Link,
        callback: &mut dyn Callback<RoundReport>,
    ) -> Result<Vec<NodeReport>> {
        let nodes = link.present(self.nodes())?;
        let (images, shape) = self.public_images(round)?;
        let score = &mut |node, _, kept: &StateDict| {
            let scores = self.scores(self.clients[&node], kept, &images)?;
            Ok([server::message(scores)])
        };
        let scores = link.exchange(&nodes, None, [Kind::Scores], score, None)?;
        let consensus = match link.is_server() {
            true => server::consensus(&scores, shape, self.weights(&scores).as_deref())
                .during(|| format!("averaging scores in round {round}"))?,
            false => StateDict::default(),
        };
        let nodes = link.present(self.nodes())?;
        let answers = link.exchange(
            &nodes,
            Some((Kind::Consensus, &|_| consensus.share())),
            [Kind::Report, Kind::Kept],
            &mut |node, message, kept| {
                let target = (&images, &server::scores(&message, shape, "the server")?);
                let kept = self.client_round(round, self.clients[&node], kept, target, callback)?;
                Ok([client::report(node, &kept), kept])
            },
            None,
        )?;
        NodeReport::decode_all(&answers)
    }

    /// Returns the round's public images u8 [S,C,H,W], and the shape [S, classes] of their scores.
    fn public_images(&self, round: usize) -> Result<(Tensor, [i64; 2])> {
        let task = self.task;
        let samples = self.settings.samples(task.public.len());
        let chosen = drawn(&task.seeds, round, task.public.len(), samples);
        // All clients have as many classes.
        let classes = self.clients.values().map(|client| client.spec.classes);
        let shape = [samples as i64, classes.max().unwrap_or(0)];
        Ok((task.public.select(&chosen)?.images, shape))
    }

    /// Returns the weights of the clients that sent `scores`, if there are any.
    fn weights(&self, scores: &Answers<1>) -> Option<Vec<f64>> {
        let weights = self.settings.weights.as_ref()?;
        // Another number of weights than clients is found where the mean is taken.
        if weights.len() != self.clients.len() {
            return Some(weights.clone());
        }
        let named = self.clients.keys().zip(weights);
        let sent = named.filter(|(node, _)| scores.contains_key(node));
        Some(sent.map(|(_, weight)| *weight).collect())
    }

    fn nodes(&self) -> Vec<usize> {
        self.clients.keys().copied().collect()
    }
}
