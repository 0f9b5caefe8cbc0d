//! Where training batches come from: a trait, and the source that passes over a split once an
//! epoch.

use super::settings::AugmentSettings;
use super::state::Position;
use crate::data::{ImageSet, Normalisation, augment};
use crate::error::Result;
use crate::model::Model;
use crate::runtime::seed::{self, Rng, Seeds};
use rand::seq::SliceRandom;
use tch::Tensor;

/// One step's images: f32 [N,C,H,W] normalised, labels i64 [N].
#[derive(Debug)]
pub struct Batch {
    pub images: Tensor,
    pub labels: Tensor,
    /// f32 [N, classes]: what a model should answer, of sources that know; `None` of the others.
    pub scores: Option<Tensor>,
    /// f32 [N], 1 where an image is real and 0 where it is synthetic; `None` where the source does
    /// not mix the two.
    pub real: Option<Tensor>,
}

/// A supply of batches, an epoch at a time.
pub trait BatchSource {
    /// Puts the source where `epochs` epochs leave it; called before the first is begun of a run
    /// that goes on.
    ///
    /// # Errors
    /// The source's own.
    fn pass(&mut self, epochs: usize) -> Result<()> {
        let _ = epochs;
        Ok(())
    }

    /// Begins epoch `epoch` (from 0) and returns its number of steps.
    ///
    /// # Errors
    /// The source's own.
    fn begin(&mut self, epoch: usize) -> Result<usize>;

    /// How far the epoch's generator has come: what [`skip`](Self::skip) takes.
    fn drawn(&self) -> u64;

    /// Goes to the beginning of step `step` of the epoch just begun, as if the steps before had
    /// been taken.
    ///
    /// # Errors
    /// The source's own.
    fn skip(&mut self, step: usize, drawn: u64) -> Result<()>;

    /// Begins the epoch of `at`, goes to its step, and returns the epoch's number of steps.
    ///
    /// # Errors
    /// The source's own.
    fn enter(&mut self, at: &Position) -> Result<usize> {
        let steps = self.begin(at.epoch)?;
        if at.step > 0 {
            self.skip(at.step, at.drawn)?;
        }
        Ok(steps)
    }

    /// The batch of step `step` of the epoch begun. `model` is the model in training, for sources
    /// that adapt to it.
    ///
    /// # Errors
    /// The source's own.
    fn next(&mut self, step: usize, model: &Model) -> Result<Batch>;
}

/// Every image of a split once an epoch, in an order that the seed and the epoch alone decide.
#[derive(Debug)]
pub struct Shuffled<'a> {
    set: &'a ImageSet,
    scores: Option<&'a Tensor>,
    normalisation: &'a Normalisation,
    augment: AugmentSettings,
    batch_size: usize,
    seeds: Seeds,
    purpose: String,
    order: Tensor,
    rng: Rng,
}

/// Steps of a pass over `images` images, at least one. The last batch holds the remainder, but a
/// remainder of one joins the batch before it: batch norm needs two.
pub fn steps(images: usize, batch_size: usize) -> usize {
    (images / batch_size + usize::from(images % batch_size > 1)).max(1)
}

impl<'a> Shuffled<'a> {
    /// Passes over `set`; `purpose` names the stream of randomness (one a node).
    pub fn new(
        set: &'a ImageSet,
        normalisation: &'a Normalisation,
        augment: AugmentSettings,
        batch_size: usize,
        seeds: Seeds,
        purpose: String,
    ) -> Self {
        let rng = seeds.stream(&purpose, 0);
        Self {
            set,
            scores: None,
            normalisation,
            augment,
            batch_size,
            seeds,
            purpose,
            order: Tensor::new(),
            rng,
        }
    }

    /// With `scores` f32 [images, classes] on the set's device, which its batches carry.
    pub fn towards(mut self, scores: &'a Tensor) -> Self {
        self.scores = Some(scores);
        self
    }

    /// Steps an epoch.
    pub fn steps(&self) -> usize {
        steps(self.set.len(), self.batch_size)
    }
}

impl BatchSource for Shuffled<'_> {
    fn begin(&mut self, epoch: usize) -> Result<usize> {
        self.rng = self.seeds.stream(&self.purpose, epoch as u64);
        let mut order: Vec<i64> = (0..self.set.len() as i64).collect();
        order.shuffle(&mut self.rng);
        self.order = Tensor::from_slice(&order).to_device(self.set.images.device());
        Ok(self.steps())
    }

    fn drawn(&self) -> u64 {
        seed::drawn(&self.rng)
    }

    fn skip(&mut self, _step: usize, drawn: u64) -> Result<()> {
        self.rng.set_word_pos(drawn.into());
        Ok(())
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
        let pixels = augment(
            &pixels,
            self.augment.crop,
            self.augment.flip,
            None,
            &mut self.rng,
        );
        Ok(Batch {
            images: self.normalisation.apply(&pixels),
            labels: self.set.labels.index_select(0, &chosen),
            scores: self.scores.map(|scores| scores.index_select(0, &chosen)),
            real: None,
        })
    }
}
