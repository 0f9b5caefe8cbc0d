//! Defines the set that a student trains on: synthetic batches, to which fresh ones are added, and
//! real images if the student has any. Called by [`AdaptiveSource`](super::AdaptiveSource).

use crate::data::{ImageSet, Normalisation, upload};
use tch::{Device, Kind, Tensor};

/// Holds synthetic images, f32 `[M,C,H,W]` normalised, with memory reserved for those that will be
/// added, followed by real images, u8.
///
/// ```
/// use fed_distill::data::Normalisation;
/// use fed_distill::distill::GrowingSet;
/// use tch::{Device, Kind, Tensor};
///
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let batch = Tensor::zeros([2, 1, 8, 8], (Kind::Float, Device::Cpu));
/// let labels = Tensor::from_slice(&[0_i64, 1]);
/// let mut set = GrowingSet::new(&batch, &labels, 4, None, &normalisation, Device::Cpu);
/// set.push(&(batch + 1.0), &labels);
/// assert_eq!(set.len(), 4);
/// let (images, labels, real) = set.gather(&[3, 0]);
/// assert_eq!(images.size(), [2, 1, 8, 8]);
/// assert_eq!(labels, Tensor::from_slice(&[1_i64, 0]));
/// assert!(real.is_none());
/// ```
#[derive(Debug)]
pub struct GrowingSet<'a> {
    images: Tensor,
    labels: Tensor,
    len: usize,
    real: Option<&'a ImageSet>,
    normalisation: &'a Normalisation,
}

impl<'a> GrowingSet<'a> {
    /// Returns a set of the initial synthetic `images`, f32 `[M,C,H,W]` normalised, with `labels`
    /// i64 `[M]`, and of the images of `real`, which `normalisation` is for. `capacity` is the
    /// number of synthetic images that the set will hold at most.
    pub fn new(
        images: &Tensor,
        labels: &Tensor,
        capacity: usize,
        real: Option<&'a ImageSet>,
        normalisation: &'a Normalisation,
        device: Device,
    ) -> Self {
        let mut shape = images.size();
        shape[0] = capacity.max(images.size()[0] as usize) as i64;
        let mut set = Self {
            images: Tensor::zeros(&shape, (Kind::Float, device)),
            labels: Tensor::zeros([shape[0]], (Kind::Int64, device)),
            len: 0,
            real: real.filter(|set| !set.is_empty()),
            normalisation,
        };
        set.push(images, labels);
        set
    }

    /// Adds a batch of synthetic images.
    ///
    /// # Panics
    /// When there would be more than `capacity`.
    pub fn push(&mut self, images: &Tensor, labels: &Tensor) {
        let count = images.size()[0];
        self.images.narrow(0, self.len as i64, count).copy_(images);
        self.labels.narrow(0, self.len as i64, count).copy_(labels);
        self.len += count as usize;
    }

    /// Returns the number of synthetic and real images.
    pub fn len(&self) -> usize {
        self.len + self.real.map_or(0, ImageSet::len)
    }

    /// Returns `true` when there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the synthetic images so far, f32 `[M,C,H,W]` normalised, and their labels, i64
    /// `[M]`.
    pub fn synthetic(&self) -> (Tensor, Tensor) {
        (
            self.images.narrow(0, 0, self.len as i64),
            self.labels.narrow(0, 0, self.len as i64),
        )
    }

    /// Returns the images at `indices` in 0..`len()`, f32 `[N,C,H,W]` normalised, synthetic ones
    /// first; their labels, i64 `[N]`; and f32 `[N]`, 1 for a real image and 0 for a synthetic one,
    /// or `None` when the set holds no real image.
    pub fn gather(&self, indices: &[i64]) -> (Tensor, Tensor, Option<Tensor>) {
        let device = self.images.device();
        let (synthetic, real): (Vec<i64>, Vec<i64>) = indices
            .iter()
            .partition(|&&index| (index as usize) < self.len);
        let chosen = upload(&Tensor::from_slice(&synthetic), device);
        let images = self.images.index_select(0, &chosen);
        let labels = self.labels.index_select(0, &chosen);
        let Some(set) = self.real else {
            return (images, labels, None);
        };
        let own: Vec<i64> = real.iter().map(|index| index - self.len as i64).collect();
        let own = upload(&Tensor::from_slice(&own), device);
        let pixels = set.images.index_select(0, &own);
        let realness = Tensor::cat(
            &[
                Tensor::zeros([synthetic.len() as i64], (Kind::Float, device)),
                Tensor::ones([real.len() as i64], (Kind::Float, device)),
            ],
            0,
        );
        (
            Tensor::cat(&[images, self.normalisation.apply(&pixels)], 0),
            Tensor::cat(&[labels, set.labels.index_select(0, &own)], 0),
            Some(realness),
        )
    }
}
