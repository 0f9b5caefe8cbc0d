//! Supplies batches to the student's training: passes over the growing set, with fresh batches at
//! even distances that are made against the student. Called by [`fit`](crate::train::fit).

use super::growing::{GrowingSet, Order};
use super::perturbation::Perturbation;
use super::teacher_weights::TeacherWeights;
use crate::data::{Augmentation, unchanged_view, view_count};
use crate::error::{During, Error, Result};
use crate::inversion::{BatchStore, Ensemble, Origin, Synthesizer, SyntheticBatch, TermsAt};
use crate::model::{Model, StateDict};
use crate::runtime::seed::{self, Rng, Seeds};
use crate::runtime::{interrupt, read};
use crate::train::{AugmentSettings, Batch, BatchSource, Callback, Steps, View, restore};
use rand::seq::SliceRandom;
use rand::{Rng as _, RngCore};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

/// Names the learnt weights of the teachers in a saved state.
const WEIGHTS: &str = "teacher_weights";

/// Holds the settings of an [`AdaptiveSource`].
#[derive(Clone, Debug)]
pub struct SourceSettings {
    /// Images of a batch that is drawn from the set.
    pub batch_size: usize,
    /// Fresh batches that an epoch adds.
    pub new_batches_per_epoch: usize,
    /// Index of the first fresh batch, the number of initial batches.
    pub first_batch: usize,
    /// Images of an epoch, where a fresh batch counts as `batch_size` images; with `None` those of
    /// the set, and the fresh ones.
    pub epoch_images: Option<usize>,
    /// Makes fresh batches against the student.
    pub adaptive: bool,
    /// Augmentation of the batches that are drawn from the set.
    pub augment: AugmentSettings,
    /// Augments fresh batches too when the student trains on them first.
    pub augment_fresh: bool,
    /// Normalised value with which the crop of a synthetic image is padded, one a channel.
    pub padding: Vec<f64>,
    /// The same for real images.
    pub real_padding: Vec<f64>,
}

impl SourceSettings {
    /// Returns the steps of an epoch that begins with `images` in the set: those that train on
    /// them, and one for each fresh batch.
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

/// Reports how teachers and student predict a fresh batch before the student trains on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FreshReport {
    /// Index of the epoch that made it, from 0.
    pub epoch: usize,
    /// The step of that epoch that trains on it.
    pub step: usize,
    /// Index of the batch, after those of the initial batches.
    pub batch: usize,
    /// The teacher it was made from, in `cycle` mode.
    pub teacher: Option<usize>,
    /// Share of the images to which the teachers it was made from give the intended label, 0..1.
    pub teacher_accuracy: f64,
    /// Share of the images to which the student, in evaluation mode, gives the intended label,
    /// 0..1.
    pub student_accuracy: f64,
    /// Lowest loss of the synthesiser.
    pub best_loss: f64,
    /// Its losses at some steps.
    pub history: Vec<TermsAt>,
}

/// Holds a fresh batch, and the report on it.
#[derive(Debug)]
pub struct FreshBatch {
    /// The report.
    pub report: FreshReport,
    /// Images f32 `[N,C,H,W]`, normalised.
    pub images: Tensor,
    /// Labels i64 `[N]`.
    pub labels: Tensor,
}

