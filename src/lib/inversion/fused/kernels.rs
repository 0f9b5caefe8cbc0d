//! Calls the C++ passes of `activations.cpp` and `images.cpp`, and checks their preconditions:
//! dense f32 tensors on the CPU, images and activations `[N,H,W,C]`. Called by `passes` and
//! the fused engine.

use super::ffi;
use super::norm::{DistanceGradient, Moments, Norm};
use crate::runtime::memory::floats;
use tch::{Device, Kind, Tensor};

/// Number of channels that the passes process at a time.
pub(super) const LANES: i64 = 16;

/// Selects what a residual block adds before its last ReLU; `N` is a frozen batch norm.
pub enum Shortcut<'a, N = Norm> {
    /// Adds nothing.
    None,
    /// Adds the block's input.
    Identity(&'a Tensor),
    /// Adds a convolution's output, normalised.
    Projection(&'a Tensor, &'a N),
}

/// Returns relu(norm(`input`) + shortcut). With `observe`, it is a new tensor, and the moments of
/// `input` and of a projection shortcut around their running means are returned too; without, it
/// replaces `input`.
pub fn forward(
    input: &Tensor,
    norm: &Norm,
    shortcut: Shortcut,
    observe: bool,
) -> (Tensor, Option<Moments>, Option<Moments>) {
    let (rows, channels) = rows_of(input);
    let output = if observe {
        input.empty_like()
    } else {
        input.shallow_clone()
    };
    let sums = |wanted: bool| wanted.then(|| Moments::new(rows, channels));
    let (mut main, mut other) = (
        sums(observe),
        sums(observe && matches!(shortcut, Shortcut::Projection(..))),
    );
    let (kind, shortcut_input, shortcut_norm) = match shortcut {
        Shortcut::None => (0, None, None),
        Shortcut::Identity(tensor) => (1, Some(tensor), None),
        Shortcut::Projection(tensor, norm) => (2, Some(tensor), Some(norm)),
    };
    check(norm, channels);
    shortcut_norm.inspect(|norm| check(norm, channels));
    shortcut_input.inspect(|tensor| assert_eq!(tensor.size(), input.size()));
    let of = |pick: fn(&Norm) -> &Vec<f32>| {
        shortcut_norm.map_or(std::ptr::null(), |norm| pick(norm).as_ptr())
    };
    // SAFETY: every tensor is dense f32 on the CPU (`floats`) with `rows` × `channels` values,
    // every vector has `channels` of them (`check`), the sums twice as many; the output is the
    // input itself or apart from it, and each value is read before it is written.
    unsafe {
        ffi::fd_forward(
            rows,
            channels,
            floats(input),
            norm.scale.as_ptr(),
            norm.shift.as_ptr(),
            norm.mean.as_ptr(),
            main.as_mut()
                .map_or(std::ptr::null_mut(), |moments| moments.sums.as_mut_ptr()),
            kind,
            shortcut_input.map_or(std::ptr::null(), |tensor| floats(tensor).cast_const()),
            of(|norm| &norm.scale),
            of(|norm| &norm.shift),
            of(|norm| &norm.mean),
            other
                .as_mut()
                .map_or(std::ptr::null_mut(), |moments| moments.sums.as_mut_ptr()),
            floats(&output),
        );
    }
    (output, main, other)
}

/// Replaces `gradient` (+ `other`) with respect to relu(norm(x)) by that with respect to x. `input`
/// is x if there is a gradient of the distance to add, else the ReLU's output.
pub fn backward(
    input: &Tensor,
    norm: &Norm,
    distance_gradient: Option<&DistanceGradient>,
    gradient: &Tensor,
    other: Option<&Tensor>,
) {
    let (rows, channels) = rows_of(input);
    check(norm, channels);
    distance_gradient.inspect(|gradient| check_gradient(gradient, channels));
    assert_eq!(gradient.size(), input.size());
    other.inspect(|tensor| assert_eq!(tensor.size(), input.size()));
    let [offset, slope] = pointers(distance_gradient);
    // SAFETY: as in `forward`; `gradient` is the only tensor written.
    unsafe {
        ffi::fd_backward(
            rows,
            channels,
            floats(input),
            norm.scale.as_ptr(),
            norm.shift.as_ptr(),
            offset,
            slope,
            floats(gradient),
            other.map_or(std::ptr::null(), |tensor| floats(tensor).cast_const()),
        );
    }
}

/// Returns what the C++ passes take of the gradient of a distance; null where there is none.
fn pointers(gradient: Option<&DistanceGradient>) -> [*const f32; 2] {
    gradient.map_or([std::ptr::null(); 2], |gradient| {
        [gradient.offset.as_ptr(), gradient.slope.as_ptr()]
    })
}

/// Holds a branch of a block for the backward pass: the input of its last batch norm, the norm, and
/// the gradient of the distance of its statistics.
pub struct Branch<'a, N = Norm, P = DistanceGradient> {
    /// Input of the branch's last batch norm, or without statistics a tensor of its size.
    pub input: &'a Tensor,
    /// The batch norm.
    pub norm: &'a N,
    /// Gradient of the distance of its statistics, if they are observed.
    pub distance_gradient: Option<P>,
}

