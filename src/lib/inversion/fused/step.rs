//! A step by the fused passes: the same terms and gradient as [`crate::inversion::objective::inversion_loss`] and autograd give.

use super::kernels;
use super::net::{self, Frozen, Tape};
use crate::error::Result;
use crate::inversion::Teacher;
use crate::inversion::engine::{Inversion, Step};
use crate::inversion::objective::{Logits, Loss, Terms, observe};
use crate::model::Model;
use tch::{Kind, Tensor, no_grad, with_grad};

/// A network the way it can be passed: fused, or by autograd where it has no fused path.
enum Net<'a> {
    Fused(&'a Frozen),
    Frozen(Box<Frozen>),
    Plain(&'a Model),
}

/// A forward pass: logits without a graph, the batch-norm distance, and the way back.
struct Passed<'a> {
    logits: Tensor,
    distance: f64,
    back: Back<'a>,
}

enum Back<'a> {
    Tape(&'a Frozen, Tape),
    Graph {
        images: Tensor,
        logits: Tensor,
        distance: Option<Tensor>,
    },
}

impl Net<'_> {
    /// `images` are [N,H,W,C]; `observed`: the distance counts.
    fn forward(&self, images: &Tensor, observed: bool) -> Result<Passed<'_>> {
        let frozen = match self {
            Self::Fused(frozen) => *frozen,
            Self::Frozen(frozen) => frozen,
            Self::Plain(model) => return by_autograd(model, images, observed),
        };
        let (logits, tape) = frozen.forward(images, observed);
        Ok(Passed {
            logits,
            distance: frozen.distance(&tape),
            back: Back::Tape(frozen, tape),
        })
    }
}

fn by_autograd<'a>(model: &Model, images: &Tensor, observed: bool) -> Result<Passed<'a>> {
    let images = net::first(images).detach().set_requires_grad(true);
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
        distance: distance.as_ref().map_or(Ok(0.0), |distance| f64::try_from(distance))?,
        back: Back::Graph {
            images,
            logits,
            distance,
        },
    })
}

impl Back<'_> {
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
                let sum =
                    with_grad(|| (graph * logits).sum(Kind::Float) + distance.map_or(Tensor::from(0f32), |d| d * by));
                let gradient = Tensor::f_run_backward(&[&sum], &[&images], false, false)?.remove(0);
                Ok(net::last(&gradient))
            }
        }
    }
}

/// The fused way through a batch: teachers frozen once, the student frozen as it is when the batch starts.
pub struct FusedStep<'a> {
    teachers: Vec<Net<'a>>,
    student: Option<Net<'a>>,
    loss: Loss<'a>,
}

impl<'a> FusedStep<'a> {
    pub fn new(inversion: &Inversion<'a>) -> Self {
        let teacher = |teacher: &&'a Teacher| match teacher.frozen() {
            Some(frozen) => Net::Fused(frozen),
            None => Net::Plain(&teacher.model),
        };
        let student = |student: &'a Model| match Frozen::of(student) {
            Some(frozen) => Net::Frozen(Box::new(frozen)),
            None => Net::Plain(student),
        };
        Self {
            teachers: inversion.teachers.iter().map(teacher).collect(),
            student: inversion.student.filter(|_| inversion.loss.competes()).map(student),
            loss: inversion.loss,
        }
    }

    fn step(&self, images: &Tensor, labels: &Tensor, chosen: &[usize]) -> Result<(Terms, Tensor)> {
        let others = self.loss.others(self.teachers.len(), chosen);
        let pass = |index: &usize, observed| self.teachers[*index].forward(images, observed);
        let mut passed: Vec<Passed> = chosen.iter().map(|index| pass(index, true)).collect::<Result<_>>()?;
        for index in &others {
            passed.push(pass(index, false)?);
        }
        if let Some(student) = &self.student {
            passed.push(student.forward(images, false)?);
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
        let mut gradient = kernels::variation_gradient(images, &norms, scales.var_scale, scales.l2_scale);
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
            self.loss.terms(opinions, scalar(l2), variation, scalar(batch_norm)),
            gradient,
        ))
    }
}

impl Step for FusedStep<'_> {
    fn enter(&self, images: &Tensor) -> Tensor {
        net::last(&images.detach()).copy()
    }

    fn leave(&self, images: &Tensor) -> Tensor {
        net::first(images).contiguous()
    }

    fn plane(&self) -> [i64; 2] {
        [1, 2]
    }

    fn differentiate(&self, images: &Tensor, labels: &Tensor, chosen: &[usize]) -> Result<(Terms, Tensor)> {
        no_grad(|| self.step(images, labels, chosen))
    }
}
