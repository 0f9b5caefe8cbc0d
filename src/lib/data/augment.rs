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
/// equivalent is −mean/std.
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
    fill: Option<&[f64]>,
    rng: &mut Rng,
) -> Tensor {
    augment_views(images, crop, flip, fill, rng).0
}

/// Does the same as [`augment`], and returns beside the images the number of each one's view, below
/// [`view_count`]: two views of an image have the same number only if they are the same.
pub fn augment_views(
    images: &Tensor,
    crop: i64,
    flip: bool,
    fill: Option<&[f64]>,
    rng: &mut Rng,
) -> (Tensor, Vec<u64>) {
    if crop <= 0 && !flip {
        return (images.shallow_clone(), vec![0; images.size()[0] as usize]);
    }
    let (batch, channels, height, width) = images.size4().expect("a batch has four dimensions");
    let draws = Draws::new(batch, crop.max(0), flip, width, rng, images.device());
    let padded = pad(images, crop.max(0), fill);
    let (padded_height, padded_width) = (height + 2 * crop.max(0), width + 2 * crop.max(0));
    // Flat positions in a padded plane: [N,H,1]·width + [N,1,W], the same for all channels of an
    // image. One gather with them takes a fifth of the time of indexing with four tensors (CPU).
    let rows = (draws.row
        + Tensor::arange(height, (Kind::Int64, images.device())).view([1, height, 1]))
        * padded_width;
    let columns = draws.column
        + draws.step * Tensor::arange(width, (Kind::Int64, images.device())).view([1, 1, width]);
    let positions = (rows + columns).view([batch, 1, height * width]);
    let augmented = padded
        .view([batch, channels, padded_height * padded_width])
        .gather(
            2,
            &positions.expand([batch, channels, height * width], false),
            false,
        )
        .view([batch, channels, height, width]);
    (augmented, draws.views)
}

/// Returns how many numbers [`augment_views`] gives to views: one for each offset, mirrored or not.
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

/// Draws for each image, as i64 [N,1,1] on the device: the first row, the first column, and the
/// step between columns, which is −1 for a mirrored image; and on the host the number of its view.
struct Draws {
    row: Tensor,
    column: Tensor,
    step: Tensor,
    views: Vec<u64>,
}

impl Draws {
    fn new(batch: i64, crop: i64, flip: bool, width: i64, rng: &mut Rng, device: Device) -> Self {
        let mut numbers = Vec::with_capacity(3 * batch as usize);
        let mut views = Vec::with_capacity(batch as usize);
        for _ in 0..batch {
            let mut offset = || {
                if crop > 0 {
                    rng.random_range(0..=2 * crop)
                } else {
                    0
                }
            };
            let (row, column) = (offset(), offset());
            let mirrored = flip && rng.random_bool(0.5);
            numbers.extend(match mirrored {
                true => [row, column + width - 1, -1],
                false => [row, column, 1],
            });
            views.push(view_number(crop, [row, column], mirrored));
        }
        let numbers = upload(&Tensor::from_slice(&numbers), device).view([batch, 3, 1, 1]);
        Self {
            row: numbers.select(1, 0),
            column: numbers.select(1, 1),
            step: numbers.select(1, 2),
            views,
        }
    }
}

fn pad(images: &Tensor, crop: i64, fill: Option<&[f64]>) -> Tensor {
    if crop == 0 {
        return images.contiguous();
    }
    let Some(fill) = fill else {
        return images.constant_pad_nd([crop; 4]);
    };
    let size = images.size();
    let fill = Tensor::from_slice(fill).to_kind(images.kind());
    let fill = upload(&fill, images.device()).view([1, size[1], 1, 1]);
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
