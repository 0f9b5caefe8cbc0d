//! Reads a dataset as its settings describe it: read, limit, convert, resize, hash, normalise.
//! Called by the stages and by programs that use the library.

use super::classes::relabel;
use super::dataset::{Dataset, ImageSet};
use super::fingerprint::fingerprint;
use super::limit::limit;
use super::normalise::normalisation;
use super::raw::{MAX_PIXELS, MAX_SIDE, RawSet, RawSplit};
use super::settings::{DatasetKind, DatasetSettings};
use super::{readers, resize};
use crate::error::{Error, Result, Text, assignment, parameter};
use tch::{Device, Tensor};

/// Smallest height and width of a model's input in pixels.
const MIN_SIZE: usize = 8;

/// Reads the dataset that `settings` describes into u8 tensors on `device`; missing files are
/// downloaded if `settings.download` is set.
///
/// The steps are, in this order: read; `classes`; `max_train` and `max_test`; channels; size;
/// fingerprint; normalisation. All of them run on the host, so that CPU and CUDA get the same
/// bytes.
///
/// ```
/// use fed_distill::data::{DatasetSettings, load};
/// use tch::Device;
///
/// # fn main() -> fed_distill::Result<()> {
/// let few = DatasetSettings {
///     max_train: Some(100),
///     ..DatasetSettings::default()
/// };
/// let digits = load(&few, Device::Cpu)?;
/// assert_eq!(digits.train.images.size(), [100, 1, 16, 16]);
///
/// let error = load(&DatasetSettings { size: Some(7), ..few }, Device::Cpu).unwrap_err();
/// assert_eq!(error.what(), "`size` is out of range");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Fails when a setting is out of range (usage), when a file is missing or damaged, when a download
/// fails, and when the images do not fit into memory.
pub fn load(settings: &DatasetSettings, device: Device) -> Result<Dataset> {
    if settings.kind == DatasetKind::None {
        return Err(no_images());
    }
    let target = TargetShape::from(settings)?;
    check_test_share(settings.test_share)?;
    let set = readers::read(settings, &target)?;
    let RawSet {
        classes,
        mut train,
        mut test,
        broken,
    } = match &settings.classes {
        Some(names) => relabel(set, names)?,
        None => set,
    };
    if let Some(max) = settings.max_train {
        train = limit(train, max, classes.len(), "max_train")?;
    }
    if let Some(max) = settings.max_test {
        test = limit(test, max, classes.len(), "max_test")?;
    }
    let train = convert(train, &target)?;
    let test = convert(test, &target)?;
    check_same_shape(&train, &test)?;
    Ok(Dataset {
        name: settings.kind.to_string(),
        classes,
        normalisation: normalisation(settings, if train.len() > 0 { &train } else { &test })?,
        fingerprint: fingerprint(&train, &test),
        broken,
        train: to_device(train, device)?,
        test: to_device(test, device)?,
    })
}

/// Holds the size and the channels that images are converted to; `None` keeps the files' own.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetShape {
    pub size: Option<usize>,
    pub channels: Option<usize>,
}

impl TargetShape {
    /// Reads the shape from the settings, or fails (usage) when it is out of range.
    fn from(settings: &DatasetSettings) -> Result<Self> {
        let size = match settings.size {
            None if settings.kind == DatasetKind::Digits => Some(16),
            None => None,
            Some(size) => match usize::try_from(size) {
                Ok(size) if (MIN_SIZE..=MAX_SIDE).contains(&size) => Some(size),
                _ => {
                    return Err(out_of_range(
                        "size",
                        &format!("{MIN_SIZE}..{MAX_SIDE}"),
                        size,
                    ));
                }
            },
        };
        let channels = match settings.channels {
            None => None,
            Some(1) => Some(1),
            Some(3) => Some(3),
            Some(other) => return Err(out_of_range("channels", "1 or 3", other)),
        };
        Ok(Self { size, channels })
    }
}

/// Reports the kind `none` where images are needed.
fn no_images() -> Error {
    let own = assignment("kind", "image_folder") + " and " + assignment("root", "PATH");
    Error::usage(parameter("kind") + " is `none`: there are no images")
        .hint(own + " are images of your own; `--help` lists the other data sets")
}

