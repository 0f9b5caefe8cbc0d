//! Defines the training loop that teachers, the student and the clients of the baselines share.
//!
//! Within an epoch nothing is read back from the device; sums stay there and are read once at its
//! end.

use super::callback::Callback;
use super::objective::Objective;
use super::optimizer::Optimizer;
use super::schedule::SchedulePoint;
use super::settings::{OptimizerSettings, ScheduleSettings};
use super::source::BatchSource;
use super::state::{FitState, Position, restore};
use crate::error::{During, Error, Result, Text, is_whole, parameter};
use crate::model::{Differentiated, Model};
use crate::runtime::{interrupt, read};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad};

/// Holds the length of a training run, its update rule and its learning rates.
#[derive(Clone, Debug)]
pub struct FitSettings {
    /// Passes over the source of batches.
    pub epochs: usize,
    /// Update rule and base learning rate.
    pub optimizer: OptimizerSettings,
    /// Factor on the learning rate over the run.
    pub schedule: ScheduleSettings,
}

/// Reports an epoch's training loss and accuracy. They are those of the training passes: on
/// augmented images, with batch norm in training mode and weights that change from step to step.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct EpochReport {
    /// Index of the epoch, from 0.
    pub epoch: usize,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Number of steps.
    pub steps: usize,
    /// Mean loss over images.
    pub train_loss: f64,
    /// Share of images whose label was predicted, 0..1.
    pub train_accuracy: f64,
}

/// Trains `model` for `settings.epochs` epochs, or for the rest of them after `start`: the result
/// is then that of a run that was never stopped.
///
/// # Errors
/// Fails when the loss or a weight becomes NaN or infinite (naming epoch and step), on Ctrl-C and
/// on another rank's failure (after the current step, and after saving the run), when `start` does
/// not fit the model, and when source, objective or callback fail.
///
/// ```
/// use fed_distill::data::{ImageSet, Normalisation};
/// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use fed_distill::train::{
///     AugmentSettings, CrossEntropy, FitSettings, OptimizerSettings, ScheduleSettings, Shuffled,
///     fit,
/// };
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let (seeds, device) = (Seeds::new(42), Device::Cpu);
/// let images = Tensor::zeros([6, 1, 8, 8], (Kind::Uint8, device));
/// let set = ImageSet::new(images, vec![0, 1, 0, 0, 0, 1])?;
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
///
/// let settings = ModelSettings { kind: ModelKind::Linear, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 2)?;
/// let mut model = Model::new(&spec, device, &mut seeds.stream("initialisation", 0))?;
/// let augment = AugmentSettings { crop: 0, flip: false };
/// let mut batches = Shuffled::new(&set, &normalisation, augment, 4, seeds, "batches".into());
/// let settings = FitSettings {
///     epochs: 3,
///     optimizer: OptimizerSettings::default(),
///     schedule: ScheduleSettings::default(),
/// };
/// // The callback `()` does nothing.
/// fit(&mut model, &mut batches, &CrossEntropy::default(), &settings, None, &mut ())?;
/// # Ok(())
/// # }
/// ```
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
        source.skip_epochs(run.at.epoch)?;
        source.restore(&start.part("source"))?;
    }
    let outcome = run.train(source, objective, callback);
    if is_whole(&outcome) {
        run.save(source, callback)?;
    }
    outcome
}

/// Holds a run in progress. Between steps, [`Fit::state`] returns all of its state.
struct Fit<'a> {
    model: &'a mut Model,
    settings: &'a FitSettings,
    optimizer: Optimizer,
    sums: Sums,
    at: Position,
}

