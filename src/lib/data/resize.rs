//! Changing the size and the number of channels of u8 images on the host. Called by `load` on whole
//! splits and by the image folder reader on single images; both give the same bytes, on any
//! machine.

use super::parallel;
use super::raw::RawSplit;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma};

/// Resizes every image of a split to `size`×`size`.
pub(super) fn to_size(split: RawSplit, size: usize) -> RawSplit {
    if (split.height, split.width) == (size, size) {
        return split;
    }
    let images: Vec<&[u8]> = split.images().collect();
    let resized = parallel::map(&images, |image| {
        resize(image, (split.height, split.width), size)
    });
    RawSplit {
        height: size,
        width: size,
        pixels: resized.concat(),
        labels: split.labels,
        files: split.files,
        channels: split.channels,
    }
}

/// Resizes planes [C,H,W] of (height, width) pixels to [C,size,size] with the triangle filter:
/// bilinear when enlarging, and the filter widened by the scale when shrinking, so that no pixel is
/// lost (as Pillow's and torchvision's antialiased bilinear).
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

/// Converts every image of a split to 1 or 3 channels.
pub(super) fn to_channels(split: RawSplit, channels: usize) -> RawSplit {
    if split.channels == channels {
        return split;
    }
    let pixels = split
        .images()
        .flat_map(|image| convert(image, split.channels, channels))
        .collect();
    RawSplit {
        channels,
        pixels,
        ..split
    }
}

/// Converts planes [from,H,W] to [to,H,W]: grey is repeated, colour becomes luma.
pub(super) fn convert(planes: &[u8], from: usize, to: usize) -> Vec<u8> {
    match (from, to) {
        (1, 3) => planes.repeat(3),
        (3, 1) => luma(planes),
        _ => planes.to_vec(),
    }
}

/// Luma of ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, rounded to nearest.
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
