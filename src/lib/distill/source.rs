//! Batches for the student: passes over the growing set, with fresh batches made against the student at even distances.

use super::growing::GrowingSet;
use crate::data::augment;
use crate::error::{During, Result};
use crate::inversion::{Ensemble, Inverter, SyntheticBatch, TermsAt};
use crate::model::Model;
use crate::runtime::seed::{Rng, Seeds};
use crate::train::{AugmentSettings, Batch, BatchSource};
use rand::seq::SliceRandom;
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

/// How the source behaves.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    pub batch_size: usize,
    pub new_batches_per_epoch: usize,
    /// Images an epoch passes over; `None`: those of the set, and the fresh ones.
    pub epoch_images: Option<usize>,
    /// Make fresh batches against the student.
    pub adaptive: bool,
    pub augment: AugmentSettings,
    pub augment_fresh: bool,
    /// Normalised value of a black pixel, one a channel: what a crop's padding shows.
    pub black: Vec<f64>,
}

impl SourceSettings {
    /// Steps of an epoch that begins with `images` in the set: those that train on them, and the fresh batches.
    pub fn steps(&self, images: usize) -> usize {
        let fresh = self.new_batches_per_epoch;
        let kept = match self.epoch_images {
            Some(images) => (images / self.batch_size)
                .saturating_sub(fresh)
                .max(usize::from(fresh == 0)),
            None => (images / self.batch_size).max(1),
        };
        kept + fresh
    }
}

/// What a fresh batch was worth when it was made, before the student trained on it.
#[derive(Clone, Debug, Serialize)]
pub struct FreshReport {
    pub epoch: usize,
    pub batch: usize,
    /// The teacher it was made from, in `cycle` mode.
    pub teacher: Option<usize>,
    /// Share of the images that the teachers it was made from give the intended label, 0..1.
    pub teacher_accuracy: f64,
    /// The same of the student, in evaluation mode.
    pub student_accuracy: f64,
    pub best_loss: f64,
    pub history: Vec<TermsAt>,
}

/// The growing set as a batch source. An epoch has floor(images / batch) steps, fresh batches included.
pub struct AdaptiveSource<'a> {
    pub set: GrowingSet<'a>,
    pub fresh: Vec<FreshReport>,
    inverter: Inverter<'a>,
    ensemble: Ensemble,
    settings: SourceSettings,
    seeds: Seeds,
    epoch: usize,
    /// Batches made before, those of `generate_initial` included: the index of the next.
    made: usize,
    /// Steps of this epoch that make a fresh batch.
    places: Vec<usize>,
    order: Vec<i64>,
    rng: Rng,
    tick: &'a dyn Fn(),
}

impl<'a> AdaptiveSource<'a> {
    /// A source over `set`; `made` batches exist already; `tick` is called after each inversion step.
    pub fn new(
        set: GrowingSet<'a>,
        inverter: Inverter<'a>,
        ensemble: Ensemble,
        settings: SourceSettings,
        seeds: Seeds,
        made: usize,
        tick: &'a dyn Fn(),
    ) -> Self {
        Self {
            set,
            fresh: Vec::new(),
            inverter,
            ensemble,
            settings,
            rng: seeds.stream("student/batches", 0),
            seeds,
            epoch: 0,
            made,
            places: Vec::new(),
            order: Vec::new(),
            tick,
        }
    }

    /// Makes a fresh batch, reports on it and keeps it.
    fn fresh(&mut self, student: &Model) -> Result<Batch> {
        let against = self.settings.adaptive.then_some(student);
        let index = self.made;
        let made = self
            .inverter
            .make(index, against, self.tick)
            .during(|| format!("making synthetic batch {index}"))?;
        self.made += 1;
        let report = no_grad(|| self.report(&made, student))?;
        self.fresh.push(report);
        self.set.push(&made.images, &made.labels);
        let augmentation = match self.settings.augment_fresh {
            true => self.settings.augment.clone(),
            false => AugmentSettings { crop: 0, flip: false },
        };
        Ok(Batch {
            images: self.augmented(&made.images, &augmentation),
            labels: made.labels,
            real: None,
        })
    }

    fn report(&self, made: &SyntheticBatch, student: &Model) -> Result<FreshReport> {
        let accuracy =
            |scores: &Tensor| f64::try_from(scores.argmax(1, false).eq_tensor(&made.labels).mean(Kind::Float));
        let judges = self.inverter.judges(made);
        let scores = match judges[..] {
            [teacher] => teacher.loaded()?.predict(&made.images),
            _ => self.ensemble.predict(&judges, &made.images, 1.0)?,
        };
        Ok(FreshReport {
            epoch: self.epoch,
            batch: self.made - 1,
            teacher: made.teacher,
            teacher_accuracy: accuracy(&scores)?,
            student_accuracy: accuracy(&student.eval(&made.images))?,
            best_loss: made.best_loss,
            history: made.history.clone(),
        })
    }

    fn augmented(&mut self, images: &Tensor, with: &AugmentSettings) -> Tensor {
        augment(images, with.crop, with.flip, Some(&self.settings.black), &mut self.rng)
    }
}

impl BatchSource for AdaptiveSource<'_> {
    fn begin(&mut self, epoch: usize) -> Result<usize> {
        self.epoch = epoch;
        self.rng = self.seeds.stream("student/batches", epoch as u64);
        let fresh = self.settings.new_batches_per_epoch;
        let steps = self.settings.steps(self.set.len());
        let kept = steps - fresh;
        self.places = (0..fresh).map(|batch| batch * steps / fresh).collect();
        let mut pass: Vec<i64> = (0..self.set.len() as i64).collect();
        self.order.clear();
        // An epoch longer than the set passes over it again, in another order each time.
        while self.order.len() < kept * self.settings.batch_size {
            pass.shuffle(&mut self.rng);
            self.order.extend(&pass);
        }
        Ok(steps)
    }

    fn next(&mut self, step: usize, model: &Model) -> Result<Batch> {
        let Err(before) = self.places.binary_search(&step) else {
            return self.fresh(model);
        };
        // The permutation was drawn at the start of the epoch: a batch made in this epoch is drawn from in the next.
        let start = ((step - before) * self.settings.batch_size).min(self.order.len());
        let end = (start + self.settings.batch_size).min(self.order.len());
        let (images, labels, real) = self.set.gather(&self.order[start..end]);
        let with = self.settings.augment.clone();
        Ok(Batch {
            images: self.augmented(&images, &with),
            labels,
            real,
        })
    }
}
