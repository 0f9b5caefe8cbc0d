//! The clients that one rank hosts: they learn from public and private images, say what they think
//! of public ones, and listen to all.

use super::objective::Approach;
use super::report::NodeReport;
use super::settings::{Client, FedMdSettings, Federation};
use crate::data::{ImageSet, Normalisation};
use crate::error::{Error, Result};
use crate::federated::node::Turn;
use crate::model::{Model, StateDict};
use crate::runtime::interrupt;
use crate::train::{AugmentSettings, CrossEntropy, EpochReport, FitState, Shuffled, evaluate};
use std::collections::BTreeMap;
use tch::{Tensor, no_grad};

/// How the names of a checkpoint's reports begin.
pub(super) const REPORTS: &str = "report";

/// The clients of one rank, and on rank 0 what those of the others left. Between rounds a client is
/// its weights; a model is built for its turn.
pub(super) struct Clients<'a> {
    settings: &'a FedMdSettings,
    federation: &'a Federation<'a>,
    /// Weights and report by client: as of the last round that is complete, and of the round in
    /// hand.
    complete: BTreeMap<usize, Turned>,
    pending: BTreeMap<usize, Turned>,
}

/// A client after its turn.
struct Turned {
    state: StateDict,
    report: NodeReport,
}

impl<'a> Clients<'a> {
    pub fn new(settings: &'a FedMdSettings, federation: &'a Federation<'a>) -> Self {
        Self {
            settings,
            federation,
            complete: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }

    /// Whether a client has been through transfer learning.
    pub fn knows(&self, index: usize) -> bool {
        self.complete.contains_key(&index)
    }

    /// Transfer learning: public images, then private ones.
    pub fn transfer(&mut self, index: usize, step: &dyn Fn()) -> Result<()> {
        let client = &self.federation.clients[index];
        let stream = if self.settings.shared_initialisation {
            0
        } else {
            client.node
        };
        let mut rng = self
            .federation
            .seeds
            .stream("teacher/initialisation", stream as u64);
        let mut model = Model::new(&client.spec, self.federation.device, &mut rng)?;
        let public = self.public();
        self.learn(
            &mut model,
            public,
            self.settings.public_epochs,
            format!("fed_md/{}/public", client.node),
            step,
        )?;
        let private = (&client.data.train, self.federation.normalisation);
        let purpose = format!("fed_md/{}/private", client.node);
        let last = self.learn(
            &mut model,
            private,
            self.settings.private_epochs,
            purpose,
            step,
        )?;
        let turned = self.turned(client, 0, model, None, last)?;
        self.pending.insert(index, turned);
        Ok(())
    }

    /// A client's scores f32 [images, classes] of `images` u8, on the CPU.
    pub fn scores(&self, index: usize, images: &Tensor) -> Result<Tensor> {
        let model = self.model(index)?;
        let batch = self.federation.eval_batch_size as i64;
        let of = |part: Tensor| {
            interrupt::check()?;
            Ok(model.eval(&self.federation.public_normalisation.apply(&part)))
        };
        let scores = no_grad(|| {
            images
                .split(batch, 0)
                .into_iter()
                .map(of)
                .collect::<Result<Vec<Tensor>>>()
        })?;
        Ok(Tensor::f_cat(&scores, 0)?.to_device(tch::Device::Cpu))
    }

    /// Digest and revisit: the round's public `images` u8 towards the `consensus` f32 [images,
    /// classes], then private ones.
    pub fn listen(
        &mut self,
        round: usize,
        index: usize,
        images: &Tensor,
        consensus: &Tensor,
        step: &dyn Fn(),
    ) -> Result<()> {
        let client = &self.federation.clients[index];
        let mut model = self.model(index)?;
        let digest_loss = self.digest(&mut model, client.node, round, images, consensus, step)?;
        let private = (&client.data.train, self.federation.normalisation);
        let purpose = format!("fed_md/{}/{round}/revisit", client.node);
        let last = self.learn(
            &mut model,
            private,
            self.settings.revisit_epochs,
            purpose,
            step,
        )?;
        let turned = self.turned(client, round, model, digest_loss, last)?;
        self.pending.insert(index, turned);
        Ok(())
    }

    /// A client's report on its last turn.
    pub fn report(&self, index: usize) -> Result<&NodeReport> {
        self.last(index).map(|turned| &turned.report)
    }

    /// What a client leaves with rank 0 after its turn: its weights, and `report`.
    pub fn left(&self, index: usize) -> Result<StateDict> {
        let Turned { state, report } = self.last(index)?;
        let weights = state.iter().map(owned);
        Ok(StateDict::new(
            weights
                .chain([(REPORTS.to_owned(), report.numbers())])
                .collect(),
        ))
    }

    /// Takes what a client [left](Self::left) as the outcome of its turn.
    pub fn take(&mut self, index: usize, left: &StateDict) -> Result<()> {
        let weights = left.iter().filter(|(name, _)| *name != REPORTS).map(owned);
        let turned = Turned {
            state: StateDict::new(weights.collect()),
            report: NodeReport::from_state(self.federation.clients[index].node, left)?,
        };
        self.pending.insert(index, turned);
        Ok(())
    }

    /// What is pending is complete.
    pub fn commit(&mut self) {
        self.complete.append(&mut self.pending);
    }

    /// The weights of the clients known here, by node.
    pub fn into_states(self) -> Vec<(usize, StateDict)> {
        let turned = self.complete.into_values();
        turned
            .map(|turned| (turned.report.node, turned.state))
            .collect()
    }

    /// `model.NODE.*` and `report.NODE`, for a checkpoint.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors = Vec::new();
        for turned in self.complete.values() {
            let node = turned.report.node;
            let named = |(name, tensor): (&str, &Tensor)| {
                (format!("model.{node}.{name}"), tensor.shallow_clone())
            };
            tensors.extend(turned.state.iter().map(named));
            tensors.push((format!("{REPORTS}.{node}"), turned.report.numbers()));
        }
        tensors
    }

