//! jemalloc, for Rust, libtorch and the C++ passes alike: the binaries define `malloc` and its kin,
//! and libtorch finds theirs first.
//!
//! A step of training or inversion asks for the same large tensors as the one before. glibc maps
//! and unmaps each of them, page faults included; told to keep them (`mallopt`), it fragments under
//! libtorch's aligned requests, and long runs grow. jemalloc keeps freed memory by size and, set
//! so, for good: no faults after the first step, and no growth. The price is that memory once used
//! stays with the process.

/// Brings jemalloc's `malloc` into every program; Rust's own allocator calls it as well.
#[used]
static MALLOC: unsafe extern "C" fn(usize) -> *mut std::ffi::c_void = tikv_jemalloc_sys::malloc;

/// A pointer that jemalloc reads at its start; the environment's `MALLOC_CONF` comes on top.
#[repr(transparent)]
pub struct Settings(*const std::ffi::c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Settings {}

/// Never give memory back.
#[unsafe(export_name = "malloc_conf")]
pub static SETTINGS: Settings = Settings(c"dirty_decay_ms:-1,muzzy_decay_ms:-1".as_ptr());
