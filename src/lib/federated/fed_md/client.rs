//! Takes a client's part in each phase: what it keeps and what it received in, what it keeps next or
//! its scores out. A client keeps its weights as `model.NODE.*`, and its report as `report.NODE`.

use super::FedMd;
use super::objective::DistanceToScores;
use super::report::NodeReport;
use super::settings::Client;
use crate::data::{ImageSet, Normalisation};
use crate::error::{During, Error, Result};
use crate::federated::node::{REPORT, Report, train};
use crate::model::{Model, StateDict};
use crate::runtime::interrupt;
use crate::train::{AugmentSettings, Callback, CrossEntropy, EpochReport, Shuffled, evaluate};
use tch::{Device, Tensor, no_grad};

/// Returns the weights that client `node` keeps.
pub(super) fn weights(node: usize, kept: &StateDict) -> StateDict {
    kept.part(&format!("model.{node}"))
}

/// Returns the report that client `node` keeps as a message, which is empty if there is none.
pub(super) fn report(node: usize, kept: &StateDict) -> StateDict {
    let numbers = kept
        .get(&format!("{REPORT}.{node}"))
        .map(Tensor::shallow_clone);
    StateDict::new(
        numbers
            .map(|numbers| (REPORT.into(), numbers))
            .into_iter()
            .collect(),
    )
}

impl FedMd<'_> {
    /// Transfer learning: trains a new model on public images, then on private ones. Returns what
    /// the client keeps.
    ///
    /// # Errors
    /// Fails when the training diverges (naming the node), and on Ctrl-C.
    pub(super) fn transfer_client<R>(
        &self,
        client: &Client,
        callback: &mut dyn Callback<R>,
    ) -> Result<StateDict> {
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
            self.learn(
                &mut model,
                public,
                settings.public_epochs,
                purpose,
                callback,
            )?;
            let private = (&client.data.train, task.normalisation);
            let purpose = format!("fed_md/{node}/private");
            self.learn(
                &mut model,
                private,
                settings.private_epochs,
                purpose,
                callback,
            )
        };
        let last = phases().during(|| format!("training node {node} before round 1"))?;
        self.keep(client, 0, &model, None, last)
    }

    /// Communicate: returns a client's scores f32 [images, classes] of `images` u8, on the CPU.
    ///
    /// # Errors
    /// Fails when it keeps another model's weights, and on Ctrl-C.
    pub(super) fn scores(
        &self,
        client: &Client,
        kept: &StateDict,
        images: &Tensor,
    ) -> Result<Tensor> {
        let model = self.model(client, kept)?;
        let of = |part: Tensor| {
            interrupt::check()?;
            Ok(model.eval(&self.task.public_normalisation.apply(&part)))
        };
        let parts = images.split(self.task.eval_batch_size as i64, 0);
        let scores = no_grad(|| parts.into_iter().map(of).collect::<Result<Vec<Tensor>>>())?;
        Ok(Tensor::f_cat(&scores, 0)?.to_device(Device::Cpu))
    }

    /// Digest and revisit in round `round` (from 1): trains on the round's public `images` u8
    /// towards the `consensus` f32 [images, classes], then on private images. Returns what the
    /// client keeps.
    ///
    /// # Errors
    /// Fails when it `kept` another model's weights, when the training diverges (naming node and
    /// round), and on Ctrl-C.
    pub(super) fn client_round<R>(
        &self,
        round: usize,
        client: &Client,
        kept: &StateDict,
        (images, consensus): (&Tensor, &Tensor),
        callback: &mut dyn Callback<R>,
    ) -> Result<StateDict> {
        let Client { node, .. } = client;
        let mut model = self.model(client, kept)?;
        let mut phases = || {
            let purpose = format!("fed_md/{node}/{round}/digest");
            let digest_loss = self.digest(&mut model, (images, consensus), purpose, callback)?;
            let private = (&client.data.train, self.task.normalisation);
            let purpose = format!("fed_md/{node}/{round}/revisit");
            let epochs = self.settings.revisit_epochs;
            let last = self.learn(&mut model, private, epochs, purpose, callback)?;
            Ok::<_, Error>((digest_loss, last))
        };
        let (digest_loss, last) =
            phases().during(|| format!("training node {node} in round {round}"))?;
        self.keep(client, round, &model, digest_loss, last)
    }

    /// Returns the model whose weights the client `kept`.
    fn model(&self, client: &Client, kept: &StateDict) -> Result<Model> {
        let state = weights(client.node, kept);
        let model = Model::from_state(&client.spec, &state, self.task.device)?;
        Ok(model.with_precision(self.task.precision))
    }

    /// Trains on images with their labels; returns the last epoch's report.
    fn learn<R>(
        &self,
        model: &mut Model,
        (set, normalisation): (&ImageSet, &Normalisation),
        epochs: usize,
        purpose: String,
        callback: &mut dyn Callback<R>,
    ) -> Result<Option<EpochReport>> {
        let (augment, seeds) = (self.settings.augment.clone(), self.task.seeds);
        let batch = self.settings.batch_size;
        let mut source = Shuffled::new(set, normalisation, augment, batch, seeds, purpose);
        let (objective, optimizer) = (CrossEntropy::default(), &self.settings.optimizer);
        train(model, &mut source, &objective, epochs, optimizer, callback)
    }

    /// Trains towards the consensus; returns the last epoch's loss.
    fn digest<R>(
        &self,
        model: &mut Model,
        (images, consensus): (&Tensor, &Tensor),
        purpose: String,
        callback: &mut dyn Callback<R>,
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
        let last = train(model, &mut source, &objective, epochs, optimizer, callback)?;
        Ok(last.map(|report| report.train_loss))
    }

    /// Evaluates a client's model if that is due. Returns what the client keeps.
    fn keep(
        &self,
        client: &Client,
        round: usize,
        model: &Model,
        digest_loss: Option<f64>,
        last: Option<EpochReport>,
    ) -> Result<StateDict> {
        let (task, node, classes) = (self.task, client.node, client.spec.classes as usize);
        let accuracy = |set: &ImageSet, normalisation: &Normalisation| -> Result<Option<f64>> {
            if !self.settings.evaluates(round) {
                return Ok(None);
            }
            let predict = |images: &Tensor| Ok(model.eval(images));
            Ok(evaluate(&predict, set, normalisation, classes, task.eval_batch_size)?.accuracy())
        };
        let report = NodeReport {
            node,
            images: client.data.train.len(),
            digest_loss,
            train_loss: last.map(|report| report.train_loss),
            train_accuracy: last.map(|report| report.train_accuracy),
            local_accuracy: accuracy(&client.data.train, task.normalisation)?,
            public_accuracy: accuracy(task.public, task.public_normalisation)?,
            own_test_accuracy: accuracy(&client.data.test, task.normalisation)?,
            test_accuracy: accuracy(task.test, task.normalisation)?,
        };
        let report = report.encode()?;
        let report = report.iter().map(|(name, numbers)| {
            let name = format!("{name}.{node}");
            (name, numbers.shallow_clone())
        });
        let weights = model.state().prefixed(&format!("model.{node}"));
        Ok(weights.joined(StateDict::new(report.collect())))
    }
}
