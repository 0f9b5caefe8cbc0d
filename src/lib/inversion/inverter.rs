//! Batch after batch: chooses teachers and labels as configured, starts from noise, runs the
//! engine.
//!
//! Everything random about batch `index` comes from streams of that index, so batches can be made
//! in any order, on any machine.

use super::checks::{check, fused};
use super::draws::Draws;
use super::engine::{Inversion, TermsAt};
use super::ensemble::Ensemble;
use super::labels::draw_labels;
use super::objective::{Loss, Opinion};
use super::pixels::PixelAdam;
use super::settings::{InversionSettings, PhaseSettings, TeacherMode};
use super::teacher::{LabelMask, Teacher};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::runtime::seed::{Rng, Seeds};
use rand_distr::{Distribution, StandardNormal};
use tch::Tensor;

/// A synthetic batch.
#[derive(Debug)]
pub struct SyntheticBatch {
    /// f32 [N,C,H,W], normalised.
    pub images: Tensor,
    /// i64 [N].
    pub labels: Tensor,
    /// The one teacher it was made from, in `cycle` mode.
    pub teacher: Option<usize>,
    pub best_loss: f64,
    pub history: Vec<TermsAt>,
}

impl SyntheticBatch {
    /// Returns the same batch as views of the same tensors.
    pub(super) fn share(&self) -> Self {
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
#[derive(Debug)]
pub struct Inverter<'a> {
    teachers: Vec<&'a Teacher>,
    pub(super) settings: &'a InversionSettings,
    masks: Vec<Option<LabelMask>>,
    ensemble: Ensemble,
    seeds: Seeds,
    fused: bool,
    /// Kept from batch to batch only with `keep_moments`.
    pub(super) moments: Option<PixelAdam>,
}

impl<'a> Inverter<'a> {
    /// An inverter of `teachers`, which share one architecture's input and classes.
    ///
    /// # Errors
    /// No teachers, a sample larger than their number, label weights that do not match the classes,
    /// terms of other teachers where a batch has none, fused passes where there are none.
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
        let fused = fused(settings.engine, &teachers)?;
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
            seeds,
            fused,
            moments: None,
        })
    }

    /// Gradient steps of one batch, for progress bars.
    pub fn steps(&self, student: bool) -> usize {
        self.phase(student).grad_updates_batch
    }

    /// The teachers whose opinion batch `index` is held to afterwards: its own in `cycle` mode,
    /// else all.
    pub fn judges(&self, batch: &SyntheticBatch) -> Vec<&'a Teacher> {
        match batch.teacher {
            Some(teacher) => vec![self.teachers[teacher]],
            None => self.teachers.clone(),
        }
    }

    /// Makes batch `index`, against `student` where given. `tick` is called after each step.
    ///
    /// # Errors
    /// A loss that is never finite, Ctrl-C, and what libtorch reports.
    pub fn make(
        &mut self,
        index: usize,
        student: Option<&Model>,
        tick: &dyn Fn(),
    ) -> Result<SyntheticBatch> {
        let mut rng = self.seeds.stream("inversion", index as u64);
        let mode = self.settings.teachers.mode;
        let teacher = (mode == TeacherMode::Cycle).then_some(index % self.teachers.len());
        let labels = self.labels(teacher, &mut rng);
        let start = self.noise(&mut rng);
        let mut adam = match self.moments.take() {
            Some(moments) => moments,
            None => PixelAdam::new(&self.settings.optimizer),
        };
        let phase = self.phase(student.is_some());
        let opinion = match mode {
            TeacherMode::Cycle if phase.loss.others().in_use() => {
                Opinion::Among(&self.masks, phase.loss.others())
            }
            TeacherMode::Cycle | TeacherMode::Sample => Opinion::Each(&self.masks),
            TeacherMode::Ensemble => Opinion::Joint(&self.ensemble),
        };
        let mut draw = Draws::new(
            &self.settings.teachers,
            self.teachers.len(),
            teacher,
            phase.input_jitter,
            rng,
            tick,
        );
        let inversion = Inversion {
            teachers: &self.teachers,
            loss: Loss {
                opinion,
                scales: &phase.loss.published(),
            },
            student,
            steps: phase.grad_updates_batch,
            fused: self.fused,
        };
        let made = inversion.run(&start, &labels, &mut adam, &mut draw)?;
        self.moments = Some(adam).filter(|_| self.settings.keep_moments);
        Ok(SyntheticBatch {
            images: made.best,
            labels,
            teacher,
            best_loss: made.best_loss,
            history: made.history,
        })
    }

    fn phase(&self, student: bool) -> &'a PhaseSettings {
        match student {
            true => &self.settings.adi,
            false => &self.settings.di,
        }
    }

    /// Labels for a batch of one teacher, or of all.
    fn labels(&self, teacher: Option<usize>, rng: &mut Rng) -> Tensor {
        let (spec, device) = (&self.teachers[0].spec, self.teachers[0].device);
        let all: Vec<i64> = (0..spec.classes).collect();
        let members = match teacher {
            Some(index) => vec![self.teachers[index]],
            None => self.teachers.clone(),
        };
        let counts = |class: &i64| {
            members
                .iter()
                .map(|t| t.label_counts[*class as usize])
                .sum::<u64>()
        };
        let classes: Vec<i64> = match self.settings.teachers.mask {
            true => all.into_iter().filter(|class| counts(class) > 0).collect(),
            false => all,
        };
        let shares: Vec<f64> = classes.iter().map(|class| counts(class) as f64).collect();
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
        Tensor::from_slice(&labels).to_device(device)
    }

    /// Standard normal noise [N,C,H,W], drawn on the host so that every device starts from the
    /// same.
    fn noise(&self, rng: &mut Rng) -> Tensor {
        let spec = &self.teachers[0].spec;
        let shape = [
            self.settings.batch_size as i64,
            spec.channels,
            spec.size,
            spec.size,
        ];
        let count = shape.iter().product::<i64>() as usize;
        let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
        Tensor::from_slice(&values)
            .view(shape)
            .to_device(self.teachers[0].device)
    }
}
