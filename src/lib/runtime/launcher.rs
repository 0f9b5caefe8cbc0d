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
    /// Index of this process among those of this machine, from 0.
    pub local: usize,
}

/// Returns which of the processes started together this one is; `None` if it was started alone.
pub fn launched() -> Option<Launched> {
    read(|name| var(name).ok())
}

/// Reads the environment by `look`.
fn read(look: impl Fn(&str) -> Option<String>) -> Option<Launched> {
    // Open MPI; MPICH and those built on it; SLURM with PMIx, which names the rank alone.
    const NAMES: [[&str; 4]; 3] = [
        [
            "OMPI_COMM_WORLD_RANK",
            "OMPI_COMM_WORLD_SIZE",
            "OMPI_COMM_WORLD_LOCAL_SIZE",
            "OMPI_COMM_WORLD_LOCAL_RANK",
        ],
        ["PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", "MPI_LOCALRANKID"],
        [
            "PMIX_RANK",
            "SLURM_STEP_NUM_TASKS",
            "SLURM_STEP_TASKS_PER_NODE",
            "SLURM_LOCALID",
        ],
    ];
    let launcher = |names: [&str; 4]| {
        let numbers = names.map(|name| look(name).and_then(|text| number(&text)));
        let [rank, size, here, local] = numbers;
        let (rank, size) = (rank?, size.filter(|&size| size > 1)?);
        let here = here.unwrap_or(size).clamp(1, size);
        Some(Launched {
            rank,
            size,
            here,
            // Launchers fill one machine after the other unless they are told otherwise.
            local: local.unwrap_or(rank % here),
        })
    };
    NAMES.into_iter().find_map(launcher)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two machines with four processes each; the sixth process is the second of its machine.
    #[test]
    fn launchers_name_the_place_of_a_process() {
        let of = |names: &'static [(&str, &str)]| {
            read(|name| {
                let found = names.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let sixth = Some(Launched {
            rank: 5,
            size: 8,
            here: 4,
            local: 1,
        });
        let open_mpi = of(&[
            ("OMPI_COMM_WORLD_RANK", "5"),
            ("OMPI_COMM_WORLD_SIZE", "8"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ]);
        let slurm = of(&[
            ("PMIX_RANK", "5"),
            ("SLURM_STEP_NUM_TASKS", "8"),
            ("SLURM_STEP_TASKS_PER_NODE", "4(x2)"),
            ("SLURM_LOCALID", "1"),
        ]);
        let unnumbered = of(&[
            ("PMI_RANK", "5"),
            ("PMI_SIZE", "8"),
            ("MPI_LOCALNRANKS", "4"),
        ]);
        assert_eq!([open_mpi, slurm, unnumbered], [sixth; 3]);
        assert_eq!(of(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]), None);
    }
}
