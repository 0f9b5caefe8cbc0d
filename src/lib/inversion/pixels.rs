//! The batch under optimisation: Adam on its pixels, and the best batch met so far. Nothing here
//! reads a value back from the device.

use super::settings::PixelOptimizer;
use crate::descent::{Adam, like};
use tch::{Kind, Tensor, no_grad};

/// Adam on one tensor, with its moments.
#[derive(Debug)]
pub struct PixelAdam {
    settings: PixelOptimizer,
    /// First and second; zero before the first step, in the shape of the images that come.
    moments: Option<[Tensor; 2]>,
    steps: i32,
}

impl PixelAdam {
    /// Before its first step.
    pub fn new(settings: &PixelOptimizer) -> Self {
        Self {
            settings: settings.clone(),
            moments: None,
            steps: 0,
        }
    }

    /// Goes on after `steps` steps of earlier batches, which left these moments.
    pub fn with_moments(settings: &PixelOptimizer, moments: [Tensor; 2], steps: i32) -> Self {
        Self {
            settings: settings.clone(),
            moments: Some(moments),
            steps,
        }
    }

    /// First and second moment and the steps behind them; `None` before the first.
    pub fn moments(&self) -> Option<(&[Tensor; 2], i32)> {
        self.moments.as_ref().map(|moments| (moments, self.steps))
    }

    /// Moves `images` against `gradient`.
    pub fn step(&mut self, images: &mut Tensor, gradient: &Tensor) {
        self.steps += 1;
        let zeros = || [images.detach().zeros_like(), images.detach().zeros_like()];
        let [first, second] = self.moments.get_or_insert_with(zeros);
        // Moments from a file may lie in another order in memory, and then a step rounds otherwise.
        (*first, *second) = (like(images, first), like(images, second));
        let rule = Adam {
            lr: self.settings.lr,
            betas: self.settings.betas,
            eps: self.settings.eps,
            weight_decay: 0.0,
        };
        rule.step(images, gradient, [first, second], self.steps);
    }
}

/// The rolled input with the lowest loss.
#[derive(Debug)]
pub struct Best {
    pub loss: Tensor,
    pub images: Tensor,
}

impl Best {
    /// Nothing met yet.
    pub fn new(images: &Tensor) -> Self {
        Self {
            loss: Tensor::full([], f64::INFINITY, (Kind::Float, images.device())),
            images: images.detach().copy(),
        }
    }

    /// Keeps `images` where `loss` is lower than any before (a NaN never is).
    pub fn offer(&mut self, loss: &Tensor, images: &Tensor) {
        no_grad(|| {
            let better = loss.lt_tensor(&self.loss);
            self.images = images.where_self(&better, &self.images);
            self.loss = loss.where_self(&better, &self.loss);
        });
    }
}
