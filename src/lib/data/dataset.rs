//! A whole dataset in memory: both splits as u8 tensors on the device, and the constants that
//! normalise them.

use super::upload::upload;
use crate::error::{Error, Result};
use tch::{Kind, Tensor};

/// One split. `images` is u8 [M,C,H,W] on the device; `labels` is i64 [M] on the device.
#[derive(Debug)]
pub struct ImageSet {
    pub images: Tensor,
    pub labels: Tensor,
    /// The labels again, on the host, for partitioning and counting.
    pub label_list: Vec<i64>,
}

/// Per-channel constants: a pixel p in 0..255 becomes (p/255 − mean)/std.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalisation {
    pub mean: Vec<f64>,
    pub std: Vec<f64>,
}

/// Training and test split of one set.
#[derive(Debug)]
pub struct Dataset {
    /// As in the config: `digits`, `mnist`, …
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    pub train: ImageSet,
    pub test: ImageSet,
    pub normalisation: Normalisation,
    /// SHA-256 over shapes, pixels and labels of both splits: what a split file or a teacher
    /// belongs to.
    pub fingerprint: String,
}

impl Dataset {
    /// The same dataset: tensors are views, so that a thread can have them.
    pub fn share(&self) -> Self {
        Self {
            name: self.name.clone(),
            classes: self.classes.clone(),
            train: self.train.share(),
            test: self.test.share(),
            normalisation: self.normalisation.clone(),
            fingerprint: self.fingerprint.clone(),
        }
    }
}

impl ImageSet {
    /// A split of `images` u8 [M,C,H,W] and one label each; the labels go to the images' device.
    ///
    /// Errors when the two do not fit together.
    pub fn new(images: Tensor, label_list: Vec<i64>) -> Result<Self> {
        let shape = images.size();
        if images.kind() != Kind::Uint8
            || shape.len() != 4
            || shape.first() != Some(&(label_list.len() as i64))
        {
            return Err(Error::failed("images and labels do not fit together")
                .note("expected", format!("u8 [{},C,H,W]", label_list.len()))
                .note("found", format!("{:?} {shape:?}", images.kind())));
        }
        let labels = Tensor::f_from_slice(&label_list)?.f_to_device(images.device())?;
        Ok(Self {
            images,
            labels,
            label_list,
        })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.label_list.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.label_list.is_empty()
    }

    /// The same images: tensors are views, so that a thread can have them.
    pub fn share(&self) -> ImageSet {
        ImageSet {
            images: self.images.shallow_clone(),
            labels: self.labels.shallow_clone(),
            label_list: self.label_list.clone(),
        }
    }

    /// The images at `indices`, in that order; an index may come twice. Errors when one is not
    /// below [`len`](Self::len).
    pub fn select(&self, indices: &[usize]) -> Result<ImageSet> {
        let label = |&index: &usize| {
            self.label_list.get(index).copied().ok_or_else(|| {
                Error::failed(format!("there is no image {index}"))
                    .note("expected", format!("an index below {}", self.len()))
            })
        };
        let label_list = indices.iter().map(label).collect::<Result<Vec<i64>>>()?;
        let positions: Vec<i64> = indices.iter().map(|&index| index as i64).collect();
        let positions = Tensor::f_from_slice(&positions)?.f_to_device(self.images.device())?;
        Self::new(self.images.f_index_select(0, &positions)?, label_list)
    }

    /// Images of each class 0..`classes`.
    pub fn counts(&self, classes: usize) -> Vec<u64> {
        let mut counts = vec![0; classes];
        for &label in &self.label_list {
            if let Some(count) = usize::try_from(label)
                .ok()
                .and_then(|label| counts.get_mut(label))
            {
                *count += 1;
            }
        }
        counts
    }
}

impl Normalisation {
    /// u8 [N,C,H,W] to f32 [N,C,H,W]: (p/255 − mean)/std, on the tensor's device.
    ///
    /// # Panics
    /// When C is not the number of constants.
    pub fn apply(&self, pixels: &Tensor) -> Tensor {
        // One pass after the conversion: p·1/(255 std) − mean/std.
        let constants = self.mean.iter().zip(&self.std);
        let scale = self.per_channel(
            pixels,
            constants.clone().map(|(_, std)| 1.0 / (255.0 * std)),
        );
        let shift = self.per_channel(pixels, constants.map(|(mean, std)| -mean / std));
        shift.addcmul(&pixels.to_kind(Kind::Float), &scale)
    }

    /// f32 normalised [N,C,H,W] to u8 pixels, rounded and clamped to 0..255 (for pictures).
    ///
    /// # Panics
    /// When C is not the number of constants.
    pub fn to_pixels(&self, images: &Tensor) -> Tensor {
        let scale = self.per_channel(images, self.std.iter().map(|std| 255.0 * std));
        let shift = self.per_channel(images, self.mean.iter().map(|mean| 255.0 * mean));
        shift
            .addcmul(&images.to_kind(Kind::Float), &scale)
            .round()
            .clamp(0.0, 255.0)
            .to_kind(Kind::Uint8)
    }

    /// f32 [1,C,1,1] on the device of `images`.
    fn per_channel(&self, images: &Tensor, values: impl Iterator<Item = f64>) -> Tensor {
        let values: Vec<f32> = values.map(|value| value as f32).collect();
        upload(&Tensor::from_slice(&values), images.device()).view([1, images.size()[1], 1, 1])
    }
}

impl Dataset {
    /// Channels of an image, 1 or 3.
    pub fn channels(&self) -> i64 {
        self.train.images.size()[1]
    }

    /// Height and width of an image in pixels.
    pub fn size(&self) -> i64 {
        self.train.images.size()[2]
    }
}
