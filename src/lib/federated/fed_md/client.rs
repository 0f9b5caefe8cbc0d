//! Takes a client's part in each phase: what it keeps and what it received in, what it keeps next
//! or its scores out. A client keeps its weights as `model.NODE.*`, and its report as
//! `report.NODE`.

use super::FedMd;
use super::objective::DistanceToScores;
use super::report::NodeReport;
use super::settings::Client;
use crate::data::{ImageSet, Normalisation};
use crate::error::{During, Result};
use crate::federated::node::train;
use crate::federated::report::{REPORT, Report};
use crate::model::{Model, StateDict};
use crate::runtime::interrupt;
use crate::train::{
    AugmentSettings, Callback, CrossEntropy, EpochReport, Objective, Shuffled, evaluate,
};
use tch::{Device, Tensor, no_grad};

/// Returns the weights that client `node` keeps.
pub(super) fn weights(node: usize, kept: &StateDict) -> StateDict {
    kept.part(&format!("model.{node}"))
}

/// Returns the report that client `node` keeps as a message, which is empty if there is none.
pub(super) fn report(node: usize, kept: &StateDict) -> StateDict {
    let numbers = kept.get(&format!("{REPORT}.{node}")).into_iter();
    let named = numbers.map(|numbers| (REPORT.to_owned(), numbers.shallow_clone()));
    StateDict::new(named.collect())
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
        let (settings, task) = (self.settings, self.task);
        let stream = match settings.shared_initialisation {
            true => 0,
            false => client.node as u64,
        };
        let mut rng = task.seeds.stream("teacher/initialisation", stream);
        let model = Model::new(&client.spec, task.device, &mut rng)?;
        let mut turn = Turn {
            fed_md: self,
            client,
            round: 0,
            model: model.with_precision(task.precision),
            callback,
        };
        let public = (task.public, task.public_normalisation);
        turn.learn("public", public, settings.public_epochs)?;
        let private = (&client.data.train, task.normalisation);
        let last = turn.learn("private", private, settings.private_epochs)?;
        turn.keep(None, last)
    }

    /// Communicate: returns a client's scores f32 [images, classes] of `images` u8, on the CPU.
    ///
    /// # Errors
    /// Fails when it `kept` another model's weights, and on Ctrl-C.
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
        let mut turn = Turn {
            fed_md: self,
            client,
            round,
            model: self.model(client, kept)?,
            callback,
        };
        let digest = turn.digest(images, consensus)?;
        let private = (&client.data.train, self.task.normalisation);
        let last = turn.learn("revisit", private, self.settings.revisit_epochs)?;
        turn.keep(digest.map(|digest| digest.train_loss), last)
    }

    /// Returns the model whose weights the client `kept`.
    fn model(&self, client: &Client, kept: &StateDict) -> Result<Model> {
        let state = weights(client.node, kept);
        let model = Model::from_state(&client.spec, &state, self.task.device)?;
        Ok(model.with_precision(self.task.precision))
    }
}

/// Trains a client in a round, or in transfer learning, which is round 0.
struct Turn<'a, R> {
    fed_md: &'a FedMd<'a>,
    client: &'a Client,
    round: usize,
    model: Model,
    callback: &'a mut dyn Callback<R>,
}

impl<R> Turn<'_, R> {
    /// Trains on images with their labels; returns the last epoch's report.
    fn learn(
        &mut self,
        phase: &str,
        (set, normalisation): (&ImageSet, &Normalisation),
        epochs: usize,
    ) -> Result<Option<EpochReport>> {
        let FedMd { settings, task, .. } = self.fed_md;
        let (augment, batch_size) = (settings.augment.clone(), settings.batch_size);
        let stream = self.stream(phase);
        let source = Shuffled::new(set, normalisation, augment, batch_size, task.seeds, stream);
        self.train(source, &CrossEntropy::default(), epochs)
    }

    /// Trains towards the consensus; returns the last epoch's report.
    fn digest(&mut self, images: &Tensor, consensus: &Tensor) -> Result<Option<EpochReport>> {
        let FedMd { settings, task, .. } = self.fed_md;
        // The labels are the consensus's own: those of the public set do not count here.
        let labels = Vec::<i64>::try_from(consensus.argmax(1, false))?;
        let set = ImageSet::new(images.shallow_clone(), labels)?;
        let consensus = consensus.to_device(task.device);
        let source = Shuffled::new(
            &set,
            task.public_normalisation,
            AugmentSettings {
                crop: 0,
                flip: false,
            },
            settings.digest_batch_size(),
            task.seeds,
            self.stream("digest"),
        );
        let objective = DistanceToScores(settings.digest_loss);
        let epochs = settings.digest_epochs;
        self.train(source.with_scores(&consensus), &objective, epochs)
    }

    fn train(
        &mut self,
        mut source: Shuffled,
        objective: &dyn Objective,
        epochs: usize,
    ) -> Result<Option<EpochReport>> {
        let (optimizer, node) = (&self.fed_md.settings.optimizer, self.client.node);
        let (model, source) = (&mut self.model, &mut source);
        let last = train(model, source, objective, epochs, optimizer, self.callback);
        last.during(|| match self.round {
            0 => format!("training node {node} before round 1"),
            round => format!("training node {node} in round {round}"),
        })
    }

    /// Returns the name of a phase's stream of random numbers.
    fn stream(&self, phase: &str) -> String {
        match (self.client.node, self.round) {
            (node, 0) => format!("fed_md/{node}/{phase}"),
            (node, round) => format!("fed_md/{node}/{round}/{phase}"),
        }
    }

    /// Evaluates the client's model if that is due. Returns what the client keeps.
    fn keep(self, digest_loss: Option<f64>, last: Option<EpochReport>) -> Result<StateDict> {
        let FedMd { settings, task, .. } = self.fed_md;
        let (model, Client { node, spec, data }) = (&self.model, self.client);
        let accuracy = |set: &ImageSet, normalisation: &Normalisation| -> Result<Option<f64>> {
            if !settings.evaluates(self.round) {
                return Ok(None);
            }
            let predict = |images: &Tensor| Ok(model.eval(images));
            let (classes, batch_size) = (spec.classes as usize, task.eval_batch_size);
            Ok(evaluate(&predict, set, normalisation, classes, batch_size)?.accuracy())
        };
        let report = NodeReport {
            node: *node,
            images: data.train.len(),
            digest_loss,
            train_loss: last.map(|report| report.train_loss),
            train_accuracy: last.map(|report| report.train_accuracy),
            local_accuracy: accuracy(&data.train, task.normalisation)?,
            public_accuracy: accuracy(task.public, task.public_normalisation)?,
            own_test_accuracy: accuracy(&data.test, task.normalisation)?,
            test_accuracy: accuracy(task.test, task.normalisation)?,
        };
        let numbers = (format!("{REPORT}.{node}"), report.numbers()?);
        let weights = model.state().prefixed(&format!("model.{node}"));
        Ok(weights.joined(StateDict::new(vec![numbers])))
    }
}
