//! The batch under optimisation: Adam on its pixels, and the best batch met so far. Nothing here reads a value back from the device.

use super::fused::kernels;
use super::settings::PixelOptimizer;
use tch::{Kind, Tensor, no_grad};

/// Adam (Kingma and Ba 2015, arXiv:1412.6980) on one tensor, as PyTorch computes it.
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
        let PixelOptimizer {
            lr,
            betas: [beta1, beta2],
            eps,
        } = self.settings;
        let (rate, root) = (
            lr / (1.0 - beta1.powi(self.steps)),
            (1.0 - beta2.powi(self.steps)).sqrt(),
        );
        let zeros = || [images.detach().zeros_like(), images.detach().zeros_like()];
        let [first, second] = self.moments.get_or_insert_with(zeros);
        if kernels::usable(&[images, gradient, first, second]) {
            return kernels::adam(images, gradient, [first, second], [beta1, beta2], rate, root, eps);
        }
        no_grad(|| {
            let _ = first.lerp_(gradient, 1.0 - beta1);
            let _ = second
                .g_mul_scalar_(beta2)
                .addcmul_(&(gradient * (1.0 - beta2)), gradient);
            let denominator = second.sqrt().g_div_scalar_(root).g_add_scalar_(eps);
            let _ = images.addcdiv_(&(&*first * -rate), &denominator);
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
