//! Makes one synthetic batch after another: chooses teachers and labels by the settings, draws what
//! to start from, and runs the engine. Called by `generate_initial` and by
//! [`AdaptiveSource`](crate::distill::AdaptiveSource).
//!
//! All random numbers of batch `index` come from streams of that index, so batches can be made in
//! any order, on any machine, unless Adam's moments pass from one to the next (`keep_moments`).

use super::checks::{check, tell_engine, uses_fused_engine};
use super::draws::Draws;
use super::engine::{Inversion, TermsAt};
use super::ensemble::Ensemble;
use super::labels::{class_counts, draw_labels};
use super::objective::{Combination, Loss};
use super::pixels::PixelAdam;
use super::settings::{InversionSettings, Keep, PhaseSettings, TeacherMode};
use super::start::{self, Start};
use super::store::{BatchStore, Moments, StoredBatch};
use super::synthesizer::{LossTerm, Synthesizer};
use super::teacher::{LabelMask, Teacher};
use crate::data::Normalisation;
use crate::error::{Error, Result, Text, assignment, parameter};
use crate::model::Model;
use crate::runtime::read;
use crate::runtime::seed::{Rng, Seeds};
use crate::train::Callback;
use std::collections::BTreeMap;
use tch::{Device, Tensor};

/// Holds a synthetic batch.
#[derive(Debug)]
pub struct SyntheticBatch {
    /// Images f32 `[N,C,H,W]`, normalised.
    pub images: Tensor,
    /// The labels that they were made for, i64 `[N]`.
    pub labels: Tensor,
    /// Index of the teacher it was made from, in `cycle` mode; `None` when from several.
    pub teacher: Option<usize>,
    /// The lowest inversion loss: that of the images, unless the last ones are kept.
    pub best_loss: f64,
    /// Loss terms at about fifty evenly spaced steps.
    pub history: Vec<TermsAt>,
}

impl SyntheticBatch {
    /// Returns the index of the teacher that each image was made from, i64 `[N]`, −1 for several.
    pub fn teachers(&self) -> Tensor {
        let teacher = self.teacher.map_or(-1, |teacher| teacher as i64);
        self.labels.full_like(teacher)
    }

    /// Returns the same batch as views of the same tensors.
    pub(crate) fn share(&self) -> Self {
        Self {
            images: self.images.shallow_clone(),
            labels: self.labels.shallow_clone(),
            teacher: self.teacher,
            best_loss: self.best_loss,
            history: self.history.clone(),
        }
    }
}

/// Makes synthetic batches from a set of teachers.
///
/// ```
/// use fed_distill::inversion::{
///     InversionSettings, Inverter, PhaseSettings, Synthesizer, Teacher,
/// };
/// use fed_distill::model::{Model, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use tch::Device;
///
/// # fn main() -> fed_distill::Result<()> {
/// let seeds = Seeds::new(42);
/// let (width, blocks) = (Some(4), Some(vec![1]));
/// let settings = ModelSettings { width, blocks, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 2)?;
/// let model = |i| Model::new(&spec, Device::Cpu, &mut seeds.stream("initialisation", i));
/// let teacher = Teacher::new(model(0)?, vec![5, 3])?;
/// let settings = InversionSettings {
///     batch_size: 4,
///     di: PhaseSettings { grad_updates_batch: 3, ..PhaseSettings::default() },
///     ..InversionSettings::default()
/// };
/// let mut inverter = Inverter::new(vec![&teacher], &settings, seeds)?;
/// // The callback `()` does nothing.
/// let batch = inverter.make(0, None, &mut ())?;
/// assert_eq!(batch.images.size(), [4, 1, 8, 8]);
/// assert_eq!(batch.history.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Inverter<'a> {
    teachers: Vec<&'a Teacher>,
    settings: &'a InversionSettings,
    masks: Vec<Option<LabelMask>>,
    ensemble: Ensemble,
    /// That of the teachers' images.
    normalisation: Option<&'a Normalisation>,
    seeds: Seeds,
    fused: bool,
    /// Adam of each teacher in `cycle` mode, else one at index 0; kept from batch to batch only
    /// with `keep_moments`.
    moments: BTreeMap<usize, PixelAdam>,
}

