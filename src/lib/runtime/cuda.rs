//! Loads libtorch's CUDA half, so that one binary serves machines with and without a GPU. Called by
//! [`super::device`] only.
//!
//! Binaries link libtorch_cpu alone; libtorch_cuda registers itself when it is loaded. That must
//! happen before anything asks libtorch about CUDA: the first answer is kept for the whole process.

use crate::error::{Error, Result};
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Why there is no CUDA.
#[derive(Clone, Debug)]
pub(super) enum Missing {
    /// No libtorch_cuda in libtorch's folder.
    Library { folder: PathBuf, driver: bool },
    /// libtorch_cuda is there and cannot be loaded: the linker's message.
    Broken(Arc<libloading::Error>),
    /// No NVIDIA driver.
    Driver,
    /// A driver and no device it shows us.
    Devices,
}

/// CUDA devices there are, at least one. Loads libtorch_cuda the first time.
pub(super) fn devices() -> Result<usize, Missing> {
    static FOUND: OnceLock<Result<usize, Missing>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Result<usize, Missing> {
    let folder = libtorch_folder();
    let library = folder.join("libtorch_cuda.so");
    let driver = open(Path::new("libcuda.so.1")).is_ok();
    if !library.exists() {
        return Err(Missing::Library { folder, driver });
    }
    // Without a driver the library, two gigabytes of it, would be loaded for nothing.
    if !driver {
        return Err(Missing::Driver);
    }
    open(&library).map_err(|error| Missing::Broken(Arc::new(error)))?;
    match usize::try_from(tch::Cuda::device_count()) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Missing::Devices),
    }
}

/// Loads a library for the rest of the process, with its symbols visible to what is loaded later.
fn open(path: &Path) -> Result<(), libloading::Error> {
    // SAFETY: loading runs the library's initialisers; both libraries are made to be loaded this
    // way, and neither is ever unloaded.
    let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }?;
    std::mem::forget(library);
    Ok(())
}

/// Has cuDNN choose among deterministic algorithms alone, by libtorch's own switch, for which tch
/// has no binding.
///
/// # Errors
/// Fails for a libtorch that does not export the switch under the name that GCC and Clang give it.
pub(super) fn set_deterministic() -> Result<()> {
    use std::ffi::c_void;
    type Global = unsafe extern "C" fn() -> *mut c_void;
    type Set = unsafe extern "C" fn(*mut c_void, bool);
    let this = Library::this();
    // SAFETY: `at::Context& at::globalContext()` returns a reference, which is passed as a pointer,
    // and `void at::Context::setDeterministicCuDNN(bool)` takes the object as its first argument.
    let found = unsafe {
        let global = this.get::<Global>(b"_ZN2at13globalContextEv");
        let set = this.get::<Set>(b"_ZN2at7Context21setDeterministicCuDNNEb");
        global.and_then(|global| set.map(|set| set(global(), true)))
    };
    found.map_err(|error| {
        Error::failed(format!(
            "this libtorch has no switch for determinism: {error}"
        ))
        .hint("leave out `deterministic=true`")
        .caused_by(error)
    })
}

/// The folder of the libtorch_cpu that this process runs with; empty when that is unknown.
fn libtorch_folder() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    folder_in_maps(&maps).unwrap_or_default()
}

/// The folder of libtorch_cpu in the text of `/proc/PID/maps`: five fields without a slash but in
/// paths, then the path.
fn folder_in_maps(maps: &str) -> Option<PathBuf> {
    let library = maps
        .lines()
        .filter_map(|line| line.find('/').and_then(|start| line.get(start..)))
        .map(Path::new)
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name == "libtorch_cpu.so")
        })?;
    library.parent().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_that_of_libtorch_cpu_even_with_spaces() {
        let maps = "7f00-7f01 r-xp 00000000 08:01 12   /opt/a torch/lib/libtorch_cpu.so\n7f02-7f03 \
            rw-p 0 00:00 0   [heap]\n";
        assert_eq!(
            folder_in_maps(maps),
            Some(PathBuf::from("/opt/a torch/lib"))
        );
        assert_eq!(
            folder_in_maps("7f00-7f01 r-xp 0 08:01 12 /opt/libtorch_cpu.so.d/libc10.so\n"),
            None
        );
    }

    #[test]
    fn this_process_runs_with_a_libtorch_that_is_found() {
        assert!(
            tch::get_num_threads() > 0,
            "a call into libtorch, so that it is linked"
        );
        assert!(libtorch_folder().join("libtorch_cpu.so").exists());
    }
}
