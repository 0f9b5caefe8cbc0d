//! Device, threads, signals, log and progress.

#[cfg(target_os = "linux")]
mod allocator;
mod device;
mod interrupt;
mod logging;
mod progress;
