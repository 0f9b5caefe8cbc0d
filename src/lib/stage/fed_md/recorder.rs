//! Records the rounds of `fed_md`: writes the metrics as they come, and saves the run.

use super::federation::{Party, Roles};
use crate::error::Error;
use crate::federated::fed_md::{Client, FedMdSettings, Federation, NodeReport, RoundReport, steps};
use crate::model::Model;
use crate::run::StageContext;
use crate::run::job::Session;
use crate::run::journal::Journal;
use crate::run::rounds::{self, Course, Log};
use crate::train::{Callback, FitState};
use crate::words::percent;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Holds the means of a round, unweighted, over the clients that have the number; round 0 is
/// transfer learning. Accuracies are shares, 0..1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Means {
    pub digest_loss: Option<f64>,
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub local_accuracy: Option<f64>,
    pub public_accuracy: Option<f64>,
    pub own_test_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
}

/// Is what a node reports of a round.
pub type NodeLine = rounds::NodeLine<NodeReport>;
/// Is the line of a round.
pub type RoundLine = rounds::RoundLine<Means, NodeReport>;

/// Is the content of `metrics.json`.
#[derive(Debug, Serialize)]
pub struct Metrics {
    pub clients: Vec<ClientNote>,
    /// Counts the public images, which everyone holds from the start: their bytes are in no sum.
    pub public_images: usize,
    pub public_bytes: u64,
    /// Counts the public images of a round.
    pub public_samples: usize,
    pub classes: i64,
    /// Accuracies are means over the clients.
    #[serde(flatten)]
    pub course: Course<Means, NodeReport>,
}

/// Describes a client.
#[derive(Clone, Debug, Serialize)]
pub struct ClientNote {
    pub node: usize,
    pub model: &'static str,
    pub parameters: u64,
    pub images: usize,
}

/// Records the rounds of a run.
pub struct Recorder<'a> {
    settings: &'a FedMdSettings,
    federation: &'a Federation<'a>,
    clients: Vec<ClientNote>,
    log: Log<'a, Means, NodeReport>,
}

impl<'a> Recorder<'a> {
    /// Returns the recorder, and the state from which an interrupted run resumes.
    ///
    /// # Errors
    /// Fails when the checkpoint is of another run, and when a file cannot be written.
    pub fn open(
        context: &StageContext,
        roles: &Roles,
        settings: &'a FedMdSettings,
        federation: &'a Federation<'a>,
        session: &Session<'a>,
    ) -> Result<(Self, Option<FitState>)> {
        let batches = |round| {
            let of = |index| steps(settings, federation, index, round) as u64;
            (0..federation.clients.len()).map(of).sum()
        };
        let steps = (0..=settings.rounds).map(batches).collect();
        let (log, start) = Log::open(context, session, "federated distillation", steps)?;
        let recorder = Self {
            settings,
            federation,
            clients: roles
                .parties
                .iter()
                .map(|party| note(party, federation))
                .collect(),
            log,
        };
        Ok((recorder, start))
    }

    /// Returns what `metrics.json` will hold, and the journal, to be closed.
    pub fn finish(self) -> (Metrics, Journal) {
        let (course, journal) = self.log.finish(|means| means.test_accuracy);
        let public = self.federation.task.public;
        let metrics = Metrics {
            clients: self.clients,
            public_images: public.len(),
            public_bytes: public.images.numel() as u64,
            public_samples: self.settings.samples(public.len()),
            classes: self.federation.clients[0].spec.classes,
            course,
        };
        (metrics, journal)
    }
}

fn note(party: &Party, federation: &Federation) -> ClientNote {
    let images = |client: &Client| (client.node == party.node).then(|| client.data.train.len());
    ClientNote {
        node: party.node,
        model: party.spec.model.kind.name(),
        parameters: party.parameters,
        images: federation.clients.iter().find_map(images).unwrap_or(0),
    }
}

/// Returns the mean over the clients that have the number.
fn mean(nodes: &[NodeReport], of: fn(&NodeReport) -> Option<f64>) -> Option<f64> {
    let numbers: Vec<f64> = nodes.iter().filter_map(of).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

impl Callback<RoundReport> for Recorder<'_> {
    fn step(&mut self) {
        self.log.step();
    }

    fn round(&mut self, _: Option<&Model>, report: &RoundReport) -> Result<(), Error> {
        let (round, nodes) = (report.round, &report.nodes);
        let means = Means {
            digest_loss: mean(nodes, |node| node.digest_loss),
            train_loss: mean(nodes, |node| node.train_loss),
            train_accuracy: mean(nodes, |node| node.train_accuracy),
            local_accuracy: mean(nodes, |node| node.local_accuracy),
            public_accuracy: mean(nodes, |node| node.public_accuracy),
            own_test_accuracy: mean(nodes, |node| node.own_test_accuracy),
            test_accuracy: mean(nodes, |node| node.test_accuracy),
        };
        let message = format!("round {round}, test {}", percent(means.test_accuracy));
        let line = RoundLine::new(round, means, nodes, |node| node.node, &report.ledger);
        Ok(self.log.add(line, message)?)
    }

    fn due(&self) -> bool {
        self.log.due()
    }

    fn save(&mut self, state: &FitState) -> Result<(), Error> {
        Ok(self.log.save(state)?)
    }
}
