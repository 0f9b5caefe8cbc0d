//! Decodes an image file to planes of bytes and refuses what exceeds the bounds on size. Used by
//! the image folder reader, on several threads at once.

use super::super::load::TargetShape;
use super::super::raw::{MAX_PIXELS, MAX_SIDE};
use super::super::resize;
use crate::error::{Text, assignment};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Most bytes that a decoder may allocate: an image of the largest size with four channels of 32
/// bits.
const MAX_MEMORY: u64 = 256 << 20;

/// Images of more bytes are decoded one at a time.
const LARGE: u64 = 16 << 20;

/// Holds what the decoders of a set share.
#[derive(Default)]
pub(super) struct Shared {
    /// Bytes of all images of the set so far.
    total: AtomicU64,
    /// Held while a large image is decoded.
    large: Mutex<()>,
}

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
    /// It has more pixels than an image may have.
    TooLarge(String),
    /// The images of the set together are too large: what the bound is, and what to do.
    SetTooLarge(Text),
}

impl From<ImageError> for DecodeError {
    fn from(error: ImageError) -> Self {
        Self::Damaged(error)
    }
}

/// Decodes `file` and converts it to `target`. Transparency is dropped, 16 bits a channel become 8,
/// and orientation tags are ignored. Of an animation the first picture is taken.
///
/// # Errors
/// Fails when the file is damaged, and when it or the whole dataset exceeds the bounds on size.
pub(super) fn decode(
    file: &[u8],
    target: &TargetShape,
    shared: &Shared,
) -> Result<DecodedImage, DecodeError> {
    // Only the header is read here. The image crate's own limit on memory applies in addition to
    // the limit on the size below.
    let pixels_only = without_metadata(file);
    let mut reader = ImageReader::new(Cursor::new(&*pixels_only))
        .with_guessed_format()
        .map_err(ImageError::IoError)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_MEMORY);
    reader.limits(limits);
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        let problem = format!("{height}×{width} pixels are not within 1×1..{MAX_SIDE}×{MAX_SIDE}");
        return Err(DecodeError::TooLarge(problem));
    }
    let found = if decoder.color_type().has_color() {
        3
    } else {
        1
    };
    let channels = target.channels.unwrap_or(found);
    let area = target.size.map_or(height * width, |size| size * size);
    let bytes = (channels * area) as u64;
    if shared
        .total
        .fetch_add(bytes, Ordering::Relaxed)
        .saturating_add(bytes)
        > MAX_PIXELS
    {
        let problem = format!(
            "with it the images take more than {} GiB; ",
            MAX_PIXELS >> 30
        );
        let problem = Text::from(problem) + assignment("size", "…") + " makes them smaller";
        return Err(DecodeError::SetTooLarge(problem));
    }
    let _alone = (decoder.total_bytes() > LARGE)
        .then(|| shared.large.lock().unwrap_or_else(PoisonError::into_inner));
    let image = DynamicImage::from_decoder(decoder)?;
    let planes = match found {
        1 => image.into_luma8().into_raw(),
        _ => planar(image.into_rgb8().as_raw()),
    };
    let planes = match found == channels {
        true => planes,
        false => resize::convert(&planes, found, channels),
    };
    let (height, width, pixels) = match target.size {
        Some(size) if (height, width) != (size, size) => {
            (size, size, resize::resize(&planes, (height, width), size))
        }
        _ => (height, width, planes),
    };
    Ok(DecodedImage {
        channels,
        height,
        width,
        pixels,
        sha256: Sha256::digest(file).into(),
    })
}

/// Returns a PNG file without its colour profile and texts, which are not used and may decompress
/// to a thousand times their length; any other file as it is.
fn without_metadata(file: &[u8]) -> Cow<'_, [u8]> {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    const METADATA: [&[u8]; 5] = [b"iCCP", b"zTXt", b"iTXt", b"tEXt", b"eXIf"];
    let Some(mut rest) = file.strip_prefix(SIGNATURE) else {
        return Cow::Borrowed(file);
    };
    let mut kept = Vec::new();
    // A chunk is its length, its name, its data and a checksum.
    while let Some((length, name)) = rest.first_chunk::<4>().zip(rest.get(4..8)) {
        let length = (u32::from_be_bytes(*length) as usize).saturating_add(12);
        let (chunk, behind) = rest.split_at(length.min(rest.len()));
        match METADATA.contains(&name) {
            true if kept.is_empty() => kept.extend(&file[..file.len() - rest.len()]),
            false if !kept.is_empty() => kept.extend(chunk),
            _ => {}
        }
        rest = behind;
    }
    match kept.is_empty() {
        true => Cow::Borrowed(file),
        false => Cow::Owned([&kept, rest].concat()),
    }
}

/// Converts interleaved pixels, RGB RGB …, to planes, R… G… B….
fn planar(interleaved: &[u8]) -> Vec<u8> {
    (0..3)
        .flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied())
        .collect()
}