/// Supplies the images of a [`GrowingSet`] to a student, and adds fresh batches to the set.
/// [`SourceSettings::steps`] tells how many steps an epoch has.
///
/// ```
/// use fed_distill::data::Normalisation;
/// use fed_distill::distill::{AdaptiveSource, GrowingSet, SourceSettings};
/// use fed_distill::inversion::{
///     Ensemble, EnsembleKind, InversionSettings, Inverter, PhaseSettings, Synthesizer, Teacher,
/// };
/// use fed_distill::model::{Model, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use fed_distill::train::{AugmentSettings, BatchSource};
/// use tch::Device;
///
/// # fn main() -> fed_distill::Result<()> {
/// let seeds = Seeds::new(42);
/// let (width, blocks) = (Some(4), Some(vec![1]));
/// let settings = ModelSettings { width, blocks, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 2)?;
/// let model = |i| Model::new(&spec, Device::Cpu, &mut seeds.stream("initialisation", i));
/// let teacher = Teacher::new(model(0)?, vec![5, 3])?;
/// let phase = PhaseSettings { grad_updates_batch: 2, ..PhaseSettings::default() };
/// let inversion = InversionSettings {
///     batch_size: 4,
///     di: phase.clone(),
///     adi: phase,
///     ..InversionSettings::default()
/// };
/// let mut inverter = Inverter::new(vec![&teacher], &inversion, seeds)?;
/// let initial = inverter.make(0, None, &mut ())?;
///
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let set = GrowingSet::new(&(&initial).into(), 8, None, &normalisation, Device::Cpu)?;
/// let ensemble = Ensemble::new(EnsembleKind::MeanLogits, &[&teacher], Device::Cpu);
/// let settings = SourceSettings {
///     batch_size: 4,
///     new_batches_per_epoch: 1,
///     first_batch: 1,
///     epoch_images: None,
///     adaptive: true,
///     augment: AugmentSettings { crop: 1, flip: false },
///     augment_fresh: false,
///     padding: normalisation.black(),
///     real_padding: normalisation.black(),
/// };
/// let inverter = Box::new(inverter);
/// let mut source = AdaptiveSource::new(set, inverter, ensemble, settings, seeds);
///
/// let student = model(1)?;
/// assert_eq!(source.begin(0)?, 2);
/// // The first step makes a fresh batch against the student, the second draws from the set.
/// assert_eq!(source.next(0, &student)?.images.size(), [4, 1, 8, 8]);
/// assert_eq!(source.set.len(), 8);
/// assert_eq!(source.next(1, &student)?.images.size(), [4, 1, 8, 8]);
/// # Ok(())
/// # }
/// ```
pub struct AdaptiveSource<'a> {
    /// The images so far.
    pub set: GrowingSet<'a>,
    synthesizer: Box<dyn Synthesizer + 'a>,
    /// Group of the synthesiser's parameters in errors.
    synthesizer_group: &'a str,
    ensemble: Ensemble,
    settings: SourceSettings,
    /// `settings.padding` on the device, and `settings.real_padding`, f32 `[C]`.
    padding: Tensor,
    real_padding: Tensor,
    seeds: Seeds,
    epoch: usize,
    /// Number of fresh batches in the set.
    made: usize,
    /// Steps of this epoch that make a fresh batch.
    fresh_steps: Vec<usize>,
    /// The epoch's batches that are drawn from the set, and their augmentation.
    order: Order,
    augmentation: Augmentation,
    rng: Rng,
    store: &'a dyn BatchStore,
    callback: Box<dyn Callback<FreshBatch> + 'a>,
    weights: Option<TeacherWeights<'a>>,
    perturbation: Option<Perturbation<'a>>,
}

impl<'a> AdaptiveSource<'a> {
    /// Returns a source over `set`, to which `synthesizer` adds fresh batches; `ensemble` combines
    /// the teachers' predictions for reports on batches of several teachers. It has no store, and
    /// its callback does nothing.
    pub fn new(
        set: GrowingSet<'a>,
        synthesizer: Box<dyn Synthesizer + 'a>,
        ensemble: Ensemble,
        settings: SourceSettings,
        seeds: Seeds,
    ) -> Self {
        let on_device = |values: &[f64]| {
            let values = Tensor::from_slice(values).to_kind(Kind::Float);
            values.to_device(set.device())
        };
        Self {
            padding: on_device(&settings.padding),
            real_padding: on_device(&settings.real_padding),
            set,
            synthesizer,
            synthesizer_group: "synthesizer",
            ensemble,
            settings,
            rng: seeds.stream("student/batches", 0),
            seeds,
            epoch: 0,
            made: 0,
            fresh_steps: Vec::new(),
            order: Order::default(),
            augmentation: Augmentation::default(),
            store: &(),
            callback: Box::new(()),
            weights: None,
            perturbation: None,
        }
    }

    /// Shows the synthesiser's parameters in errors as those of `group`, instead of `synthesizer`.
    #[must_use]
    pub fn with_synthesizer_group(self, group: &'a str) -> Self {
        Self {
            synthesizer_group: group,
            ..self
        }
    }

    /// Puts every fresh batch into `store`, from which a resumed run gets it.
    #[must_use]
    pub fn with_store(self, store: &'a dyn BatchStore) -> Self {
        Self { store, ..self }
    }

    /// Tells `callback` of each step of the synthesiser, and of each fresh batch before the student
    /// trains on it.
    #[must_use]
    pub fn with_callback(self, callback: impl Callback<FreshBatch> + 'a) -> Self {
        let callback = Box::new(callback);
        Self { callback, ..self }
    }

    /// Lets `weights` learn from the synthetic images at the beginning of every epoch but the
    /// first, between making a fresh batch and adding it.
    #[must_use]
    pub fn with_teacher_weights(self, weights: TeacherWeights<'a>) -> Self {
        let weights = Some(weights);
        Self { weights, ..self }
    }

    /// Perturbs the synthetic images of every batch, after their augmentation.
    #[must_use]
    pub fn with_perturbation(self, perturbation: Perturbation<'a>) -> Self {
        let perturbation = Some(perturbation);
        Self {
            perturbation,
            ..self
        }
    }

