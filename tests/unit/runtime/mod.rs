//! Device, threads, signals, log and progress.

#[cfg(all(target_os = "linux", feature = "jemalloc"))]
mod allocator;
mod device;
mod interrupt;
mod logging;
mod progress;
