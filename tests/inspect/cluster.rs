//! The commands of `docs/cluster.md`, typed as they stand there, with a stand-in for SLURM that
//! runs a job when it is submitted.

use crate::common::Place;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the script, once for each place of the array, and prints a job's number.
const SBATCH: &str = r#"#!/bin/bash
set -e
array=
for argument in "$@"; do
  case $argument in
    --array=*) array=$(seq ${argument#--array=0-}; echo 0) ;;
    --parsable | --dependency=afterok:4711) ;;
    -*) echo "what is $argument?" >&2; exit 1 ;;
  esac
done
export SLURM_CPUS_PER_TASK=1
for task in ${array:-none}; do SLURM_ARRAY_TASK_ID=$task bash "${@: -1}" >> slurm.out 2>&1; done
echo 4711
"#;

/// The blocks of the document in order, with the last word in backticks before each.
fn blocks() -> Vec<(String, String)> {
    let text = include_str!("../../docs/cluster.md");
    let parts: Vec<&str> = text.split("```").collect();
    let block = |pair: &[&str]| {
        let name = pair[0].rsplit('`').nth(1).unwrap_or_default().to_owned();
        Some((name, pair[1].strip_prefix("bash\n")?.to_owned()))
    };
    parts
        .chunks(2)
        .filter(|pair| pair.len() == 2)
        .filter_map(block)
        .collect()
}

fn cluster(place: &Place) -> PathBuf {
    let bin = place.path("bin");
    std::fs::create_dir(&bin).unwrap();
    std::fs::write(bin.join("sbatch"), SBATCH).unwrap();
    std::fs::set_permissions(bin.join("sbatch"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, script) in blocks()
        .into_iter()
        .filter(|(_, script)| script.starts_with("#!"))
    {
        assert!(name.ends_with(".sh"), "{name}");
        std::fs::write(place.path(&name), script).unwrap();
    }
    bin
}

fn bash(place: &Place, bin: &Path, arguments: &str, script: &str) -> Output {
    let binaries = assert_cmd::cargo::cargo_bin("inspect");
    let path = format!(
        "{}:{}:{}",
        bin.display(),
        binaries.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut command = Command::new("bash");
    command
        .args(["-e", "-c", script])
        .current_dir(place.path("."));
    command
        .env("PATH", path)
        .env("NAME", "heter_10_teacher_custom")
        .env("ARGS", arguments);
    let output = command.output().unwrap();
    let said = std::fs::read_to_string(place.path("slurm.out")).unwrap_or_default();
    assert!(
        output.status.success(),
        "{script}\n{}\n{said}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The block that holds `words`.
fn block(words: &str) -> String {
    let found = blocks()
        .into_iter()
        .find(|(_, script)| !script.starts_with("#!") && script.contains(words));
    found.unwrap_or_else(|| panic!("no block with {words}")).1
}

/// The student's job follows it.
#[test]
fn job_array_trains_every_node() {
    let place = Place::new();
    let bin = cluster(&place);
    bash(&place, &bin, "+scale=tiny", &block("teachers=$(sbatch"));
    let name = "outputs/heter_10_teacher_custom";
    assert!(
        place
            .path(&format!("{name}/student/student.safetensors"))
            .exists()
    );
    let runs = bash(&place, &bin, "", "inspect runs outputs --json");
    let runs: serde_json::Value = serde_json::from_slice(&runs.stdout).unwrap();
    let of = |stage: &str| {
        runs.as_array()
            .unwrap()
            .iter()
            .filter(|run| run["stage"] == stage && run["status"] == "done")
            .count()
    };
    assert_eq!(
        (of("split_data"), of("train_teachers"), of("train_student")),
        (1, 10, 1)
    );
}

#[test]
fn the_sweep_ends_in_one_line_of_mean_and_deviation() {
    let place = Place::new();
    let bin = cluster(&place);
    bash(&place, &bin, "+scale=tiny", "sbatch sweep.sh");
    let another = block("SEEDS=4");
    bash(&place, &bin, "+scale=tiny", another.lines().next().unwrap());
    let looked = bash(&place, &bin, "", &block("inspect runs --group"));
    let said = String::from_utf8(looked.stdout).unwrap();
    let line = said
        .lines()
        .find(|line| line.starts_with("train_student") && line.contains('±'))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(line.contains("1, 1; 2, 2; 3, 3; 4, 4"), "{line}");
    assert!(said.contains("all unchanged"), "{said}");
    assert!(place.path("outputs/sweep/report.html").exists());
}
