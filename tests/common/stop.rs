//! Runs that are stopped in the middle.

use std::process::Child;
use std::time::Duration;

/// Sends `signal` to a run as soon as `ready`, and waits for its end. Returns false where the run
/// had come to its good end before it heard the signal: a busy machine may keep us from looking for
/// that long.
pub fn stop(child: &mut Child, signal: i32, ready: impl Fn() -> bool) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    while !ready() {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "it ended by itself: {status}");
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // SAFETY: a signal to a process that this test started and has not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
    let status = child.wait().unwrap();
    let heard = match signal {
        libc::SIGKILL => status.signal() == Some(signal),
        _ => status.code() == Some(130),
    };
    assert!(heard || status.success(), "{status}");
    heard
}

/// Returns what `attempt` makes of a run that it stops in the middle. `None` says that the run was
/// not caught there; then it is tried again.
pub fn caught<T>(attempt: impl FnMut() -> Option<T>) -> T {
    const TRIES: usize = 20;
    let mut tries = std::iter::repeat_with(attempt).take(TRIES);
    let caught = tries.find_map(|caught| caught);
    caught.unwrap_or_else(|| panic!("none of {TRIES} runs was caught in the middle"))
}