/// Passes `gradient` (+ `other`) with respect to a block's `output` back through its last ReLU and
/// norms. Returns the gradient with respect to the body's last batch-norm input; `gradient` is
/// replaced by that with respect to the shortcut: its batch-norm input, or the block's input.
pub fn branch(
    output: &Tensor,
    body: &Branch,
    shortcut: Option<&Branch>,
    gradient: &Tensor,
    other: Option<&Tensor>,
) -> Tensor {
    let (rows, channels) = rows_of(output);
    let result = output.empty_like();
    for part in [Some(body), shortcut].into_iter().flatten() {
        check(part.norm, channels);
        let of_distance = part.distance_gradient.as_ref();
        of_distance.inspect(|gradient| check_gradient(gradient, channels));
        // The pass takes the sums of both branches or of none.
        assert_eq!(of_distance.is_some(), body.distance_gradient.is_some());
        assert_eq!(part.input.size(), output.size());
    }
    assert_eq!(gradient.size(), output.size());
    other.inspect(|tensor| assert_eq!(tensor.size(), output.size()));
    let null = std::ptr::null();
    let of_branch = |part: &Branch| pointers(part.distance_gradient.as_ref());
    let [body_offset, body_slope] = of_branch(body);
    let [shortcut_offset, shortcut_slope] = shortcut.map_or([null; 2], of_branch);
    // SAFETY: as in `forward`; `gradient` and `result` are the only tensors written, and they are
    // apart.
    unsafe {
        ffi::fd_branch(
            rows,
            channels,
            floats(output),
            floats(body.input),
            body.norm.scale.as_ptr(),
            body_offset,
            body_slope,
            shortcut.map_or(null, |shortcut| floats(shortcut.input).cast_const()),
            shortcut.map_or(null, |shortcut| shortcut.norm.scale.as_ptr()),
            shortcut_offset,
            shortcut_slope,
            floats(gradient),
            other.map_or(null, |tensor| floats(tensor).cast_const()),
            floats(&result),
        );
    }
    result
}

/// Returns the weights `[O,I,3,3]` of a stem in the order that [`stem`] reads: `[3,3,I,O]`.
pub fn stem_weight(weight: &Tensor) -> Tensor {
    weight.permute([2, 3, 1, 0]).contiguous()
}

/// Returns the gradient with respect to the images `[N,H,W,I]` of a 3×3 convolution of stride 1
/// from that with respect to its output `[N,H,W,O]`.
///
/// The convolution's own backward pass is made for many channels; for one or three it takes several
/// times as long.
pub fn stem(gradient: &Tensor, weight: &Tensor) -> Tensor {
    let (size, shape) = (gradient.size(), weight.size());
    let inputs = shape[2];
    assert!(inputs == 1 || inputs == 3);
    assert_eq!(shape, [3, 3, inputs, size[3]]);
    let result = Tensor::empty(
        [size[0], size[1], size[2], inputs],
        (Kind::Float, Device::Cpu),
    );
    // SAFETY: dense f32 tensors of these sizes; only `result` is written.
    unsafe {
        ffi::fd_stem(
            size[0],
            size[1],
            size[2],
            inputs,
            size[3],
            floats(gradient),
            floats(weight),
            floats(&result),
        );
    }
    result
}

/// Returns the Euclidean norms of the four differences of images `[N,H,W,C]` (right, down,
/// left-down, right-down) and of the images themselves.
pub fn variation(images: &Tensor) -> [f64; 5] {
    let size = images.size();
    let mut sums = [0.0; 5];
    // SAFETY: a dense f32 tensor of this size, five sums.
    unsafe {
        ffi::fd_variation(
            size[0],
            size[1],
            size[2] * size[3],
            size[3],
            floats(images),
            sums.as_mut_ptr(),
        );
    }
    sums.map(f64::sqrt)
}

/// Returns the gradient of tv_scale · (sum of the first four [`variation`]s) + l2_scale · (the
/// fifth) with respect to the images.
pub fn variation_gradient(
    images: &Tensor,
    norms: &[f64; 5],
    tv_scale: f64,
    l2_scale: f64,
) -> Tensor {
    let size = images.size();
    let result = images.empty_like();
    // d‖x‖/dx = x/‖x‖; at zero its subgradient 0, as in PyTorch.
    let over = |scale: f64, norm: f64| {
        if norm > 0.0 {
            (scale / norm) as f32
        } else {
            0.0
        }
    };
    let [right, down, left_down, right_down, values] = *norms;
    let by = [
        over(tv_scale, right),
        over(tv_scale, down),
        over(tv_scale, left_down),
        over(tv_scale, right_down),
        over(l2_scale, values),
    ];
    // SAFETY: dense f32 tensors of this size; only `result` is written.
    unsafe {
        ffi::fd_variation_gradient(
            size[0],
            size[1],
            size[2] * size[3],
            size[3],
            floats(images),
            by.as_ptr(),
            floats(&result),
        );
    }
    result
}

/// Returns the number of rows N·H·W and of channels of [N,H,W,C].
fn rows_of(tensor: &Tensor) -> (i64, i64) {
    let size = tensor.size();
    let channels = size.last().copied().unwrap_or(1).max(1);
    (tensor.numel() as i64 / channels, channels)
}

/// Checks that a norm has this number of channels.
///
/// # Panics
/// When it has not.
fn check(norm: &Norm, channels: i64) {
    let channels = channels as usize;
    let fits = |values: &Vec<f32>| values.len() == channels;
    assert!(fits(&norm.scale) && fits(&norm.shift) && fits(&norm.mean) && fits(&norm.var));
}

fn check_gradient(gradient: &DistanceGradient, channels: i64) {
    assert_eq!(gradient.offset.len(), channels as usize);
    assert_eq!(gradient.slope.len(), channels as usize);
}
