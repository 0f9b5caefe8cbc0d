//! Reads NumPy arrays of unsigned bytes out of Python pickles. Used by the reader of CIFAR.

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
