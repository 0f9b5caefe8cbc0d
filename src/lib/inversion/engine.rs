//! Optimises one synthetic batch: changes what it starts from until the teachers recognise it
//! (Yin et al. 2020, arXiv:1912.08795). Called by [`Inverter`](super::Inverter).
//!
//! A step is one forward and one input-gradient pass through each chosen teacher, and through the
//! student if one competes, by autograd (`PlainEngine`) or by the fused passes (`FusedEngine`).
//! Nothing is read back from the device before the end: losses and the best batch stay there.

use super::fused::FusedEngine;
use super::objective::{Combination, Loss, TERMS, Terms, inversion_loss};
use super::pixels::{BestBatch, PixelAdam};
use super::teacher::{LabelMask, Teacher};
use crate::error::{Error, Result, Text, parameter};
use crate::model::Model;
use crate::runtime::{interrupt, read};
use crate::train::Callback;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tch::{Kind, Tensor, no_grad};

/// Holds the loss terms at one step, before scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermsAt {
    /// Index of the step, from 0.
    pub step: usize,
    /// Scaled sum of all terms.
    pub total: f64,
    /// Cross-entropy of the teachers' predictions with the labels.
    pub cross_entropy: f64,
    /// Euclidean norm of the batch.
    pub l2: f64,
    /// Total variation of the batch.
    pub total_variation: f64,
    /// Distance of the batch-norm statistics, the mean over teachers.
    pub batch_norm: f64,
    /// Jensen-Shannon divergence of teachers and student; `null` if no student competes.
    pub jensen_shannon: Option<f64>,
    /// Mean entropy of the other teachers, if `entropy_scale` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
    /// Mean highest wrong score of the other teachers, if `rival_scale` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<f64>,
    /// Kullback-Leibler divergence of the student from the teachers, if a generator maximises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    /// Mean absolute activation of the teachers' last layer but one, if a generator maximises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<f64>,
    /// Entropy of the teachers' mean prediction over the batch, if a generator maximises it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub information: Option<f64>,
}

/// Holds the result of an inversion.
#[derive(Debug)]
pub struct Inverted {
    /// The rolled input with the lowest loss, f32 `[N,C,H,W]`, normalised.
    pub best: Tensor,
    /// Its loss.
    pub best_loss: f64,
    /// The input after the last step, f32 `[N,C,H,W]`.
    pub last: Tensor,
    /// The terms at about fifty evenly spaced steps, the first and the last among them.
    pub history: Vec<TermsAt>,
}

/// Holds what stays the same over the steps of a batch.
#[derive(Debug)]
pub struct Inversion<'a> {
    /// All teachers; a step uses some of them.
    pub teachers: &'a [&'a Teacher],
    /// How their predictions become one loss.
    pub loss: Loss<'a>,
    /// The student that competes, if any.
    pub student: Option<&'a Model>,
    /// Number of optimisation steps.
    pub steps: usize,
    /// Uses the fused passes for networks that have them.
    pub fused: bool,
}

/// Computes the loss of a batch and its gradient.
pub(super) trait Engine {
    /// Returns a copy of images [N,C,H,W] in the dimension order that the engine computes in.
    fn to_engine_order(&self, images: &Tensor) -> Tensor;
    /// Returns images in the engine's order as [N,C,H,W].
    fn to_nchw(&self, images: &Tensor) -> Tensor;
    /// Returns the dimensions of height and width in the engine's order.
    fn spatial_dims(&self) -> [i64; 2];
    /// Returns the terms for `images` (in the engine's order), `labels` i64 [N] and the teachers
    /// `chosen` (indices), and the gradient of the total with respect to the images.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read, or libtorch fails.
    fn differentiate(
        &self,
        images: &Tensor,
        labels: &Tensor,
        chosen: &[usize],
    ) -> Result<(Terms, Tensor)>;
}

/// Computes with libtorch's own operations and autograd.
struct PlainEngine<'a>(&'a Inversion<'a>);

