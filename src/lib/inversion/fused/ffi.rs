//! Declares the functions of this folder's C++ files. `kernels` and `winograd` call them and
//! document their arguments.

unsafe extern "C" {
    pub fn fd_forward(
        rows: i64,
        channels: i64,
        input: *const f32,
        scale: *const f32,
        shift: *const f32,
        centre: *const f32,
        sums: *mut f64,
        shortcut: i32,
        shortcut_input: *const f32,
        shortcut_scale: *const f32,
        shortcut_shift: *const f32,
        shortcut_centre: *const f32,
        shortcut_sums: *mut f64,
        output: *mut f32,
    );
    pub fn fd_backward(
        rows: i64,
        channels: i64,
        input: *const f32,
        scale: *const f32,
        shift: *const f32,
        offset: *const f32,
        slope: *const f32,
        gradient: *mut f32,
        other: *const f32,
    );
    pub fn fd_branch(
        rows: i64,
        channels: i64,
        output: *const f32,
        input: *const f32,
        scale: *const f32,
        offset: *const f32,
        slope: *const f32,
        shortcut_input: *const f32,
        shortcut_scale: *const f32,
        shortcut_offset: *const f32,
        shortcut_slope: *const f32,
        gradient: *mut f32,
        other: *const f32,
        main_gradient: *mut f32,
    );
    pub fn fd_stem(
        images: i64,
        height: i64,
        width: i64,
        inputs: i64,
        channels: i64,
        gradient: *const f32,
        weight: *const f32,
        result: *mut f32,
    );
    pub fn fd_variation(
        images: i64,
        height: i64,
        length: i64,
        step: i64,
        x: *const f32,
        sums: *mut f64,
    );
    pub fn fd_variation_gradient(
        images: i64,
        height: i64,
        length: i64,
        step: i64,
        x: *const f32,
        by: *const f32,
        gradient: *mut f32,
    );
    pub fn fd_winograd_input(
        output: i64,
        images: i64,
        height: i64,
        width: i64,
        channels: i64,
        flipped: bool,
        x: *const f32,
        v: *mut f32,
    );
    pub fn fd_winograd_output(
        output: i64,
        images: i64,
        height: i64,
        width: i64,
        channels: i64,
        flipped: bool,
        m: *const f32,
        y: *mut f32,
    );
}
