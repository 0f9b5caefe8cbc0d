//! Small tensors on their way to the device.

use tch::{Device, Tensor};

/// `tensor`, which lies on the host, on `device`, without waiting for what the device is still at:
/// an ordinary copy would hold up the host until the last kernel that was launched is done. CUDA
/// takes a copy of pageable memory before the call returns, so the host's may be let go at once.
pub(crate) fn upload(tensor: &Tensor, device: Device) -> Tensor {
    match device {
        Device::Cpu => tensor.shallow_clone(),
        device => tensor.to_device_(device, tensor.kind(), true, false),
    }
}
