//! Bounds how long the threads of OpenMP spin, which the environment decides before `main` runs.
//! Called when a binary starts a stage that computes with several threads, or a sweep.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lists the environment variables that tell libgomp how its threads wait. A user who sets one of
/// them has made the choice.
const WAITING: [&str; 2] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"];

/// Sets `GOMP_SPINCOUNT`: tens of microseconds, which is long enough for threads that each have a
/// core, and short for those that wait for one. libgomp's default is thirty times as long.
const SPIN_COUNT: &str = "10000";

/// Executes the program again, as the same process, with a `GOMP_SPINCOUNT` that lets idle threads
/// sleep after tens of microseconds. Does nothing when the environment says how threads wait.
///
/// At the end of each parallel loop libgomp's threads spin until the last one arrives. On a machine
/// with other work that one may wait long for a core, which a spinning thread may be occupying, and
/// it happens thousands of times in a second of training. libgomp reads its variables before
/// `main`, so setting them needs a new start; where that fails, the program continues with
/// libgomp's default.
pub(super) fn limit() {
    if WAITING.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        let error = Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(WAITING[1], SPIN_COUNT)
            .exec();
        tracing::debug!("threads spin for libgomp's default time: {error}");
    }
}
