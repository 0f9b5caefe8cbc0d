//! Computes the gradient with respect to images of a loss on several networks' predictions, by
//! passes of our own where networks have them, else by autograd. Called by generators, and by the
//! perturbation of images.

use super::fused::{ForwardPass, first, last};
use super::teacher_cache::Loaded;
use crate::error::Result;
use crate::model::{FrozenStack, Model};
use std::cell::OnceCell;
use std::rc::Rc;
use tch::{Kind, Tensor, no_grad};

/// Takes the gradient of what a network's passes gave back to the images.
type Backward = Box<dyn FnOnce(&Tensor) -> Tensor>;

/// Holds images, and what was predicted of them.
pub(crate) struct Derivation {
    /// The images f32 `[N,C,H,W]`, a leaf that requires a gradient.
    pub images: Tensor,
    /// The images `[N,H,W,C]`, once a network has been passed that wants them so.
    channels_last: OnceCell<Tensor>,
    /// Set once a network has been passed by autograd.
    graph: bool,
    /// What passes of our own gave, as leaves.
    passed: Vec<(Tensor, Backward)>,
}

impl Derivation {
    /// Begins with the values of `images`.
    pub fn of(images: &Tensor) -> Self {
        Self {
            images: images.detach().copy().set_requires_grad(true),
            channels_last: OnceCell::new(),
            graph: false,
            passed: Vec::new(),
        }
    }

    /// Returns a teacher's logits f32 `[N,classes]` of the images.
    pub fn teacher(&mut self, teacher: &Loaded) -> Tensor {
        if let Some(stack) = teacher.stack() {
            return self.stack(stack);
        }
        match self.residual(teacher, None) {
            Some((logits, _)) => logits,
            None => self.graph(|images| teacher.model.eval(images)),
        }
    }

    /// Returns a teacher's logits and the distance of its batch-norm statistics, a scalar f32
    /// without a graph: [`gradient`](Self::gradient) counts it `by` times by itself. `None` for a
    /// network without passes that observe it.
    pub fn observed(&mut self, teacher: &Loaded, by: f64) -> Option<(Tensor, Tensor)> {
        let (logits, distance) = self.residual(teacher, Some(by))?;
        Some((logits, distance?))
    }

    /// Returns the logits of a network whose weights may be others the next time.
    pub fn model(&mut self, model: &Model) -> Tensor {
        match FrozenStack::of(model) {
            Some(stack) => self.stack(Rc::new(stack)),
            // A residual network would have to be frozen again at each call.
            None => self.graph(|images| model.eval(images)),
        }
    }

    /// Returns what `compute` returns for the images, with its graph.
    pub fn graph<T>(&mut self, compute: impl FnOnce(&Tensor) -> T) -> T {
        self.graph = true;
        compute(&self.images)
    }

    fn stack(&mut self, stack: Rc<FrozenStack>) -> Tensor {
        let (maps, tape) = stack.forward(&self.images);
        let maps = maps.set_requires_grad(true);
        let logits = stack.rest(&maps);
        let back = move |gradient: &Tensor| stack.image_gradient(&tape, gradient);
        self.passed.push((maps, Box::new(back)));
        logits
    }

    /// Passes a residual network, whose distance is observed if it counts `by` times.
    fn residual(&mut self, teacher: &Loaded, by: Option<f64>) -> Option<(Tensor, Option<Tensor>)> {
        let frozen = teacher.frozen()?;
        let images = || last(&self.images.detach());
        let images = self.channels_last.get_or_init(images);
        let ForwardPass {
            logits,
            distance,
            backward,
        } = no_grad(|| frozen.forward(images, by.is_some()));
        let logits = logits.set_requires_grad(true);
        let by = by.unwrap_or(0.0);
        let back = move |gradient: &Tensor| no_grad(|| first(&backward(gradient, by)));
        self.passed.push((logits.shallow_clone(), Box::new(back)));
        Some((logits, distance.map(|sum| sum.to_kind(Kind::Float))))
    }

    /// Returns the gradient with respect to the images of `total`, and of the distances that were
    /// observed.
    ///
    /// # Errors
    /// Fails as libtorch does, and when `total` does not depend on what was computed here.
    pub fn gradient(self, total: &Tensor) -> Result<Tensor> {
        let leaves = self.passed.iter().map(|(leaf, _)| leaf);
        let leaves: Vec<&Tensor> = self
            .graph
            .then_some(&self.images)
            .into_iter()
            .chain(leaves)
            .collect();
        let mut gradients = Tensor::f_run_backward(&[total], &leaves, false, false)?.into_iter();
        let mut sum = self.graph.then(|| gradients.next()).flatten();
        for ((_, backward), gradient) in self.passed.into_iter().zip(gradients) {
            let part = backward(&gradient);
            sum = Some(match sum {
                Some(sum) => sum + part,
                None => part,
            });
        }
        Ok(sum.unwrap_or_else(|| self.images.zeros_like()))
    }
}
