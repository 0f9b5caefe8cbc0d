//! A client's part in a round: weights in, weights and a report out.

use super::objective::Proximal;
use super::settings::{FedAvgSettings, Statistics, Task};
use crate::error::{During, Result};
use crate::federated::NodeData;
use crate::federated::node::{decode_report, encode_report, owned, parameters_and_buffers, train};
use crate::model::{Model, StateDict};
use crate::train::{Shuffled, evaluate};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// What a client tells about its part in a round. Loss and accuracy are those of its last epoch's
/// training passes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    pub node: usize,
    pub images: usize,
    pub train_loss: f64,
    pub train_accuracy: f64,
    /// Of the model it uploads, on its own test images; `None` without any.
    pub own_test_accuracy: Option<f64>,
}

/// What comes of a client's part in a round.
#[derive(Debug)]
pub struct Update {
    /// What the server averages: the state dict, without `statistics`.
    pub weights: StateDict,
    pub report: NodeReport,
    /// Batch norm's statistics that the client keeps for its next round; empty where they are
    /// averaged.
    pub statistics: StateDict,
}

/// Trains for one client or several, which take turns in one model.
pub struct Client<'a> {
    settings: &'a FedAvgSettings,
    task: &'a Task<'a>,
    model: Model,
}

impl<'a> Client<'a> {
    /// # Errors
    /// A model that cannot be built.
    pub fn new(settings: &'a FedAvgSettings, task: &'a Task<'a>) -> Result<Self> {
        Ok(Self {
            settings,
            task,
            model: task.initial()?,
        })
    }

    /// Takes the part of client `node`, whose images are `data`, in round `round` (from 1), with
    /// the weights `received` from the server and the `statistics` that it kept of its last round.
    /// Calls `step` after each batch. The update's tensors are views that the next call changes.
    ///
    /// # Errors
    /// A training that diverges (names node and round), weights of another model, Ctrl-C.
    pub fn round(
        &mut self,
        round: usize,
        (node, data): (usize, &NodeData),
        received: &StateDict,
        statistics: Option<&StateDict>,
        step: &mut dyn FnMut(),
    ) -> Result<Update> {
        self.load(received, statistics)?;
        let report = self
            .train(round, node, data, step)
            .during(|| format!("training node {node} in round {round}"))?;
        let (weights, statistics) = divide(&self.model, self.settings.statistics);
        Ok(Update {
            weights,
            report,
            statistics,
        })
    }

    /// Loads what was received, with the client's own statistics, or fresh ones, where they do not
    /// travel.
    fn load(&mut self, received: &StateDict, statistics: Option<&StateDict>) -> Result<()> {
        let mut all = owned(received);
        if self.settings.statistics == Statistics::Local {
            let fresh = fresh_statistics(&self.model);
            all.extend(owned(statistics.unwrap_or(&fresh)));
        }
        self.model.load_state(&StateDict::new(all))
    }

    fn train(
        &mut self,
        round: usize,
        node: usize,
        data: &NodeData,
        step: &mut dyn FnMut(),
    ) -> Result<NodeReport> {
        let mut source = Shuffled::new(
            &data.train,
            self.task.normalisation,
            self.settings.augment.clone(),
            self.settings.batch_size.unwrap_or(data.train.len()),
            self.task.seeds,
            // The names of streams count rounds from 0.
            format!("fed_avg/{node}/{}/batches", round - 1),
        );
        let objective = Proximal::new(self.settings.proximal, &self.model);
        let (epochs, optimizer) = (self.settings.epochs, &self.settings.optimizer);
        let model = &mut self.model;
        let last = train(model, &mut source, &objective, epochs, optimizer, step)?;
        let own = evaluate(
            &|images| Ok(self.model.eval(images)),
            &data.test,
            self.task.normalisation,
            self.task.spec.classes as usize,
            self.task.eval_batch_size,
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

/// Divides the state of `model` into what travels and what a client keeps: views.
pub(super) fn divide(model: &Model, statistics: Statistics) -> (StateDict, StateDict) {
    match statistics {
        Statistics::Average => (model.state(), StateDict::new(Vec::new())),
        Statistics::Local => parameters_and_buffers(model),
    }
}

/// Returns the statistics that batch norm begins with.
fn fresh_statistics(model: &Model) -> StateDict {
    let fresh = |(name, tensor): (&str, &Tensor)| {
        let value = match name.ends_with("running_var") {
            true => tensor.ones_like(),
            false => tensor.zeros_like(),
        };
        (name.to_owned(), value)
    };
    StateDict::new(parameters_and_buffers(model).1.iter().map(fresh).collect())
}

impl NodeReport {
    /// Returns the report as a message.
    pub fn encode(&self) -> StateDict {
        let (loss, accuracy) = (Some(self.train_loss), Some(self.train_accuracy));
        encode_report([
            Some(self.images as f64),
            loss,
            accuracy,
            self.own_test_accuracy,
        ])
    }

    /// Returns the report that [`encode`](Self::encode) made a message of.
    ///
    /// # Errors
    /// A message that is none.
    pub fn decode(node: usize, message: &StateDict) -> Result<Self> {
        let [images, train_loss, train_accuracy, own_test_accuracy] = decode_report(node, message)?;
        Ok(Self {
            node,
            images: images.unwrap_or(0.0) as usize,
            train_loss: train_loss.unwrap_or(0.0),
            train_accuracy: train_accuracy.unwrap_or(0.0),
            own_test_accuracy,
        })
    }
}
