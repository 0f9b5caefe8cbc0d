//! A dataset in memory: its images and labels as tensors, and the constants that normalise them.
//! Made by [`load`](super::load); read by training, partitioning and evaluation.

use super::upload::upload;
use crate::error::{Error, Result};
use tch::{Device, Kind, Tensor};

/// Holds the images and labels of one split.
///
/// ```
/// use fed_distill::data::ImageSet;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let images = Tensor::zeros([4, 1, 8, 8], (Kind::Uint8, Device::Cpu));
/// let set = ImageSet::new(images, vec![0, 1, 2, 1])?;
/// assert_eq!(set.counts(3), [1, 2, 1]);
/// assert_eq!(set.select(&[3, 2])?.label_list, [1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ImageSet {
    /// Pixels, u8 `[M,C,H,W]`.
    pub images: Tensor,
    /// Labels, i64 `[M]`, on the device of the images.
    pub labels: Tensor,
    /// The labels again, on the host, for partitioning and counting.
    pub label_list: Vec<i64>,
}

/// Holds the constants of each channel that normalise an image: a pixel p in 0..255 becomes
/// (p/255 − mean)/std.
///
/// ```
/// use fed_distill::data::Normalisation;
/// use tch::Tensor;
///
/// let constants = Normalisation { mean: vec![0.0], std: vec![0.5] };
/// let pixels = Tensor::from_slice(&[0_u8, 255]).view([1, 1, 1, 2]);
/// let input = constants.apply(&pixels);
/// assert_eq!(Vec::<f32>::try_from(input.view(-1)).unwrap(), [0.0, 2.0]);
/// assert_eq!(constants.to_pixels(&input), pixels);
/// ```
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalisation {
    /// Mean of the pixels scaled to 0..1, one value a channel.
    pub mean: Vec<f64>,
    /// Standard deviation of the pixels scaled to 0..1, one value a channel.
    pub std: Vec<f64>,
}

/// Holds the training and the test split of a dataset.
#[derive(Debug)]
pub struct Dataset {
    /// Name of the [`DatasetKind`](super::DatasetKind): `digits`, `mnist`, …
    pub name: String,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Images that clients train on.
    pub train: ImageSet,
    /// Images that accuracy is measured on.
    pub test: ImageSet,
    /// Constants that normalise both splits.
    pub normalisation: Normalisation,
    /// SHA-256 over shapes, pixels and labels of both splits, by which manifests name the dataset;
    /// empty without images.
    pub fingerprint: String,
    /// Paths of the images that were left out because they are broken, with
    /// [`skip_broken`](super::DatasetSettings::skip_broken).
    pub broken: Vec<String>,
}

impl Dataset {
    /// Returns a dataset that has no images, of (channels, size) and these classes: nothing can be
    /// evaluated on it.
    ///
    /// # Errors
    /// Fails as libtorch does.
    pub fn without_images(
        classes: Vec<String>,
        (channels, size): (i64, i64),
        normalisation: Normalisation,
        device: Device,
    ) -> Result<Self> {
        let none = || {
            let images = Tensor::f_zeros([0, channels, size, size], (Kind::Uint8, device))?;
            ImageSet::new(images, Vec::new())
        };
        Ok(Self {
            name: "none".into(),
            classes,
            train: none()?,
            test: none()?,
            normalisation,
            fingerprint: String::new(),
            broken: Vec::new(),
        })
    }

    /// Returns the same dataset as views of the same tensors, so that another thread can own them.
    pub fn share(&self) -> Self {
        Self {
            name: self.name.clone(),
            classes: self.classes.clone(),
            train: self.train.share(),
            test: self.test.share(),
            normalisation: self.normalisation.clone(),
            fingerprint: self.fingerprint.clone(),
            broken: self.broken.clone(),
        }
    }

    /// Returns the channels of an image, 1 or 3.
    pub fn channels(&self) -> i64 {
        self.train.images.size()[1]
    }

