//! Updates the batch that is being optimised: Adam on its pixels, and the best batch so far.
//! Nothing is read back from the device. Called by [`super::engine`].

use super::settings::PixelOptimizer;
use crate::optim::{Adam, in_order_of};
use tch::{Kind, Tensor, no_grad};

/// Optimises one tensor by Adam, and holds its moments.
#[derive(Debug)]
pub struct PixelAdam {
    settings: PixelOptimizer,
    /// First and second moment in the shape of the images; `None` before the first step, when they
    /// are zero.
    moments: Option<[Tensor; 2]>,
    steps: i32,
}

impl PixelAdam {
    /// Returns an optimiser before its first step.
    pub fn new(settings: &PixelOptimizer) -> Self {
        Self {
            settings: settings.clone(),
            moments: None,
            steps: 0,
        }
    }

    /// Returns an optimiser that continues after `steps` steps of earlier batches, with their
    /// moments.
    pub fn with_moments(settings: &PixelOptimizer, moments: [Tensor; 2], steps: i32) -> Self {
        Self {
            settings: settings.clone(),
            moments: Some(moments),
            steps,
        }
    }

    /// Returns the first and second moment and the number of steps; `None` before the first step.
    pub fn moments(&self) -> Option<(&[Tensor; 2], i32)> {
        self.moments.as_ref().map(|moments| (moments, self.steps))
    }

    /// Replaces the moments by what `of` returns for them.
    pub fn map_moments(&mut self, of: impl Fn(&Tensor) -> Tensor) {
        if let Some(moments) = &mut self.moments {
            *moments = [of(&moments[0]), of(&moments[1])];
        }
    }

    /// Moves `images` f32 `[N,C,H,W]` against `gradient`, in place.
    pub fn step(&mut self, images: &mut Tensor, gradient: &Tensor) {
        self.steps += 1;
        let zeros = || [images.detach().zeros_like(), images.detach().zeros_like()];
        let [first, second] = self.moments.get_or_insert_with(zeros);
        // Moments from a file may lie in another order in memory, and then a step rounds otherwise.
        (*first, *second) = (in_order_of(images, first), in_order_of(images, second));
        let rule = Adam {
            lr: self.settings.lr,
            betas: self.settings.betas,
            eps: self.settings.eps,
            weight_decay: 0.0,
        };
        rule.step(images, gradient, [first, second], self.steps);
    }
}

/// Holds the rolled input with the lowest loss.
#[derive(Debug)]
pub struct BestBatch {
    /// Its loss, a scalar.
    pub loss: Tensor,
    /// Its images, f32 in the engine's order.
    pub images: Tensor,
}

impl BestBatch {
    /// Returns `images` with an infinite loss.
    pub fn new(images: &Tensor) -> Self {
        Self {
            loss: Tensor::full([], f64::INFINITY, (Kind::Float, images.device())),
            images: images.detach().copy(),
        }
    }

    /// Replaces the best batch by `images` if `loss` is lower. A NaN never is.
    pub fn update(&mut self, loss: &Tensor, images: &Tensor) {
        no_grad(|| {
            let better = loss.lt_tensor(&self.loss);
            self.images = images.where_self(&better, &self.images);
            self.loss = loss.where_self(&better, &self.loss);
        });
    }
}
