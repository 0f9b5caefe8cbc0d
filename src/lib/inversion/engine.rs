//! One synthetic batch: noise, optimised until the teachers recognise it (Yin et al. 2020,
//! algorithm 1).
//!
//! A step is one forward and one input-gradient pass through each chosen teacher, and through the
//! student where one competes, made by autograd ([`Plain`]) or by the fused passes ([`FusedStep`]).
//! Nothing is read back from the device before the end: losses are kept there, and so is the best
//! batch.

use super::fused::FusedStep;
use super::objective::{Loss, Terms, inversion_loss};
use super::pixels::{Best, PixelAdam};
use super::teacher::Teacher;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::runtime::interrupt;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor, no_grad};

/// Loss terms at one step, before scaling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermsAt {
    pub step: usize,
    pub total: f64,
    pub cross_entropy: f64,
    pub l2: f64,
    pub total_variation: f64,
    pub batch_norm: f64,
    /// `null` where no student competes.
    pub jensen_shannon: Option<f64>,
    /// Only where `entropy_scale` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<f64>,
    /// Only where `rival_scale` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<f64>,
}

/// What an inversion gave.
#[derive(Debug)]
pub struct Inverted {
    /// The rolled input with the lowest loss, f32 [N,C,H,W] normalised.
    pub best: Tensor,
    /// Its loss.
    pub best_loss: f64,
    /// The input after the last step.
    pub last: Tensor,
    /// About fifty evenly spaced steps, the first and the last among them.
    pub history: Vec<TermsAt>,
}

/// Everything that stays the same over the steps of a batch.
#[derive(Debug)]
pub struct Inversion<'a> {
    pub teachers: &'a [&'a Teacher],
    pub loss: Loss<'a>,
    pub student: Option<&'a Model>,
    pub steps: usize,
    /// By the fused passes, where networks have them.
    pub fused: bool,
}

/// One way to the loss of a batch and its gradient.
pub(super) trait Step {
    /// Images [N,C,H,W] in the order of memory this way works in, as a copy.
    fn enter(&self, images: &Tensor) -> Tensor;
    /// And back.
    fn leave(&self, images: &Tensor) -> Tensor;
    /// Where height and width are.
    fn plane(&self) -> [i64; 2];
    /// The terms for `images` (as entered), `labels` i64 [N] and the teachers `chosen` (indices),
    /// and the total's gradient.
    fn differentiate(
        &self,
        images: &Tensor,
        labels: &Tensor,
        chosen: &[usize],
    ) -> Result<(Terms, Tensor)>;
}

/// Autograd through libtorch's own operations.
struct Plain<'a>(&'a Inversion<'a>);

