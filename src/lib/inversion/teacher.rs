//! Defines a teacher as the server has it: frozen weights and the label counts that its client
//! uploaded with them. Called by inversion and distillation.

use super::teacher_cache::{Loaded, TeacherCache};
use crate::error::{Error, Result};
use crate::model::{Model, ModelSpec};
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

/// Holds a frozen model, in memory or in a [`TeacherCache`], and the number of training images of
/// each class that it was trained on.
///
/// ```
/// use fed_distill::inversion::Teacher;
/// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use tch::Device;
///
/// # fn main() -> fed_distill::Result<()> {
/// let settings = ModelSettings { kind: ModelKind::Linear, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 3)?;
/// let mut rng = Seeds::new(42).stream("initialisation", 0);
/// let teacher = Teacher::new(Model::new(&spec, Device::Cpu, &mut rng)?, vec![3, 0, 1])?;
/// assert_eq!(teacher.seen(), [0, 2]);
/// assert_eq!(teacher.shares(&[0, 2]), [0.75, 0.25]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Teacher {
    /// Architecture and shape of the model.
    pub spec: ModelSpec,
    /// Device of the weights.
    pub device: Device,
    /// Number of training images of each class.
    pub label_counts: Vec<u64>,
    /// Fewest images of a class that the teacher counts as having seen.
    least: u64,
    weights: Weights,
}

/// Holds the network itself, or a cache and the index at which the cache reads it.
#[derive(Debug)]
enum Weights {
    InMemory(Rc<Loaded>),
    Cached(Rc<TeacherCache>, usize),
}

impl Teacher {
    /// Freezes `model`, which stays in memory.
    ///
    /// # Errors
    /// Fails when there is not one label count for each class, or all are zero.
    pub fn new(model: Model, label_counts: Vec<u64>) -> Result<Self> {
        let (spec, device) = (model.spec().clone(), model.device());
        Self::with(
            spec,
            device,
            label_counts,
            Weights::InMemory(Rc::new(Loaded::new(model))),
        )
    }

    /// Returns teacher `index` of a cache, whose model is of `spec`.
    ///
    /// # Errors
    /// Fails as [`Teacher::new`] does.
    pub fn cached(
        spec: ModelSpec,
        device: Device,
        label_counts: Vec<u64>,
        cache: &Rc<TeacherCache>,
        index: usize,
    ) -> Result<Self> {
        Self::with(
            spec,
            device,
            label_counts,
            Weights::Cached(Rc::clone(cache), index),
        )
    }

    /// Checks the label counts.
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
            least: 1,
            weights,
        })
    }

    /// Says that the label counts are estimates, which are hardly ever zero: the teacher
    /// counts as having seen those of which it has a tenth of an even share or more.
    #[must_use]
    pub fn with_estimated_counts(self) -> Self {
        let total: u64 = self.label_counts.iter().sum();
        let least = total.div_ceil(10 * self.label_counts.len() as u64).max(1);
        Self { least, ..self }
    }

    /// Returns the network, reading it if it is not in memory.
    ///
    /// # Errors
    /// Fails when the network cannot be read.
    pub fn loaded(&self) -> Result<Rc<Loaded>> {
        match &self.weights {
            Weights::InMemory(loaded) => Ok(Rc::clone(loaded)),
            Weights::Cached(cache, index) => cache.get(*index),
        }
    }

    /// Returns the classes that the teacher has seen, ascending.
    pub fn seen(&self) -> Vec<i64> {
        let classes = 0..self.label_counts.len();
        let seen = classes.filter(|&class| self.label_counts[class] >= self.least);
        seen.map(|class| class as i64).collect()
    }

    /// Returns the share of each of `classes` in the teacher's training images, in their order.
    pub fn shares(&self, classes: &[i64]) -> Vec<f64> {
        let total: u64 = self.label_counts.iter().sum();
        classes
            .iter()
            .map(|&class| self.label_counts[class as usize] as f64 / total as f64)
            .collect()
    }
}

/// Restricts a teacher's cross-entropy and competition to some classes, with a weight for each.
#[derive(Debug)]
pub struct LabelMask {
    /// The K classes of the mask, i64 [K].
    classes: Tensor,
    /// Index of each class among those of the mask, i64 [classes]; 0 for the others, whose weight
    /// must be zero.
    index_of: Tensor,
    /// f32 [classes], 1 for a class of the mask, else 0.
    kept: Tensor,
    /// Weights of the classes, f32 `[K]`; with `None` all are 1.
    pub weights: Option<Tensor>,
}

impl LabelMask {
    /// Returns a mask of `classes`, of `total` in all; `weights` are in the order of `classes`.
    pub fn new(classes: &[i64], total: i64, weights: Option<&[f64]>, device: Device) -> Self {
        let mut index_of = vec![0i64; total as usize];
        let mut kept = vec![0f32; total as usize];
        for (index, &class) in classes.iter().enumerate() {
            index_of[class as usize] = index as i64;
            kept[class as usize] = 1.0;
        }
        let to = |tensor: Tensor| tensor.to_device(device);
        Self {
            classes: to(Tensor::from_slice(classes)),
            index_of: to(Tensor::from_slice(&index_of)),
            kept: to(Tensor::from_slice(&kept)),
            weights: weights.map(|weights| to(Tensor::from_slice(weights).to_kind(Kind::Float))),
        }
    }

    /// Selects the columns of the mask's classes: `[N,classes]` to `[N,K]`.
    pub fn columns(&self, logits: &Tensor) -> Tensor {
        logits.index_select(1, &self.classes)
    }

    /// Returns f32 `[classes]`, 1 for a class of the mask, else 0.
    pub fn kept(&self) -> &Tensor {
        &self.kept
    }

    /// Returns the labels as indices among the mask's classes, i64 `[N]`, and each image's weight,
    /// f32 `[N]`, zero for a class that is not in the mask.
    pub fn targets(&self, labels: &Tensor) -> (Tensor, Tensor) {
        let indices = self.index_of.index_select(0, labels);
        let kept = self.kept.index_select(0, labels);
        let weights = match &self.weights {
            Some(weights) => weights.index_select(0, &indices) * kept,
            None => kept,
        };
        (indices, weights)
    }
}