impl Fit<'_> {
    /// Runs the remaining epochs.
    fn train(
        &mut self,
        source: &mut dyn BatchSource,
        objective: &dyn Objective,
        callback: &mut dyn Callback,
    ) -> Result<()> {
        while self.at.epoch < self.settings.epochs {
            let steps = source.begin_at(&self.at)?;
            while self.at.step < steps {
                self.at.drawn = source.drawn();
                interrupt::check()?;
                if callback.due() {
                    self.save(source, callback)?;
                }
                self.step(steps, source, objective)?;
                callback.step();
            }
            self.at.drawn = source.drawn();
            let (train_loss, train_accuracy) = self.sums.read(self.at.epoch)?;
            refuse_diverged(self.model, self.at.epoch)?;
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

    /// Lets the callback save the run, unless it has diverged: resuming from there would be
    /// useless.
    fn save(&self, source: &dyn BatchSource, callback: &mut dyn Callback) -> Result<()> {
        self.sums.check(self.at.epoch)?;
        refuse_diverged(self.model, self.at.epoch)?;
        callback
            .save(&self.state(source))
            .during(|| "saving the training run")
    }

    /// Trains on the next of the epoch's `steps` batches.
    fn step(
        &mut self,
        steps: usize,
        source: &mut dyn BatchSource,
        objective: &dyn Objective,
    ) -> Result<()> {
        let step = self.at.step;
        let batch = source.next(step, self.model)?;
        let masks = self.model.masks(|| source.draw());
        let loss = |logits: &Tensor| objective.loss(logits, &batch);
        let Differentiated {
            loss,
            logits,
            gradients,
        } = self.model.differentiate(&batch.images, masks, loss)?;
        self.optimizer.apply(&gradients, self.lr(step, steps));
        self.sums.add(step, &loss, &logits, &batch.labels);
        self.at.step += 1;
        Ok(())
    }

    /// Returns the learning rate of a step of the current epoch.
    fn lr(&self, step: usize, steps: usize) -> f64 {
        let at = SchedulePoint {
            epoch: self.at.epoch,
            epochs: self.settings.epochs,
            within: (step as f64 + 0.5) / steps as f64,
        };
        self.settings.optimizer.lr * self.settings.schedule.factor(at)
    }

    /// Returns the state of the run; its tensors are views.
    fn state(&self, source: &dyn BatchSource) -> FitState {
        let at = Position {
            images: self.sums.images,
            ..self.at
        };
        let mut state = self.optimizer.state(self.model, at);
        let sums = self.sums.tensors().into_iter();
        let named = sums.map(|(name, tensor)| (format!("sums.{name}"), tensor.shallow_clone()));
        state.tensors.extend(named);
        let learnt = source.state().into_iter();
        let named = learnt.map(|(name, tensor)| (format!("source.{name}"), tensor));
        state.tensors.extend(named);
        state
    }

    /// Continues from `state`.
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

/// Holds the sums over an epoch's images, on the device.
struct Sums {
    loss: Tensor,
    correct: Tensor,
    /// The first step whose loss was not finite, or i64::MAX.
    broken: Tensor,
    images: i64,
}

impl Sums {
    /// Returns zero sums.
    fn new(device: Device) -> Self {
        Self {
            loss: Tensor::zeros([], (Kind::Double, device)),
            correct: Tensor::zeros([], (Kind::Int64, device)),
            broken: Tensor::full([], i64::MAX, (Kind::Int64, device)),
            images: 0,
        }
    }

    /// Returns the sums under the names that a saved state has for them.
    fn tensors(&self) -> [(&'static str, &Tensor); 3] {
        [
            ("loss", &self.loss),
            ("correct", &self.correct),
            ("broken", &self.broken),
        ]
    }

    /// Adds a batch: its mean loss, logits f32 [N,classes] and labels i64 [N].
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

    /// Fails when a loss of the epoch was not finite.
    fn check(&self, epoch: usize) -> Result<()> {
        match read(&self.broken)? {
            i64::MAX => Ok(()),
            step => Err(diverged(format!(
                "the training loss became NaN or infinite in epoch {}, step {}",
                epoch + 1,
                step + 1
            ))),
        }
    }

    /// Returns the mean loss and the accuracy.
    fn read(&self, epoch: usize) -> Result<(f64, f64)> {
        self.check(epoch)?;
        let images = self.images as f64;
        Ok((
            read::<f64>(&self.loss)? / images,
            read::<i64>(&self.correct)? as f64 / images,
        ))
    }
}

/// Fails when a weight is not finite in epoch `epoch` (from 0). A finite loss does not rule that
/// out, because it was computed before the step changed the weights.
///
/// # Errors
/// Fails for such weights, and names the learning rate as what to lower.
pub(crate) fn refuse_diverged(model: &Model, epoch: usize) -> Result<()> {
    let parameters = model.parameters();
    let finite: Vec<Tensor> = parameters
        .iter()
        .map(|parameter| parameter.isfinite().all())
        .collect();
    match finite.is_empty() || read(&Tensor::f_stack(&finite, 0)?.all())? {
        true => Ok(()),
        false => Err(diverged(format!(
            "the weights became NaN or infinite in epoch {}",
            epoch + 1
        ))),
    }
}

/// Returns the error of a run that has diverged.
fn diverged(what: String) -> Error {
    let rate = Text::from("lower the learning rate (") + parameter("optimizer.lr");
    Error::failed(what).hint(rate + "), or check the images' normalisation")
}
