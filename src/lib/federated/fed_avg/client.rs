//! Takes a client's part in a round: weights in, weights and a report out.

use super::FedAvg;
use super::objective::Proximal;
use super::report::NodeReport;
use super::settings::Statistics;

use crate::error::{During, Result};
use crate::federated::node::{parameters_and_buffers, train};
use crate::federated::report::Report;
use crate::model::{Model, StateDict};
use crate::train::{Callback, Shuffled, evaluate};

impl FedAvg<'_> {
    /// Takes the part of client `node` in round `round` (from 1), with the `weights` of the server
    /// and what the client `kept` of its last round. Returns its report, its weights and what it
    /// keeps, as views that the next call changes.
    ///
    /// # Errors
    /// Fails when the training diverges (naming node and round), when the weights are another
    /// model's, and on Ctrl-C.
    pub(super) fn client_round<R>(
        &mut self,
        round: usize,
        node: usize,
        weights: StateDict,
        kept: &StateDict,
        callback: &mut dyn Callback<R>,
    ) -> Result<[StateDict; 3]> {
        let name = format!("statistics.{node}");
        let statistics = match self.settings.statistics {
            Statistics::Local if kept.is_empty() => fresh_statistics(&self.client),
            _ => kept.part(&name),
        };
        self.client.load_state(&weights.joined(statistics))?;
        let report = self
            .train(round, node, callback)
            .during(|| format!("training node {node} in round {round}"))?;
        let (weights, statistics) = self.settings.statistics.divide(&self.client);
        Ok([report.encode()?, weights, statistics.prefixed(&name)])
    }

    /// Trains client `node` and evaluates it on its own test images.
    fn train<R>(
        &mut self,
        round: usize,
        node: usize,
        callback: &mut dyn Callback<R>,
    ) -> Result<NodeReport> {
        let (data, task) = (&self.federation.nodes[node], &self.federation.task);
        let mut source = Shuffled::new(
            &data.train,
            task.normalisation,
            self.settings.augment.clone(),
            self.settings.batch_size.unwrap_or(data.train.len()),
            task.seeds,
            // The names of streams count rounds from 0.
            format!("fed_avg/{node}/{}/batches", round - 1),
        );
        let objective = Proximal::new(self.settings.proximal, &self.client);
        let (epochs, optimizer) = (self.settings.epochs, &self.settings.optimizer);
        let model = &mut self.client;
        let last = train(model, &mut source, &objective, epochs, optimizer, callback)?;
        let own = evaluate(
            &|images| Ok(self.client.eval(images)),
            &data.test,
            task.normalisation,
            task.spec.classes as usize,
            task.eval_batch_size,
        )?;
        Ok(NodeReport {
            node,
            images: data.train.len(),
            train_loss: last.map_or(0.0, |report| report.train_loss),
            train_accuracy: last.map_or(0.0, |report| report.train_accuracy),
            own_test_accuracy: own.accuracy(),
        })
    }
}

/// Returns the statistics that batch norm begins with.
fn fresh_statistics(model: &Model) -> StateDict {
    let (_, buffers) = parameters_and_buffers(model);
    let fresh = buffers.iter().map(|(name, buffer)| {
        let value = match name.ends_with("running_var") {
            true => buffer.ones_like(),
            false => buffer.zeros_like(),
        };
        (name.to_owned(), value)
    });
    StateDict::new(fresh.collect())
}