    /// Returns the height and width of an image in pixels.
    pub fn size(&self) -> i64 {
        self.train.images.size()[2]
    }
}

impl ImageSet {
    /// Makes a split of `images`, u8 `[M,C,H,W]`, and one label for each; the labels are copied to
    /// the images' device.
    ///
    /// # Errors
    /// Fails when `images` has another type or shape, or not one image for each label.
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

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.label_list.len()
    }

    /// Returns `true` when there is no image.
    pub fn is_empty(&self) -> bool {
        self.label_list.is_empty()
    }

    /// Returns the same images as views of the same tensors, so that another thread can own them.
    pub fn share(&self) -> ImageSet {
        ImageSet {
            images: self.images.shallow_clone(),
            labels: self.labels.shallow_clone(),
            label_list: self.label_list.clone(),
        }
    }

    /// Returns copies of the images at `indices`, in that order; an index may occur twice.
    ///
    /// # Errors
    /// Fails when an index is not below [`len`](Self::len).
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

    /// Counts the images of each class in 0..`classes`; other labels are not counted.
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
    /// Normalises pixels, u8 `[N,C,H,W]`, to f32 `[N,C,H,W]` on their device: (p/255 − mean)/std.
    ///
    /// # Panics
    /// When C is not the number of constants.
    pub fn apply(&self, pixels: &Tensor) -> Tensor {
        self.on(pixels.device()).apply(pixels)
    }

    /// Returns the constants on `device`, for many batches.
    pub fn on(&self, device: Device) -> Normaliser {
        let constants = self.mean.iter().zip(&self.std);
        let scale = constants.clone().map(|(_, std)| 1.0 / (255.0 * std));
        let shift = constants.map(|(mean, std)| -mean / std);
        Normaliser {
            scale: per_channel(scale, device),
            shift: per_channel(shift, device),
        }
    }

    /// Converts normalised images, f32 `[N,C,H,W]`, to pixels, u8 `[N,C,H,W]`, rounded and clamped
    /// to 0..255, for pictures.
    ///
    /// # Panics
    /// When C is not the number of constants.
    pub fn to_pixels(&self, images: &Tensor) -> Tensor {
        let scale = per_channel(self.std.iter().map(|std| 255.0 * std), images.device());
        let shift = per_channel(self.mean.iter().map(|mean| 255.0 * mean), images.device());
        shift
            .addcmul(&images.to_kind(Kind::Float), &scale)
            .round()
            .clamp(0.0, 255.0)
            .to_kind(Kind::Uint8)
    }

    /// Returns the normalised value of a black pixel, one a channel.
    pub fn black(&self) -> Vec<f64> {
        let constants = self.mean.iter().zip(&self.std);
        constants.map(|(mean, std)| -mean / std).collect()
    }
}

/// Holds the constants of a [`Normalisation`] on a device.
#[derive(Debug)]
pub struct Normaliser {
    /// 1/(255 std), f32 [1,C,1,1].
    scale: Tensor,
    /// −mean/std, f32 [1,C,1,1].
    shift: Tensor,
}

impl Normaliser {
    /// Normalises pixels, u8 `[N,C,H,W]` on the device of the constants, to f32 `[N,C,H,W]`.
    ///
    /// # Panics
    /// When C is not the number of constants.
    pub fn apply(&self, pixels: &Tensor) -> Tensor {
        assert_eq!(pixels.size()[1], self.scale.size()[1], "channels");
        // One pass after the conversion: p·1/(255 std) − mean/std.
        self.shift
            .addcmul(&pixels.to_kind(Kind::Float), &self.scale)
    }
}

/// Returns one value a channel as f32 [1,C,1,1] on `device`.
fn per_channel(values: impl Iterator<Item = f64>, device: Device) -> Tensor {
    let values: Vec<f32> = values.map(|value| value as f32).collect();
    upload(&Tensor::from_slice(&values), device).view([1, -1, 1, 1])
}
