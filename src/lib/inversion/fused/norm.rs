//! Computes with a frozen batch norm's constants: the affine map, the distance of its input's
//! statistics, and that distance's gradient. Called by `passes`.

use crate::model::BatchNorm;
use tch::{Kind, Tensor};

/// Holds the affine map y = scale·x + shift and the running statistics that the distance is
/// measured against, f32 `[C]` each.
#[derive(Debug)]
pub struct Norm {
    /// γ / √(running_var + ε); zero where γ is, because nothing is divided by it.
    pub scale: Vec<f32>,
    /// β − scale·running_mean.
    pub shift: Vec<f32>,
    /// Running mean.
    pub mean: Vec<f32>,
    /// Running variance.
    pub var: Vec<f32>,
}

impl Norm {
    /// Computes the constants of `layer` in f64 and rounds them to f32 once.
    pub fn of(layer: &BatchNorm) -> Self {
        let read = |tensor: &Tensor| -> Vec<f64> {
            // What libtorch throws becomes the stage's error, as in its other operations.
            Vec::try_from(tensor.detach().to_kind(Kind::Double)).unwrap()
        };
        let (weight, bias) = (read(&layer.weight), read(&layer.bias));
        let (mean, var) = (read(&layer.running_mean), read(&layer.running_var));
        let scale = |channel: usize| weight[channel] / (var[channel] + BatchNorm::EPS).sqrt();
        let channels = 0..weight.len();
        Self {
            scale: channels
                .clone()
                .map(|channel| scale(channel) as f32)
                .collect(),
            shift: channels
                .map(|channel| (bias[channel] - scale(channel) * mean[channel]) as f32)
                .collect(),
            mean: mean.iter().map(|&value| value as f32).collect(),
            var: var.iter().map(|&value| value as f32).collect(),
        }
    }
}

/// Holds sums over the rows of a batch-norm input.
#[derive(Debug)]
pub struct Moments {
    /// Σ (x − running_mean) and Σ (x − running_mean)², f64 `[2,C]`.
    pub sums: Vec<f64>,
    rows: f64,
}

/// Holds the gradient of a distance with respect to each value x of the input, offset + slope·x,
/// f32 `[C]` each.
#[derive(Debug)]
pub struct DistanceGradient {
    /// Constant term.
    pub offset: Vec<f32>,
    /// Factor of x.
    pub slope: Vec<f32>,
}

impl Moments {
    /// Returns zero sums for an input of so many rows and channels.
    pub fn new(rows: i64, channels: i64) -> Self {
        Self {
            sums: vec![0.0; 2 * channels as usize],
            rows: rows as f64,
        }
    }

    /// Returns mean − running_mean and the biased variance of each channel.
    fn statistics(&self) -> impl Iterator<Item = (f64, f64)> {
        let (first, second) = self.sums.split_at(self.sums.len() / 2);
        first.iter().zip(second).map(|(first, second)| {
            let shift = first / self.rows;
            (shift, second / self.rows - shift * shift)
        })
    }

    /// Returns (‖running_mean − mean‖, ‖running_var − var‖), the two parts of the distance.
    fn distances(&self, norm: &Norm) -> (f64, f64) {
        let squares = self
            .statistics()
            .zip(&norm.var)
            .map(|((shift, var), running)| (shift * shift, (var - f64::from(*running)).powi(2)));
        let (means, vars) = squares.fold((0.0, 0.0), |sum, term| (sum.0 + term.0, sum.1 + term.1));
        (f64::sqrt(means), f64::sqrt(vars))
    }

    /// Returns the layer's distance ‖running_mean − mean‖ + ‖running_var − var‖.
    pub fn distance(&self, norm: &Norm) -> f64 {
        let (means, vars) = self.distances(norm);
        means + vars
    }

    /// Returns the gradient of `by` times the distance; the formula is in the docs of [`super`].
    pub fn distance_gradient(&self, norm: &Norm, by: f64) -> DistanceGradient {
        let (means, vars) = self.distances(norm);
        // The norm's subgradient at zero is zero, as in PyTorch.
        let over = |norm: f64| {
            if norm > 0.0 {
                by / (norm * self.rows)
            } else {
                0.0
            }
        };
        let (per_mean, per_var) = (over(means), over(vars));
        let channels = self.statistics().zip(norm.mean.iter().zip(&norm.var));
        let (offset, slope) = channels
            .map(|((shift, var), (running_mean, running_var))| {
                let slope = 2.0 * per_var * (var - f64::from(*running_var));
                let mean = f64::from(*running_mean) + shift;
                ((per_mean * shift - slope * mean) as f32, slope as f32)
            })
            .unzip();
        DistanceGradient { offset, slope }
    }
}
