//! Computes the gradient with respect to images of a loss on several networks' predictions, through
//! frozen stacks where networks have them, else by autograd. Called by what differentiates teachers
//! but does not observe them: generators, and the perturbation of images.

use super::teacher_cache::Loaded;
use crate::error::Result;
use crate::model::{FrozenStack, Model, StackTape};
use std::rc::Rc;
use tch::Tensor;

/// Holds images, and what was predicted of them.
pub(crate) struct Derivation {
    /// The images f32 `[N,C,H,W]`, a leaf that requires a gradient.
    pub images: Tensor,
    /// Set once a network has been passed by autograd.
    graph: bool,
    /// What the stacks' own passes gave, as leaves, and what takes the gradient back to the images.
    stacks: Vec<(Tensor, Rc<FrozenStack>, StackTape)>,
}

impl Derivation {
    /// Begins with the values of `images`.
    pub fn of(images: &Tensor) -> Self {
        Self {
            images: images.detach().copy().set_requires_grad(true),
            graph: false,
            stacks: Vec::new(),
        }
    }

    /// Returns a teacher's logits f32 `[N,classes]` of the images.
    pub fn teacher(&mut self, teacher: &Loaded) -> Tensor {
        match teacher.stack() {
            Some(stack) => self.stack(stack),
            None => self.graph(|images| teacher.model.eval(images)),
        }
    }

    /// Returns the logits of a network whose weights may be others the next time.
    pub fn model(&mut self, model: &Model) -> Tensor {
        match FrozenStack::of(model) {
            Some(stack) => self.stack(Rc::new(stack)),
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
        self.stacks.push((maps, stack, tape));
        logits
    }

    /// Returns the gradient of `total` with respect to the images.
    ///
    /// # Errors
    /// Fails as libtorch does, and when `total` does not depend on what was computed here.
    pub fn gradient(self, total: &Tensor) -> Result<Tensor> {
        let leaves = self.stacks.iter().map(|(maps, ..)| maps);
        let leaves: Vec<&Tensor> = self
            .graph
            .then_some(&self.images)
            .into_iter()
            .chain(leaves)
            .collect();
        let mut gradients = Tensor::f_run_backward(&[total], &leaves, false, false)?.into_iter();
        let mut sum = self.graph.then(|| gradients.next()).flatten();
        for ((_, stack, tape), gradient) in self.stacks.into_iter().zip(gradients) {
            let part = stack.image_gradient(&tape, &gradient);
            sum = Some(match sum {
                Some(sum) => sum + part,
                None => part,
            });
        }
        Ok(sum.unwrap_or_else(|| self.images.zeros_like()))
    }
}
