//! Declares the functions of `lanes.cpp` and `first.cpp`, which document their arguments. `lanes`
//! and `first` call them.

unsafe extern "C" {
    pub fn fd_first_forward(
        layer: *const First,
        count: i64,
        images: *const f32,
        maps: *mut f32,
        choices: *mut i32,
    );
    pub fn fd_first_to_images(
        layer: *const First,
        count: i64,
        gradients: *const f32,
        choices: *const i32,
        images: *mut f32,
    );
    pub fn fd_first_to_weights(
        layer: *const First,
        count: i64,
        images: *const f32,
        gradients: *const f32,
        choices: *const i32,
        weights: *mut f32,
    );
    pub fn fd_stack_forward(
        layers: *const Layer,
        depth: i64,
        images: *const f32,
        count: i64,
        logits: *mut f32,
        tape: *mut i32,
        kept: i64,
        values: *mut f32,
        stored: i64,
    );
    pub fn fd_stack_to_images(
        layers: *const Layer,
        depth: i64,
        logits: *const f32,
        count: i64,
        tape: *const i32,
        kept: i64,
        images: *mut f32,
    );
    pub fn fd_stack_to_weights(
        layers: *const Layer,
        depth: i64,
        images: *const f32,
        logits: *const f32,
        count: i64,
        tape: *const i32,
        kept: i64,
        values: *const f32,
        stored: i64,
        gradients: *mut f32,
    );
}

/// Describes the layer of `first.cpp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct First {
    pub inputs: i64,
    pub height: i64,
    pub width: i64,
    pub outputs: i64,
    pub kernel: i64,
    pub pool: i64,
    pub weight: *const f32,
    pub bias: *const f32,
}

/// Describes a layer of `lanes.cpp`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Layer {
    pub inputs: i64,
    pub height: i64,
    pub width: i64,
    pub outputs: i64,
    pub kernel: i64,
    pub padding: i64,
    pub pool: i64,
    pub relu: i64,
    pub weight: *const f32,
    pub back: *const f32,
    pub bias: *const f32,
}
