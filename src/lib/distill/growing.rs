//! Defines the set that a student trains on: synthetic batches, to which fresh ones are added, and
//! real images if the student has any. Called by [`AdaptiveSource`](super::AdaptiveSource).

use crate::data::{Augmentation, ImageSet, Normalisation, Normaliser, upload};
use crate::error::Result;
use crate::inversion::SyntheticBatch;
use crate::runtime::read;
use crate::runtime::seed::Rng;
use crate::train::{AugmentSettings, Batch, View};
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
/// # fn main() -> fed_distill::Result<()> {
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let mut made = SyntheticImages {
///     images: Tensor::zeros([2, 1, 8, 8], (Kind::Float, Device::Cpu)),
///     labels: Tensor::from_slice(&[0_i64, 1]),
///     teachers: Tensor::from_slice(&[-1_i64, -1]),
/// };
/// let mut set = GrowingSet::new(&made, 4, None, &normalisation, Device::Cpu)?;
/// made.teachers = Tensor::from_slice(&[7_i64, 7]);
/// set.push(&made)?;
/// assert_eq!(set.len(), 4);
/// // Two batches.
/// let order = set.order(&[3, 0, 2], 2);
/// let batch = set.gather(&order, 0);
/// assert_eq!(batch.images.size(), [2, 1, 8, 8]);
/// assert_eq!(batch.labels, Tensor::from_slice(&[1_i64, 0]));
/// assert_eq!(batch.teachers, Some(Tensor::from_slice(&[7_i64, -1])));
/// assert_eq!(batch.views.map(|views| views[0].number), Some(Some(3)));
/// assert!(batch.real.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct GrowingSet<'a> {
    synthetic: SyntheticImages,
    /// Label and teacher of each synthetic image, by its index.
    views: Vec<View>,
    real: Option<&'a ImageSet>,
    normaliser: Normaliser,
}

/// Holds the images of the batches of a pass over a [`GrowingSet`] as it was when the pass began.
#[derive(Debug, Default)]
pub struct Order {
    /// Images of a batch.
    size: usize,
    /// Batch by batch: indices of synthetic images, then of real ones, i64 on the set's device.
    indices: Tensor,
    /// The same on the host, for synthetic images; `None` for real ones.
    synthetic: Vec<Option<usize>>,
}

impl<'a> GrowingSet<'a> {
    /// Returns a set of the `initial` images and of the images of `real`, which `normalisation` is
    /// for. `capacity` is the number of synthetic images that the set will hold at most.
    ///
    /// # Errors
    /// Fails when [`push`](Self::push) does.
    pub fn new(
        initial: &SyntheticImages,
        capacity: usize,
        real: Option<&'a ImageSet>,
        normalisation: &Normalisation,
        device: Device,
    ) -> Result<Self> {
        let mut shape = initial.images.size();
        shape[0] = capacity.max(shape[0] as usize) as i64;
        let mut set = Self {
            synthetic: SyntheticImages {
                images: Tensor::zeros(&shape, (Kind::Float, device)),
                labels: Tensor::zeros([shape[0]], (Kind::Int64, device)),
                teachers: Tensor::zeros([shape[0]], (Kind::Int64, device)),
            },
            views: Vec::new(),
            real: real.filter(|set| !set.is_empty()),
            normaliser: normalisation.on(device),
        };
        set.push(initial)?;
        Ok(set)
    }

    /// Adds a batch of synthetic images.
    ///
    /// # Errors
    /// Fails when libtorch does.
    ///
    /// # Panics
    /// When there would be more than `capacity`.
    pub fn push(&mut self, batch: &SyntheticImages) -> Result<()> {
        let (start, count) = (self.views.len(), batch.images.size()[0]);
        let place = |all: &Tensor, new: &Tensor| {
            all.narrow(0, start as i64, count).copy_(new);
        };
        let all = &self.synthetic;
        place(&all.images, &batch.images);
        place(&all.labels, &batch.labels);
        place(&all.teachers, &batch.teachers);
        let labels = read::<Vec<i64>>(&batch.labels)?.into_iter();
        let teachers = read::<Vec<i64>>(&batch.teachers)?;
        let view = |(number, (label, teacher)): (usize, (i64, i64))| View {
            number: Some(number as u64),
            label: label as usize,
            teacher: usize::try_from(teacher).ok(),
        };
        self.views
            .extend((start..).zip(labels.zip(teachers)).map(view));
        Ok(())
    }

