//! The real binaries as ranks of an MPI job: the results of one process, to the bit; and when a rank is killed, hangs, talks nonsense or is
//! interrupted, an error on every rank, nothing half written, and a run that goes on.

#[path = "../common/mod.rs"]
#[allow(dead_code)] // not every test file needs all of it
mod common;
#[path = "../common/signals.rs"]
mod signals;

mod failures;
mod job;
mod pipeline;
mod results;

use common::{Place, TINY};
use job::Ended;

/// Federated averaging on tiny data.
const FED_AVG: [&str; 7] = [
    "split.num_nodes=5",
    "fed_avg.save_folder=fed",
    "fed_avg.rounds=3",
    "fed_avg.fraction=0.8",
    "fed_avg.batch_size=16",
    "fed_avg.augment.crop=1",
    "fed_avg.optimizer.lr=0.05",
];

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    TINY.iter().chain(base).chain(more).copied().collect()
}

/// The content of files that two runs must have in common.
fn same(a: &Place, b: &Place, files: &[&str]) {
    for file in files {
        let [ours, theirs] =
            [a, b].map(|place| std::fs::read(place.path(file)).unwrap_or_else(|e| panic!("{file}: {e}")));
        assert!(ours == theirs, "{file} differs");
    }
}

/// Each of these ranks has an error that holds `words`.
fn each(ended: &Ended, ranks: &[usize], words: &[&str]) {
    assert_ne!(ended.code, 0);
    let errors = &ended.errors;
    for rank in ranks {
        let start = errors.find(&format!("error: rank {rank}:"));
        let own = &errors[start.unwrap_or_else(|| panic!("rank {rank} says nothing:\n{errors}"))..];
        words
            .iter()
            .for_each(|word| assert!(own.contains(word), "no `{word}` of rank {rank} in\n{errors}"));
    }
    assert!(!errors.contains("panicked"), "{errors}");
}
