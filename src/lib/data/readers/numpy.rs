//! Reads NumPy arrays: of unsigned bytes out of Python pickles, for CIFAR, and of small integers
//! out of `.npy` files, for MNIST.

use crate::artifact::pickle::{Pickle, Ref};
use crate::error::{Error, Result};
use std::borrow::Cow;

/// Holds an array of unsigned bytes, the last dimension contiguous.
pub(super) struct Array<'a> {
    pub shape: Vec<usize>,
    pub bytes: Cow<'a, [u8]>,
}

/// Returns the array at `at`.
///
/// # Errors
/// Fails when the object is no array of bytes in row-major order, or has not the bytes that its
/// shape says.
pub(super) fn array<'a>(pickle: &Pickle<'a>, at: Ref) -> Result<Array<'a>> {
    let no_array = || {
        let found = pickle.describe(at);
        Error::failed("it is no NumPy array of bytes (uint8) in row-major order")
            .note("found", found)
    };
    let array = rebuilt(pickle, at)
        .or_else(|| from_buffer(pickle, at))
        .ok_or_else(no_array)?;
    let expected = array
        .shape
        .iter()
        .try_fold(1_usize, |product, &length| product.checked_mul(length));
    match expected == Some(array.bytes.len()) {
        true => Ok(array),
        false => Err(Error::failed(format!(
            "an array of shape {:?} has {} bytes",
            array.shape,
            array.bytes.len()
        ))),
    }
}

/// Reads what `_reconstruct` makes, whose state is (version, shape, type, Fortran order, bytes).
fn rebuilt<'a>(pickle: &Pickle<'a>, at: Ref) -> Option<Array<'a>> {
    let ((module, name), _) = pickle.call(at)?;
    let known = matches!(module, "numpy.core.multiarray" | "numpy._core.multiarray");
    let &[_version, shape, kind, fortran, bytes] = pickle.tuple(pickle.state(at)?)? else {
        return None;
    };
    let shape = lengths(pickle, shape)?;
    let row_major = !pickle.truth(fortran)? || shape.len() < 2;
    (known && name == "_reconstruct" && row_major && is_bytes(pickle, kind)).then_some(())?;
    Some(Array {
        shape,
        bytes: pickle.bytes(bytes)?,
    })
}

/// Reads what `_frombuffer` makes, which protocol 5 has: (bytes, type, shape, order).
fn from_buffer<'a>(pickle: &Pickle<'a>, at: Ref) -> Option<Array<'a>> {
    let ((module, name), arguments) = pickle.call(at)?;
    let known = matches!(module, "numpy.core.numeric" | "numpy._core.numeric");
    let &[bytes, kind, shape, order] = arguments else {
        return None;
    };
    let row_major = pickle.text(order)? == "C";
    (known && name == "_frombuffer" && row_major && is_bytes(pickle, kind)).then_some(())?;
    Some(Array {
        shape: lengths(pickle, shape)?,
        bytes: pickle.bytes(bytes)?,
    })
}

fn lengths(pickle: &Pickle, at: Ref) -> Option<Vec<usize>> {
    let lengths = pickle.tuple(at)?.iter();
    lengths
        .map(|&length| usize::try_from(pickle.int(length)?).ok())
        .collect()
}

/// Returns true for the type of unsigned bytes.
fn is_bytes(pickle: &Pickle, at: Ref) -> bool {
    let Some((("numpy", "dtype"), &[code, ..])) = pickle.call(at) else {
        return false;
    };
    matches!(pickle.text(code), Some("u1" | "|u1" | "uint8"))
}

/// Reads the contents of a `.npy` file: the shape, and the values, each of which must be an integer
/// of 0..255.
///
/// # Errors
/// Fails when the header is another, when the length does not fit it, and for other values.
pub(super) fn npy(mut file: Vec<u8>) -> Result<(Vec<usize>, Vec<u8>)> {
    let (header, body) = npy_header(&file).ok_or_else(|| Error::failed("it is no NumPy array"))?;
    let value = |key: &str| -> Option<&str> {
        let (_, rest) = header.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let kind = value("descr").and_then(|text| text.split('\'').nth(1));
    let shape = value("shape").and_then(|text| text.strip_prefix('(')?.split(')').next());
    let shape: Option<Vec<usize>> = shape.and_then(|text| {
        let lengths = text.split(',').map(str::trim);
        let lengths = lengths.filter(|length| !length.is_empty());
        lengths.map(|length| length.parse().ok()).collect()
    });
    let row_major = value("fortran_order").is_some_and(|text| text.starts_with("False"));
    let width = match kind {
        Some("|u1") => 1,
        Some("<u2" | "<i2") => 2,
        Some("<u4" | "<i4") => 4,
        Some("<u8" | "<i8") => 8,
        _ => 0,
    };
    let (Some(shape), true, 1..) = (shape, row_major, width) else {
        let what = "it is no array of integers in row-major order";
        let header: String = header.chars().take(200).collect();
        return Err(Error::failed(what).note("found", header.trim().escape_debug().to_string()));
    };
    let count = shape
        .iter()
        .try_fold(1_usize, |product, &length| product.checked_mul(length));
    let length = count.and_then(|count| count.checked_mul(width));
    if length != Some(file.len() - body) {
        let problem = format!(
            "an array of shape {shape:?} has {} bytes",
            file.len() - body
        );
        return Err(Error::failed(problem));
    }
    if width == 1 {
        file.drain(..body);
        return Ok((shape, file));
    }
    let values = file[body..].chunks_exact(width);
    let small: Option<Vec<u8>> = values
        .map(|value| value[1..].iter().all(|&byte| byte == 0).then_some(value[0]))
        .collect();
    let small = small.ok_or_else(|| Error::failed("it has values that are not within 0..255"))?;
    Ok((shape, small))
}

/// Returns the header of a `.npy` file, and where its values begin.
fn npy_header(file: &[u8]) -> Option<(String, usize)> {
    let rest = file.strip_prefix(b"\x93NUMPY")?;
    let (&[version, _minor], rest) = rest.split_first_chunk::<2>()?;
    let (length, start) = match version {
        1 => (u32::from(u16::from_le_bytes(*rest.first_chunk()?)), 10),
        _ => (u32::from_le_bytes(*rest.first_chunk()?), 12),
    };
    let end = start + length as usize;
    let header = std::str::from_utf8(file.get(start..end)?).ok()?;
    Some((header.to_owned(), end))
}
