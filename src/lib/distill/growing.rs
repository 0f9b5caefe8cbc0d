//! The set a student trains on: synthetic batches as they are made, and the student's own real
//! images.

use crate::data::{ImageSet, Normalisation, upload};
use tch::{Device, Kind, Tensor};

/// Synthetic images (f32 [M,C,H,W] normalised, on the device) with room for those to come, followed
/// by real images (u8).
#[derive(Debug)]
pub struct GrowingSet<'a> {
    images: Tensor,
    labels: Tensor,
    len: usize,
    real: Option<&'a ImageSet>,
    normalisation: &'a Normalisation,
}

impl<'a> GrowingSet<'a> {
    /// Starts with the initial batches; `capacity` is the number of synthetic images there will
    /// ever be.
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

    /// Adds a batch (capacity was fixed at the start).
    pub fn push(&mut self, images: &Tensor, labels: &Tensor) {
        let count = images.size()[0];
        self.images.narrow(0, self.len as i64, count).copy_(images);
        self.labels.narrow(0, self.len as i64, count).copy_(labels);
        self.len += count as usize;
    }

    /// Synthetic and real images together.
    pub fn len(&self) -> usize {
        self.len + self.real.map_or(0, ImageSet::len)
    }

    /// Whether there is nothing to train on.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The synthetic images so far: f32 [M,C,H,W] normalised, and their labels i64 [M].
    pub fn synthetic(&self) -> (Tensor, Tensor) {
        (
            self.images.narrow(0, 0, self.len as i64),
            self.labels.narrow(0, 0, self.len as i64),
        )
    }

    /// Images (normalised), labels and realness (f32 [N], `None` when the set holds no real image)
    /// of `indices` in 0..`len()`.
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
