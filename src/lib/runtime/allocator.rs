//! Makes glibc's allocator keep the memory of large tensors. Binaries call [`tune`] first of all.
//!
//! By default glibc maps a large block (from 128 KiB, growing to 32 MiB) when it is asked for and unmaps it when it is freed, and gives the
//! top of the heap back. libtorch allocates and frees the same large tensors at every step, so each step pays for the system calls and,
//! much more, for the page faults and the zeroing of fresh pages. Kept on the heap the pages are reused. The price is that memory once used
//! stays with the process until it ends.

/// Blocks below this stay on the heap: the most that an `int` holds in whole MiB.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAP_FROM: i32 = 2047 << 20;

/// The most that older versions of glibc accept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAP_FROM_OLD: i32 = 32 << 20;

/// The heap grows by at least this, so that it grows seldom; what is not touched costs nothing.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const GROW_BY: i32 = 64 << 20;

/// Never give memory back.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const NEVER: i32 = -1;

/// Tunes glibc's allocator for libtorch; does nothing elsewhere, or where the user has tuned it through the environment. Returns whether
/// all settings were taken.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn tune() -> bool {
    if tuned_by_user() {
        return false;
    }
    let set = |parameter, value| {
        // SAFETY: `mallopt` may be called at any time; it only sets a parameter, and answers 0 to what it does not accept.
        unsafe { libc::mallopt(parameter, value) == 1 }
    };
    let kept = set(libc::M_MMAP_THRESHOLD, MAP_FROM) || set(libc::M_MMAP_THRESHOLD, MAP_FROM_OLD);
    let trimmed = set(libc::M_TRIM_THRESHOLD, NEVER);
    let grown = set(libc::M_TOP_PAD, GROW_BY);
    kept && trimmed && grown
}

/// Tunes glibc's allocator for libtorch; there is no glibc here.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn tune() -> bool {
    false
}

/// True when the environment sets what we would set.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn tuned_by_user() -> bool {
    const OLD: [&str; 3] = ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_"];
    let tunables = std::env::var("GLIBC_TUNABLES").unwrap_or_default();
    tunables.contains("glibc.malloc.") || OLD.iter().any(|name| std::env::var_os(name).is_some())
}
