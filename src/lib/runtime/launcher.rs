//! Finds out from the environment if an MPI launcher (`mpirun`, `srun`) started this process
//! together with others: before MPI is started, and without MPI.

use std::env::var;

/// Describes one of several processes that were started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Index of this process, from 0.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of processes on this machine.
    pub here: usize,
}

/// Returns which of the processes started together this one is; `None` if it was started alone.
pub fn launched() -> Option<Launched> {
    // Open MPI; MPICH and those built on it; SLURM with PMIx, which names the rank alone.
    const NAMES: [[&str; 3]; 3] = [
        [
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_LOCAL_SIZE",
        ],
        ["PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"],
        [
            "PMIX_RANK",
            "SLURM_STEP_NUM_TASKS",
            "SLURM_STEP_TASKS_PER_NODE",
        ],
    ];
    let read = |names: [&str; 3]| {
        let [rank, size, here] = names.map(|name| var(name).ok().and_then(|text| number(&text)));
        let size = size.filter(|&size| size > 1)?;
        Some(Launched {
            rank: rank?,
            size,
            here: here.unwrap_or(size).clamp(1, size),
        })
    };
    NAMES.into_iter().find_map(read)
}

/// Returns true if rank 0 reports what this process would.
pub fn is_follower() -> bool {
    launched().is_some_and(|launched| launched.rank > 0)
}

/// Returns the number that `text` begins with: SLURM writes `4(x2)` for two machines with four
/// processes each.
fn number(text: &str) -> Option<usize> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}
