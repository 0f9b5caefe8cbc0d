//! Convolution, linear and batch-norm layers as PyTorch defines and initialises them, and what a
//! forward pass does at batch norm.

use super::builder::Builder;
use crate::Result;
use tch::Tensor;

/// What a forward pass does at batch norm.
pub enum Pass<'a> {
    /// Normalises with the batch's statistics and updates the running ones.
    Train,
    /// Normalises with the running statistics.
    Eval,
    /// As `Eval`; each batch-norm layer and its input [N,C,H,W] are handed to the observer, in
    /// module order: `bn1`, then each block's `bn1`, `bn2`, (`bn3`,) `shortcut.1`.
    Observe(&'a mut dyn FnMut(&BatchNorm, &Tensor)),
}

/// Kernel, stride and zero padding of a square window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
}

/// 2-D convolution.
pub struct Conv {
    pub(crate) weight: Tensor,
    bias: Option<Tensor>,
    pub(crate) window: Window,
}

impl Conv {
    /// `channels` is (in, out).
    pub(super) fn new(
        builder: &mut Builder,
        path: &str,
        channels: (i64, i64),
        window: Window,
        bias: bool,
    ) -> Result<Self> {
        let fan_in = channels.0 * window.kernel * window.kernel;
        let shape = [channels.1, channels.0, window.kernel, window.kernel];
        let weight = builder.uniform(format!("{path}.weight"), &shape, fan_in)?;
        let bias = match bias {
            true => Some(builder.uniform(format!("{path}.bias"), &[channels.1], fan_in)?),
            false => None,
        };
        Ok(Self {
            weight,
            bias,
            window,
        })
    }

    /// Computes in the type of `input`: of another one, the weights are rounded to it on the way,
    /// and their gradients come in the weights' own.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let Window {
            stride, padding, ..
        } = self.window;
        let weight = self.weight.to_kind(input.kind());
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(input.kind()));
        input.conv2d(&weight, bias.as_ref(), stride, padding, 1, 1)
    }
}

/// Fully connected layer.
pub(crate) struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Linear {
    pub(super) fn new(
        builder: &mut Builder,
        path: &str,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self> {
        Ok(Self {
            weight: builder.uniform(format!("{path}.weight"), &[outputs, inputs], inputs)?,
            bias: builder.uniform(format!("{path}.bias"), &[outputs], inputs)?,
        })
    }

    /// Computes in the type of `input`, as [`Conv::forward`].
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let kind = input.kind();
        input.linear(&self.weight.to_kind(kind), Some(&self.bias.to_kind(kind)))
    }
}

/// Batch normalisation over (N, H, W) (Ioffe and Szegedy 2015, arXiv:1502.03167); every tensor is
/// [C] but the counter.
pub struct BatchNorm {
    pub weight: Tensor,
    pub bias: Tensor,
    pub running_mean: Tensor,
    pub running_var: Tensor,
    /// i64 scalar: training batches seen.
    pub num_batches_tracked: Tensor,
}

impl BatchNorm {
    /// Added to the variance under the root.
    pub const EPS: f64 = 1e-5;
    /// Share of the batch's statistics in the updated running ones.
    pub const MOMENTUM: f64 = 0.1;

    pub(super) fn new(builder: &mut Builder, path: &str, channels: i64) -> Result<Self> {
        Ok(Self {
            weight: builder.filled(format!("{path}.weight"), channels, 1.0)?,
            bias: builder.filled(format!("{path}.bias"), channels, 0.0)?,
            running_mean: builder.buffer(format!("{path}.running_mean"), channels, 0.0)?,
            running_var: builder.buffer(format!("{path}.running_var"), channels, 1.0)?,
            num_batches_tracked: builder.counter(format!("{path}.num_batches_tracked"))?,
        })
    }

    pub(super) fn forward(&self, input: &Tensor, pass: &mut Pass) -> Tensor {
        match pass {
            Pass::Train => return self.train(input),
            Pass::Observe(observe) => observe(self, input),
            Pass::Eval => {}
        }
        self.normalise(input, Some((&self.running_mean, &self.running_var)), false)
    }

    /// The running variance takes the unbiased estimate, as in PyTorch. One value a channel has
    /// none (PyTorch refuses such a batch): then the running statistics stay as they are.
    fn train(&self, input: &Tensor) -> Tensor {
        let _ = self.num_batches_tracked.shallow_clone().g_add_scalar_(1);
        let has_variance = input.numel() > self.weight.numel();
        let running = has_variance.then_some((&self.running_mean, &self.running_var));
        self.normalise(input, running, true)
    }

    fn normalise(
        &self,
        input: &Tensor,
        running: Option<(&Tensor, &Tensor)>,
        batch_statistics: bool,
    ) -> Tensor {
        let (mean, var) = running.unzip();
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        input.batch_norm(
            weight,
            bias,
            mean,
            var,
            batch_statistics,
            Self::MOMENTUM,
            Self::EPS,
            true,
        )
    }
}
