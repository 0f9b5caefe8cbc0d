//! Computes a frozen network with the C++ passes, in float32 on the CPU. Called by [`super::net`].

use super::backend::{Backend, Saved};
use super::filter::Filter;
use super::kernels::{self, Branch, Shortcut};
use super::norm::{DistanceGradient, Moments, Norm};
use crate::model::{BatchNorm, Conv};
use std::cell::OnceCell;
use tch::{Kind, Tensor};

/// Computes with the C++ passes, and holds the stem's weights in the order that [`kernels::stem`]
/// reads.
#[derive(Debug, Default)]
pub struct Passes {
    stem: OnceCell<Tensor>,
}

impl Backend for Passes {
    type Filter = Filter;
    type Norm = Norm;
    type Moments = Moments;
    type Statistics = Vec<Moments>;
    type DistanceGradient = DistanceGradient;

    fn filter(&self, layer: &Conv, _: bool) -> Filter {
        Filter::of(layer)
    }

    fn norm(&self, layer: &BatchNorm) -> Norm {
        Norm::of(layer)
    }

    fn stem_input(&self, images: &Tensor) -> Tensor {
        images.shallow_clone()
    }

    fn convolve(&self, filter: &Filter, input: &Tensor) -> Tensor {
        filter.convolve(input)
    }

    fn convolve_back(&self, filter: &Filter, gradient: &Tensor, to: (i64, i64)) -> Tensor {
        filter.convolve_back(gradient, to)
    }

    fn image_gradient(&self, stem: &Filter, gradient: &Tensor) -> Tensor {
        let weight = self.stem.get_or_init(|| kernels::stem_weight(&stem.weight));
        kernels::stem(gradient, weight)
    }

    fn forward(
        &self,
        input: Tensor,
        norm: &Norm,
        shortcut: Shortcut,
        moments: Option<&mut Vec<Moments>>,
    ) -> (Tensor, Saved) {
        let (output, own, sides) = kernels::forward(&input, norm, shortcut, moments.is_some());
        if let Some(moments) = moments {
            moments.extend(own.into_iter().chain(sides));
        }
        let saved = Saved {
            activation: input,
            mask: None,
        };
        (output, saved)
    }

    fn backward(
        &self,
        saved: &Saved,
        norm: &Norm,
        distance_gradient: Option<&DistanceGradient>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> Tensor {
        kernels::backward(&saved.activation, norm, distance_gradient, &gradient, other);
        gradient
    }

    fn branch(
        &self,
        output: &Tensor,
        body: &Branch,
        shortcut: Option<&Branch>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let down = kernels::branch(output, body, shortcut, &gradient, other);
        (down, gradient)
    }

    fn pool(&self, hidden: &Tensor) -> Tensor {
        hidden.mean_dim([1i64, 2].as_slice(), false, None)
    }

    fn unpool(&self, gradient: &Tensor, size: &[i64]) -> Tensor {
        (gradient / (size[1] * size[2]) as f64)
            .view([size[0], 1, 1, size[3]])
            .expand(size, false)
            .contiguous()
    }

    fn statistics(&self, moments: Vec<Moments>) -> Vec<Moments> {
        moments
    }

    fn distance(&self, statistics: &Vec<Moments>, norms: &[&Norm]) -> Tensor {
        let each = statistics.iter().zip(norms);
        let sum: f64 = each.map(|(moments, norm)| moments.distance(norm)).sum();
        Tensor::from(sum).to_kind(Kind::Double)
    }

    fn distance_gradients(
        &self,
        statistics: &Vec<Moments>,
        norms: &[&Norm],
        by: f64,
    ) -> Vec<DistanceGradient> {
        let each = statistics.iter().zip(norms);
        each.map(|(moments, norm)| moments.distance_gradient(norm, by))
            .collect()
    }
}