impl<'a> Inverter<'a> {
    /// Returns an inverter of `teachers`, whose images have one shape and whose classes are the
    /// same.
    ///
    /// # Errors
    /// Fails when there are no teachers, a sample is larger than their number, label weights do not
    /// match the classes, a term of other teachers is in use where a batch has none, and the fused
    /// engine is asked for where a teacher is no residual network.
    pub fn new(
        teachers: Vec<&'a Teacher>,
        settings: &'a InversionSettings,
        seeds: Seeds,
    ) -> Result<Self> {
        let Some(first) = teachers.first() else {
            return Err(Error::failed("there are no teachers to invert"));
        };
        let (classes, device) = (first.spec.classes, first.device);
        check(settings, teachers.len(), classes)?;
        let fused = uses_fused_engine(settings.engine, &teachers)?;
        let weighted = settings.teachers.mode == TeacherMode::Sample;
        let mask = |teacher: &&Teacher| {
            let seen = teacher.seen();
            let shares = teacher.shares(&seen);
            settings
                .teachers
                .mask
                .then(|| LabelMask::new(&seen, classes, weighted.then_some(&shares[..]), device))
        };
        Ok(Self {
            masks: teachers.iter().map(mask).collect(),
            ensemble: Ensemble::new(settings.ensemble, &teachers, device),
            teachers,
            settings,
            normalisation: None,
            seeds,
            fused,
            moments: BTreeMap::new(),
        })
    }

    /// Logs which teachers are inverted without fused passes, unless batches take one step, which
    /// is soon done.
    pub(crate) fn tell_engine(&self, student: bool) {
        if self.steps(student) > 1 {
            tell_engine(self.settings.engine, &self.teachers);
        }
    }

    /// Tells how the teachers' images are normalised, which pictures of shapes need.
    #[must_use]
    pub fn with_normalisation(self, normalisation: &'a Normalisation) -> Self {
        let normalisation = Some(normalisation);
        Self {
            normalisation,
            ..self
        }
    }

    /// Takes `ensemble`, of the same teachers, in place of one of the settings' rule whose weights
    /// stay 1/N.
    #[must_use]
    pub fn with_ensemble(self, ensemble: Ensemble) -> Self {
        Self { ensemble, ..self }
    }

    /// Returns the settings with or without a student.
    fn phase(&self, student: bool) -> &'a PhaseSettings {
        match student {
            true => &self.settings.adi,
            false => &self.settings.di,
        }
    }

    /// Draws the labels i64 [N] of a batch of one teacher, or of all.
    fn labels(&self, teacher: Option<usize>, rng: &mut Rng) -> Tensor {
        let sources = match teacher {
            Some(index) => vec![self.teachers[index]],
            None => self.teachers.clone(),
        };
        let (classes, shares) = class_counts(&sources, !self.settings.teachers.mask);
        let configured = |class: &i64| match &self.settings.label_weights {
            Some(weights) => weights[*class as usize],
            None => 1.0,
        };
        let weights: Vec<f64> = classes.iter().map(configured).collect();
        let labels = draw_labels(
            self.settings.labels,
            self.settings.batch_size,
            &classes,
            &shares,
            &weights,
            rng,
        );
        Tensor::from_slice(&labels).to_device(self.teachers[0].device)
    }

    /// Draws what a batch for `labels` i64 [N] starts from, f32 [N,C,H,W], on the host so that
    /// every device draws the same values. Which candidates are chosen depends on predictions, and
    /// so on the device's rounding.
    fn start(&self, labels: &Tensor, rng: &mut Rng) -> Result<Tensor> {
        let (spec, device) = (&self.teachers[0].spec, self.teachers[0].device);
        let (count, channels, side) = (self.settings.batch_size, spec.channels, spec.size);
        let values = |values: Vec<f32>| {
            let all = Tensor::from_slice(&values).view([-1, channels, side, side]);
            all.to_device(device)
        };
        match self.settings.start {
            Start::Noise => {
                let pixels = channels * side * side;
                Ok(values(start::noise(count * pixels as usize, rng)))
            }
            Start::Shapes => {
                let normaliser = self.normalisation.ok_or_else(|| {
                    Error::usage(parameter("start") + " is `shapes`, which needs a normalisation")
                })?;
                let candidates = count * self.settings.candidates;
                let drawn = start::shapes(candidates, channels as usize, side as usize, rng);
                let pictures = normaliser.on(device).apply(&(values(drawn) * 255.0));
                if candidates == count {
                    return Ok(pictures);
                }
                let predict = |part: Tensor| self.ensemble.predict(&self.teachers, &part, 1.0);
                // A batch at a time, which is what fits into memory.
                let joint = pictures.split(count as i64, 0).into_iter().map(predict);
                let joint = Tensor::f_cat(&joint.collect::<Result<Vec<_>>>()?, 0)?;
                let of_labels = joint.f_index_select(1, labels)?.f_transpose(0, 1)?;
                let scores = Vec::<Vec<f32>>::try_from(&of_labels.to_device(Device::Cpu))?;
                let chosen = Tensor::from_slice(&start::choose(&scores)).to_device(device);
                Ok(pictures.f_index_select(0, &chosen)?)
            }
        }
    }
}