impl Step for Plain<'_> {
    fn enter(&self, images: &Tensor) -> Tensor {
        images.detach().copy()
    }

    fn leave(&self, images: &Tensor) -> Tensor {
        images.shallow_clone()
    }

    fn plane(&self) -> [i64; 2] {
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

/// What varies from step to step.
pub trait Draw {
    /// Teachers (indices) of this step.
    fn teachers(&mut self) -> Vec<usize>;
    /// Rows and columns to roll the batch by.
    fn jitter(&mut self) -> (i64, i64);
    /// After each step, for progress.
    fn step(&mut self) {}
}

/// Points of the loss history that are kept.
const HISTORY: usize = 50;

impl Inversion<'_> {
    fn way(&self) -> Box<dyn Step + '_> {
        match self.fused {
            true => Box::new(FusedStep::new(self)),
            false => Box::new(Plain(self)),
        }
    }

    /// The loss of `images` (f32 [N,C,H,W] normalised) for `labels` (i64 [N]) and the teachers
    /// `chosen` (indices), and the total's gradient with respect to the images.
    ///
    /// # Errors
    /// What libtorch reports.
    pub fn differentiate(
        &self,
        images: &Tensor,
        labels: &Tensor,
        chosen: &[usize],
    ) -> Result<(Terms, Tensor)> {
        let way = self.way();
        let (terms, gradient) = way.differentiate(&way.enter(images), labels, chosen)?;
        Ok((terms, way.leave(&gradient)))
    }

    /// Optimises `start` (f32 [N,C,H,W]) for `labels` (i64 [N]).
    ///
    /// # Errors
    /// A loss that is never finite, Ctrl-C, and what libtorch reports.
    pub fn run(
        &self,
        start: &Tensor,
        labels: &Tensor,
        adam: &mut PixelAdam,
        draw: &mut dyn Draw,
    ) -> Result<Inverted> {
        let way = self.way();
        let mut images = way.enter(start);
        let mut best = Best::new(&images);
        let mut history = History::new(self.steps);
        for step in 0..self.steps {
            interrupt::check()?;
            let (rows, columns) = draw.jitter();
            let rolled = roll(&images, rows, columns, way.plane());
            let (terms, gradient) = way.differentiate(&rolled, labels, &draw.teachers())?;
            best.offer(&terms.total, &rolled);
            history.keep(step, &terms);
            adam.step(&mut images, &roll(&gradient, -rows, -columns, way.plane()));
            draw.step();
        }
        let best_loss = f64::try_from(&best.loss)?;
        let history = history.read()?;
        let broken = history
            .iter()
            .find(|at| !at.total.is_finite())
            .map(|at| at.step);
        if self.steps > 0 && (broken.is_some() || !best_loss.is_finite()) {
            let step = broken.map_or(String::new(), |step| format!(" (step {step})"));
            return Err(Error::failed(format!("the inversion loss became NaN or infinite{step}")).hint(
                "check the teachers' weights, or lower `deep_inv.optimizer.lr` and the scales under `deep_inv.di.loss`",
            ));
        }
        Ok(Inverted {
            best: way.leave(&best.images),
            best_loss,
            last: way.leave(&images),
            history,
        })
    }
}

fn roll(images: &Tensor, rows: i64, columns: i64, plane: [i64; 2]) -> Tensor {
    match (rows, columns) {
        (0, 0) => images.shallow_clone(),
        offsets => images.roll([offsets.0, offsets.1], plane),
    }
}

/// Loss terms of some steps, on the device until the end.
struct History {
    every: usize,
    last: usize,
    steps: Vec<usize>,
    rows: Vec<Tensor>,
}

impl History {
    fn new(steps: usize) -> Self {
        Self {
            every: steps.div_ceil(HISTORY).max(1),
            last: steps.saturating_sub(1),
            steps: Vec::new(),
            rows: Vec::new(),
        }
    }

    fn keep(&mut self, step: usize, terms: &Terms) {
        if !step.is_multiple_of(self.every) && step != self.last {
            return;
        }
        let missing = Tensor::full([], f64::NAN, (Kind::Float, terms.total.device()));
        let row = [
            &terms.total,
            &terms.cross_entropy,
            &terms.l2,
            &terms.total_variation,
            &terms.batch_norm,
            terms.jensen_shannon.as_ref().unwrap_or(&missing),
            terms.entropy.as_ref().unwrap_or(&missing),
            terms.rival.as_ref().unwrap_or(&missing),
        ];
        self.steps.push(step);
        self.rows
            .push(no_grad(|| Tensor::stack(&row.map(Tensor::detach), 0)));
    }

    fn read(self) -> Result<Vec<TermsAt>> {
        let mut history = Vec::new();
        for (step, row) in self.steps.into_iter().zip(&self.rows) {
            let values: Vec<f64> = Vec::try_from(row.to_kind(Kind::Double))?;
            let [
                total,
                cross_entropy,
                l2,
                total_variation,
                batch_norm,
                jensen_shannon,
                entropy,
                rival,
            ] = values[..]
            else {
                continue;
            };
            let present = |value: f64| Some(value).filter(|value| !value.is_nan());
            history.push(TermsAt {
                step,
                total,
                cross_entropy,
                l2,
                total_variation,
                batch_norm,
                jensen_shannon: present(jensen_shannon),
                entropy: present(entropy),
                rival: present(rival),
            });
        }
        Ok(history)
    }
}
