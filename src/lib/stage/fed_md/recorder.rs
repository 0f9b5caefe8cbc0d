//! Records the rounds of `fed_md`: writes the metrics as they come, and saves the run.

use crate::error::Error;
use crate::federated::fed_md::{FedMdSettings, Federation, NodeReport, RoundReport, steps};
use crate::model::Model;
use crate::run::StageContext;
use crate::run::job::Session;
use crate::run::journal::Journal;
use crate::run::metrics::{FedMdClient, FedMdMeans, FedMdMetrics, RoundLine};
use crate::run::rounds::Log;
use crate::train::{Callback, FitState};
use crate::words::percent;
use anyhow::Result;

/// Records the rounds of a run.
pub struct Recorder<'a> {
    settings: &'a FedMdSettings,
    federation: &'a Federation<'a>,
    clients: Vec<FedMdClient>,
    log: Log<'a, FedMdMeans, NodeReport>,
}

impl<'a> Recorder<'a> {
    /// Returns the recorder, and the state from which an interrupted run resumes.
    ///
    /// # Errors
    /// Fails when the checkpoint is of another run, and when a file cannot be written.
    pub fn open(
        context: &StageContext,
        clients: Vec<FedMdClient>,
        settings: &'a FedMdSettings,
        federation: &'a Federation<'a>,
        session: &Session<'a>,
    ) -> Result<(Self, Option<FitState>)> {
        let batches = |round| {
            let of = |index| steps(settings, federation, index, round) as u64;
            (0..federation.clients.len())
                .map(of)
                .fold(0_u64, u64::saturating_add)
        };
        let steps = (0..=settings.rounds).map(batches).collect();
        let (log, start) = Log::open(context, session, "federated distillation", 0, steps)?;
        let recorder = Self {
            settings,
            federation,
            clients,
            log,
        };
        Ok((recorder, start))
    }

    /// Returns what `metrics.json` will hold, and the journal, to be closed.
    pub fn finish(self) -> (FedMdMetrics, Journal) {
        let (course, journal) = self.log.finish(|means| means.test_accuracy);
        let public = self.federation.task.public;
        let metrics = FedMdMetrics {
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

/// Returns the mean over the clients that have the number.
fn mean(nodes: &[NodeReport], of: fn(&NodeReport) -> Option<f64>) -> Option<f64> {
    let numbers: Vec<f64> = nodes.iter().filter_map(of).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

impl Callback<RoundReport> for Recorder<'_> {
    fn step(&mut self) {
        self.log.step();
    }

    fn report(&mut self, _: Option<&Model>, report: &RoundReport) -> Result<(), Error> {
        let (round, nodes) = (report.round, &report.nodes);
        let means = FedMdMeans {
            digest_loss: mean(nodes, |node| node.digest_loss),
            train_loss: mean(nodes, |node| node.train_loss),
            train_accuracy: mean(nodes, |node| node.train_accuracy),
            local_accuracy: mean(nodes, |node| node.local_accuracy),
            public_accuracy: mean(nodes, |node| node.public_accuracy),
            own_test_accuracy: mean(nodes, |node| node.own_test_accuracy),
            test_accuracy: mean(nodes, |node| node.test_accuracy),
        };
        let message = format!("after round {round}: test {}", percent(means.test_accuracy));
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
