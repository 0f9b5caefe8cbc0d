//! The one training loop: teachers, student and baseline clients all run it.
//!
//! Within an epoch nothing is read back from the device; sums stay there and are read once at its
//! end.

use super::callback::Callback;
use super::objective::Objective;
use super::optimizer::Optimizer;
use super::schedule::Moment;
use super::settings::{OptimizerSettings, ScheduleSettings};
use super::source::BatchSource;
use super::state::{FitState, Position, restore};
use crate::error::{During, Error, Result, is_whole};
use crate::model::{Model, Pass};
use crate::runtime::interrupt;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

/// How to train.
#[derive(Clone, Debug)]
pub struct FitSettings {
    pub epochs: usize,
    pub optimizer: OptimizerSettings,
    pub schedule: ScheduleSettings,
}

/// What an epoch's training passes gave. Accuracy is that of the training forward passes: augmented
/// images, batch-norm in training mode, weights on the move.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    pub epoch: usize,
    /// Learning rate of the last step.
    pub lr: f64,
    pub steps: usize,
    /// Mean over images.
    pub train_loss: f64,
    /// Share of images, 0..1.
    pub train_accuracy: f64,
}

/// Trains `model` for `settings.epochs` epochs, or for what is left of them after `start`: then the
/// model, the source and the result are those of a run that was never stopped.
///
/// # Errors
/// A loss that is not finite (names epoch and step), Ctrl-C or another rank's failure (after the
/// step in hand, and saved), a `start` of another run, and those of source, objective and callback.
pub fn fit(
    model: &mut Model,
    source: &mut dyn BatchSource,
    objective: &dyn Objective,
    settings: &FitSettings,
    start: Option<&FitState>,
    callback: &mut dyn Callback,
) -> Result<()> {
    let mut run = Fit {
        optimizer: Optimizer::new(&settings.optimizer, model.parameters()),
        sums: Sums::new(model.device()),
        at: Position::default(),
        model,
        settings,
    };
    if let Some(start) = start {
        run.restore(start)?;
        source.pass(run.at.epoch)?;
    }
    let outcome = run.train(source, objective, callback);
    if is_whole(&outcome) {
        run.save(callback)?;
    }
    outcome
}

/// A run in progress. Between steps it is whole: [`Fit::state`] is all there is to it.
struct Fit<'a> {
    model: &'a mut Model,
    settings: &'a FitSettings,
    optimizer: Optimizer,
    sums: Sums,
    at: Position,
}

