//! Sets how many CPU threads libtorch computes with. Called by the stages and the benchmarks.

use crate::error::{Error, Result, assignment, parameter};

/// Largest number of threads for each core; more are taken for a typing error.
const MAX_PER_CORE: usize = 4;

/// Sets the number of threads that libtorch uses inside one operation, and returns it.
///
/// It is `threads`, or where that is `None` the cores that this process may use, divided by the
/// `ranks` that run at the same time. It holds for the calling thread and for those that it starts.
///
/// # Errors
/// Fails (usage) when `threads` is zero or more than four for each core.
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
    tch::set_num_threads(i32::try_from(threads).map_err(|_| out_of_range())?);
    Ok(threads)
}
