//! The real binaries as ranks of an MPI job: the results of one process, to the bit; and when a
//! rank is killed, hangs, sends nonsense or is interrupted, an error on every rank, nothing half
//! written, and a run that resumes.

#[path = "../common/mod.rs"]
mod common;

mod failures;
mod job;
mod pipeline;
mod rank;
mod results;

use common::{Place, TINY};
use job::Ended;

/// A federated stage on tiny data.
struct Federated {
    stage: &'static str,
    options: &'static [&'static str],
    /// Makes it long enough to be caught at it, short enough to be done twice.
    long: &'static [&'static str],
    /// What runs of the same settings have in common, weights first.
    files: &'static [&'static str],
}

const FED_AVG: Federated = Federated {
    stage: "fed_avg",
    options: &[
        "split.num_nodes=5",
        "fed_avg.save_folder=fed",
        "fed_avg.rounds=3",
        "fed_avg.fraction=0.8",
        "fed_avg.batch_size=16",
        "fed_avg.augment.crop=1",
        "fed_avg.optimizer.lr=0.05",
    ],
    long: &["fed_avg.rounds=150", "fed_avg.statistics=local"],
    files: &[
        "fed/global.safetensors",
        "fed/metrics.jsonl",
        "fed/metrics.json",
    ],
};

/// Four clients, so that three ranks have unequal parts.
const FED_MD: Federated = Federated {
    stage: "fed_md",
    options: &[
        "split.num_nodes=5",
        "fed_md.save_folder=fed",
        "fed_md.rounds=3",
        "fed_md.public_samples=20",
        "fed_md.public_epochs=1",
        "fed_md.private_epochs=1",
        "fed_md.batch_size=16",
        "fed_md.augment.crop=1",
        "fed_md.models=[{kind: resnet18, width: 4, blocks: [1]}, linear]",
    ],
    long: &["fed_md.rounds=100"],
    files: &[
        "fed/model_node0.safetensors",
        "fed/model_node1.safetensors",
        "fed/model_node2.safetensors",
        "fed/model_node3.safetensors",
        "fed/metrics.jsonl",
        "fed/metrics.json",
    ],
};

impl Federated {
    fn with<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        with(self.options, more)
    }

    /// Runs it alone, after `split_data`, with `extra` overrides of its own; its stdout.
    fn alone(&self, place: &Place, options: &[&str], extra: &[&str]) -> String {
        split(place, options);
        let (code, table, errors) = place.run_with(self.stage, options, extra);
        assert_eq!(code, 0, "{errors}");
        table
    }
}

fn split(place: &Place, options: &[&str]) {
    let (code, _, errors) = place.run_with("split_data", options, &[]);
    assert_eq!(code, 0, "{errors}");
}

fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    TINY.iter().chain(base).chain(more).copied().collect()
}

/// The content of files that two runs must have in common.
fn same(a: &Place, b: &Place, files: &[&str]) {
    for file in files {
        let [ours, theirs] = [a, b]
            .map(|place| std::fs::read(place.path(file)).unwrap_or_else(|e| panic!("{file}: {e}")));
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
        words.iter().for_each(|word| {
            assert!(
                own.contains(word),
                "no `{word}` of rank {rank} in\n{errors}"
            )
        });
    }
    assert!(!errors.contains("panicked"), "{errors}");
}