impl Engine for PlainEngine<'_> {
    fn to_engine_order(&self, images: &Tensor) -> Tensor {
        images.detach().copy()
    }

    fn to_nchw(&self, images: &Tensor) -> Tensor {
        images.shallow_clone()
    }

    fn spatial_dims(&self) -> [i64; 2] {
        [2, 3]
    }

    fn differentiate(
        &self,
        images: &Tensor,
        labels: &Tensor,
        chosen: &[usize],
    ) -> Result<(Terms, Tensor)> {
        let Inversion {
            teachers,
            loss,
            student,
            ..
        } = *self.0;
        let images = images.detach().set_requires_grad(true);
        let terms = inversion_loss(&images, labels, teachers, chosen, loss, student)?;
        let gradient = Tensor::f_run_backward(&[&terms.total], &[&images], false, false)?.remove(0);
        Ok((terms, gradient))
    }
}

impl TermsAt {
    /// Returns the terms of a step, given in the order of [`Terms::row`]; those that are not a
    /// number were missing.
    fn from_row(step: usize, row: [f64; TERMS]) -> Self {
        let [
            total,
            cross_entropy,
            l2,
            total_variation,
            batch_norm,
            rest @ ..,
        ] = row;
        let [
            jensen_shannon,
            entropy,
            rival,
            divergence,
            activation,
            information,
        ] = rest.map(|value| Some(value).filter(|value| !value.is_nan()));
        Self {
            step,
            total,
            cross_entropy,
            l2,
            total_variation,
            batch_norm,
            jensen_shannon,
            entropy,
            rival,
            divergence,
            activation,
            information,
        }
    }
}

/// Draws what varies from step to step.
pub trait Draw {
    /// Returns the teachers (indices) of this step.
    fn teachers(&mut self) -> Vec<usize>;
    /// Returns the numbers of rows and columns to roll the batch by.
    fn jitter(&mut self) -> (i64, i64);
}

/// Number of steps whose loss terms are recorded, about.
const HISTORY: usize = 50;

impl Inversion<'_> {
    /// Returns the engine that `fused` selects.
    fn engine(&self) -> Box<dyn Engine + '_> {
        match self.fused {
            true => Box::new(FusedEngine::new(self)),
            false => Box::new(PlainEngine(self)),
        }
    }

    /// Returns the loss terms of `images` (f32 `[N,C,H,W]`, normalised) for `labels` (i64 `[N]`)
    /// and the teachers `chosen` (indices), and the gradient of the total with respect to the
    /// images.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read, or libtorch fails.
    pub fn differentiate(
        &self,
        images: &Tensor,
        labels: &Tensor,
        chosen: &[usize],
    ) -> Result<(Terms, Tensor)> {
        let engine = self.engine();
        let (terms, gradient) =
            engine.differentiate(&engine.to_engine_order(images), labels, chosen)?;
        Ok((terms, engine.to_nchw(&gradient)))
    }

    /// Optimises `start` (f32 `[N,C,H,W]`, normalised) for `labels` (i64 `[N]`) by `adam`, whose
    /// moments before and after are `[N,C,H,W]`; tells `callback` of each step.
    ///
    /// # Errors
    /// Fails when the loss becomes NaN or infinite, on Ctrl-C, and when a teacher cannot be read or
    /// libtorch fails.
    pub fn run(
        &self,
        start: &Tensor,
        labels: &Tensor,
        adam: &mut PixelAdam,
        draw: &mut dyn Draw,
        callback: &mut dyn Callback,
    ) -> Result<Inverted> {
        let engine = self.engine();
        let mut images = engine.to_engine_order(start);
        // Between batches they are [N,C,H,W], so that another engine can continue with them.
        adam.map_moments(|moment| engine.to_engine_order(moment));
        let mut best = BestBatch::new(&images);
        let mut history = History::new(self.steps);
        let mut used = BTreeSet::new();
        for step in 0..self.steps {
            interrupt::check()?;
            let (rows, columns) = draw.jitter();
            let rolled = roll(&images, rows, columns, engine.spatial_dims());
            let chosen = draw.teachers();
            let (terms, gradient) = engine.differentiate(&rolled, labels, &chosen)?;
            used.extend(chosen);
            best.update(&terms.total, &rolled);
            history.record(step, &terms);
            adam.step(
                &mut images,
                &roll(&gradient, -rows, -columns, engine.spatial_dims()),
            );
            callback.step();
        }
        adam.map_moments(|moment| engine.to_nchw(moment));
        let best_loss: f64 = read(&best.loss)?;
        let history = history.read()?;
        let broken = history
            .iter()
            .find(|at| !at.total.is_finite())
            .map(|at| at.step);
        if self.steps > 0 && (broken.is_some() || !best_loss.is_finite()) {
            let step = broken.map_or(String::new(), |step| format!(" (step {step})"));
            let hint = Text::from("check the teachers' weights, or lower ")
                + parameter("optimizer.lr")
                + " and the scales under "
                + parameter(match self.student {
                    Some(_) => "adi.loss",
                    None => "di.loss",
                });
            let what = format!("the inversion loss became NaN or infinite{step}");
            let teachers = self.at_fault(start, labels, &used)?.into_iter();
            let error = teachers.fold(Error::failed(what), |error, teacher| {
                error.note("from", format!("teacher {teacher}"))
            });
            return Err(error.hint(hint));
        }
        Ok(Inverted {
            best: engine.to_nchw(&best.images),
            best_loss,
            last: engine.to_nchw(&images),
            history,
        })
    }
}