impl Synthesizer for Inverter<'_> {
    fn steps(&self, student: bool) -> usize {
        self.phase(student).grad_updates_batch
    }

    fn is_independent(&self) -> bool {
        !self.settings.keep_moments
    }

    fn terms(&self) -> Vec<LossTerm> {
        let scales = &self.settings.di.loss;
        let term = |name, scale, of| LossTerm { name, scale, of };
        vec![
            term("total (scaled)", 1.0, |at| at.total),
            term("cross-entropy", 1.0, |at| at.cross_entropy),
            term("batch norm", scales.bn_scale, |at| at.batch_norm),
            term("total variation", scales.var_scale, |at| at.total_variation),
            term("l2", scales.l2_scale, |at| at.l2),
            term("entropy of others", scales.entropy_scale, |at| {
                at.entropy.unwrap_or_default()
            }),
            term("rivals", scales.rival_scale, |at| {
                at.rival.unwrap_or_default()
            }),
        ]
    }

    /// Returns the one teacher in `cycle` mode, else all.
    fn teachers_of(&self, batch: &SyntheticBatch) -> Vec<&Teacher> {
        match batch.teacher {
            Some(teacher) => vec![self.teachers[teacher]],
            None => self.teachers.clone(),
        }
    }

    fn make(
        &mut self,
        index: usize,
        student: Option<&Model>,
        callback: &mut dyn Callback,
    ) -> Result<SyntheticBatch> {
        let mut rng = self.seeds.stream("inversion", index as u64);
        let mode = self.settings.teachers.mode;
        let teacher = (mode == TeacherMode::Cycle).then_some(index % self.teachers.len());
        let labels = self.labels(teacher, &mut rng);
        let start = self.start(&labels, &mut rng)?;
        let owner = teacher.unwrap_or(0);
        let kept = self.moments.remove(&owner);
        let mut adam = kept.unwrap_or_else(|| PixelAdam::new(&self.settings.optimizer));
        let phase = self.phase(student.is_some());
        let combination = match mode {
            TeacherMode::Cycle if phase.loss.others().in_use() => {
                Combination::WithOthers(&self.masks, phase.loss.others())
            }
            TeacherMode::Cycle | TeacherMode::Sample => Combination::Separate(&self.masks),
            TeacherMode::Ensemble => Combination::Ensemble(&self.ensemble),
        };
        let mut draw = Draws::new(
            &self.settings.teachers,
            self.teachers.len(),
            teacher,
            phase.input_jitter,
            rng,
        );
        let inversion = Inversion {
            teachers: &self.teachers,
            loss: Loss {
                combination,
                scales: &phase.loss.published(),
            },
            student,
            steps: phase.grad_updates_batch,
            fused: self.fused,
        };
        let made = inversion.run(&start, &labels, &mut adam, &mut draw, callback)?;
        if self.settings.keep_moments {
            self.moments.insert(owner, adam);
        }
        let images = match self.settings.keep {
            Keep::Best => made.best,
            Keep::Last => made.last,
        };
        // The last step may leave the finite numbers after the last loss was computed.
        if !read::<bool>(&images.isfinite().all())? {
            let text = "the images became NaN or infinite in the last step";
            let rate = Text::from("lower the learning rate (") + parameter("optimizer.lr");
            return Err(
                Error::failed(text).hint(rate + "), or choose " + assignment("keep", "best"))
            );
        }
        Ok(SyntheticBatch {
            images,
            labels,
            teacher,
            best_loss: made.best_loss,
            history: made.history,
        })
    }

    /// Gets the batch, and continues from its moments.
    fn load(&mut self, index: usize, store: &dyn BatchStore) -> Result<Option<SyntheticBatch>> {
        let Some(StoredBatch { batch, moments }) = store.get(index)? else {
            return Ok(None);
        };
        let settings = &self.settings.optimizer;
        if let Some(kept) = moments {
            let adam = PixelAdam::with_moments(settings, [kept.first, kept.second], kept.steps);
            self.moments.insert(batch.teacher.unwrap_or(0), adam);
        }
        Ok(Some(batch))
    }

    fn store(&self, index: usize, batch: &SyntheticBatch, store: &dyn BatchStore) -> Result<()> {
        let adam = self.moments.get(&batch.teacher.unwrap_or(0));
        let moments = adam.and_then(PixelAdam::moments);
        let moments = moments.map(|([first, second], steps)| Moments {
            first: first.shallow_clone(),
            second: second.shallow_clone(),
            steps,
        });
        let batch = batch.share();
        store.put(index, &StoredBatch { batch, moments })
    }
}
