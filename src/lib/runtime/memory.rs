//! Gives C++ passes the memory of tensors.

use tch::{Device, Kind, Tensor};

/// Returns `true` for a dense f32 tensor on the CPU, which is what passes take.
pub(crate) fn usable(tensor: &Tensor) -> bool {
    // Nothing else can be asked of a tensor that is not defined.
    tensor.defined()
        && tensor.device() == Device::Cpu
        && tensor.kind() == Kind::Float
        && tensor.is_contiguous()
}

/// Returns a pointer to the values of a tensor.
///
/// # Panics
/// When the tensor is not [`usable`].
pub(crate) fn floats(tensor: &Tensor) -> *mut f32 {
    assert!(usable(tensor), "a dense f32 tensor on the CPU");
    tensor.data_ptr().cast()
}
