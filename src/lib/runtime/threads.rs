//! How many CPU threads libtorch computes with.

use crate::error::{Error, Result};

/// More threads than this for each core is taken for a slip of the finger.
const MOST_PER_CORE: usize = 4;

/// Sets libtorch's threads inside one operation to `threads`, or to the cores this process may use, shared out over the `ranks` that use them
/// at the same time; returns the number. It holds for the calling thread and those it starts.
///
/// # Errors
/// Zero, or more than four threads a core (usage).
pub fn set(threads: Option<usize>, ranks: usize) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = cores * MOST_PER_CORE;
    let threads = threads.unwrap_or_else(|| (cores / ranks.max(1)).max(1));
    let wrong = || {
        Error::usage(format!("`threads` cannot be {threads}"))
            .note(
                "expected",
                format!("1 to {most}, four for each of the {cores} cores here"),
            )
            .hint("`threads=null` takes all cores")
    };
    if threads == 0 || threads > most {
        return Err(wrong());
    }
    tch::set_num_threads(i32::try_from(threads).map_err(|_| wrong())?);
    Ok(threads)
}
