//! Defines the set that a student trains on: synthetic batches, to which fresh ones are added, and
//! real images if the student has any. Called by [`AdaptiveSource`](super::AdaptiveSource).

use crate::data::{ImageSet, Normalisation, upload};
use crate::inversion::SyntheticBatch;
use crate::train::Batch;
use tch::{Device, Kind, Tensor};

/// Holds synthetic images.
#[derive(Debug)]
pub struct SyntheticImages {
    /// The images, f32 `[M,C,H,W]`, normalised.
    pub images: Tensor,
    /// The labels that they were made for, i64 `[M]`.
    pub labels: Tensor,
    /// Index of the teacher that each was made from, i64 `[M]`, −1 for several.
    pub teachers: Tensor,
}

impl From<&SyntheticBatch> for SyntheticImages {
    fn from(batch: &SyntheticBatch) -> Self {
        Self {
            images: batch.images.shallow_clone(),
            labels: batch.labels.shallow_clone(),
            teachers: batch.teachers(),
        }
    }
}

/// Holds synthetic images, with memory reserved for those that will be added, followed by real
/// images, u8.
///
/// ```
/// use fed_distill::data::Normalisation;
/// use fed_distill::distill::{GrowingSet, SyntheticImages};
/// use tch::{Device, Kind, Tensor};
///
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let mut made = SyntheticImages {
///     images: Tensor::zeros([2, 1, 8, 8], (Kind::Float, Device::Cpu)),
///     labels: Tensor::from_slice(&[0_i64, 1]),
///     teachers: Tensor::from_slice(&[-1_i64, -1]),
/// };
/// let mut set = GrowingSet::new(&made, 4, None, &normalisation, Device::Cpu);
/// made.teachers = Tensor::from_slice(&[7_i64, 7]);
/// set.push(&made);
/// assert_eq!(set.len(), 4);
/// let batch = set.gather(&[3, 0]);
/// assert_eq!(batch.images.size(), [2, 1, 8, 8]);
/// assert_eq!(batch.labels, Tensor::from_slice(&[1_i64, 0]));
/// assert_eq!(batch.teachers, Some(Tensor::from_slice(&[7_i64, -1])));
/// assert_eq!(batch.views, Some(vec![Some(3), Some(0)]));
/// assert!(batch.real.is_none());
/// ```
#[derive(Debug)]
pub struct GrowingSet<'a> {
    synthetic: SyntheticImages,
    len: usize,
    real: Option<&'a ImageSet>,
    normalisation: &'a Normalisation,
}

impl<'a> GrowingSet<'a> {
    /// Returns a set of the `initial` images and of the images of `real`, which `normalisation` is
    /// for. `capacity` is the number of synthetic images that the set will hold at most.
    pub fn new(
        initial: &SyntheticImages,
        capacity: usize,
        real: Option<&'a ImageSet>,
        normalisation: &'a Normalisation,
        device: Device,
    ) -> Self {
        let mut shape = initial.images.size();
        shape[0] = capacity.max(shape[0] as usize) as i64;
        let mut set = Self {
            synthetic: SyntheticImages {
                images: Tensor::zeros(&shape, (Kind::Float, device)),
                labels: Tensor::zeros([shape[0]], (Kind::Int64, device)),
                teachers: Tensor::zeros([shape[0]], (Kind::Int64, device)),
            },
            len: 0,
            real: real.filter(|set| !set.is_empty()),
            normalisation,
        };
        set.push(initial);
        set
    }

    /// Adds a batch of synthetic images.
    ///
    /// # Panics
    /// When there would be more than `capacity`.
    pub fn push(&mut self, batch: &SyntheticImages) {
        let count = batch.images.size()[0];
        let place = |all: &Tensor, new: &Tensor| {
            all.narrow(0, self.len as i64, count).copy_(new);
        };
        let all = &self.synthetic;
        place(&all.images, &batch.images);
        place(&all.labels, &batch.labels);
        place(&all.teachers, &batch.teachers);
        self.len += count as usize;
    }

    /// Returns the number of synthetic and real images.
    pub fn len(&self) -> usize {
        self.len + self.real.map_or(0, ImageSet::len)
    }

    /// Returns the number of synthetic images.
    pub fn synthetic_len(&self) -> usize {
        self.len
    }

    /// Returns `true` when there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the synthetic images so far.
    pub fn synthetic(&self) -> SyntheticImages {
        let so_far = |all: &Tensor| all.narrow(0, 0, self.len as i64);
        SyntheticImages {
            images: so_far(&self.synthetic.images),
            labels: so_far(&self.synthetic.labels),
            teachers: so_far(&self.synthetic.teachers),
        }
    }

    /// Returns the images at `indices` in 0..`len()` as a batch, synthetic ones first; its `real`
    /// is `None` when the set holds no real image, and its `views` are the indices of synthetic
    /// images, which never change.
    pub fn gather(&self, indices: &[i64]) -> Batch {
        let device = self.synthetic.images.device();
        let (synthetic, real): (Vec<i64>, Vec<i64>) = indices
            .iter()
            .partition(|&&index| (index as usize) < self.len);
        let views = synthetic.iter().map(|&index| Some(index as u64));
        let views = Some(views.chain(real.iter().map(|_| None)).collect());
        let chosen = upload(&Tensor::from_slice(&synthetic), device);
        let images = self.synthetic.images.index_select(0, &chosen);
        let labels = self.synthetic.labels.index_select(0, &chosen);
        let teachers = self.synthetic.teachers.index_select(0, &chosen);
        let Some(set) = self.real else {
            return Batch {
                images,
                labels,
                scores: None,
                real: None,
                teachers: Some(teachers),
                views,
            };
        };
        let own: Vec<i64> = real.iter().map(|index| index - self.len as i64).collect();
        let own = upload(&Tensor::from_slice(&own), device);
        let pixels = set.images.index_select(0, &own);
        let own_labels = set.labels.index_select(0, &own);
        let realness = Tensor::cat(
            &[
                Tensor::zeros([synthetic.len() as i64], (Kind::Float, device)),
                Tensor::ones([real.len() as i64], (Kind::Float, device)),
            ],
            0,
        );
        Batch {
            images: Tensor::cat(&[images, self.normalisation.apply(&pixels)], 0),
            teachers: Some(Tensor::cat(&[teachers, own_labels.full_like(-1)], 0)),
            labels: Tensor::cat(&[labels, own_labels], 0),
            scores: None,
            real: Some(realness),
            views,
        }
    }
}
