//! `inspect` through the real binary on a tiny experiment of two disjoint nodes and three students,
//! which the tests share and none changes.

mod cluster;
#[path = "../common/mod.rs"]
mod common;
mod compare;
mod ensembles;
mod files;
mod groups;
mod lists;
mod mistakes;
mod neighbours;
mod pictures;
mod report;
mod report_baselines;
mod skew;
mod table;

use common::Place;
use fed_distill::artifact::json;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The students' seeds.
const SEEDS: [u64; 3] = [1, 2, 3];

/// The finished experiment.
fn experiment() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new();
        let disjoint = "split.unif_percentage=0";
        for stage in ["split_data", "train_teachers", "generate_initial"] {
            place.ok(stage, &[disjoint]);
        }
        let folder = "student.save_folder=students/${student.seed}";
        place.ok(
            "train_student",
            &["--multirun", disjoint, "student.seed=1,2,3", folder],
        );
        place
    })
}

fn student(seed: u64) -> PathBuf {
    experiment().path(&format!("students/{seed}"))
}

fn metrics(seed: u64) -> Value {
    json::read(&student(seed).join("metrics.json")).unwrap()
}

/// A copy of the experiment, to be damaged.
fn copy() -> Place {
    fn copy_folder(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap();
            // Other tests draw pictures into the experiment meanwhile.
            if name.to_string_lossy().starts_with(".fed-distill.") {
                continue;
            }
            let target = to.join(name);
            match path.is_dir() {
                true => copy_folder(&path, &target),
                false => std::fs::copy(&path, &target).map(|_| ()).unwrap(),
            }
        }
    }
    let place = Place::new();
    copy_folder(&experiment().path("."), &place.path("."));
    place
}

/// What `inspect` prints; it must succeed.
fn inspect(arguments: &[&str]) -> String {
    let (code, out, errors) = experiment().run_with("inspect", &[], arguments);
    assert_eq!(code, 0, "inspect {arguments:?}\n{errors}");
    out
}

/// The same as JSON.
fn data(arguments: &[&str]) -> Value {
    serde_json::from_str(&inspect(&[arguments, &["--json"]].concat())).unwrap()
}

/// The cells of a table's line that begins with `start`; columns stand at least two blanks apart.
fn line(table: &str, start: &str) -> Vec<String> {
    let found = table
        .lines()
        .find(|line| line.trim_start().starts_with(start));
    let found = found.unwrap_or_else(|| panic!("no line `{start}` in\n{table}"));
    found
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .map(str::to_owned)
        .collect()
}

fn percent(value: &Value) -> String {
    format!("{:.1}", 100.0 * value.as_f64().unwrap())
}
