//! Takes one step of one tensor as PyTorch's SGD and Adam do. `train` optimises weights with it,
//! and `inversion` pixels.
//!
//! Written as operations, a step of Adam reads and writes memory a dozen times, more than a small
//! network's backward pass. A function in C++ (`steps.cpp`) takes the step in one pass where all
//! tensors are float32 on the CPU in one memory order; libtorch's operations take all others.

mod buffer;

pub use buffer::Layout;

use tch::{Device, Kind, Tensor, no_grad};

/// Implements stochastic gradient descent with momentum (Sutskever et al. 2013); weight decay is
/// added to the gradient, as in PyTorch.
///
/// ```
/// use fed_distill::optim::Sgd;
/// use tch::Tensor;
///
/// let rule = Sgd { lr: 0.5, momentum: 0.0, nesterov: false, weight_decay: 0.0 };
/// let (mut x, gradient) = (Tensor::from_slice(&[3_f32]), Tensor::from_slice(&[2_f32]));
/// rule.step(&mut x, &gradient, &mut gradient.zeros_like());
/// assert_eq!(x, Tensor::from_slice(&[2_f32]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Share of the momentum buffer that a step keeps.
    pub momentum: f64,
    /// Adds the momentum that the next step will have (Nesterov).
    pub nesterov: bool,
    /// Factor of the L2 penalty.
    pub weight_decay: f64,
}

/// Implements Adam (Kingma and Ba 2015, arXiv:1412.6980); weight decay is added to the gradient, as
/// in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Decay rates of the first and second moment.
    pub betas: [f64; 2],
    /// The ε that is added to the root of the second moment.
    pub eps: f64,
    /// Factor of the L2 penalty.
    pub weight_decay: f64,
}

impl Sgd {
    /// Moves `x` against `gradient`, in place; `buffer` is its momentum, zero before the first
    /// step.
    pub fn step(&self, x: &mut Tensor, gradient: &Tensor, buffer: &mut Tensor) {
        let gradient = &in_order_of(x, gradient);
        let rate = self.lr as f32;
        no_grad(|| {
            if same_dense_layout(&[x, gradient, buffer]) {
                // SAFETY: dense f32 tensors on the CPU, of one size and one order in memory
                // (`same_dense_layout`); the gradient is not written.
                return unsafe {
                    ffi::fd_sgd(
                        x.numel() as i64,
                        floats(x),
                        floats(gradient),
                        floats(buffer),
                        rate,
                        self.momentum as f32,
                        self.nesterov,
                        self.weight_decay as f32,
                    );
                };
            }
            let gradient = gradient + &*x * self.weight_decay;
            let _ = buffer.g_mul_scalar_(self.momentum).g_add_(&gradient);
            let direction = match self.nesterov {
                true => gradient + &*buffer * self.momentum,
                false => buffer.shallow_clone(),
            };
            let _ = x.g_sub_(&(direction * self.lr));
        });
    }
}

impl Adam {
    /// Moves `x` against `gradient`, in place; `first` and `second` are its moments, zero before
    /// the first step, and `step` counts steps from 1.
    pub fn step(
        &self,
        x: &mut Tensor,
        gradient: &Tensor,
        [first, second]: [&mut Tensor; 2],
        step: i32,
    ) {
        let gradient = &in_order_of(x, gradient);
        let [beta1, beta2] = self.betas;
        let rate = self.lr / (1.0 - beta1.powi(step));
        let root = (1.0 - beta2.powi(step)).sqrt();
        no_grad(|| {
            if same_dense_layout(&[x, gradient, first, second]) {
                // SAFETY: as for SGD.
                return unsafe {
                    ffi::fd_adam(
                        x.numel() as i64,
                        floats(x),
                        floats(gradient),
                        floats(first),
                        floats(second),
                        rate as f32,
                        (1.0 - beta1) as f32,
                        beta2 as f32,
                        (1.0 - beta2) as f32,
                        root as f32,
                        self.eps as f32,
                        self.weight_decay as f32,
                    );
                };
            }
            let gradient = gradient + &*x * self.weight_decay;
            let _ = first.lerp_(&gradient, 1.0 - beta1);
            let _ = second
                .g_mul_scalar_(beta2)
                .g_add_(&(gradient.square() * (1.0 - beta2)));
            let denominator = second.sqrt().g_div_scalar_(root).g_add_scalar_(self.eps);
            let _ = x.addcdiv_(&(&*first * -rate), &denominator);
        });
    }
}

/// Returns `other` in the memory order of `x`; tensors from backward passes and files may have
/// another order.
pub(crate) fn in_order_of(x: &Tensor, other: &Tensor) -> Tensor {
    match x.stride() == other.stride() {
        true => other.shallow_clone(),
        false => {
            let mut ordered = x.detach().empty_like();
            ordered.copy_(other);
            ordered
        }
    }
}

/// Returns `true` when these are f32 tensors on the CPU of one size and one memory order, without
/// gaps.
fn same_dense_layout(tensors: &[&Tensor]) -> bool {
    let (size, stride) = (tensors[0].size(), tensors[0].stride());
    let fits = |tensor: &&Tensor| {
        tensor.device() == Device::Cpu
            && tensor.kind() == Kind::Float
            && tensor.size() == size
            && tensor.stride() == stride
    };
    tensors.iter().all(fits) && is_dense(&size, &stride)
}

/// Returns `true` when a tensor's values fill its memory without gaps, in any order.
fn is_dense(size: &[i64], stride: &[i64]) -> bool {
    let mut steps: Vec<(i64, i64)> = stride.iter().copied().zip(size.iter().copied()).collect();
    steps.retain(|(_, size)| *size != 1);
    steps.sort_unstable();
    let mut next = 1;
    steps.into_iter().all(|(stride, size)| {
        let fits = stride == next;
        next *= size;
        fits
    })
}

/// Returns a pointer to the values of an f32 tensor.
fn floats(tensor: &Tensor) -> *mut f32 {
    tensor.data_ptr().cast()
}

/// Declares the functions of `steps.cpp`.
mod ffi {
    unsafe extern "C" {
        pub fn fd_sgd(
            count: i64,
            x: *mut f32,
            gradient: *const f32,
            buffer: *mut f32,
            rate: f32,
            momentum: f32,
            nesterov: bool,
            decay: f32,
        );
        pub fn fd_adam(
            count: i64,
            x: *mut f32,
            gradient: *const f32,
            first: *mut f32,
            second: *mut f32,
            rate: f32,
            new1: f32,
            beta2: f32,
            new2: f32,
            root: f32,
            eps: f32,
            decay: f32,
        );
    }
}
