//! Records the rounds of `fed_avg`: evaluates the global model, writes the metrics as they come,
//! and saves the run.

use super::super::{test, test_on};
use crate::config::schema::FedAvgConfig;
use crate::data::Dataset;
use crate::error::Error;
use crate::federated::fed_avg::{
    FedAvgSettings, Federation, NodeReport, RoundReport, Statistics, selected,
};
use crate::model::Model;
use crate::run::StageContext;
use crate::run::job::Session;
use crate::run::journal::Journal;
use crate::run::metrics::{FedAvgMeans, FedAvgMetrics, RoundLine};
use crate::run::rounds::Log;
use crate::train::{self, Callback, FitState};
use crate::words::percent;
use anyhow::Result;

/// Records the rounds of a run.
pub struct Recorder<'a> {
    config: &'a FedAvgConfig,
    dataset: &'a Dataset,
    federation: &'a Federation<'a>,
    log: Log<'a, FedAvgMeans, NodeReport>,
}

impl<'a> Recorder<'a> {
    /// Returns the recorder, and the state from which an interrupted run resumes.
    ///
    /// # Errors
    /// Fails when the checkpoint is of another run, and when a file cannot be written.
    pub fn open(
        context: &'a StageContext,
        dataset: &'a Dataset,
        federation: &'a Federation<'a>,
        session: &Session<'a>,
    ) -> Result<(Self, Option<FitState>)> {
        let config = &context.config.fed_avg;
        let rounds = 1..=config.settings.rounds;
        let steps = rounds.map(|round| steps(&config.settings, federation, round));
        let (log, start) = Log::open(context, session, "federated averaging", 1, steps.collect())?;
        let recorder = Self {
            config,
            dataset,
            federation,
            log,
        };
        Ok((recorder, start))
    }

    /// Returns what `metrics.json` will hold, and the journal, to be closed.
    pub fn finish(self, model: &Model) -> (FedAvgMetrics, Journal) {
        let (course, journal) = self.log.finish(|means| means.test_accuracy);
        let metrics = FedAvgMetrics {
            parameters: model.parameter_count(),
            model_bytes: match self.config.settings.statistics {
                Statistics::Average => model.state().bytes(),
                Statistics::Local => 4 * model.parameter_count(),
            },
            course,
        };
        (metrics, journal)
    }

    /// Returns true if the global model is evaluated after `round` rounds.
    fn evaluates(&self, model: &Model, round: usize) -> bool {
        let settings = &self.config.settings;
        let due = round.is_multiple_of(self.config.eval_every) || round == settings.rounds;
        due && (settings.statistics == Statistics::Average || model.batch_norms() == 0)
    }

    fn test(&self, model: &Model) -> Result<Option<f64>> {
        Ok(test(model, self.dataset, *self.config.eval_batch_size)?.accuracy())
    }

    /// Returns its accuracy on all nodes' training images, if that is evaluated.
    fn test_on_train(&self, model: &Model) -> Result<Option<f64>> {
        if !self.config.eval_train {
            return Ok(None);
        }
        let (mut correct, mut images) = (0.0, 0);
        for node in &self.federation.nodes {
            let evaluation = test_on(
                model,
                &node.train,
                self.dataset,
                *self.config.eval_batch_size,
            )?;
            correct += evaluation.accuracy().unwrap_or(0.0) * node.train.len() as f64;
            images += node.train.len();
        }
        Ok(Some(correct / images as f64))
    }
}

/// Returns the number of batches of all nodes in a round.
fn steps(settings: &FedAvgSettings, federation: &Federation, round: usize) -> u64 {
    let of = |node: usize| {
        let images = federation.nodes[node].train.len();
        // A server whose clients are elsewhere has none of their images.
        let batch = settings.batch_size.unwrap_or(images).max(1);
        settings.epochs.saturating_mul(train::steps(images, batch))
    };
    let nodes = selected(
        &federation.task.seeds,
        round,
        federation.nodes.len(),
        settings.fraction,
    );
    nodes.into_iter().map(of).sum::<usize>() as u64
}

impl Callback<RoundReport> for Recorder<'_> {
    fn step(&mut self) {
        self.log.step();
    }

    fn report(&mut self, model: Option<&Model>, report: &RoundReport) -> Result<(), Error> {
        let round = report.round;
        let model = model.filter(|model| self.evaluates(model, round));
        let (test_accuracy, global_train_accuracy) = match model {
            Some(model) => (self.test(model)?, self.test_on_train(model)?),
            None => (None, None),
        };
        let means = FedAvgMeans {
            train_loss: report.mean(|node| node.train_loss),
            train_accuracy: report.mean(|node| node.train_accuracy),
            own_test_accuracy: report.mean_of_some(|node| node.own_test_accuracy),
            test_accuracy,
            global_train_accuracy,
        };
        let message = format!(
            "after round {round}: loss {:.3}, test {}",
            means.train_loss,
            percent(means.test_accuracy)
        );
        let line = RoundLine::new(
            round,
            means,
            &report.nodes,
            |node| node.node,
            &report.ledger,
        );
        Ok(self.log.add(line, message)?)
    }

    fn due(&self) -> bool {
        self.log.due()
    }

    fn save(&mut self, state: &FitState) -> Result<(), Error> {
        Ok(self.log.save(state)?)
    }
}
