//! Packs many tensors into one buffer, so that an operation on all of them is one kernel: on CUDA,
//! launching a kernel for each of a network's many small tensors takes longer than the kernels run.
//! Called by `model` (weights) and `train` (gradients and moments).

use super::{in_order_of, is_dense};
use tch::{Kind, Tensor, no_grad};

/// Every tensor begins at a multiple of this many values: 256 bytes, as if it had its own memory.
const ALIGNED: i64 = 64;

/// Holds the positions of tensors in a buffer of float32. The values between them are zero and stay
/// zero, because their gradients are zero too.
#[derive(Debug)]
pub struct Layout {
    /// Size, stride and first position in the buffer of each tensor.
    parts: Vec<(Vec<i64>, Vec<i64>, i64)>,
    length: i64,
}

impl Layout {
    /// Returns a layout for tensors like these, each in its own memory order, and `None` when one
    /// is not float32 or has gaps.
    pub fn of(tensors: &[Tensor]) -> Option<Self> {
        let mut start = 0;
        let mut part = |tensor: &Tensor| {
            let (size, stride) = (tensor.size(), tensor.stride());
            let fits = tensor.kind() == Kind::Float && is_dense(&size, &stride);
            let at = start;
            start += tensor.numel().div_ceil(ALIGNED as usize) as i64 * ALIGNED;
            fits.then_some((size, stride, at))
        };
        let parts = tensors.iter().map(&mut part).collect::<Option<Vec<_>>>()?;
        Some(Self {
            parts,
            length: start,
        })
    }

    /// Returns the tensors in `buffer`, f32 `[length]` at the beginning of its storage, as views.
    pub fn views(&self, buffer: &Tensor) -> Vec<Tensor> {
        let view = |(size, stride, start): &(Vec<i64>, Vec<i64>, i64)| {
            buffer.as_strided(size, stride, *start)
        };
        self.parts.iter().map(view).collect()
    }

    /// Returns a buffer of zeros on the device of `like`.
    pub fn zeros(&self, like: &Tensor) -> Tensor {
        Tensor::zeros([self.length], (Kind::Float, like.device()))
    }

    /// Copies `tensors`, of this layout's shapes in any memory order, into one buffer; each gets
    /// the memory order of the tensor in `like_these`.
    pub fn concatenate(&self, tensors: &[Tensor], like_these: &[Tensor]) -> Tensor {
        let mut parts = Vec::new();
        for (tensor, target) in tensors.iter().zip(like_these) {
            let (tensor, count) = (in_order_of(target, tensor), tensor.numel() as i64);
            parts.push(tensor.as_strided([count], [1], None));
            let gap = (ALIGNED - count % ALIGNED) % ALIGNED;
            if gap > 0 {
                parts.push(tensor.new_zeros([gap], (Kind::Float, tensor.device())));
            }
        }
        Tensor::cat(&parts, 0)
    }

    /// Moves `tensors` into one buffer; shallow clones of them become views of it too.
    pub fn pack(&self, tensors: &mut [Tensor]) {
        let Some(buffer) = tensors.first().map(|first| self.zeros(first)) else {
            return;
        };
        no_grad(|| {
            for (tensor, mut view) in tensors.iter_mut().zip(self.views(&buffer)) {
                view.copy_(tensor);
                tensor.set_data(&view);
            }
        });
    }

    /// Returns the buffer that `tensors` are views of since [`Layout::pack`], and `None` when they
    /// are not, or are views of a larger one, in which other values follow theirs.
    pub fn buffer_of(&self, tensors: &[Tensor]) -> Option<Tensor> {
        let first = tensors.first()?.detach();
        let start = first.data_ptr() as usize;
        let mut placed = tensors.iter().zip(&self.parts);
        let fits = placed
            .all(|(tensor, (_, _, at))| tensor.data_ptr() as usize == start + 4 * *at as usize);
        // A view that ends behind the storage is an error of libtorch.
        let of_length = |length| first.f_as_strided([length], [1], None).ok();
        of_length(self.length).filter(|_| fits && of_length(self.length + 1).is_none())
    }
}
