//! Where the tests run: the device that numbers are computed on, and the checkout with the files
//! they read.

use std::path::PathBuf;
use std::sync::OnceLock;
use tch::Device;

/// Returns the device of the numeric tests: the CPU, or what `FED_DISTILL_TEST_DEVICE` names.
///
/// On a GPU the tests keep their float32 tolerances, which takes float32 products. By default
/// libtorch keeps to those in matrix products, but rounds a convolution's inputs to TF32's ten bits
/// of mantissa. A product is then off by up to 2·2⁻¹¹ of itself, a convolution by about
/// √(2/3)·2⁻¹¹ ≈ 4·10⁻⁴ in norm where signs are random, and ReLU turns a share p of flipped signs
/// into √p of a gradient's norm: percents after a few layers, where the tests allow 10⁻³.
/// `NVIDIA_TF32_OVERRIDE=0` switches TF32 off in cuBLAS and cuDNN before they are loaded.
pub fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    *DEVICE.get_or_init(|| {
        let wanted = std::env::var("FED_DISTILL_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
        let device = fed_distill::runtime::device::choose(&wanted)
            .unwrap_or_else(|error| panic!("FED_DISTILL_TEST_DEVICE=`{wanted}`: {error}"));
        let exact = std::env::var("NVIDIA_TF32_OVERRIDE").is_ok_and(|value| value == "0");
        assert!(
            device == Device::Cpu || exact,
            "tests on `{wanted}` need NVIDIA_TF32_OVERRIDE=0 in their environment: \
             their tolerances are those of float32"
        );
        device
    })
}

/// Returns the checkout whose files the tests read: the one they were built in, or the folder that
/// `FED_DISTILL_CHECKOUT` names, for test executables that were carried to another machine.
pub fn checkout() -> PathBuf {
    std::env::var_os("FED_DISTILL_CHECKOUT")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}
