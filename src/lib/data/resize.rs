//! Changes the size and the number of channels of u8 images on the host. Called by `load` on whole
//! splits and by the image folder reader on single images; both give the same bytes, on any
//! machine.

use super::parallel;
use super::raw::RawSplit;
use image::imageops::{self, FilterType};
use image::{Rgba, RgbaImage};
use std::array;

/// Resizes each image of a split to `size`×`size` pixels.
pub(super) fn to_size(split: RawSplit, size: usize) -> RawSplit {
    if (split.height, split.width) == (size, size) {
        return split;
    }
    let shape = (split.height, split.width);
    let together: Vec<&[u8]> = split.pixels.chunks(TOGETHER * plane(shape)).collect();
    let resized = parallel::map(&together, |planes| resize(planes, shape, size));
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
    resized.into_iter().for_each(|planes| pixels.extend(planes));
    RawSplit {
        height: size,
        width: size,
        pixels,
        labels,
        files,
        channels,
    }
}

/// Returns how many pixels a plane has, at least 1.
fn plane((height, width): (usize, usize)) -> usize {
    (height * width).max(1)
}

/// `image` resizes four channels of a pixel whatever it holds, so that four planes as the channels
/// of one image take the time of one plane.
const TOGETHER: usize = 4;

/// Resizes planes [C,H,W] of (height, width) pixels to [C,size,size] with the triangle filter.
///
/// That is bilinear interpolation when it enlarges; when it shrinks, the filter is widened by the
/// scale, so that each pixel counts, as in Pillow's and torchvision's antialiased bilinear resize.
pub(super) fn resize(planes: &[u8], (height, width): (usize, usize), size: usize) -> Vec<u8> {
    if (height, width) == (size, size) {
        return planes.to_vec();
    }
    let (plane, target) = (plane((height, width)), size as u32);
    let mut resized = Vec::with_capacity(planes.len() / plane * size * size);
    for planes in planes.chunks(TOGETHER * plane) {
        let pixel = |x: u32, y: u32| {
            let at = y as usize * width + x as usize;
            Rgba(array::from_fn(|channel| {
                planes.get(channel * plane + at).copied().unwrap_or(0)
            }))
        };
        let image = RgbaImage::from_fn(width as u32, height as u32, pixel);
        let image = imageops::resize(&image, target, target, FilterType::Triangle).into_raw();
        for channel in 0..planes.len() / plane {
            resized.extend(image.chunks_exact(TOGETHER).map(|pixel| pixel[channel]));
        }
    }
    resized
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
