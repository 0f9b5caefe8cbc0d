//! One step of one tensor as PyTorch's SGD and Adam take it, for whoever minimises something:
//! `train` moves weights, `inversion` pixels.
//!
//! Written as operations, a step of Adam passes over memory a dozen times, more than a small
//! network's backward pass. Tensors that lie alike in the CPU's memory are moved in a single pass
//! (`steps.cpp`); all others by libtorch's operations.

mod buffer;

pub use buffer::Layout;

use tch::{Device, Kind, Tensor, no_grad};

/// Stochastic gradient descent with momentum (Sutskever et al. 2013), weight decay added to the
/// gradient.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    pub lr: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
}

/// Adam (Kingma and Ba 2015, arXiv:1412.6980), weight decay added to the gradient.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    pub lr: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    pub weight_decay: f64,
}

impl Sgd {
    /// Moves `x` against `gradient`; `buffer` is its momentum, zero before the first step.
    pub fn step(&self, x: &mut Tensor, gradient: &Tensor, buffer: &mut Tensor) {
        let gradient = &like(x, gradient);
        let rate = self.lr as f32;
        no_grad(|| {
            if alike(&[x, gradient, buffer]) {
                // SAFETY: dense f32 tensors on the CPU, of one size and one order in memory
                // (`alike`); the gradient is not written.
                return unsafe {
                    foreign::fd_sgd(
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
    /// Moves `x` against `gradient`; `first` and `second` are its moments, zero before step 1, and
    /// this is step `step`.
    pub fn step(
        &self,
        x: &mut Tensor,
        gradient: &Tensor,
        [first, second]: [&mut Tensor; 2],
        step: i32,
    ) {
        let gradient = &like(x, gradient);
        let [beta1, beta2] = self.betas;
        let rate = self.lr / (1.0 - beta1.powi(step));
        let root = (1.0 - beta2.powi(step)).sqrt();
        no_grad(|| {
            if alike(&[x, gradient, first, second]) {
                // SAFETY: as for SGD.
                return unsafe {
                    foreign::fd_adam(
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

/// Returns `other` in the order in which `x` lies in memory: backward passes and files leave some
/// tensors in another.
pub(crate) fn like(x: &Tensor, other: &Tensor) -> Tensor {
    match x.stride() == other.stride() {
        true => other.shallow_clone(),
        false => {
            let mut ordered = x.detach().empty_like();
            ordered.copy_(other);
            ordered
        }
    }
}

/// Whether these are f32 tensors on the CPU of one size and one order in memory, without gaps.
fn alike(tensors: &[&Tensor]) -> bool {
    let (size, stride) = (tensors[0].size(), tensors[0].stride());
    let fits = |tensor: &&Tensor| {
        tensor.device() == Device::Cpu
            && tensor.kind() == Kind::Float
            && tensor.size() == size
            && tensor.stride() == stride
    };
    tensors.iter().all(fits) && is_dense(&size, &stride)
}

/// Whether a tensor's values fill its memory, in whatever order.
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

fn floats(tensor: &Tensor) -> *mut f32 {
    tensor.data_ptr().cast()
}

/// The functions of `steps.cpp`.
mod foreign {
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
