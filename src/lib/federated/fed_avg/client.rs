//! The nodes that one rank hosts: they receive weights, train on their own images, and send weights
//! back.

use super::objective::Proximal;
use super::settings::{FedAvgSettings, Federation, Statistics};
use crate::error::{During, Result};
use crate::federated::node::Turn;
use crate::federated::{Kind, Link};
use crate::model::{Model, StateDict};
use crate::train::{FitState, Shuffled, evaluate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tch::Tensor;

/// What a node tells about its part in a round. Loss and accuracy are those of its last epoch's
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

/// How the names of a checkpoint's tensors begin that nodes keep.
pub(super) const KEPT: &str = "statistics.";

/// The nodes of one rank.
pub(super) struct Clients<'a> {
    settings: &'a FedAvgSettings,
    federation: &'a Federation<'a>,
    /// In which each node trains in its turn.
    model: Model,
    /// Batch norm's statistics that nodes keep, as of the last round that was completed, and those
    /// of the round in hand.
    statistics: BTreeMap<usize, StateDict>,
    pending: BTreeMap<usize, StateDict>,
}

impl<'a> Clients<'a> {
    pub fn new(
        settings: &'a FedAvgSettings,
        federation: &'a Federation<'a>,
        start: &StateDict,
    ) -> Result<Self> {
        Ok(Self {
            settings,
            federation,
            model: Model::from_state(&federation.spec, start, federation.device)?,
            statistics: BTreeMap::new(),
            pending: BTreeMap::new(),
        })
    }

    /// A node's part in a round; `step` is called after each batch.
    pub fn serve(
        &mut self,
        link: &mut Link,
        round: usize,
        node: usize,
        step: &dyn Fn(),
    ) -> Result<()> {
        let received = link.from_server(round, node, Kind::Model)?;
        let report = self
            .train(round, node, received, step)
            .during(|| format!("training node {node} in round {}", round + 1))?;
        let state = self.model.state();
        let (travels, stays) = divide(&self.model, self.settings.statistics, &state);
        link.upload(round, node, Kind::Model, &travels)?;
        link.upload(round, node, Kind::Report, &report.to_state())?;
        if self.settings.statistics == Statistics::Local {
            // Rank 0 saves what all nodes keep.
            if !link.is_server() {
                link.keep(round, node, &stays)?;
            }
            self.take(node, stays.deep_clone());
        }
        Ok(())
    }

    /// What a node keeps after the round in hand.
    pub fn take(&mut self, node: usize, stays: StateDict) {
        self.pending.insert(node, stays);
    }

    /// The round is complete.
    pub fn commit(&mut self) {
        self.statistics.append(&mut self.pending);
    }

    fn train(
        &mut self,
        round: usize,
        node: usize,
        received: StateDict,
        step: &dyn Fn(),
    ) -> Result<NodeReport> {
        let data = &self.federation.nodes[node];
        self.begin(node, received)?;
        let mut source = Shuffled::new(
            &data.train,
            self.federation.normalisation,
            self.settings.augment.clone(),
            self.settings.batch_size.unwrap_or(data.train.len()),
            self.federation.seeds,
            format!("fed_avg/{node}/{round}/batches"),
        );
        let turn = Turn {
            epochs: self.settings.epochs,
            optimizer: &self.settings.optimizer,
            step,
        };
        let objective = Proximal::new(self.settings.proximal, &self.model);
        let last = turn.train(&mut self.model, &mut source, &objective)?;
        let own = evaluate(
            &|images| Ok(self.model.eval(images)),
            &data.test,
            self.federation.normalisation,
            self.federation.spec.classes as usize,
            self.federation.eval_batch_size,
        )?;
        Ok(NodeReport {
            node,
            images: data.train.len(),
            train_loss: last.map_or(0.0, |report| report.train_loss),
            train_accuracy: last.map_or(0.0, |report| report.train_accuracy),
            own_test_accuracy: own.accuracy(),
        })
    }

    /// Loads what was received, with the node's own statistics where they do not travel: its last
    /// ones, or fresh ones.
    fn begin(&mut self, node: usize, received: StateDict) -> Result<()> {
        let mut all: Vec<(String, Tensor)> = owned(&received);
        if self.settings.statistics == Statistics::Local {
            let fresh = fresh_statistics(&self.model);
            all.extend(owned(self.statistics.get(&node).unwrap_or(&fresh)));
        }
        self.model.load_state(&StateDict::new(all))
    }

    /// [`KEPT`]`NODE.*`, for a checkpoint.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = |(node, state): (&usize, &StateDict)| {
            let name = |(name, tensor)| (format!("{KEPT}{node}.{name}"), tensor);
            owned(state).into_iter().map(name).collect::<Vec<_>>()
        };
        self.statistics.iter().flat_map(named).collect()
    }

    /// As [`tensors`](Self::tensors) gave them.
    pub fn restore(&mut self, state: &FitState) {
        for node in 0..self.federation.nodes.len() {
            let kept = state.part(&format!("{KEPT}{node}"));
            if !kept.is_empty() {
                self.statistics.insert(node, kept);
            }
        }
    }
}

fn owned(state: &StateDict) -> Vec<(String, Tensor)> {
    let own = |(name, tensor): (&str, &Tensor)| (name.to_owned(), tensor.shallow_clone());
    state.iter().map(own).collect()
}

/// What of `state` travels, and what the node keeps.
pub(super) fn divide(
    model: &Model,
    statistics: Statistics,
    state: &StateDict,
) -> (StateDict, StateDict) {
    if statistics == Statistics::Average {
        return (StateDict::new(owned(state)), StateDict::new(Vec::new()));
    }
    let parameters = model.named_parameters();
    let is_parameter =
        |(name, _): &(String, Tensor)| parameters.iter().any(|(other, _)| other == name);
    let (travels, stays) = owned(state).into_iter().partition(is_parameter);
    (StateDict::new(travels), StateDict::new(stays))
}

/// The statistics that batch norm begins with.
fn fresh_statistics(model: &Model) -> StateDict {
    let state = model.state();
    let (_, buffers) = divide(model, Statistics::Local, &state);
    let fresh = |(name, tensor): (&str, &Tensor)| {
        let value = match name.ends_with("running_var") {
            true => tensor.ones_like(),
            false => tensor.zeros_like(),
        };
        (name.to_owned(), value)
    };
    StateDict::new(buffers.iter().map(fresh).collect())
}

impl NodeReport {
    /// As it travels; a missing accuracy is negative.
    fn to_state(&self) -> StateDict {
        let own = self.own_test_accuracy.unwrap_or(-1.0);
        let numbers = [
            self.images as f64,
            self.train_loss,
            self.train_accuracy,
            own,
        ];
        StateDict::new(vec![("report".into(), Tensor::from_slice(&numbers))])
    }

    pub(super) fn from_state(node: usize, state: &StateDict) -> Result<Self> {
        let numbers = state.get("report").map(Vec::<f64>::try_from).transpose()?;
        match numbers.as_deref() {
            Some(&[images, train_loss, train_accuracy, own]) => Ok(Self {
                node,
                images: images as usize,
                train_loss,
                train_accuracy,
                own_test_accuracy: (own >= 0.0).then_some(own),
            }),
            _ => Err(crate::Error::failed(format!(
                "node {node} sent a report that cannot be read"
            ))),
        }
    }
}
