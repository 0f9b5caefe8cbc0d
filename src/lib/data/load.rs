//! From settings to a dataset on the device: read, limit, convert, resize, hash, normalise. Called
//! by the stages.

use super::dataset::{Dataset, ImageSet};
use super::fingerprint::fingerprint;
use super::limit::limit;
use super::normalise::normalisation;
use super::raw::{MAX_PIXELS, MAX_SIDE, RawSet, RawSplit};
use super::settings::{DatasetKind, DatasetSettings};
use super::{readers, resize};
use crate::error::{Error, Result};
use tch::{Device, Tensor};

/// Smallest height and width a model can take.
const MIN_SIZE: usize = 8;

/// Reads the whole set that `settings` describes into u8 tensors on `device`, fetching missing
/// files if `settings.download` is set.
///
/// Order: read; `max_train`/`max_test`; channels; size; fingerprint; normalisation. All of it
/// happens on the host, so that CPU and CUDA see the same bytes.
///
/// Errors: settings out of range (usage), missing or damaged files, failed downloads, too little
/// memory.
pub fn load(settings: &DatasetSettings, device: Device) -> Result<Dataset> {
    let wanted = Wanted::from(settings)?;
    let RawSet {
        classes,
        mut train,
        mut test,
    } = readers::read(settings, &wanted)?;
    if let Some(max) = settings.max_train {
        train = limit(train, max, classes.len(), "dataset.max_train")?;
    }
    if let Some(max) = settings.max_test {
        test = limit(test, max, classes.len(), "dataset.max_test")?;
    }
    let train = shape(train, &wanted)?;
    let test = shape(test, &wanted)?;
    check_alike(&train, &test)?;
    Ok(Dataset {
        name: settings.kind.name().to_owned(),
        classes,
        normalisation: normalisation(settings, &train)?,
        fingerprint: fingerprint(&train, &test),
        train: upload(train, device)?,
        test: upload(test, device)?,
    })
}

/// Size and channels to convert to, checked; `None` keeps the files' own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub size: Option<usize>,
    pub channels: Option<usize>,
}

impl Wanted {
    fn from(settings: &DatasetSettings) -> Result<Self> {
        let size = match settings.size {
            None if settings.kind == DatasetKind::Digits => Some(16),
            None => None,
            Some(size) => match usize::try_from(size) {
                Ok(size) if (MIN_SIZE..=MAX_SIDE).contains(&size) => Some(size),
                _ => {
                    return Err(out_of_range(
                        "dataset.size",
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
            Some(other) => return Err(out_of_range("dataset.channels", "1 or 3", other)),
        };
        Ok(Self { size, channels })
    }
}

fn out_of_range(key: &str, allowed: &str, found: i64) -> Error {
    Error::usage(format!("`{key}` is out of range"))
        .note("expected", allowed)
        .note("found", found.to_string())
}

/// Converts a split to the wanted channels and size, and checks that the result is square, large
/// enough, and fits.
fn shape(split: RawSplit, wanted: &Wanted) -> Result<RawSplit> {
    let channels = wanted.channels.unwrap_or(split.channels);
    let (height, width) = match wanted.size {
        Some(size) => (size, size),
        None => (split.height, split.width),
    };
    let found = format!("{height}×{width} pixels");
    if height != width {
        return Err(Error::failed("the images are not square")
            .note("found", found)
            .hint(format!(
                "`dataset.size={}` resizes them",
                height.min(width).max(MIN_SIZE)
            )));
    }
    if height < MIN_SIZE {
        return Err(Error::failed(format!(
            "the images are smaller than {MIN_SIZE}×{MIN_SIZE} pixels"
        ))
        .note("found", found)
        .hint(format!("`dataset.size={MIN_SIZE}` or more enlarges them")));
    }
    let bytes = (split.len() as u64).saturating_mul((channels * height * width) as u64);
    if bytes > MAX_PIXELS {
        return Err(
            Error::failed(format!("the images would take {} GiB", bytes >> 30))
                .note(
                    "expected",
                    format!("at most {} GiB a split", MAX_PIXELS >> 30),
                )
                .hint("lower `dataset.size`, or set `dataset.max_train` and `dataset.max_test`"),
        );
    }
    let split = resize::to_channels(split, channels);
    Ok(match wanted.size {
        Some(size) => resize::to_size(split, size),
        None => split,
    })
}

fn check_alike(train: &RawSplit, test: &RawSplit) -> Result<()> {
    let shape = |split: &RawSplit| format!("{}×{}×{}", split.channels, split.height, split.width);
    if shape(train) == shape(test) {
        return Ok(());
    }
    Err(Error::failed("training and test images differ in shape")
        .note(
            "found",
            format!("training {}, test {}", shape(train), shape(test)),
        )
        .hint("set `dataset.size` and `dataset.channels`"))
}

fn upload(split: RawSplit, device: Device) -> Result<ImageSet> {
    let shape =
        [split.len(), split.channels, split.height, split.width].map(|length| length as i64);
    let images = Tensor::f_from_data_size(&split.pixels, &shape, tch::Kind::Uint8)?;
    ImageSet::new(images.f_to_device(device)?, split.labels)
}
