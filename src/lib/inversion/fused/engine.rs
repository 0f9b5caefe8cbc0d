//! Computes a step by the fused passes: the terms and the gradient that
//! [`crate::inversion::objective::inversion_loss`] and autograd compute. Called by
//! [`crate::inversion::engine`].

use super::filter::{first, last};
use super::frozen::{Backward, ForwardPass, Frozen};
use super::{kernels, operations};
use crate::error::Result;
use crate::inversion::Teacher;
use crate::inversion::engine::{Engine, Inversion};
use crate::inversion::objective::{Logits, Loss, Terms, observe};
use crate::model::Model;
use tch::{Device, Kind, Tensor, no_grad, with_grad};

/// Holds the result of a forward pass, by the fused passes or by autograd.
struct Forward {
    logits: Tensor,
    distance: Option<Tensor>,
    backward: BackwardPass,
}

/// Holds what the backward pass needs, by the fused passes or by autograd.
enum BackwardPass {
    Fused(Backward),
    Graph {
        images: Tensor,
        logits: Tensor,
        distance: Option<Tensor>,
    },
}

/// Passes `images` [N,H,W,C] through a frozen network; with `observed`, the distance is computed.
fn fused(frozen: &Frozen, images: &Tensor, observed: bool) -> Forward {
    let ForwardPass {
        logits,
        distance,
        backward,
    } = frozen.forward(images, observed);
    Forward {
        logits,
        distance,
        backward: BackwardPass::Fused(backward),
    }
}

/// Passes `images` [N,H,W,C] through a network that the fused passes do not support.
fn by_autograd(model: &Model, images: &Tensor, observed: bool) -> Forward {
    let images = first(images).detach().set_requires_grad(true);
    let (logits, distance) = with_grad(|| match observed {
        true => {
            let (logits, layers) = observe(model, &images);
            let sum = (!layers.is_empty()).then(|| Tensor::stack(&layers, 0).sum(Kind::Float));
            (logits, sum)
        }
        false => (model.eval(&images), None),
    });
    Forward {
        logits: logits.detach(),
        distance: distance.as_ref().map(Tensor::detach),
        backward: BackwardPass::Graph {
            images,
            logits,
            distance,
        },
    }
}

impl BackwardPass {
    /// Returns the gradient [N,H,W,C] with respect to the images of a loss whose gradient with
    /// respect to the logits is `logits`, plus `by` times the distance.
    fn image_gradient(self, logits: &Tensor, by: f64) -> Result<Tensor> {
        match self {
            Self::Fused(backward) => Ok(backward(logits, by)),
            Self::Graph {
                images,
                logits: graph,
                distance,
            } => {
                // A scalar with the gradient that is wanted.
                let sum = with_grad(|| {
                    let sum = (graph * logits).sum(Kind::Float);
                    match distance {
                        Some(distance) => sum + distance * by,
                        None => sum,
                    }
                });
                let gradient = Tensor::f_run_backward(&[&sum], &[&images], false, false)?.remove(0);
                Ok(last(&gradient))
            }
        }
    }
}

/// Holds the terms of the images themselves, and the gradient of their scaled sum.
struct ImageTerms {
    l2: Tensor,
    variation: Tensor,
    gradient: Tensor,
}

/// Computes the steps of a batch by the fused passes, with the student frozen as it is when the
/// batch starts.
pub struct FusedEngine<'a> {
    teachers: &'a [&'a Teacher],
    student: Option<(&'a Model, Option<Frozen>)>,
    loss: Loss<'a>,
    /// Scales of [`operations::image_terms`], f32 [5] on the device.
    scales: Tensor,
}

impl<'a> FusedEngine<'a> {
    /// Returns the engine of a batch.
    pub fn new(inversion: &Inversion<'a>) -> Self {
        let student = inversion.student.filter(|_| inversion.loss.competes());
        let scales = inversion.loss.scales;
        let (tv, l2) = (scales.var_scale as f32, scales.l2_scale as f32);
        let device = inversion.teachers.first().map_or(Device::Cpu, |t| t.device);
        Self {
            teachers: inversion.teachers,
            student: student.map(|student| (student, Frozen::of(student))),
            loss: inversion.loss,
            scales: Tensor::from_slice(&[tv, tv, tv, tv, l2]).to_device(device),
        }
    }

    /// Passes `images` [N,H,W,C] through teacher `index`.
    fn teacher(&self, index: usize, images: &Tensor, observed: bool) -> Result<Forward> {
        let teacher = self.teachers[index].loaded()?;
        Ok(match teacher.frozen() {
            Some(frozen) => fused(&frozen, images, observed),
            None => by_autograd(&teacher.model, images, observed),
        })
    }

    /// Returns the terms of the images [N,H,W,C] themselves.
    fn image_terms(&self, images: &Tensor) -> ImageTerms {
        if images.device() != Device::Cpu {
            let (norms, gradient) = operations::image_terms(images, &self.scales);
            return ImageTerms {
                l2: norms.get(4),
                variation: norms.narrow(0, 0, 4).sum(Kind::Float),
                gradient,
            };
        }
        let scales = self.loss.scales;
        let norms = kernels::variation(images);
        let [right, down, left_down, right_down, l2] = norms;
        let scalar = |value: f64| Tensor::from(value as f32);
        ImageTerms {
            l2: scalar(l2),
            variation: scalar(right + down + left_down + right_down),
            gradient: kernels::variation_gradient(
                images,
                &norms,
                scales.var_scale,
                scales.l2_scale,
            ),
        }
    }

    /// Returns the terms and the gradient [N,H,W,C] of their total.
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
                None => by_autograd(student, images, false),
            });
        }
        let count = chosen.len() as f64;
        let zero = || Tensor::zeros([], (Kind::Float, images.device()));
        let distances = passed.iter().filter_map(|passed| passed.distance.as_ref());
        let sum = distances.fold(None, |sum: Option<Tensor>, distance| {
            Some(sum.map_or_else(|| distance.shallow_clone(), |sum| sum + distance))
        });
        let batch_norm = sum.map_or_else(zero, |sum| (sum / count).to_kind(Kind::Float));
        let (logit_terms, gradients) = {
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
            let logit_terms = with_grad(|| self.loss.logit_terms(&logits, labels, chosen, &others));
            let gradients = Tensor::f_run_backward(&[&logit_terms.total], &leaves, false, false)?;
            (logit_terms, gradients)
        };
        let scales = self.loss.scales;
        let ImageTerms {
            l2,
            variation,
            mut gradient,
        } = self.image_terms(images);
        for (index, (passed, logits)) in passed.into_iter().zip(&gradients).enumerate() {
            let by = if index < chosen.len() {
                scales.bn_scale / count
            } else {
                0.0
            };
            gradient += passed.backward.image_gradient(logits, by)?;
        }
        let terms = self.loss.terms(logit_terms, l2, variation, batch_norm);
        Ok((terms, gradient))
    }
}

impl Engine for FusedEngine<'_> {
    fn to_engine_order(&self, images: &Tensor) -> Tensor {
        last(&images.detach()).copy()
    }

    fn to_nchw(&self, images: &Tensor) -> Tensor {
        first(images).contiguous()
    }

    fn spatial_dims(&self) -> [i64; 2] {
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