/// Fails (usage) unless the share leaves images for the test.
fn check_test_share(share: Option<f64>) -> Result<()> {
    match share {
        Some(share) if !(share > 0.0 && share <= 1.0) => {
            Err(Error::usage(parameter("test_share") + " is out of range")
                .note("expected", "above 0, at most 1")
                .note("found", share.to_string()))
        }
        _ => Ok(()),
    }
}

fn out_of_range(name: &str, allowed: &str, found: i64) -> Error {
    Error::usage(parameter(name) + " is out of range")
        .note("expected", allowed)
        .note("found", found.to_string())
}

/// Converts a split to the target shape.
///
/// # Errors
/// Fails when the converted images are not square, are smaller than [`MIN_SIZE`], or take more than
/// [`MAX_PIXELS`].
fn convert(split: RawSplit, target: &TargetShape) -> Result<RawSplit> {
    let channels = target.channels.unwrap_or(split.channels);
    let (height, width) = match target.size {
        Some(size) => (size, size),
        None => (split.height, split.width),
    };
    let found = format!("{height}×{width} pixels");
    if height != width {
        let square = height.min(width).max(MIN_SIZE);
        return Err(Error::failed("the images are not square")
            .note("found", found)
            .hint(assignment("size", square) + " resizes them"));
    }
    if height < MIN_SIZE {
        return Err(Error::failed(format!(
            "the images are smaller than {MIN_SIZE}×{MIN_SIZE} pixels"
        ))
        .note("found", found)
        .hint(assignment("size", MIN_SIZE) + " or more enlarges them"));
    }
    let bytes = (split.len() as u64).saturating_mul((channels * height * width) as u64);
    if bytes > MAX_PIXELS {
        let (max_train, max_test) = (parameter("max_train"), parameter("max_test"));
        return Err(
            Error::failed(format!("the images would take {} GiB", bytes >> 30))
                .note(
                    "expected",
                    format!("at most {} GiB a split", MAX_PIXELS >> 30),
                )
                .hint(
                    Text::from("lower ")
                        + parameter("size")
                        + ", or set "
                        + max_train
                        + " and "
                        + max_test,
                ),
        );
    }
    let split = resize::to_channels(split, channels);
    Ok(match target.size {
        Some(size) => resize::to_size(split, size),
        None => split,
    })
}

fn check_same_shape(train: &RawSplit, test: &RawSplit) -> Result<()> {
    let shape = |split: &RawSplit| format!("{}×{}×{}", split.channels, split.height, split.width);
    if shape(train) == shape(test) {
        return Ok(());
    }
    Err(Error::failed("training and test images differ in shape")
        .note(
            "found",
            format!("training {}, test {}", shape(train), shape(test)),
        )
        .hint(Text::from("set ") + parameter("size") + " and " + parameter("channels")))
}

/// Bytes of pixels that are in memory twice while a split becomes a tensor.
const PIECE: usize = 16 << 20;

/// Moves a split into tensors on `device`: piece by piece from the end, each freed once it is
/// copied.
fn to_device(split: RawSplit, device: Device) -> Result<ImageSet> {
    let shape =
        [split.len(), split.channels, split.height, split.width].map(|length| length as i64);
    let RawSplit {
        mut pixels, labels, ..
    } = split;
    let images = Tensor::f_empty(shape, (tch::Kind::Uint8, Device::Cpu))?;
    let flat = images.f_reshape([pixels.len() as i64])?;
    while !pixels.is_empty() {
        let start = (pixels.len() - 1) / PIECE * PIECE;
        let piece = &pixels[start..];
        let length = piece.len() as i64;
        // SAFETY: the tensor is a view of `piece`, and is read and dropped before that changes.
        let view = unsafe {
            Tensor::f_from_blob(
                piece.as_ptr(),
                &[length],
                &[1],
                tch::Kind::Uint8,
                Device::Cpu,
            )?
        };
        flat.f_narrow(0, start as i64, length)?.f_copy_(&view)?;
        drop(view);
        pixels.truncate(start);
        pixels.shrink_to_fit();
    }
    ImageSet::new(images.f_to_device(device)?, labels)
}
