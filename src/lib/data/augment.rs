//! Crops and flips whole batches at random, on their device. Called by the batch sources before
//! normalisation.

use super::upload::upload;
use crate::runtime::seed::Rng;
use rand::Rng as _;
use tch::{Device, Kind, Tensor};

/// Pads `images` `[N,C,H,W]` by `crop` pixels on every side, cuts a random H×W window out of each,
/// and mirrors half of them left to right.
///
/// Offsets are uniform over 0..=2·`crop` in both directions, and flips have probability ½,
/// independently for each image. The padding is `fill`, one value a channel, or 0: right for u8
/// pixels, as PyTorch's usual pipeline crops before it normalises; for normalised images the
/// equivalent is −mean/std. It is `[C]` on the device of the images.
///
/// From `rng` come, image by image, the row offset, the column offset (both only if `crop` > 0) and
/// the flip (only if `flip`).
///
/// # Panics
/// When `images` has not four dimensions, or `fill` not one value for each channel.
pub fn augment(
    images: &Tensor,
    crop: i64,
    flip: bool,
    fill: Option<&Tensor>,
    rng: &mut Rng,
) -> Tensor {
    let (batch, _, _, width) = images.size4().expect("a batch has four dimensions");
    let batch = batch as usize;
    Augmentation::draw(batch, crop, flip, width, rng, images.device()).apply(images, fill)
}

/// Holds what was drawn to augment images, on their device: for an epoch at once, so that its steps
/// copy nothing from the host.
///
/// ```
/// use fed_distill::data::Augmentation;
/// use fed_distill::runtime::seed::Seeds;
/// use tch::{Device, Kind, Tensor};
///
/// let mut rng = Seeds::new(42).stream("augment", 0);
/// let drawn = Augmentation::draw(6, 1, true, 8, &mut rng, Device::Cpu);
/// let images = Tensor::ones([2, 1, 8, 8], (Kind::Uint8, Device::Cpu));
/// // The last two of the six.
/// assert_eq!(drawn.narrow(4, 2).apply(&images, None).size(), [2, 1, 8, 8]);
/// ```
#[derive(Debug, Default)]
pub struct Augmentation {
    crop: i64,
    /// i64 `[N,3,1,1]`: the first row, the first column, and the step between columns, which is −1
    /// for a mirrored image; `None` where nothing is drawn.
    numbers: Option<Tensor>,
    views: Vec<u64>,
}

impl Augmentation {
    /// Draws for `images` images of width `width`, as [`augment`] does.
    pub fn draw(
        images: usize,
        crop: i64,
        flip: bool,
        width: i64,
        rng: &mut Rng,
        device: Device,
    ) -> Self {
        let crop = crop.max(0);
        if crop == 0 && !flip {
            let views = vec![0; images];
            return Self {
                views,
                ..Self::default()
            };
        }
        let mut numbers = Vec::with_capacity(3 * images);
        let mut views = Vec::with_capacity(images);
        for _ in 0..images {
            let mut offset = || match crop {
                0 => 0,
                crop => rng.random_range(0..=2 * crop),
            };
            let (row, column) = (offset(), offset());
            let mirrored = flip && rng.random_bool(0.5);
            numbers.extend(match mirrored {
                true => [row, column + width - 1, -1],
                false => [row, column, 1],
            });
            views.push(view_number(crop, [row, column], mirrored));
        }
        let numbers = upload(&Tensor::from_slice(&numbers), device).view([-1, 3, 1, 1]);
        Self {
            crop,
            numbers: Some(numbers),
            views,
        }
    }

    /// Returns what was drawn for `length` images from `start` on.
    #[must_use]
    pub fn narrow(&self, start: usize, length: usize) -> Self {
        let of = |numbers: &Tensor| numbers.narrow(0, start as i64, length as i64);
        Self {
            crop: self.crop,
            numbers: self.numbers.as_ref().map(of),
            views: self.views[start..start + length].to_vec(),
        }
    }

    /// Returns the number of each image's view, below [`view_count`]: two views of an image have
    /// the same number only if they are the same.
    pub fn views(&self) -> &[u64] {
        &self.views
    }

    /// Returns `images` `[N,C,H,W]` as drawn, padded with `fill` as [`augment`] says, or `[N,C]`,
    /// with a value for each image.
    ///
    /// # Panics
    /// When there are not as many images as were drawn for.
    pub fn apply(&self, images: &Tensor, fill: Option<&Tensor>) -> Tensor {
        let Some(numbers) = &self.numbers else {
            return images.shallow_clone();
        };
        let (batch, channels, height, width) = images.size4().expect("a batch has four dimensions");
        let padded = pad(images, self.crop, fill);
        let (padded_height, padded_width) = (height + 2 * self.crop, width + 2 * self.crop);
        let [row, column, step] = [0, 1, 2].map(|which| numbers.select(1, which));
        // Flat positions in a padded plane: [N,H,1]·width + [N,1,W], the same for all channels of
        // an image. One gather with them takes a fifth of the time of indexing with four tensors
        // (CPU).
        let count = |to: i64| Tensor::arange(to, (Kind::Int64, images.device()));
        let rows = (row + count(height).view([1, height, 1])) * padded_width;
        let columns = column + step * count(width).view([1, 1, width]);
        let positions = (rows + columns).view([batch, 1, height * width]);
        padded
            .view([batch, channels, padded_height * padded_width])
            .gather(
                2,
                &positions.expand([batch, channels, height * width], false),
                false,
            )
            .view([batch, channels, height, width])
    }
}

/// Returns how many numbers an [`Augmentation`] gives to views: one for each offset, mirrored or
/// not.
pub fn view_count(crop: i64) -> u64 {
    let offsets = 2 * crop.max(0) as u64 + 1;
    2 * offsets * offsets
}

/// Returns the number of the view that is the image itself.
pub fn unchanged_view(crop: i64) -> u64 {
    view_number(crop.max(0), [crop.max(0); 2], false)
}

/// Returns the number of a view of (row, column) offsets in 0..=2·`crop`.
fn view_number(crop: i64, [row, column]: [i64; 2], mirrored: bool) -> u64 {
    2 * (row * (2 * crop + 1) + column) as u64 + u64::from(mirrored)
}

fn pad(images: &Tensor, crop: i64, fill: Option<&Tensor>) -> Tensor {
    if crop == 0 {
        return images.contiguous();
    }
    let Some(fill) = fill else {
        return images.constant_pad_nd([crop; 4]);
    };
    let size = images.size();
    let fill = fill.to_kind(images.kind()).view([-1, size[1], 1, 1]);
    let padded = fill
        .expand(
            [size[0], size[1], size[2] + 2 * crop, size[3] + 2 * crop],
            false,
        )
        .contiguous();
    padded
        .narrow(2, crop, size[2])
        .narrow(3, crop, size[3])
        .copy_(images);
    padded
}
