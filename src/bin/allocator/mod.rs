//! Gives a binary jemalloc as its `malloc`, for Rust, libtorch and the C++ passes alike: libtorch's
//! calls resolve to the binary's own symbols first.
//!
//! A step of training or inversion allocates the same large tensors as the one before. glibc maps
//! and unmaps each of them, page faults included; told to keep them (`mallopt`), it fragments under
//! libtorch's aligned requests, and long runs grow. jemalloc keeps freed memory by size and, with
//! the settings below, never returns it: no page faults after the first step, and no growth. The
//! price is that memory once used stays with the process.
//!
//! This is a module of the binaries and not of the library, because it changes `malloc` for the
//! whole program that links it.
#![cfg(feature = "jemalloc")]

/// Refers to jemalloc's `malloc`, so that the linker takes it, and the rest of its family, in place
/// of glibc's; Rust's default allocator calls it as well.
#[used]
static MALLOC: unsafe extern "C" fn(usize) -> *mut std::ffi::c_void = tikv_jemalloc_sys::malloc;

/// A pointer to options, which jemalloc reads when the process starts. `MALLOC_CONF` in the
/// environment is read after it and wins.
#[repr(transparent)]
struct Options(*const std::ffi::c_char);

// SAFETY: it points to a constant.
unsafe impl Sync for Options {}

/// Tells jemalloc never to return memory to the system.
#[unsafe(export_name = "malloc_conf")]
static OPTIONS: Options = Options(c"dirty_decay_ms:-1,muzzy_decay_ms:-1".as_ptr());
