//! A frozen network by the C++ passes: float32 on the CPU.

use super::backend::{Backend, Seen};
use super::filter::Filter;
use super::kernels::{self, Branch, Side};
use super::norm::{Moments, Norm, Pull};
use crate::model::{BatchNorm, Conv};
use std::cell::OnceCell;
use tch::{Kind, Tensor};

/// The passes, with the stem's weights in the order in which [`kernels::stem`] reads them.
#[derive(Debug, Default)]
pub struct Passes {
    stem: OnceCell<Tensor>,
}

impl Backend for Passes {
    type Filter = Filter;
    type Norm = Norm;
    type Moments = Moments;
    type Statistics = Vec<Moments>;
    type Pull = Pull;

    fn filter(&self, layer: &Conv, _: bool) -> Filter {
        Filter::of(layer)
    }

    fn norm(&self, layer: &BatchNorm) -> Norm {
        Norm::of(layer)
    }

    fn enter(&self, images: &Tensor) -> Tensor {
        images.shallow_clone()
    }

    fn convolve(&self, filter: &Filter, input: &Tensor) -> Tensor {
        filter.convolve(input)
    }

    fn convolve_back(&self, filter: &Filter, gradient: &Tensor, to: (i64, i64)) -> Tensor {
        filter.convolve_back(gradient, to)
    }

    fn leave(&self, stem: &Filter, gradient: &Tensor) -> Tensor {
        let weight = self.stem.get_or_init(|| kernels::stem_weight(&stem.weight));
        kernels::stem(gradient, weight)
    }

    fn forward(
        &self,
        input: Tensor,
        norm: &Norm,
        side: Side,
        moments: Option<&mut Vec<Moments>>,
    ) -> (Tensor, Seen) {
        let (output, own, sides) = kernels::forward(&input, norm, side, moments.is_some());
        if let Some(moments) = moments {
            moments.extend(own.into_iter().chain(sides));
        }
        let seen = Seen {
            kept: input,
            mask: None,
        };
        (output, seen)
    }

    fn backward(
        &self,
        seen: &Seen,
        norm: &Norm,
        pull: Option<&Pull>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> Tensor {
        kernels::backward(&seen.kept, norm, pull, &gradient, other);
        gradient
    }

    fn branch(
        &self,
        output: &Tensor,
        body: &Branch,
        side: Option<&Branch>,
        gradient: Tensor,
        other: Option<&Tensor>,
    ) -> (Tensor, Tensor) {
        let down = kernels::branch(output, body, side, &gradient, other);
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

    fn settle(&self, moments: Vec<Moments>) -> Vec<Moments> {
        moments
    }

    fn distance(&self, statistics: &Vec<Moments>, norms: &[&Norm]) -> Tensor {
        let each = statistics.iter().zip(norms);
        let sum: f64 = each.map(|(moments, norm)| moments.distance(norm)).sum();
        Tensor::from(sum).to_kind(Kind::Double)
    }

    fn pulls(&self, statistics: &Vec<Moments>, norms: &[&Norm], by: f64) -> Vec<Pull> {
        let each = statistics.iter().zip(norms);
        each.map(|(moments, norm)| moments.pull(norm, by)).collect()
    }
}