impl Fit<'_> {
    fn train(
        &mut self,
        source: &mut dyn BatchSource,
        objective: &dyn Objective,
        callback: &mut dyn Callback,
    ) -> Result<()> {
        while self.at.epoch < self.settings.epochs {
            let steps = source.enter(&self.at)?;
            while self.at.step < steps {
                self.at.drawn = source.drawn();
                interrupt::check()?;
                if callback.due() {
                    self.save(callback)?;
                }
                self.step(steps, source, objective)?;
                callback.step();
            }
            self.at.drawn = source.drawn();
            let (train_loss, train_accuracy) = self.sums.read(self.at.epoch)?;
            self.check_weights()?;
            let report = EpochReport {
                epoch: self.at.epoch,
                lr: self.lr(steps.saturating_sub(1), steps),
                steps,
                train_loss,
                train_accuracy,
            };
            callback.epoch(self.model, &report)?;
            self.sums = Sums::new(self.model.device());
            self.at = self.at.next_epoch();
        }
        Ok(())
    }

    /// Hands the run to the callback, unless it has diverged: nothing good could come of going on
    /// from there.
    fn save(&self, callback: &mut dyn Callback) -> Result<()> {
        self.sums.check(self.at.epoch)?;
        self.check_weights()?;
        callback
            .save(&self.state())
            .during(|| "saving the training run")
    }

    /// The loss of a step says nothing of the weights that it leaves.
    fn check_weights(&self) -> Result<()> {
        let finite = |parameter: &Tensor| bool::try_from(parameter.isfinite().all());
        for parameter in self.model.parameters() {
            if !finite(&parameter)? {
                return Err(diverged(format!(
                    "the weights became NaN or infinite in epoch {}",
                    self.at.epoch
                )));
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        steps: usize,
        source: &mut dyn BatchSource,
        objective: &dyn Objective,
    ) -> Result<()> {
        let step = self.at.step;
        let batch = source.next(step, self.model)?;
        let logits = self.model.forward(&batch.images, &mut Pass::Train);
        let loss = objective.loss(&logits, &batch)?;
        self.optimizer.step(&loss, self.lr(step, steps))?;
        self.sums.add(step, &loss, &logits, &batch.labels);
        self.at.step += 1;
        Ok(())
    }

    /// The learning rate of a step of the epoch in hand.
    fn lr(&self, step: usize, steps: usize) -> f64 {
        let at = Moment {
            epoch: self.at.epoch,
            epochs: self.settings.epochs,
            within: step as f64 / steps as f64,
        };
        self.settings.optimizer.lr * self.settings.schedule.factor(at)
    }

    fn state(&self) -> FitState {
        let at = Position {
            images: self.sums.images,
            ..self.at
        };
        let mut state = self.optimizer.state(self.model, at);
        let sums = self.sums.tensors().into_iter();
        let named = sums.map(|(name, tensor)| (format!("sums.{name}"), tensor.shallow_clone()));
        state.tensors.extend(named);
        state
    }

    fn restore(&mut self, state: &FitState) -> Result<()> {
        self.model.load_state(&state.part("model"))?;
        self.optimizer.restore(state)?;
        let saved = state.part("sums");
        for (name, tensor) in self.sums.tensors() {
            restore(name, tensor, saved.get(name))?;
        }
        self.sums.images = state.position.images;
        self.at = state.position;
        Ok(())
    }
}

/// An epoch's sums, on the device.
struct Sums {
    loss: Tensor,
    correct: Tensor,
    /// The first step whose loss was not finite, or i64::MAX.
    broken: Tensor,
    images: i64,
}

impl Sums {
    fn new(device: Device) -> Self {
        Self {
            loss: Tensor::zeros([], (Kind::Double, device)),
            correct: Tensor::zeros([], (Kind::Int64, device)),
            broken: Tensor::full([], i64::MAX, (Kind::Int64, device)),
            images: 0,
        }
    }

    fn tensors(&self) -> [(&'static str, &Tensor); 3] {
        [
            ("loss", &self.loss),
            ("correct", &self.correct),
            ("broken", &self.broken),
        ]
    }

    fn add(&mut self, step: usize, loss: &Tensor, logits: &Tensor, labels: &Tensor) {
        no_grad(|| {
            let images = labels.size()[0];
            self.images += images;
            self.loss += loss.to_kind(Kind::Double) * images;
            self.correct += logits.argmax(1, false).eq_tensor(labels).sum(Kind::Int64);
            let here = loss.isfinite().logical_not() * (step as i64 - i64::MAX) + i64::MAX;
            self.broken = self.broken.minimum(&here);
        });
    }

    /// Refuses the sums of an epoch in which a loss was not finite.
    fn check(&self, epoch: usize) -> Result<()> {
        match i64::try_from(&self.broken)? {
            i64::MAX => Ok(()),
            step => Err(diverged(format!(
                "the training loss became NaN or infinite in epoch {epoch}, step {step}"
            ))),
        }
    }

    /// Mean loss and accuracy.
    fn read(&self, epoch: usize) -> Result<(f64, f64)> {
        self.check(epoch)?;
        let images = self.images as f64;
        Ok((
            f64::try_from(&self.loss)? / images,
            i64::try_from(&self.correct)? as f64 / images,
        ))
    }
}

fn diverged(what: String) -> Error {
    Error::failed(what)
        .hint("lower the learning rate (`optimizer.lr`), or check the images' normalisation")
}
