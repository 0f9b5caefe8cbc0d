//! A teacher as the server holds it: frozen weights and the label counts its node uploaded with
//! them.

use super::shelf::{Loaded, Shelf};
use crate::error::{Error, Result};
use crate::model::{Model, ModelSpec};
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// A frozen model, in memory or on a shelf, and the number of training images of each class it
/// learned from.
#[derive(Debug)]
pub struct Teacher {
    pub spec: ModelSpec,
    pub device: Device,
    pub label_counts: Vec<u64>,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    Held(Rc<Loaded>),
    Shelved(Rc<Shelf>, usize),
}

impl Teacher {
    /// Freezes `model`, which stays in memory.
    ///
    /// # Errors
    /// Label counts that do not fit the model's classes, or are all zero.
    pub fn new(model: Model, label_counts: Vec<u64>) -> Result<Self> {
        let (spec, device) = (model.spec().clone(), model.device());
        Self::with(
            spec,
            device,
            label_counts,
            Weights::Held(Rc::new(Loaded::new(model))),
        )
    }

    /// Teacher `index` of a shelf, whose model is of `spec`.
    ///
    /// # Errors
    /// As [`Teacher::new`].
    pub fn shelved(
        spec: ModelSpec,
        device: Device,
        label_counts: Vec<u64>,
        shelf: &Rc<Shelf>,
        index: usize,
    ) -> Result<Self> {
        Self::with(
            spec,
            device,
            label_counts,
            Weights::Shelved(Rc::clone(shelf), index),
        )
    }

    fn with(
        spec: ModelSpec,
        device: Device,
        label_counts: Vec<u64>,
        weights: Weights,
    ) -> Result<Self> {
        if label_counts.len() as i64 != spec.classes {
            return Err(
                Error::failed("a teacher's label counts do not match its classes")
                    .note("expected", format!("{} counts, one a class", spec.classes))
                    .note("found", format!("{} counts", label_counts.len())),
            );
        }
        if label_counts.iter().all(|&count| count == 0) {
            return Err(Error::failed(
                "a teacher's label counts are all zero: it was trained on nothing",
            ));
        }
        Ok(Self {
            spec,
            device,
            label_counts,
            weights,
        })
    }

    /// Its weights.
    ///
    /// # Errors
    /// A shelf that cannot read them any more.
    pub fn loaded(&self) -> Result<Rc<Loaded>> {
        match &self.weights {
            Weights::Held(loaded) => Ok(Rc::clone(loaded)),
            Weights::Shelved(shelf, index) => shelf.get(*index),
        }
    }

    /// The classes it has seen, ascending.
    pub fn seen(&self) -> Vec<i64> {
        let seen = self
            .label_counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0);
        seen.map(|(class, _)| class as i64).collect()
    }

    /// Share of each class in its training images, in the order of `classes`.
    pub fn shares(&self, classes: &[i64]) -> Vec<f64> {
        let total: u64 = self.label_counts.iter().sum();
        classes
            .iter()
            .map(|&class| self.label_counts[class as usize] as f64 / total as f64)
            .collect()
    }
}

/// Restriction of a teacher's cross-entropy and competition to some classes, with weights in their
/// order.
#[derive(Debug)]
pub struct LabelMask {
    /// i64 [K]: the classes kept.
    classes: Tensor,
    /// i64 [classes]: each class's place among those kept; 0 for the others, whose weight must be
    /// zero.
    place: Tensor,
    /// f32 [classes]: 1 for a class kept, else 0.
    kept: Tensor,
    /// f32 [K], the class weights; `None`: all one.
    pub weights: Option<Tensor>,
}

impl LabelMask {
    /// Keeps `classes` of `total`; `weights` follow the order of `classes`.
    pub fn new(classes: &[i64], total: i64, weights: Option<&[f64]>, device: Device) -> Self {
        let mut place = vec![0i64; total as usize];
        let mut kept = vec![0f32; total as usize];
        for (index, &class) in classes.iter().enumerate() {
            place[class as usize] = index as i64;
            kept[class as usize] = 1.0;
        }
        let to = |tensor: Tensor| tensor.to_device(device);
        Self {
            classes: to(Tensor::from_slice(classes)),
            place: to(Tensor::from_slice(&place)),
            kept: to(Tensor::from_slice(&kept)),
            weights: weights.map(|weights| to(Tensor::from_slice(weights).to_kind(Kind::Float))),
        }
    }

    /// The columns of the kept classes: [N, classes] to [N, K].
    pub fn columns(&self, logits: &Tensor) -> Tensor {
        logits.index_select(1, &self.classes)
    }

    /// f32 [classes]: 1 for a class kept, else 0.
    pub fn kept(&self) -> &Tensor {
        &self.kept
    }

    /// Labels as places among the kept classes, and each image's weight (zero for a class that is
    /// not kept).
    pub fn targets(&self, labels: &Tensor) -> (Tensor, Tensor) {
        let places = self.place.index_select(0, labels);
        let kept = self.kept.index_select(0, labels);
        let weights = match &self.weights {
            Some(weights) => weights.index_select(0, &places) * kept,
            None => kept,
        };
        (places, weights)
    }
}