    /// Lets the teachers' weights learn in one pass over the synthetic images. A pass that fails or
    /// is interrupted changes nothing: a resumed run takes it again from its beginning.
    fn learn_weights(&self) -> Result<()> {
        let Some(weights) = self.weights.as_ref().filter(|weights| weights.learn()) else {
            return Ok(());
        };
        let before = weights.values.copy();
        self.learn_in_one_pass(weights)
            .inspect_err(|_| no_grad(|| weights.values.shallow_clone().copy_(&before)))
    }

    /// Passes over the synthetic images, augmented, in random order. Everything random comes from a
    /// stream of the epoch.
    fn learn_in_one_pass(&self, weights: &TeacherWeights) -> Result<()> {
        let mut rng = self
            .seeds
            .stream("student/teacher_weights", self.epoch as u64);
        let synthetic = self.set.synthetic();
        let mut order: Vec<i64> = (0..synthetic.labels.size()[0]).collect();
        order.shuffle(&mut rng);
        let size = self.settings.batch_size;
        let augment = &self.settings.augment;
        let drawn = self.set.draw(order.len(), augment, &mut rng);
        let (order, count) = (self.set.order(&order, size), order.len());
        for (batch, start) in (0..count).step_by(size).enumerate() {
            interrupt::check()?;
            let batch = self.set.gather(&order, batch);
            let drawn = drawn.narrow(start, size.min(count - start));
            let images = drawn.apply(&batch.images, Some(&self.padding));
            weights.step(&images, &batch.labels, self.epoch)?;
        }
        Ok(())
    }

    /// Perturbs the synthetic images of a batch, if there is a perturbation.
    fn perturbed(&mut self, batch: Batch) -> Result<Batch> {
        let Some(perturbation) = &self.perturbation else {
            return Ok(batch);
        };
        let classes = perturbation.teachers.first().map_or(0, |t| t.spec.classes);
        let shape = [batch.labels.size()[0], classes];
        let draw = || 2.0 * self.rng.random::<f32>() - 1.0;
        let count = (shape[0] * shape[1]) as usize;
        let directions: Vec<f32> = std::iter::repeat_with(draw).take(count).collect();
        let directions = Tensor::from_slice(&directions).view(shape);
        let origin = Origin {
            labels: &batch.labels,
            teachers: batch.teachers.as_ref(),
        };
        let directions = directions.to_device(batch.images.device());
        let moved = perturbation.apply(&batch.images, origin, &directions)?;
        let images = match &batch.real {
            Some(real) => batch
                .images
                .where_self(&real.view([-1, 1, 1, 1]).gt(0.0), &moved),
            None => moved,
        };
        // Directions are drawn anew each time, so that no view comes again and logits of one are
        // not worth keeping.
        let once = |view| View {
            number: None,
            ..view
        };
        let views = batch
            .views
            .map(|views| views.into_iter().map(once).collect());
        Ok(Batch {
            images,
            views,
            ..batch
        })
    }

    /// Makes a fresh batch, reports on it and adds it to the set.
    fn fresh(&mut self, step: usize, student: &Model) -> Result<Batch> {
        let against = self.settings.adaptive.then_some(student);
        let index = self.settings.first_batch + self.made;
        let steps = &mut Steps(&mut *self.callback);
        let made = self
            .synthesizer
            .make_or_load(index, against, self.store, steps)
            .within(self.synthesizer_group)
            .during(|| format!("making synthetic batch {index}"))?;
        let report = no_grad(|| self.report(index, step, &made, student))?;
        // Before the report: an interrupted step is taken again, and must not be reported twice.
        if step == 0 && self.epoch > 0 {
            self.learn_weights()?;
        }
        let fresh = FreshBatch {
            report,
            images: made.images.shallow_clone(),
            labels: made.labels.shallow_clone(),
        };
        self.callback.report(Some(student), &fresh)?;
        let first = self.set.synthetic_len();
        self.add(&made)?;
        let views = self.set.views(first).to_vec();
        let with = match self.settings.augment_fresh {
            true => self.settings.augment.clone(),
            false => AugmentSettings {
                crop: 0,
                flip: false,
            },
        };
        let drawn = self.set.draw(views.len(), &with, &mut self.rng);
        let batch = Batch {
            teachers: Some(made.teachers()),
            images: made.images,
            labels: made.labels,
            scores: None,
            real: None,
            views: Some(views),
        };
        let batch = self.augmented(batch, &drawn, with.crop);
        self.perturbed(batch)
    }

    /// Adds a batch to the set.
    fn add(&mut self, made: &SyntheticBatch) -> Result<()> {
        self.set.push(&made.into())?;
        self.made += 1;
        Ok(())
    }

    /// Adds fresh batches from the store until there are `count`, those that a resumed run had made
    /// before.
    fn load_until(&mut self, count: usize) -> Result<()> {
        while self.made < count {
            let index = self.settings.first_batch + self.made;
            let made = self.synthesizer.load(index, self.store)?.ok_or_else(|| {
                let what = format!("synthetic batch {index} of the interrupted run is gone");
                let hint = self.store.hint_if_missing().into_iter();
                hint.fold(Error::failed(what), Error::hint)
            })?;
            self.add(&made)?;
        }
        Ok(())
    }

