//! Defines dropout (Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from
//! Overfitting"), whose masks depend on a seed and on an image's place in its batch alone: a part
//! of a batch is masked as in the whole batch, on every device.

use crate::runtime::seed::Seeds;
use rand::RngCore;
use tch::Tensor;

/// Selects what a training pass drops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Seed of the batch; `None` drops nothing.
    pub seed: Option<u64>,
    /// Index in the batch of the first image of the pass.
    pub first: usize,
}

impl Masks {
    /// Returns the masks of a batch, in a network that drops something.
    pub fn new(seed: u64) -> Self {
        Self {
            seed: Some(seed),
            first: 0,
        }
    }

    /// Sets `share` 256ths of `input` [N,…] to zero and scales the rest by 256 / (256 − share), as
    /// PyTorch's dropout does; `layer` tells the dropout layers of a network apart.
    pub(super) fn drop(self, layer: u64, share: u8, input: Tensor) -> Tensor {
        let Some(seed) = self.seed.filter(|_| share > 0) else {
            return input;
        };
        let shape = input.size();
        let images = shape.first().copied().unwrap_or_default() as usize;
        let each = input.numel().checked_div(images).unwrap_or_default();
        let mut bytes = vec![0; images * each];
        let seeds = Seeds::new(seed);
        for (image, bytes) in bytes.chunks_mut(each.max(1)).enumerate() {
            let index = (self.first + image) as u64;
            let mut rng = seeds.stream(&format!("dropout/{layer}"), index);
            rng.fill_bytes(bytes);
            for byte in bytes {
                *byte = u8::from(*byte >= share);
            }
        }
        let kept = Tensor::from_slice(&bytes).view(shape.as_slice());
        let scale = 256.0 / f64::from(256 - u16::from(share));
        let kept = kept.to_device_(input.device(), input.kind(), false, false);
        input * (kept * scale)
    }
}
