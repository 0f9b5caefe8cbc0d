//! Changes the size and the number of channels of u8 images on the host. Called by `load` on whole
//! splits and by the image folder reader on single images; both give the same bytes, on any
//! machine.

use super::parallel;
use super::raw::RawSplit;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma};

/// Resizes each image of a split to `size`×`size` pixels.
pub(super) fn to_size(split: RawSplit, size: usize) -> RawSplit {
    if (split.height, split.width) == (size, size) {
        return split;
    }
    let images: Vec<&[u8]> = split.images().collect();
    let resized = parallel::map(&images, |image| {
        resize(image, (split.height, split.width), size)
    });
    let RawSplit {
        labels,
        files,
        channels,
        pixels,
        ..
    } = split;
    // They are in memory no longer than they are needed.
    drop(pixels);
    let mut pixels = Vec::with_capacity(resized.iter().map(Vec::len).sum());
    resized.into_iter().for_each(|image| pixels.extend(image));
    RawSplit {
        height: size,
        width: size,
        pixels,
        labels,
        files,
        channels,
    }
}

/// Resizes planes [C,H,W] of (height, width) pixels to [C,size,size] with the triangle filter.
///
/// That is bilinear interpolation when it enlarges; when it shrinks, the filter is widened by the
/// scale, so that each pixel counts, as in Pillow's and torchvision's antialiased bilinear resize.
pub(super) fn resize(planes: &[u8], (height, width): (usize, usize), size: usize) -> Vec<u8> {
    if (height, width) == (size, size) {
        return planes.to_vec();
    }
    let target = size as u32;
    planes
        .chunks_exact((height * width).max(1))
        .filter_map(|plane| {
            ImageBuffer::<Luma<u8>, &[u8]>::from_raw(width as u32, height as u32, plane)
        })
        .flat_map(|plane| imageops::resize(&plane, target, target, FilterType::Triangle).into_raw())
        .collect()
}

/// Converts each image of a split to 1 or 3 channels.
pub(super) fn to_channels(split: RawSplit, channels: usize) -> RawSplit {
    if split.channels == channels {
        return split;
    }
    let mut pixels = Vec::with_capacity(split.pixels.len() / split.channels * channels);
    for image in split.images() {
        pixels.extend(convert(image, split.channels, channels));
    }
    RawSplit {
        channels,
        pixels,
        ..split
    }
}

/// Converts planes [from,H,W] to [to,H,W]: grey is repeated three times, colour becomes its luma.
pub(super) fn convert(planes: &[u8], from: usize, to: usize) -> Vec<u8> {
    match (from, to) {
        (1, 3) => planes.repeat(3),
        (3, 1) => luma(planes),
        _ => planes.to_vec(),
    }
}

/// Returns the luma of ITU-R BT.601, [H,W], of colour planes [3,H,W]: 0.299 R + 0.587 G + 0.114 B,
/// rounded to nearest.
fn luma(planes: &[u8]) -> Vec<u8> {
    let plane = planes.len() / 3;
    let (red, rest) = planes.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    red.iter()
        .zip(green)
        .zip(blue)
        .map(|((&red, &green), &blue)| {
            let thousandths = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
            ((thousandths + 500) / 1000) as u8
        })
        .collect()
}
