//! Decodes a PNG or JPEG file to planes of bytes and refuses what exceeds the bounds on size. Used
//! by the image folder reader, on several threads at once.

use super::super::load::TargetShape;
use super::super::raw::{MAX_PIXELS, MAX_SIDE};
use super::super::resize;
use crate::error::{Text, assignment};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};
use sha2::{Digest, Sha256};
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

/// Holds a decoded image.
#[derive(Debug)]
pub(super) struct DecodedImage {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Row-major [channels,height,width].
    pub pixels: Vec<u8>,
    /// Hash of the file, which stays the same when a decoder rounds differently.
    pub sha256: [u8; 32],
}

/// Tells why an image cannot be decoded. Neither text names the file.
pub(super) enum DecodeError {
    Damaged(ImageError),
    /// It exceeds a bound on size: what the bound is, and what to do.
    TooLarge(Text),
}

impl From<ImageError> for DecodeError {
    fn from(error: ImageError) -> Self {
        Self::Damaged(error)
    }
}

/// Decodes `file` and converts it to `target`. Transparency is dropped, 16 bits a channel become 8,
/// and orientation tags are ignored.
///
/// `total` counts the bytes of all images of the dataset so far.
///
/// # Errors
/// Fails when the file is damaged, and when it or the whole dataset exceeds the bounds on size.
pub(super) fn decode(
    file: &[u8],
    target: &TargetShape,
    total: &AtomicU64,
) -> Result<DecodedImage, DecodeError> {
    // Only the header is read here. The image crate's own limit on memory applies in addition to
    // the limit on the size below.
    let decoder = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(ImageError::IoError)?
        .into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        let problem = format!("{height}×{width} pixels are not within 1×1..{MAX_SIDE}×{MAX_SIDE}");
        return Err(DecodeError::TooLarge(problem.into()));
    }
    let found = if decoder.color_type().has_color() {
        3
    } else {
        1
    };
    let channels = target.channels.unwrap_or(found);
    let area = target.size.map_or(height * width, |size| size * size);
    let bytes = (channels * area) as u64;
    if total
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes)
        > MAX_PIXELS
    {
        let problem = format!(
            "with it the images take more than {} GiB; ",
            MAX_PIXELS >> 30
        );
        let problem = Text::from(problem) + assignment("size", "…") + " makes them smaller";
        return Err(DecodeError::TooLarge(problem));
    }
    let image = DynamicImage::from_decoder(decoder)?;
    let planes = match found {
        1 => image.into_luma8().into_raw(),
        _ => planar(image.into_rgb8().as_raw()),
    };
    let planes = resize::convert(&planes, found, channels);
    let (height, width, pixels) = match target.size {
        Some(size) => (size, size, resize::resize(&planes, (height, width), size)),
        None => (height, width, planes),
    };
    Ok(DecodedImage {
        channels,
        height,
        width,
        pixels,
        sha256: Sha256::digest(file).into(),
    })
}

/// Converts interleaved pixels, RGB RGB …, to planes, R… G… B….
fn planar(interleaved: &[u8]) -> Vec<u8> {
    (0..3)
        .flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied())
        .collect()
}
