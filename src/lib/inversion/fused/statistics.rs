//! Computes the distances of all batch-norm layers at once, on the device: a network has dozens of
//! layers, and launching a kernel for each of their small vectors would take longer than the
//! convolutions. Called by [`super::operations`].
//!
//! The layers' vectors are concatenated to vectors of all Σ C channels; sums over a layer are a
//! product with the matrix that assigns channels to layers. All are float32.

use crate::model::BatchNorm;
use std::cell::RefCell;
use tch::{Kind, Tensor};

/// Holds the running statistics of all layers.
#[derive(Debug)]
pub struct Running {
    /// Number of channels of each layer.
    channels: Vec<i64>,
    /// Running means, then running variances: f32 [2, Σ C].
    running: Tensor,
    /// f32 [Σ C,layers], 1 where a channel belongs to a layer.
    member: Tensor,
    /// Index of the layer that a channel belongs to, i64 [Σ C].
    layer: Tensor,
    /// −1/a and −2/a, f32 [2,Σ C].
    factors: Tensor,
    /// The number 1, i32 [1].
    one: Tensor,
    /// 1/rows of each layer, f32 [layers], for the numbers of rows of the last batch.
    rows: RefCell<(Vec<i64>, Tensor)>,
}

/// Holds a batch's statistics in comparison with the running ones.
#[derive(Debug)]
pub struct Statistics {
    /// The batch's means, f32 [Σ C].
    means: Tensor,
    /// Batch statistics minus running ones, f32 [2,Σ C]: means, then variances.
    apart: Tensor,
    /// Euclidean norm of these differences in each layer, f32 [2,layers].
    norms: Tensor,
    /// 1/rows of each layer, f32 [layers].
    rows: Tensor,
}

/// Holds a layer's part of the arguments of [`super::operations`]' `norm_gradient`, f32 [C] each.
#[derive(Debug)]
pub struct DistanceGradient {
    /// The batch's mean.
    pub mean: Tensor,
    /// −(offset + slope·mean)/a.
    pub d: Tensor,
    /// −slope/a.
    pub e: Tensor,
    /// The count that the sums are divided by, i32 [1].
    pub count: Tensor,
}

/// Holds the statistics of a layer's input.
#[derive(Debug)]
pub struct Moments {
    /// Mean, f32 [C].
    pub mean: Tensor,
    /// Biased variance, f32 [C].
    pub var: Tensor,
    /// Number of rows N·H·W.
    pub rows: i64,
}

impl Running {
    /// Returns the running statistics of `layers`, with the scale a of each, none of it zero.
    pub fn new(layers: &[&BatchNorm], scales: &[Tensor]) -> Self {
        let of = |pick: fn(&BatchNorm) -> &Tensor| {
            let each: Vec<Tensor> = layers.iter().map(|layer| pick(layer).detach()).collect();
            Tensor::cat(&each, 0)
        };
        let channels: Vec<i64> = layers.iter().map(|l| l.running_mean.size()[0]).collect();
        let running = Tensor::stack(&[of(|l| &l.running_mean), of(|l| &l.running_var)], 0);
        let owners: Vec<i64> = (0..)
            .zip(&channels)
            .flat_map(|(l, &c)| vec![l; c as usize])
            .collect();
        let layer = Tensor::from_slice(&owners).to_device(running.device());
        let inverse = Tensor::cat(scales, 0).reciprocal();
        Self {
            member: layer.one_hot(channels.len() as i64).to_kind(Kind::Float),
            factors: Tensor::stack(&[&inverse * -1.0, &inverse * -2.0], 0),
            one: Tensor::ones([1], (Kind::Int, running.device())),
            rows: RefCell::new((Vec::new(), Tensor::new())),
            channels,
            running,
            layer,
        }
    }

    /// Compares a batch's moments, one for each layer, with the running statistics.
    pub fn compare(&self, moments: &[Moments]) -> Statistics {
        let means: Vec<&Tensor> = moments.iter().map(|layer| &layer.mean).collect();
        let vars: Vec<&Tensor> = moments.iter().map(|layer| &layer.var).collect();
        let batch = Tensor::cat(&[means, vars].concat(), 0).view_as(&self.running);
        let apart = &batch - &self.running;
        Statistics {
            means: batch.get(0),
            norms: apart.square().matmul(&self.member).sqrt(),
            rows: self.rows(moments),
            apart,
        }
    }

    /// Returns 1/rows of each layer, and uploads it when it differs from the last.
    fn rows(&self, moments: &[Moments]) -> Tensor {
        let rows: Vec<i64> = moments.iter().map(|layer| layer.rows).collect();
        let mut last = self.rows.borrow_mut();
        if last.0 != rows {
            let inverse: Vec<f32> = rows.iter().map(|&rows| 1.0 / rows as f32).collect();
            let tensor = Tensor::from_slice(&inverse).to_device(self.running.device());
            *last = (rows, tensor);
        }
        last.1.shallow_clone()
    }

    /// Returns the gradient of `by` times the sum of distances: for each layer with s = mean −
    /// running mean, t = variance − running variance and M rows,
    ///
    /// offset + slope·x = by/M · (s/‖s‖ + 2·t/‖t‖ · (x − mean)),
    ///
    /// as arguments d = −by·s/(‖s‖·M·a) and e = −2·by·t/(‖t‖·M·a).
    pub fn distance_gradients(&self, statistics: &Statistics, by: f64) -> Vec<DistanceGradient> {
        let Statistics {
            means,
            apart,
            norms,
            rows,
        } = statistics;
        // The norm's subgradient at zero is zero, as in PyTorch.
        let over = (rows * by / norms).where_self(&norms.gt(0.0), &norms.zeros_like());
        let arguments = over.index_select(1, &self.layer) * apart * &self.factors;
        let (d, e) = (arguments.get(0), arguments.get(1));
        let mut start = 0;
        let part = |&count: &i64| {
            let part = |of: &Tensor| of.narrow(0, start, count);
            let distance_gradient = DistanceGradient {
                mean: part(means),
                d: part(&d),
                e: part(&e),
                count: self.one.shallow_clone(),
            };
            start += count;
            distance_gradient
        };
        self.channels.iter().map(part).collect()
    }
}

impl Statistics {
    /// Returns ‖running mean − mean‖ + ‖running variance − variance‖, summed over the layers.
    pub fn distance(&self) -> Tensor {
        self.norms.sum(Kind::Float)
    }
}
