//! Copies small tensors to the device without waiting for it.

use tch::{Device, Tensor};

/// Copies `tensor` from the host to `device` without waiting for what the device still computes: an
/// ordinary copy would stop the host until the last kernel that was launched is done. CUDA takes a
/// copy of pageable memory before the call returns, so that the host's may be freed at once.
pub(crate) fn upload(tensor: &Tensor, device: Device) -> Tensor {
    match device {
        Device::Cpu => tensor.shallow_clone(),
        device => tensor.to_device_(device, tensor.kind(), true, false),
    }
}
