//! A client's part in each phase: a state and what it received in, its new state or its scores out.

use super::objective::DistanceToScores;
use super::report::NodeReport;
use super::settings::{Client, FedMdSettings, Task};
use crate::data::{ImageSet, Normalisation};
use crate::error::{During, Error, Result};
use crate::federated::node::train;
use crate::model::{Model, StateDict};
use crate::runtime::interrupt;
use crate::train::{AugmentSettings, CrossEntropy, EpochReport, Shuffled, evaluate};
use tch::{Device, Tensor, no_grad};

/// A client after transfer learning or a round.
#[derive(Debug)]
pub struct Trained {
    pub state: StateDict,
    pub report: NodeReport,
}

/// Trains clients. Between rounds a client is its state; a model is built for each part.
pub struct Trainer<'a> {
    pub settings: &'a FedMdSettings,
    pub task: &'a Task<'a>,
}

impl Trainer<'_> {
    /// Transfer learning: trains a new model on public images, then on private ones. Calls `step`
    /// after each batch.
    ///
    /// # Errors
    /// A training that diverges (names the node), Ctrl-C.
    pub fn transfer(&self, client: &Client, step: &mut dyn FnMut()) -> Result<Trained> {
        let Client { node, .. } = client;
        let stream = match self.settings.shared_initialisation {
            true => 0,
            false => *node as u64,
        };
        let mut rng = self.task.seeds.stream("teacher/initialisation", stream);
        let (settings, task) = (self.settings, self.task);
        let model = Model::new(&client.spec, task.device, &mut rng)?;
        let mut model = model.with_precision(task.precision);
        let mut phases = || {
            let public = (task.public, task.public_normalisation);
            let purpose = format!("fed_md/{node}/public");
            self.learn(&mut model, public, settings.public_epochs, purpose, step)?;
            let private = (&client.data.train, task.normalisation);
            let purpose = format!("fed_md/{node}/private");
            self.learn(&mut model, private, settings.private_epochs, purpose, step)
        };
        let last = phases().during(|| format!("training node {node} before round 1"))?;
        self.trained(client, 0, model, None, last)
    }

    /// Communicate: returns a client's scores f32 [images, classes] of `images` u8, on the CPU.
    ///
    /// # Errors
    /// A state of another model, Ctrl-C.
    pub fn scores(&self, client: &Client, state: &StateDict, images: &Tensor) -> Result<Tensor> {
        let model = Model::from_state(&client.spec, state, self.task.device)?
            .with_precision(self.task.precision);
        let of = |part: Tensor| {
            interrupt::check()?;
            Ok(model.eval(&self.task.public_normalisation.apply(&part)))
        };
        let parts = images.split(self.task.eval_batch_size as i64, 0);
        let scores = no_grad(|| parts.into_iter().map(of).collect::<Result<Vec<Tensor>>>())?;
        Ok(Tensor::f_cat(&scores, 0)?.to_device(Device::Cpu))
    }

    /// Digest and revisit in round `round` (from 1): trains on the round's public `images` u8
    /// towards the `consensus` f32 [images, classes], then on private images. Calls `step` after
    /// each batch.
    ///
    /// # Errors
    /// A state of another model, a training that diverges (names node and round), Ctrl-C.
    pub fn round(
        &self,
        round: usize,
        client: &Client,
        state: &StateDict,
        (images, consensus): (&Tensor, &Tensor),
        step: &mut dyn FnMut(),
    ) -> Result<Trained> {
        let Client { node, .. } = client;
        let mut model = Model::from_state(&client.spec, state, self.task.device)?
            .with_precision(self.task.precision);
        let mut phases = || {
            let purpose = format!("fed_md/{node}/{round}/digest");
            let digest_loss = self.digest(&mut model, (images, consensus), purpose, step)?;
            let private = (&client.data.train, self.task.normalisation);
            let purpose = format!("fed_md/{node}/{round}/revisit");
            let epochs = self.settings.revisit_epochs;
            let last = self.learn(&mut model, private, epochs, purpose, step)?;
            Ok::<_, Error>((digest_loss, last))
        };
        let (digest_loss, last) =
            phases().during(|| format!("training node {node} in round {round}"))?;
        self.trained(client, round, model, digest_loss, last)
    }

    /// Trains on images with their labels; returns the last epoch's report.
    fn learn(
        &self,
        model: &mut Model,
        (set, normalisation): (&ImageSet, &Normalisation),
        epochs: usize,
        purpose: String,
        step: &mut dyn FnMut(),
    ) -> Result<Option<EpochReport>> {
        let (augment, seeds) = (self.settings.augment.clone(), self.task.seeds);
        let batch = self.settings.batch_size;
        let mut source = Shuffled::new(set, normalisation, augment, batch, seeds, purpose);
        let (objective, optimizer) = (CrossEntropy::default(), &self.settings.optimizer);
        train(model, &mut source, &objective, epochs, optimizer, step)
    }

    /// Trains towards the consensus; returns the last epoch's loss.
    fn digest(
        &self,
        model: &mut Model,
        (images, consensus): (&Tensor, &Tensor),
        purpose: String,
        step: &mut dyn FnMut(),
    ) -> Result<Option<f64>> {
        // The labels are the consensus's own: those of the public set do not count here.
        let labels = Vec::<i64>::try_from(consensus.argmax(1, false))?;
        let set = ImageSet::new(images.shallow_clone(), labels)?;
        let consensus = consensus.to_device(self.task.device);
        let unchanged = AugmentSettings {
            crop: 0,
            flip: false,
        };
        let mut source = Shuffled::new(
            &set,
            self.task.public_normalisation,
            unchanged,
            self.settings.digest_batch_size,
            self.task.seeds,
            purpose,
        )
        .with_scores(&consensus);
        let objective = DistanceToScores(self.settings.digest_loss);
        let (epochs, optimizer) = (self.settings.digest_epochs, &self.settings.optimizer);
        let last = train(model, &mut source, &objective, epochs, optimizer, step)?;
        Ok(last.map(|report| report.train_loss))
    }

    /// Evaluates a client's model if that is due.
    fn trained(
        &self,
        client: &Client,
        round: usize,
        model: Model,
        digest_loss: Option<f64>,
        last: Option<EpochReport>,
    ) -> Result<Trained> {
        let (task, classes) = (self.task, client.spec.classes as usize);
        let accuracy = |set: &ImageSet, normalisation: &Normalisation| -> Result<Option<f64>> {
            if !self.settings.evaluates(round) {
                return Ok(None);
            }
            let predict = |images: &Tensor| Ok(model.eval(images));
            Ok(evaluate(&predict, set, normalisation, classes, task.eval_batch_size)?.accuracy())
        };
        let report = NodeReport {
            node: client.node,
            images: client.data.train.len(),
            digest_loss,
            train_loss: last.map(|report| report.train_loss),
            train_accuracy: last.map(|report| report.train_accuracy),
            local_accuracy: accuracy(&client.data.train, task.normalisation)?,
            public_accuracy: accuracy(task.public, task.public_normalisation)?,
            own_test_accuracy: accuracy(&client.data.test, task.normalisation)?,
            test_accuracy: accuracy(task.test, task.normalisation)?,
        };
        Ok(Trained {
            state: model.state(),
            report,
        })
    }
}
