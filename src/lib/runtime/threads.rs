//! How many CPU threads libtorch computes with, and how they wait for each other.

use crate::error::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// What tells libgomp how its threads wait, in the order of its manual: whoever sets one of them
/// has chosen.
const WAITING: [&str; 2] = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"];

/// Tens of microseconds: long enough for threads that have cores to themselves, short for those
/// that wait for one. libgomp's own choice is thirty times as long.
const SPINS: &str = "10000";

/// More threads than this for each core is taken for a slip of the finger.
const MOST_PER_CORE: usize = 4;

/// Lets libtorch's threads sleep when another does not come within tens of microseconds, unless the
/// environment says how they shall wait.
///
/// At the end of each loop that they share, libgomp's threads spin until the last is there: on a
/// machine with other work, for a long time while that one waits for a core, which they may be
/// keeping from it, and thousands of times in a second of training. libgomp reads how to wait
/// before `main`, so the program begins again, as the same process; where it cannot, it goes on as
/// it is.
pub fn wait_briefly() {
    if WAITING.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = std::env::args_os();
    if let (Ok(program), Some(name)) = (std::env::current_exe(), arguments.next()) {
        let again = Command::new(program)
            .arg0(name)
            .args(arguments)
            .env(WAITING[1], SPINS)
            .exec();
        tracing::debug!("threads wait as libgomp likes: {again}");
    }
}

/// Sets libtorch's threads inside one operation to `threads`, or to the cores this process may use,
/// shared out over the `ranks` that use them at the same time; returns the number. It holds for the
/// calling thread and those it starts.
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
