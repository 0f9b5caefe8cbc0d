//! What the test executables share: a folder to run the real binaries in, with overrides that make
//! every stage take a second, processes of a test's own, and files in the formats of data sets.
#![allow(dead_code)] // no executable needs all of it

pub mod child;
pub mod clock;
pub mod datasets;
pub mod machine;
pub mod python;
pub mod signals;
pub mod stop;

use assert_cmd::Command;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Digits at their own 8×8 pixels, few of them, a network of one narrow block, a handful of steps.
pub const TINY: &[&str] = &[
    "dataset=digits",
    "dataset.size=8",
    "dataset.max_train=200",
    "dataset.max_test=50",
    "model=resnet_small",
    "model.width=4",
    "model.blocks=[1]",
    "split.num_nodes=2",
    "split.save_path=split.json",
    "teacher.save_folder=teachers",
    "teacher.epochs=2",
    "teacher.batch_size=32",
    "teacher.augment.crop=1",
    "deep_inv.batch_size=16",
    "deep_inv.di.grad_updates_batch=4",
    "deep_inv.adi.grad_updates_batch=4",
    "initial.num_batches=2",
    "initial.save_path=initial.safetensors",
    "student.save_folder=student",
    "student.epochs=2",
    "student.batch_size=16",
    "student.new_batches_per_epoch=0",
    "threads=1",
    "device=cpu",
];

/// Returns the kinds of split, by the schema of their settings.
pub fn kinds_of_split() -> Vec<String> {
    let schema = schemars::schema_for!(fed_distill::partition::PartitionSettings);
    let kinds = schema.pointer("/oneOf").unwrap().as_array().unwrap().iter();
    kinds
        .map(|kind| {
            kind["properties"]["kind"]["const"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

/// Returns the project's own config tree, whatever the current directory.
pub fn config_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a stage with `base` and `more` overrides: exit code, stdout, stderr.
    pub fn run_with(&self, stage: &str, base: &[&str], more: &[&str]) -> (i32, String, String) {
        let output = Command::new(assert_cmd::cargo::cargo_bin(stage))
            .current_dir(self.0.path())
            .args(base)
            .args(more)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap_or(-1),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Runs a tiny stage that must succeed; its stdout.
    pub fn ok(&self, stage: &str, more: &[&str]) -> String {
        let (code, out, errors) = self.run_with(stage, TINY, more);
        assert_eq!(code, 0, "{stage} {more:?}\n{errors}");
        out
    }

    /// Runs a tiny stage that must fail with `code`; its stderr.
    pub fn fails(&self, stage: &str, more: &[&str], code: i32) -> String {
        let (found, out, errors) = self.run_with(stage, TINY, more);
        assert_eq!(found, code, "{stage} {more:?}\n{out}\n{errors}");
        assert!(
            errors.contains("error: ") && !errors.contains("panicked"),
            "{errors}"
        );
        errors
    }
}
