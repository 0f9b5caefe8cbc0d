//! Defines the sources of training batches: a trait, and a source that passes over a set of images
//! once an epoch. Called by [`fit`](super::fit).

use super::settings::AugmentSettings;
use super::state::Position;
use crate::data::{Augmentation, ImageSet, Normalisation, Normaliser};
use crate::error::Result;
use crate::model::{Model, StateDict};
use crate::runtime::seed::{self, Rng, Seeds};
use rand::RngCore;
use rand::seq::SliceRandom;
use tch::Tensor;

/// Holds the images and labels of one step.
#[derive(Debug)]
pub struct Batch {
    /// Images f32 `[N,C,H,W]`, normalised.
    pub images: Tensor,
    /// Labels i64 `[N]`.
    pub labels: Tensor,
    /// Target logits f32 `[N,classes]`, if the source has them.
    pub scores: Option<Tensor>,
    /// f32 `[N]`, 1 for real images and 0 for synthetic ones; `None` if the source does not mix the
    /// two.
    pub real: Option<Tensor>,
    /// Index of the teacher that each image was made from, i64 `[N]`, −1 for several and for real
    /// images; `None` if the source has no synthetic ones.
    pub teachers: Option<Tensor>,
    /// What the host knows of each image without asking the device; `None` if the source tells
    /// nothing.
    pub views: Option<Vec<View>>,
}

/// Tells what an image is, in the host's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// A number that it shares only with the same view of the same image, in this batch and others;
    /// `None` for real images, and if none will come again.
    pub number: Option<u64>,
    /// The label that a synthetic image was made for; 0 for real images.
    pub label: usize,
    /// Index of the teacher that it was made from; `None` for several and for real images.
    pub teacher: Option<usize>,
}

/// Supplies batches, one epoch at a time.
pub trait BatchSource {
    /// Brings the source into the state after `epochs` epochs; called once when a run resumes.
    ///
    /// # Errors
    /// Fails when the source cannot be brought into that state.
    fn skip_epochs(&mut self, epochs: usize) -> Result<()> {
        let _ = epochs;
        Ok(())
    }

    /// Returns what the source has learnt by this step, as views: part of the state of the run. A
    /// source that learns nothing has none.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Continues from what [`state`](Self::state) returned; called once when a run resumes.
    ///
    /// # Errors
    /// Fails when it does not fit the source.
    fn restore(&mut self, state: &StateDict) -> Result<()> {
        let _ = state;
        Ok(())
    }

    /// Begins epoch `epoch` (from 0) and returns its number of steps.
    ///
    /// # Errors
    /// Fails when the source has no batches for it.
    fn begin(&mut self, epoch: usize) -> Result<usize>;

    /// Returns the position of the epoch's random generator, for [`skip_steps`](Self::skip_steps).
    fn drawn(&self) -> u64;

    /// Skips to step `step` of the epoch just begun, where the generator was at `drawn`, as if the
    /// steps before had been taken.
    ///
    /// # Errors
    /// Fails when the source cannot be brought into that state.
    fn skip_steps(&mut self, step: usize, drawn: u64) -> Result<()>;

    /// Begins the epoch of `at`, skips to its step, and returns the epoch's number of steps.
    ///
    /// # Errors
    /// Fails when [`begin`](Self::begin) or [`skip_steps`](Self::skip_steps) does.
    fn begin_at(&mut self, at: &Position) -> Result<usize> {
        let steps = self.begin(at.epoch)?;
        if at.step > 0 {
            self.skip_steps(at.step, at.drawn)?;
        }
        Ok(steps)
    }

    /// Returns a number from the epoch's random generator, for what a model draws in training.
    fn draw(&mut self) -> u64;

    /// Returns the batch of step `step` of the current epoch. `model` is the model in training, for
    /// sources that adapt to it.
    ///
    /// # Errors
    /// Fails when the source cannot make the batch.
    fn next(&mut self, step: usize, model: &Model) -> Result<Batch>;
}

