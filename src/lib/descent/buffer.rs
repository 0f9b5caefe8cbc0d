//! Many tensors in one buffer, so that an operation on all of them is one kernel. On CUDA launching
//! a kernel for each of a network's many small tensors takes longer than what the kernels do.

use super::{is_dense, like};
use tch::{Kind, Tensor, no_grad};

/// Every tensor begins at a multiple of so many values: 256 bytes, as if it had memory of its own.
const ALIGNED: i64 = 64;

/// Where tensors lie in a buffer of float32. What lies between them is zero and stays so: their
/// gradients there are zero too.
#[derive(Debug)]
pub struct Layout {
    /// Of each tensor: size, stride, and where it begins.
    parts: Vec<(Vec<i64>, Vec<i64>, i64)>,
    length: i64,
}

impl Layout {
    /// For tensors like these, each in its own order of memory; `None` where one is not float32 or
    /// has gaps.
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

    /// The tensors in `buffer` f32 [length], which begins its storage, as views.
    pub fn views(&self, buffer: &Tensor) -> Vec<Tensor> {
        let view = |(size, stride, start): &(Vec<i64>, Vec<i64>, i64)| {
            buffer.as_strided(size, stride, *start)
        };
        self.parts.iter().map(view).collect()
    }

    /// A buffer of zeros for tensors like `like`.
    pub fn zeros(&self, like: &Tensor) -> Tensor {
        Tensor::zeros([self.length], (Kind::Float, like.device()))
    }

    /// Copies `tensors`, of this layout's shapes in any order of memory, into one buffer.
    pub fn join(&self, tensors: &[Tensor], like_these: &[Tensor]) -> Tensor {
        let mut parts = Vec::new();
        for (tensor, target) in tensors.iter().zip(like_these) {
            let (tensor, count) = (like(target, tensor), tensor.numel() as i64);
            parts.push(tensor.as_strided([count], [1], None));
            let gap = (ALIGNED - count % ALIGNED) % ALIGNED;
            if gap > 0 {
                parts.push(tensor.new_zeros([gap], (Kind::Float, tensor.device())));
            }
        }
        Tensor::cat(&parts, 0)
    }

    /// Moves `tensors` into one buffer: whoever holds one of them holds a part of it from now on.
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

    /// The buffer that `tensors` lie in, if they do: as [`Layout::pack`] left them.
    pub fn packed(&self, tensors: &[Tensor]) -> Option<Tensor> {
        let first = tensors.first()?.detach();
        let start = first.data_ptr() as usize;
        let mut placed = tensors.iter().zip(&self.parts);
        let fits = placed
            .all(|(tensor, (_, _, at))| tensor.data_ptr() as usize == start + 4 * *at as usize);
        // A buffer that ends before the last tensor does is an error of libtorch.
        let buffer = first.f_as_strided([self.length], [1], None);
        buffer.ok().filter(|_| fits)
    }
}