    /// Returns the number of synthetic and real images.
    pub fn len(&self) -> usize {
        self.views.len() + self.real.map_or(0, ImageSet::len)
    }

    /// Draws the augmentation of `images` images of this set.
    pub(super) fn draw(
        &self,
        images: usize,
        with: &AugmentSettings,
        rng: &mut Rng,
    ) -> Augmentation {
        let width = self.synthetic.images.size()[3];
        Augmentation::draw(images, with.crop, with.flip, width, rng, self.device())
    }

    /// Returns the device of its images.
    pub(super) fn device(&self) -> Device {
        self.synthetic.images.device()
    }

    /// Returns the number of synthetic images.
    pub fn synthetic_len(&self) -> usize {
        self.views.len()
    }

    /// Returns `true` when there is no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the synthetic images so far.
    pub fn synthetic(&self) -> SyntheticImages {
        let so_far = |all: &Tensor| all.narrow(0, 0, self.views.len() as i64);
        SyntheticImages {
            images: so_far(&self.synthetic.images),
            labels: so_far(&self.synthetic.labels),
            teachers: so_far(&self.synthetic.teachers),
        }
    }

    /// Returns the views of the synthetic images from `start` on, which never change.
    pub fn views(&self, start: usize) -> &[View] {
        &self.views[start..]
    }

    /// Returns the images at `indices` in 0..`len()`, synthetic ones first, as batches of `size`
    /// and a last one of the rest. Images that are added later do not change them.
    ///
    /// # Panics
    /// When `size` is zero.
    pub fn order(&self, indices: &[i64], size: usize) -> Order {
        let count = self.views.len();
        let (mut all, mut synthetic) = (Vec::with_capacity(indices.len()), Vec::new());
        for batch in indices.chunks(size) {
            let (own, real): (Vec<i64>, Vec<i64>) =
                batch.iter().partition(|&&index| (index as usize) < count);
            synthetic.extend(own.iter().map(|&index| Some(index as usize)));
            synthetic.extend(real.iter().map(|_| None));
            all.extend(own);
            all.extend(real.iter().map(|index| index - count as i64));
        }
        Order {
            size,
            indices: upload(&Tensor::from_slice(&all), self.synthetic.images.device()),
            synthetic,
        }
    }

    /// Returns batch `batch` of `order`, synthetic images first; its `real` is `None` when the set
    /// holds no real image.
    ///
    /// # Panics
    /// When there is no such batch.
    pub fn gather(&self, order: &Order, batch: usize) -> Batch {
        let start = batch * order.size;
        let end = (start + order.size).min(order.synthetic.len());
        let own: Vec<usize> = order.synthetic[start..end]
            .iter()
            .flatten()
            .copied()
            .collect();
        let (count, others) = (own.len() as i64, (end - start - own.len()) as i64);
        let mut views: Vec<View> = own.iter().map(|&index| self.views[index]).collect();
        views.resize(end - start, View::default());
        let chosen = order.indices.narrow(0, start as i64, count);
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
                views: Some(views),
            };
        };
        let chosen = order.indices.narrow(0, start as i64 + count, others);
        let pixels = set.images.index_select(0, &chosen);
        let own_labels = set.labels.index_select(0, &chosen);
        let options = (Kind::Float, images.device());
        let realness = [
            Tensor::zeros([count], options),
            Tensor::ones([others], options),
        ];
        Batch {
            images: Tensor::cat(&[images, self.normaliser.apply(&pixels)], 0),
            teachers: Some(Tensor::cat(&[teachers, own_labels.full_like(-1)], 0)),
            labels: Tensor::cat(&[labels, own_labels], 0),
            scores: None,
            real: Some(Tensor::cat(&realness, 0)),
            views: Some(views),
        }
    }
}
