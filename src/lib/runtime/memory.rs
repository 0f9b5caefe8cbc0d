//! Gives C++ passes the memory of tensors.

use tch::{Device, Kind, Tensor};

/// Returns `true` for dense f32 tensors on the CPU, which are what passes take.
pub(crate) fn usable(tensors: &[&Tensor]) -> bool {
    let fits = |tensor: &&Tensor| {
        tensor.device() == Device::Cpu
            && tensor.kind() == Kind::Float
            && tensor.is_contiguous()
            && tensor.defined()
    };
    tensors.iter().all(fits)
}

/// Returns a pointer to the values of a tensor.
///
/// # Panics
/// When the tensor is not [`usable`].
pub(crate) fn floats(tensor: &Tensor) -> *mut f32 {
    assert!(usable(&[tensor]), "a dense f32 tensor on the CPU");
    tensor.data_ptr().cast()
}
