//! Batches for the student: passes over the growing set, with fresh batches made against the
//! student at even distances.

use super::growing::GrowingSet;
use crate::data::augment;
use crate::error::{During, Error, Result};
use crate::inversion::{BatchStore, Ensemble, Inverter, SyntheticBatch, TermsAt};
use crate::model::Model;
use crate::runtime::seed::{self, Rng, Seeds};
use crate::train::{AugmentSettings, Batch, BatchSource};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

/// How the source behaves.
#[derive(Clone, Debug)]
pub struct SourceSettings {
    pub batch_size: usize,
    pub new_batches_per_epoch: usize,
    /// Index of the first fresh batch: those of `generate_initial` come before.
    pub first_batch: usize,
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
    /// Steps of an epoch that begins with `images` in the set: those that train on them, and the
    /// fresh batches.
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FreshReport {
    pub epoch: usize,
    /// The step of that epoch that trained on it first.
    pub step: usize,
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

/// What attends an [`AdaptiveSource`] at work.
pub trait Attendant {
    /// After each inversion step.
    fn tick(&self) {}

    /// A fresh batch was made and judged; the student trains on it next.
    ///
    /// # Errors
    /// Ends the run.
    fn fresh(&self, report: FreshReport, images: &Tensor, labels: &Tensor) -> Result<()>;
}

/// Listens to nothing.
impl Attendant for () {
    fn fresh(&self, _: FreshReport, _: &Tensor, _: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// The growing set as a batch source. An epoch has floor(images / batch) steps, fresh batches
/// included.
pub struct AdaptiveSource<'a> {
    pub set: GrowingSet<'a>,
    inverter: Inverter<'a>,
    ensemble: Ensemble,
    settings: SourceSettings,
    seeds: Seeds,
    epoch: usize,
    /// Fresh batches in the set.
    made: usize,
    /// Steps of this epoch that make a fresh batch.
    places: Vec<usize>,
    order: Vec<i64>,
    rng: Rng,
    store: &'a dyn BatchStore,
    attendant: &'a dyn Attendant,
}

impl<'a> AdaptiveSource<'a> {
    /// Returns a source over `set`, to which `inverter` adds fresh batches; `ensemble` judges those
    /// made from several teachers. It keeps no batch beside the set and reports to nobody.
    pub fn new(
        set: GrowingSet<'a>,
        inverter: Inverter<'a>,
        ensemble: Ensemble,
        settings: SourceSettings,
        seeds: Seeds,
    ) -> Self {
        Self {
            set,
            inverter,
            ensemble,
            settings,
            rng: seeds.stream("student/batches", 0),
            seeds,
            epoch: 0,
            made: 0,
            places: Vec::new(),
            order: Vec::new(),
            store: &(),
            attendant: &(),
        }
    }

    /// Keeps every fresh batch in `store`, from which a resumed run takes it.
    #[must_use]
    pub fn stored_in(self, store: &'a dyn BatchStore) -> Self {
        Self { store, ..self }
    }

    /// Reports steps and fresh batches to `attendant`.
    #[must_use]
    pub fn reported_to(self, attendant: &'a dyn Attendant) -> Self {
        Self { attendant, ..self }
    }

    /// Makes a fresh batch, has it judged and keeps it.
    fn fresh(&mut self, step: usize, student: &Model) -> Result<Batch> {
        let against = self.settings.adaptive.then_some(student);
        let index = self.settings.first_batch + self.made;
        let attendant = self.attendant;
        let made = self
            .inverter
            .make_once(index, against, self.store, &|| attendant.tick())
            .during(|| format!("making synthetic batch {index}"))?;
        let report = no_grad(|| self.report(index, step, &made, student))?;
        self.attendant.fresh(report, &made.images, &made.labels)?;
        self.add(&made);
        let augmentation = match self.settings.augment_fresh {
            true => self.settings.augment.clone(),
            false => AugmentSettings {
                crop: 0,
                flip: false,
            },
        };
        Ok(Batch {
            images: self.augmented(&made.images, &augmentation),
            labels: made.labels,
            scores: None,
            real: None,
        })
    }

    fn add(&mut self, made: &SyntheticBatch) {
        self.set.push(&made.images, &made.labels);
        self.made += 1;
    }

    /// Adds fresh batches from the store until there are `count`: what a run that goes on had made
    /// before.
    fn catch_up(&mut self, count: usize) -> Result<()> {
        while self.made < count {
            let index = self.settings.first_batch + self.made;
            let made = self.inverter.recall(index, self.store)?.ok_or_else(|| {
                Error::failed(format!(
                    "synthetic batch {index} of the interrupted run is gone"
                ))
                .hint("`overwrite=true` starts the run again")
            })?;
            self.add(&made);
        }
        Ok(())
    }

    fn report(
        &self,
        index: usize,
        step: usize,
        made: &SyntheticBatch,
        student: &Model,
    ) -> Result<FreshReport> {
        let accuracy = |scores: &Tensor| {
            f64::try_from(
                scores
                    .argmax(1, false)
                    .eq_tensor(&made.labels)
                    .mean(Kind::Float),
            )
        };
        let judges = self.inverter.judges(made);
        let scores = match judges[..] {
            [teacher] => teacher.loaded()?.predict(&made.images),
            _ => self.ensemble.predict(&judges, &made.images, 1.0)?,
        };
        Ok(FreshReport {
            epoch: self.epoch,
            step,
            batch: index,
            teacher: made.teacher,
            teacher_accuracy: accuracy(&scores)?,
            student_accuracy: accuracy(&student.eval(&made.images))?,
            best_loss: made.best_loss,
            history: made.history.clone(),
        })
    }

    fn augmented(&mut self, images: &Tensor, with: &AugmentSettings) -> Tensor {
        augment(
            images,
            with.crop,
            with.flip,
            Some(&self.settings.black),
            &mut self.rng,
        )
    }
}

impl BatchSource for AdaptiveSource<'_> {
    fn pass(&mut self, epochs: usize) -> Result<()> {
        self.catch_up(epochs * self.settings.new_batches_per_epoch)
    }

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

    fn drawn(&self) -> u64 {
        seed::drawn(&self.rng)
    }

    fn skip(&mut self, step: usize, drawn: u64) -> Result<()> {
        let before = self.places.partition_point(|&place| place < step);
        self.catch_up(self.epoch * self.settings.new_batches_per_epoch + before)?;
        self.rng.set_word_pos(drawn.into());
        Ok(())
    }

    fn next(&mut self, step: usize, model: &Model) -> Result<Batch> {
        let Err(before) = self.places.binary_search(&step) else {
            return self.fresh(step, model);
        };
        // The permutation was drawn at the start of the epoch: a batch made in this epoch is drawn
        // from in the next.
        let start = ((step - before) * self.settings.batch_size).min(self.order.len());
        let end = (start + self.settings.batch_size).min(self.order.len());
        let (images, labels, real) = self.set.gather(&self.order[start..end]);
        let with = self.settings.augment.clone();
        Ok(Batch {
            images: self.augmented(&images, &with),
            labels,
            scores: None,
            real,
        })
    }
}
