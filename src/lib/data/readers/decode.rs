//! One PNG or JPEG file to planes of bytes, within bounds. Used by the image folder reader, on
//! several threads at once.

use super::super::load::Wanted;
use super::super::raw::{MAX_PIXELS, MAX_SIDE};
use super::super::resize;
use image::{DynamicImage, ImageDecoder, ImageReader};
use sha2::{Digest, Sha256};
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

/// A decoded image: u8 [channels,height,width].
#[derive(Debug)]
pub(super) struct Picture {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub pixels: Vec<u8>,
    /// Of the file, which stays the same when a decoder rounds differently.
    pub sha256: [u8; 32],
}

/// Decodes `file` to grey or colour, as it is or as `wanted`. Transparency is dropped, 16 bits
/// become 8, orientation tags are not obeyed.
///
/// `taken` counts the bytes of all pictures so far. Errors say what is wrong with the file.
pub(super) fn decode(file: &[u8], wanted: &Wanted, taken: &AtomicU64) -> Result<Picture, String> {
    // Only the header is read here; the library's own limit on memory holds besides the one on the
    // size below.
    let decoder = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| error.to_string())?
        .into_decoder()
        .map_err(|error| error.to_string())?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(format!(
            "{height}×{width} pixels are not within 1×1..{MAX_SIDE}×{MAX_SIDE}"
        ));
    }
    let found = if decoder.color_type().has_color() {
        3
    } else {
        1
    };
    let channels = wanted.channels.unwrap_or(found);
    let area = wanted.size.map_or(height * width, |size| size * size);
    let bytes = (channels * area) as u64;
    if taken
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes)
        > MAX_PIXELS
    {
        return Err(format!(
            "with it the images take more than {} GiB; `dataset.size=…` makes them smaller",
            MAX_PIXELS >> 30
        ));
    }
    let image = DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?;
    let planes = match found {
        1 => image.into_luma8().into_raw(),
        _ => planar(image.into_rgb8().as_raw()),
    };
    let planes = resize::convert(&planes, found, channels);
    let (height, width, pixels) = match wanted.size {
        Some(size) => (size, size, resize::resize(&planes, (height, width), size)),
        None => (height, width, planes),
    };
    Ok(Picture {
        channels,
        height,
        width,
        pixels,
        sha256: Sha256::digest(file).into(),
    })
}

/// RGB RGB … to R… G… B….
fn planar(interleaved: &[u8]) -> Vec<u8> {
    (0..3)
        .flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied())
        .collect()
}
