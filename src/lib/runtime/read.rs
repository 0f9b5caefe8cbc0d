//! Reads numbers back from a tensor's device. On CUDA the host then waits until the device has
//! computed all that was launched before, so loops read as seldom as they can; reads are counted,
//! so that a test sees how often.

use crate::error::Result;
use std::cell::Cell;
use tch::{TchError, Tensor};

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
}

/// Returns the value of a tensor: one number or flag, or a list of those of a tensor of one
/// dimension.
///
/// # Errors
/// Fails for a tensor of another shape or type, and when libtorch does.
pub fn read<T>(tensor: &Tensor) -> Result<T>
where
    T: for<'a> TryFrom<&'a Tensor, Error = TchError>,
{
    READS.set(READS.get() + 1);
    Ok(T::try_from(tensor)?)
}

/// Returns how many times this thread has read.
pub fn reads() -> u64 {
    READS.get()
}