impl Inversion<'_> {
    /// Returns those teachers of the loss of a batch made from `used` whose own loss or gradient is
    /// not finite for `start`, the noise that it started from; a single one in any case.
    fn at_fault(
        &self,
        start: &Tensor,
        labels: &Tensor,
        used: &BTreeSet<usize>,
    ) -> Result<Vec<usize>> {
        let unmasked: Vec<Option<LabelMask>> = self.teachers.iter().map(|_| None).collect();
        let combination = match self.loss.combination {
            Combination::WithOthers(masks, _) => Combination::Separate(masks),
            // An ensemble has a weight for each of its teachers.
            Combination::Ensemble(_) => Combination::Separate(&unmasked),
            separate @ Combination::Separate(_) => separate,
        };
        // Each one without the others and without the student.
        let alone = Inversion {
            loss: Loss {
                combination,
                ..self.loss
            },
            student: None,
            ..*self
        };
        let chosen: Vec<usize> = used.iter().copied().collect();
        let others = self.loss.others(self.teachers.len(), &chosen);
        let all: Vec<usize> = chosen.into_iter().chain(others).collect();
        let mut found = Vec::new();
        for &teacher in &all {
            let (terms, gradient) = alone.differentiate(start, labels, &[teacher])?;
            let finite = terms
                .total
                .isfinite()
                .logical_and(&gradient.isfinite().all());
            if all.len() == 1 && self.student.is_none() || !read::<bool>(&finite.all())? {
                found.push(teacher);
            }
        }
        Ok(found)
    }
}

/// Rolls images along the dimensions `dims` of height and width.
fn roll(images: &Tensor, rows: i64, columns: i64, dims: [i64; 2]) -> Tensor {
    match (rows, columns) {
        (0, 0) => images.shallow_clone(),
        offsets => images.roll([offsets.0, offsets.1], dims),
    }
}

/// Holds the loss terms of some steps on the device.
pub(crate) struct History {
    every: usize,
    last: usize,
    steps: Vec<usize>,
    rows: Vec<Tensor>,
}

impl History {
    /// Returns an empty history of a run of `steps` steps.
    pub fn new(steps: usize) -> Self {
        Self {
            every: steps.div_ceil(HISTORY).max(1),
            last: steps.saturating_sub(1),
            steps: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Records the terms of every few steps and of the last.
    pub fn record(&mut self, step: usize, terms: &Terms) {
        if !step.is_multiple_of(self.every) && step != self.last {
            return;
        }
        let missing = Tensor::full([], f64::NAN, (Kind::Float, terms.total.device()));
        let row = terms.row().map(|term| term.unwrap_or(&missing).detach());
        self.steps.push(step);
        self.rows.push(no_grad(|| Tensor::stack(&row, 0)));
    }

    /// Reads the terms back from the device, all at once.
    pub fn read(self) -> Result<Vec<TermsAt>> {
        if self.rows.is_empty() {
            return Ok(Vec::new());
        }
        let all = Tensor::f_stack(&self.rows, 0)?.to_kind(Kind::Double);
        let all = read::<Vec<f64>>(&all.flatten(0, 1))?;
        let (rows, _) = all.as_chunks::<TERMS>();
        let at = |(step, row): (usize, &[f64; TERMS])| TermsAt::from_row(step, *row);
        Ok(self.steps.into_iter().zip(rows).map(at).collect())
    }
}