    /// Compares the predictions of teachers and student on a fresh batch with its labels.
    fn report(
        &self,
        index: usize,
        step: usize,
        made: &SyntheticBatch,
        student: &Model,
    ) -> Result<FreshReport> {
        let accuracy = |scores: &Tensor| {
            let hits = scores.argmax(1, false).eq_tensor(&made.labels);
            read::<f64>(&hits.mean(Kind::Float))
        };
        let teachers = self.synthesizer.teachers_of(made);
        let scores = match teachers[..] {
            [teacher] => teacher.loaded()?.predict(&made.images),
            _ => self.ensemble.predict(&teachers, &made.images, 1.0)?,
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

    /// Augments the normalised images of a batch as `drawn` with crops of `crop`, and numbers their
    /// views.
    fn augmented(&self, batch: Batch, drawn: &Augmentation, crop: i64) -> Batch {
        let all = self.settings.augment.crop;
        let number = |(view, &drawn): (View, &u64)| {
            // A fresh image that is not augmented is numbered among the views of later epochs.
            let drawn = match crop == all {
                true => drawn,
                false => unchanged_view(all),
            };
            let number = view.number.map(|number| number * view_count(all) + drawn);
            View { number, ..view }
        };
        let views = batch.views.unwrap_or_default().into_iter();
        let padding = match &batch.real {
            Some(real) => {
                let is_real = real.unsqueeze(1).gt(0.0);
                self.real_padding.where_self(&is_real, &self.padding)
            }
            None => self.padding.shallow_clone(),
        };
        Batch {
            images: drawn.apply(&batch.images, Some(&padding)),
            views: Some(views.zip(drawn.views()).map(number).collect()),
            ..batch
        }
    }
}

impl BatchSource for AdaptiveSource<'_> {
    fn state(&self) -> Vec<(String, Tensor)> {
        let learnt = self.weights.iter().filter(|weights| weights.learn());
        let named = learnt.map(|weights| (WEIGHTS.to_owned(), weights.values.shallow_clone()));
        named.collect()
    }

    fn restore(&mut self, state: &StateDict) -> Result<()> {
        for weights in self.weights.iter().filter(|weights| weights.learn()) {
            restore(WEIGHTS, &weights.values, state.get(WEIGHTS))?;
        }
        Ok(())
    }

    fn skip_epochs(&mut self, epochs: usize) -> Result<()> {
        self.load_until(epochs * self.settings.new_batches_per_epoch)
    }

    fn begin(&mut self, epoch: usize) -> Result<usize> {
        self.epoch = epoch;
        let fresh = self.settings.new_batches_per_epoch;
        let steps = self.settings.steps(self.set.len());
        let kept = steps - fresh;
        self.fresh_steps = (0..fresh).map(|batch| batch * steps / fresh).collect();
        let (size, mut order) = (self.settings.batch_size, Vec::new());
        let mut pass: Vec<i64> = (0..self.set.len() as i64).collect();
        let mut rng = self.seeds.stream("student/batches", epoch as u64);
        // An epoch longer than the set passes over it again, in another order each time.
        while order.len() < kept * size {
            pass.shuffle(&mut rng);
            order.extend(&pass);
        }
        order.truncate(kept * size);
        let augment = &self.settings.augment;
        self.augmentation = self.set.draw(order.len(), augment, &mut rng);
        self.order = self.set.order(&order, size);
        self.rng = rng;
        Ok(steps)
    }

    fn drawn(&self) -> u64 {
        seed::drawn(&self.rng)
    }

    fn skip_steps(&mut self, step: usize, drawn: u64) -> Result<()> {
        let before = self.fresh_steps.partition_point(|&fresh| fresh < step);
        self.load_until(self.epoch * self.settings.new_batches_per_epoch + before)?;
        self.rng.set_word_pos(drawn.into());
        Ok(())
    }

    fn draw(&mut self) -> u64 {
        self.rng.next_u64()
    }

    fn next(&mut self, step: usize, model: &Model) -> Result<Batch> {
        let Err(before) = self.fresh_steps.binary_search(&step) else {
            return self.fresh(step, model);
        };
        if step == 0 && self.epoch > 0 {
            self.learn_weights()?;
        }
        // The order was drawn at the start of the epoch: a batch made in this epoch is drawn from
        // in the next.
        let (index, size) = (step - before, self.settings.batch_size);
        let batch = self.set.gather(&self.order, index);
        let drawn = self.augmentation.narrow(index * size, size);
        let batch = self.augmented(batch, &drawn, self.settings.augment.crop);
        self.perturbed(batch)
    }
}
