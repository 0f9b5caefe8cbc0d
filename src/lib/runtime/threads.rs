//! Sets how many CPU threads libtorch computes with. Called by the stages and the benchmarks.

use crate::error::{Error, Result, assignment, parameter};
use crate::words::counted;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

/// Largest number of threads for each core; more are taken for a typing error.
const MAX_PER_CORE: usize = 4;

/// Sets the number of threads that libtorch uses inside one operation, and returns it.
///
/// It is `threads`, or where that is `None` the cores that this process may use, divided by the
/// `ranks` that run at the same time. It holds for the calling thread: one that is started
/// later begins with all cores, and calls this for itself.
///
/// # Errors
/// Fails (usage) when `threads` is zero or more than four for each core, and when the system does
/// not let this process start as many.
pub fn set(threads: Option<usize>, ranks: usize) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = cores * MAX_PER_CORE;
    let threads = threads.unwrap_or_else(|| (cores / ranks.max(1)).max(1));
    let out_of_range = || {
        Error::usage(parameter("threads") + format!(" cannot be {threads}"))
            .note(
                "expected",
                format!("1 to {most}, four for each of the {cores} cores here"),
            )
            .hint(assignment("threads", "null") + " takes all cores")
    };
    if threads == 0 || threads > most {
        return Err(out_of_range());
    }
    try_starting(threads)?;
    tch::set_num_threads(i32::try_from(threads).map_err(|_| out_of_range())?);
    Ok(threads)
}

/// Starts as many threads as libtorch will, and one for the progress, and ends them: libtorch
/// itself would end the process, or wait for ever, where one of them cannot be started.
fn try_starting(threads: usize) -> Result<()> {
    let (ends, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let start = |_| {
        let wait = wait.clone();
        thread::Builder::new().spawn(move || {
            // Returns when the other side is dropped.
            let _ = wait.lock().unwrap_or_else(PoisonError::into_inner).recv();
        })
    };
    let started: Result<Vec<_>, _> = (0..threads).map(start).collect();
    drop(ends);
    for handle in started.map_err(|error| cannot_start(threads, error))? {
        let _ = handle.join();
    }
    Ok(())
}

/// Tells what may be in the way of threads.
pub(super) const LIMITED: &str = "a limit on processes is in the way (`ulimit -u`, or the pids.max \
    of a container): raise it, or lower the number of threads";

/// Returns the error for threads that the system does not let this process start.
pub fn cannot_start(threads: usize, error: std::io::Error) -> Error {
    Error::failed(format!(
        "cannot start {}: {error}",
        counted(threads, "thread")
    ))
    .hint(LIMITED)
    .hint(assignment("threads", 1) + " needs the fewest")
    .caused_by(error)
}
