//! Defines convolution, linear and batch-norm layers as PyTorch defines and initialises them, and
//! the modes of a forward pass. The architectures are made of these layers.

use super::builder::Builder;
use super::dropout::Masks;
use crate::Result;
use tch::{Device, Tensor};

/// Selects what a forward pass does in batch-norm and dropout layers.
pub enum Pass<'a> {
    /// Normalises with the batch's statistics and updates the running ones; drops what the masks
    /// say.
    Train(Masks),
    /// Normalises with the running statistics.
    Eval,
    /// Does the same as `Eval`, and calls the function with each batch-norm layer and its input
    /// `[N,C,H,W]`, in module order: in a ResNet `bn1`, then each block's `bn1`, `bn2`, (`bn3`,)
    /// `shortcut.1`.
    Observe(&'a mut dyn FnMut(&BatchNorm, &Tensor)),
}

/// Holds the kernel size, stride and zero padding of a square window, in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
}

/// Holds a 2-D convolution: its weight `[out,in,k,k]` and its bias `[out]`, if it has one.
pub struct Conv {
    pub(crate) weight: Tensor,
    bias: Option<Tensor>,
    pub(crate) window: Window,
}

impl Conv {
    /// Returns the bias [O], zeros where there is none.
    pub(crate) fn bias_or_zero(&self) -> Tensor {
        let none = || {
            self.weight.new_zeros(
                [self.weight.size()[0]],
                (tch::Kind::Float, self.weight.device()),
            )
        };
        self.bias.as_ref().map_or_else(none, Tensor::shallow_clone)
    }

    /// Registers `path.weight` and, with `bias`, `path.bias`; `channels` is (in, out).
    pub(crate) fn new(
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

    /// Convolves `input` `[N,in,H,W]` in the type of `input`: weights of another type are rounded
    /// to it, and their gradients have the weights' own type.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let Window {
            stride, padding, ..
        } = self.window;
        let weight = self.weight.to_kind(input.kind());
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(input.kind()));
        if self.is_unsafe() {
            let every = |input: &Tensor, dim| input.slice(dim, None, None, stride);
            let kept = every(&every(input, 2), 3);
            return kept.conv2d(&weight, bias.as_ref(), 1, padding, 1, 1);
        }
        if self.is_slow(input) {
            let padded = |tensor: &Tensor| tensor.constant_pad_nd([0, 0, 0, 0, 0, 1]);
            let weight = channels_last(&padded(&weight));
            return padded(input).conv2d(&weight, bias.as_ref(), stride, padding, 1, 1);
        }
        input.conv2d(&weight, bias.as_ref(), stride, padding, 1, 1)
    }

    /// Returns true for a convolution of which oneDNN writes beyond its memory, as libtorch 2.11
    /// has it: the gradient in the weights of a strided 1×1 kernel with fewer than 16 input
    /// channels, channels last, on several threads. Without the pixels that the stride leaves out
    /// its stride is 1, and all is well.
    fn is_unsafe(&self) -> bool {
        let Window { kernel, stride, .. } = self.window;
        kernel == 1 && stride > 1 && self.weight.size()[1] < 16
    }

    /// Returns true where a second channel of zeros saves time: oneDNN takes twice as long for the
    /// gradient in one channel as for that in two (LeNet-5's first layer, one AVX-512 core).
    fn is_slow(&self, input: &Tensor) -> bool {
        let grey = self.weight.size()[1] == 1;
        grey && input.requires_grad() && input.device() == Device::Cpu
    }
}

/// Returns `maps` [N,C,H,W] in channels-last order, which a convolution's output then has as well.
pub(crate) fn channels_last(maps: &Tensor) -> Tensor {
    let last = maps.permute([0, 2, 3, 1]).contiguous();
    last.permute([0, 3, 1, 2])
}

/// Holds a fully connected layer: its weight [outputs,inputs] and bias [outputs].
pub(crate) struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Linear {
    /// Registers `path.weight` and `path.bias`.
    pub(crate) fn new(
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

    /// Maps `input` [N,inputs] to [N,outputs] in the type of `input`, as [`Conv::forward`] does.
    pub fn forward(&self, input: &Tensor) -> Tensor {
        let kind = input.kind();
        input.linear(&self.weight.to_kind(kind), Some(&self.bias.to_kind(kind)))
    }
}

/// Holds a batch normalisation over (N, H, W) (Ioffe and Szegedy 2015, arXiv:1502.03167). Its
/// tensors are f32 `[C]`, except the counter.
pub struct BatchNorm {
    /// Scale γ.
    pub weight: Tensor,
    /// Shift β.
    pub bias: Tensor,
    /// Running mean of the input.
    pub running_mean: Tensor,
    /// Running unbiased variance of the input.
    pub running_var: Tensor,
    /// Number of training batches so far, an i64 scalar.
    pub num_batches_tracked: Tensor,
}

impl BatchNorm {
    /// The ε that is added to the variance under the root.
    pub const EPS: f64 = 1e-5;
    /// Share of the batch's statistics in the updated running ones.
    pub const MOMENTUM: f64 = 0.1;

    /// Registers the five tensors under `path`.
    pub(crate) fn new(builder: &mut Builder, path: &str, channels: i64) -> Result<Self> {
        Ok(Self {
            weight: builder.filled(format!("{path}.weight"), channels, 1.0)?,
            bias: builder.filled(format!("{path}.bias"), channels, 0.0)?,
            running_mean: builder.buffer(format!("{path}.running_mean"), channels, 0.0)?,
            running_var: builder.buffer(format!("{path}.running_var"), channels, 1.0)?,
            num_batches_tracked: builder.counter(format!("{path}.num_batches_tracked"))?,
        })
    }

    /// Normalises `input` [N,C,H,W] in the mode `pass`.
    pub(crate) fn forward(&self, input: &Tensor, pass: &mut Pass) -> Tensor {
        match pass {
            Pass::Train(_) => return self.train(input),
            Pass::Observe(observe) => observe(self, input),
            Pass::Eval => {}
        }
        self.normalise(input, Some((&self.running_mean, &self.running_var)), false)
    }

    /// Normalises with the batch's statistics and updates the running ones. The running variance
    /// takes the unbiased estimate, as in PyTorch. A batch of one value a channel has none (PyTorch
    /// refuses it): then the running statistics stay as they are.
    fn train(&self, input: &Tensor) -> Tensor {
        let _ = self.num_batches_tracked.shallow_clone().g_add_scalar_(1);
        let has_variance = input.numel() > self.weight.numel();
        let running = has_variance.then_some((&self.running_mean, &self.running_var));
        self.normalise(input, running, true)
    }

    /// Normalises with the batch's statistics, and updates `running` (mean and variance), or
    /// normalises with `running`.
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