/// Supplies every image of a set once an epoch, in an order that depends on the seed and the epoch
/// alone.
///
/// ```
/// use fed_distill::data::{ImageSet, Normalisation};
/// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use fed_distill::train::{AugmentSettings, BatchSource, Shuffled};
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let seeds = Seeds::new(42);
/// let images = Tensor::zeros([6, 1, 8, 8], (Kind::Uint8, Device::Cpu));
/// let set = ImageSet::new(images, vec![0, 1, 2, 3, 4, 5])?;
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let augment = AugmentSettings { crop: 0, flip: false };
/// let mut batches = Shuffled::new(&set, &normalisation, augment, 4, seeds, "batches".into());
///
/// # let linear = ModelSettings { kind: ModelKind::Linear, ..ModelSettings::default() };
/// # let spec = ModelSpec::new(&linear, 1, 8, 6)?;
/// # let model = Model::new(&spec, Device::Cpu, &mut seeds.stream("initialisation", 0))?;
/// let steps = batches.begin(0)?;
/// assert_eq!(steps, 2);
/// assert_eq!(batches.next(0, &model)?.images.size(), [4, 1, 8, 8]);
/// assert_eq!(batches.next(1, &model)?.images.size(), [2, 1, 8, 8]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Shuffled<'a> {
    set: &'a ImageSet,
    scores: Option<&'a Tensor>,
    normaliser: Normaliser,
    augment: AugmentSettings,
    batch_size: usize,
    seeds: Seeds,
    purpose: String,
    /// Indices of the epoch's images, i64 on the set's device.
    order: Tensor,
    /// Drawn for the images in this order.
    augmentation: Augmentation,
    rng: Rng,
}

/// Returns the number of steps of a pass over `images` images, at least one. The last batch holds
/// the remainder, but a remainder of one is added to the batch before it: batch norm needs two.
pub fn steps(images: usize, batch_size: usize) -> usize {
    (images / batch_size + usize::from(images % batch_size > 1)).max(1)
}

impl<'a> Shuffled<'a> {
    /// Returns a source that passes over `set`; `purpose` names its stream of random numbers, which
    /// is one for each client.
    pub fn new(
        set: &'a ImageSet,
        normalisation: &Normalisation,
        augment: AugmentSettings,
        batch_size: usize,
        seeds: Seeds,
        purpose: String,
    ) -> Self {
        let rng = seeds.stream(&purpose, 0);
        Self {
            set,
            scores: None,
            normaliser: normalisation.on(set.images.device()),
            augment,
            batch_size,
            seeds,
            purpose,
            order: Tensor::new(),
            augmentation: Augmentation::default(),
            rng,
        }
    }

    /// Adds target logits, f32 `[images,classes]` on the set's device, to the batches.
    pub fn with_scores(mut self, scores: &'a Tensor) -> Self {
        self.scores = Some(scores);
        self
    }

    /// Returns the number of steps of an epoch.
    pub fn steps(&self) -> usize {
        steps(self.set.len(), self.batch_size)
    }
}

impl BatchSource for Shuffled<'_> {
    fn begin(&mut self, epoch: usize) -> Result<usize> {
        self.rng = self.seeds.stream(&self.purpose, epoch as u64);
        let mut order: Vec<i64> = (0..self.set.len() as i64).collect();
        order.shuffle(&mut self.rng);
        let images = &self.set.images;
        self.order = Tensor::from_slice(&order).to_device(images.device());
        let AugmentSettings { crop, flip } = self.augment;
        let (count, width, rng) = (order.len(), images.size()[3], &mut self.rng);
        self.augmentation = Augmentation::draw(count, crop, flip, width, rng, images.device());
        Ok(self.steps())
    }

    fn drawn(&self) -> u64 {
        seed::drawn(&self.rng)
    }

    fn skip_steps(&mut self, _step: usize, drawn: u64) -> Result<()> {
        self.rng.set_word_pos(drawn.into());
        Ok(())
    }

    fn draw(&mut self) -> u64 {
        self.rng.next_u64()
    }

    fn next(&mut self, step: usize, _model: &Model) -> Result<Batch> {
        let start = step * self.batch_size;
        let end = match step + 1 == self.steps() {
            true => self.set.len(),
            false => start + self.batch_size,
        };
        let chosen = self.order.narrow(0, start as i64, (end - start) as i64);
        let pixels = self.set.images.index_select(0, &chosen);
        // Zero padding of pixels is padding with black, whatever the normalisation.
        let augmentation = self.augmentation.narrow(start, end - start);
        let pixels = augmentation.apply(&pixels, None);
        Ok(Batch {
            images: self.normaliser.apply(&pixels),
            labels: self.set.labels.index_select(0, &chosen),
            scores: self.scores.map(|scores| scores.index_select(0, &chosen)),
            real: None,
            teachers: None,
            views: None,
        })
    }
}
