//! A step by the fused passes: the same terms and gradient as
//! [`crate::inversion::objective::inversion_loss`] and autograd give.

use super::kernels;
use super::net::{Frozen, Tape};
use super::unit::{first, last};
use crate::error::Result;
use crate::inversion::Teacher;
use crate::inversion::engine::{Inversion, Step};
use crate::inversion::objective::{Logits, Loss, Terms, observe};
use crate::model::Model;
use std::rc::Rc;
use tch::{Kind, Tensor, no_grad, with_grad};

/// A forward pass: logits without a graph, the batch-norm distance, and the way back.
struct Passed {
    logits: Tensor,
    distance: f64,
    back: Back,
}

enum Back {
    Tape(Rc<Frozen>, Tape),
    Graph {
        images: Tensor,
        logits: Tensor,
        distance: Option<Tensor>,
    },
}

/// `images` are [N,H,W,C]; `observed`: the distance counts.
fn fused(frozen: &Rc<Frozen>, images: &Tensor, observed: bool) -> Passed {
    let (logits, tape) = frozen.forward(images, observed);
    Passed {
        logits,
        distance: frozen.distance(&tape),
        back: Back::Tape(Rc::clone(frozen), tape),
    }
}

/// For networks without a fused path.
fn by_autograd(model: &Model, images: &Tensor, observed: bool) -> Result<Passed> {
    let images = first(images).detach().set_requires_grad(true);
    let (logits, distance) = with_grad(|| match observed {
        true => {
            let (logits, layers) = observe(model, &images);
            let sum = (!layers.is_empty()).then(|| Tensor::stack(&layers, 0).sum(Kind::Float));
            (logits, sum)
        }
        false => (model.eval(&images), None),
    });
    Ok(Passed {
        logits: logits.detach(),
        distance: distance.as_ref().map_or(Ok(0.0), f64::try_from)?,
        back: Back::Graph {
            images,
            logits,
            distance,
        },
    })
}

impl Back {
    /// Gradient [N,H,W,C] of a loss with the gradient `logits`, plus `by` times the distance.
    fn images(self, logits: &Tensor, by: f64) -> Result<Tensor> {
        match self {
            Self::Tape(frozen, tape) => Ok(frozen.backward(tape, logits, by)),
            Self::Graph {
                images,
                logits: graph,
                distance,
            } => {
                // A scalar with the gradient that is wanted.
                let sum = with_grad(|| {
                    (graph * logits).sum(Kind::Float)
                        + distance.map_or(Tensor::from(0f32), |d| d * by)
                });
                let gradient = Tensor::f_run_backward(&[&sum], &[&images], false, false)?.remove(0);
                Ok(last(&gradient))
            }
        }
    }
}

/// The fused way through a batch, with the student frozen as it is when the batch starts.
pub struct FusedStep<'a> {
    teachers: &'a [&'a Teacher],
    student: Option<(&'a Model, Option<Rc<Frozen>>)>,
    loss: Loss<'a>,
}

impl<'a> FusedStep<'a> {
    pub fn new(inversion: &Inversion<'a>) -> Self {
        let student = inversion.student.filter(|_| inversion.loss.competes());
        Self {
            teachers: inversion.teachers,
            student: student.map(|student| (student, Frozen::of(student).map(Rc::new))),
            loss: inversion.loss,
        }
    }

    fn teacher(&self, index: usize, images: &Tensor, observed: bool) -> Result<Passed> {
        let teacher = self.teachers[index].loaded()?;
        match teacher.frozen() {
            Some(frozen) => Ok(fused(&frozen, images, observed)),
            None => by_autograd(&teacher.model, images, observed),
        }
    }

    fn step(&self, images: &Tensor, labels: &Tensor, chosen: &[usize]) -> Result<(Terms, Tensor)> {
        let others = self.loss.others(self.teachers.len(), chosen);
        let mut passed = Vec::new();
        for &index in chosen {
            passed.push(self.teacher(index, images, true)?);
        }
        for &index in &others {
            passed.push(self.teacher(index, images, false)?);
        }
        if let Some((student, frozen)) = &self.student {
            passed.push(match frozen {
                Some(frozen) => fused(frozen, images, false),
                None => by_autograd(student, images, false)?,
            });
        }
        let count = chosen.len() as f64;
        let batch_norm = passed.iter().map(|passed| passed.distance).sum::<f64>() / count;
        let (opinions, gradients) = {
            let leaves: Vec<Tensor> = passed
                .iter()
                .map(|passed| passed.logits.set_requires_grad(true))
                .collect();
            let mut rest = leaves.iter().map(Tensor::shallow_clone);
            let logits = Logits {
                chosen: rest.by_ref().take(chosen.len()).collect(),
                others: rest.by_ref().take(others.len()).collect(),
                student: rest.next(),
            };
            let opinions = with_grad(|| self.loss.opinions(&logits, labels, chosen, &others));
            let gradients = Tensor::f_run_backward(&[&opinions.total], &leaves, false, false)?;
            (opinions, gradients)
        };
        let scales = self.loss.scales;
        let norms = kernels::variation(images);
        let mut gradient =
            kernels::variation_gradient(images, &norms, scales.var_scale, scales.l2_scale);
        for (index, (passed, logits)) in passed.into_iter().zip(&gradients).enumerate() {
            let by = if index < chosen.len() {
                scales.bn_scale / count
            } else {
                0.0
            };
            gradient += passed.back.images(logits, by)?;
        }
        let [right, down, left_down, right_down, l2] = norms;
        let scalar = |value: f64| Tensor::from(value as f32);
        let variation = scalar(right + down + left_down + right_down);
        Ok((
            self.loss
                .terms(opinions, scalar(l2), variation, scalar(batch_norm)),
            gradient,
        ))
    }
}

impl Step for FusedStep<'_> {
    fn enter(&self, images: &Tensor) -> Tensor {
        last(&images.detach()).copy()
    }

    fn leave(&self, images: &Tensor) -> Tensor {
        first(images).contiguous()
    }

    fn plane(&self) -> [i64; 2] {
        [1, 2]
    }

    fn differentiate(
        &self,
        images: &Tensor,
        labels: &Tensor,
        chosen: &[usize],
    ) -> Result<(Terms, Tensor)> {
        no_grad(|| self.step(images, labels, chosen))
    }
}