    /// As [`tensors`](Self::tensors) gave them.
    pub fn restore(&mut self, state: &FitState) -> Result<()> {
        let reports = state.part(REPORTS);
        for (index, client) in self.federation.clients.iter().enumerate() {
            let weights = state.part(&format!("model.{}", client.node));
            let Some(numbers) = reports.get(&client.node.to_string()) else {
                continue;
            };
            let turned = Turned {
                state: weights.to_device(self.federation.device),
                report: NodeReport::read(client.node, Some(numbers))?,
            };
            self.complete.insert(index, turned);
        }
        Ok(())
    }

    fn last(&self, index: usize) -> Result<&Turned> {
        let turned = self
            .pending
            .get(&index)
            .or_else(|| self.complete.get(&index));
        turned.ok_or_else(|| absent(index))
    }

    fn model(&self, index: usize) -> Result<Model> {
        let turned = self.complete.get(&index).ok_or_else(|| absent(index))?;
        Model::from_state(
            &self.federation.clients[index].spec,
            &turned.state,
            self.federation.device,
        )
    }

    fn public(&self) -> (&'a ImageSet, &'a Normalisation) {
        (self.federation.public, self.federation.public_normalisation)
    }

    fn turn<'b>(&'b self, epochs: usize, step: &'b dyn Fn()) -> Turn<'b> {
        Turn {
            epochs,
            optimizer: &self.settings.optimizer,
            step,
        }
    }

    /// Epochs on images with their labels; the last one's report.
    fn learn(
        &self,
        model: &mut Model,
        (set, normalisation): (&ImageSet, &Normalisation),
        epochs: usize,
        purpose: String,
        step: &dyn Fn(),
    ) -> Result<Option<EpochReport>> {
        let (augment, seeds) = (self.settings.augment.clone(), self.federation.seeds);
        let mut source = Shuffled::new(
            set,
            normalisation,
            augment,
            self.settings.batch_size,
            seeds,
            purpose,
        );
        self.turn(epochs, step)
            .train(model, &mut source, &CrossEntropy::default())
    }

    /// The last epoch's loss.
    fn digest(
        &self,
        model: &mut Model,
        node: usize,
        round: usize,
        images: &Tensor,
        consensus: &Tensor,
        step: &dyn Fn(),
    ) -> Result<Option<f64>> {
        // The labels are the consensus's own: those of the public set have no place here.
        let labels = Vec::<i64>::try_from(consensus.argmax(1, false))?;
        let set = ImageSet::new(images.shallow_clone(), labels)?;
        let consensus = consensus.to_device(self.federation.device);
        let mut source = Shuffled::new(
            &set,
            self.federation.public_normalisation,
            AugmentSettings {
                crop: 0,
                flip: false,
            },
            self.settings.digest_batch_size,
            self.federation.seeds,
            format!("fed_md/{node}/{round}/digest"),
        )
        .with_scores(&consensus);
        let turn = self.turn(self.settings.digest_epochs, step);
        let last = turn.train(model, &mut source, &Approach(self.settings.digest_loss))?;
        Ok(last.map(|report| report.train_loss))
    }

    fn turned(
        &self,
        client: &Client,
        round: usize,
        model: Model,
        digest_loss: Option<f64>,
        last: Option<EpochReport>,
    ) -> Result<Turned> {
        let on = |set: &ImageSet, normalisation: &Normalisation| {
            if !self.settings.evaluates(round) {
                return Ok(None);
            }
            let (classes, batch) = (
                client.spec.classes as usize,
                self.federation.eval_batch_size,
            );
            let evaluation = evaluate(
                &|images| Ok(model.eval(images)),
                set,
                normalisation,
                classes,
                batch,
            )?;
            Ok::<_, Error>(evaluation.accuracy())
        };
        let (public, public_normalisation) = self.public();
        let private = self.federation.normalisation;
        let report = NodeReport {
            node: client.node,
            images: client.data.train.len(),
            digest_loss,
            train_loss: last.map(|report| report.train_loss),
            train_accuracy: last.map(|report| report.train_accuracy),
            local_accuracy: on(&client.data.train, private)?,
            public_accuracy: on(public, public_normalisation)?,
            own_test_accuracy: on(&client.data.test, private)?,
            test_accuracy: on(self.federation.test, private)?,
        };
        Ok(Turned {
            state: model.state(),
            report,
        })
    }
}

fn owned((name, tensor): (&str, &Tensor)) -> (String, Tensor) {
    (name.to_owned(), tensor.shallow_clone())
}

fn absent(index: usize) -> Error {
    Error::failed(format!(
        "client {index} has not been through transfer learning"
    ))
}
