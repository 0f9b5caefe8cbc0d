//! Whether this process is one of several that an MPI launcher (`mpirun`, `srun`) started together,
//! as the environment says. Known before MPI itself is, and without it.

use std::env::var;

/// One of several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// From 0.
    pub rank: usize,
    /// Processes in all.
    pub size: usize,
    /// Of those, on this machine.
    pub here: usize,
}

/// `None` for a process that was started alone.
pub fn launched() -> Option<Launched> {
    // Open MPI; MPICH and its kin; SLURM with PMIx, which names the rank alone.
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

/// Whether what this process has to say is said by rank 0 already.
pub fn is_follower() -> bool {
    launched().is_some_and(|launched| launched.rank > 0)
}

/// The number that `text` begins with: SLURM writes `4(x2)` for two machines with four processes
/// each.
fn number(text: &str) -> Option<usize> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text[..end].parse().ok()
}
