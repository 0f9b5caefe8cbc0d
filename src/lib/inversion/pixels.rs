//! The batch under optimisation: Adam on its pixels, and the best batch met so far. Nothing here reads a value back from the device.

use super::settings::PixelOptimizer;
use tch::{Kind, Tensor, no_grad};

/// Adam (Kingma and Ba 2015, arXiv:1412.6980) on one tensor, as PyTorch computes it.
#[derive(Debug)]
pub struct PixelAdam {
    settings: PixelOptimizer,
    first: Tensor,
    second: Tensor,
    steps: i32,
}

impl PixelAdam {
    /// Zero moments for a batch shaped like `images`.
    pub fn new(settings: &PixelOptimizer, images: &Tensor) -> Self {
        Self {
            settings: settings.clone(),
            first: images.detach().zeros_like(),
            second: images.detach().zeros_like(),
            steps: 0,
        }
    }

    /// Goes on with moments of an earlier batch, which were there after `steps` steps.
    pub fn with_moments(settings: &PixelOptimizer, first: Tensor, second: Tensor, steps: i32) -> Self {
        Self {
            settings: settings.clone(),
            first,
            second,
            steps,
        }
    }

    /// First moment, second moment, steps taken.
    pub fn moments(&self) -> (&Tensor, &Tensor, i32) {
        (&self.first, &self.second, self.steps)
    }

    /// Moves `images` against `gradient`.
    pub fn step(&mut self, images: &mut Tensor, gradient: &Tensor) {
        self.steps += 1;
        let [beta1, beta2] = self.settings.betas;
        let (bias1, bias2) = (1.0 - beta1.powi(self.steps), 1.0 - beta2.powi(self.steps));
        no_grad(|| {
            let _ = self.first.lerp_(gradient, 1.0 - beta1);
            let _ = self
                .second
                .g_mul_scalar_(beta2)
                .addcmul_(&(gradient * (1.0 - beta2)), gradient);
            let denominator = self
                .second
                .sqrt()
                .g_div_scalar_(bias2.sqrt())
                .g_add_scalar_(self.settings.eps);
            let _ = images.addcdiv_(&(&self.first * (-self.settings.lr / bias1)), &denominator);
        });
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
