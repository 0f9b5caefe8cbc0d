//! Every experiment at tiny scale through the real binaries, and what came out.

use super::checks::{check_batches, check_comparison, check_fresh, check_images, check_pictures};
use super::{docs, experiment, others};
use crate::common::config_dir;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn run(&self, stage: &str, arguments: &[&str]) -> Output {
        let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin(stage));
        let output = command
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stage} {arguments:?}\n{errors}");
        output
    }

    /// The stages of an experiment, as `make experiment` runs them.
    fn experiment(&self, name: &str) {
        let (tree, chosen) = (config_dir(), format!("+experiment={name}"));
        let stages = [
            "split_data",
            "train_teachers",
            "generate_initial",
            "train_student",
        ];
        // One teacher on everything needs no split.
        for stage in &stages[usize::from(name.starts_with("1_"))..] {
            let tree = tree.to_str().unwrap();
            self.run(
                stage,
                &["--config-dir", tree, &chosen, "+scale=tiny", "resume=true"],
            );
        }
    }
}

pub fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

/// Runs the experiments of the docs whose names begin with one of `prefixes`, in one place, so that
/// they share teachers.
fn family(prefixes: &[&str]) -> Place {
    let place = Place::new();
    let mut ran = 0;
    for name in docs::experiments() {
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            place.experiment(&name);
            check_images(&place, &name);
            check_batches(&place, &name);
            check_fresh(&place, &name);
            check_pictures(&place, &name);
            ran += 1;
        }
    }
    assert!(ran > 0, "{prefixes:?}");
    place
}

#[test]
fn one_teacher() {
    let place = family(&["1_"]);
    let weights = |name: &str| {
        std::fs::read(place.path(&format!("outputs/{name}/student/student.safetensors"))).unwrap()
    };
    // Without competition the adaptive code is the other one, to the byte.
    assert_eq!(
        weights("1_teacher_custom"),
        weights("1_teacher_custom_adap_no_comp")
    );
    assert_ne!(
        weights("1_teacher_custom"),
        weights("1_teacher_custom_adap")
    );
}

#[test]
fn half_of_the_data_and_two_disjoint_teachers() {
    family(&["half_", "2_"]);
}

#[test]
fn five_disjoint_teachers() {
    family(&["5_"]);
}

#[test]
fn ten_iid_teachers() {
    family(&["iid_10_"]);
}

#[test]
fn ten_heterogeneous_teachers() {
    family(&["heter_10_"]);
}

#[test]
fn the_demo_and_our_own() {
    let names = others();
    assert!(names.contains(&"demo".to_owned()), "{names:?}");
    for name in names {
        let place = Place::new();
        place.experiment(&name);
        if experiment(&name).fed_avg.save_folder.is_some() {
            check_comparison(&place, &name);
        }
    }
}

/// They print again what they printed then.
#[test]
fn finished_stages_are_not_run_again() {
    let place = Place::new();
    place.experiment("2_teachers_custom_adap");
    let manifests = [
        "full_2_teachers/split.manifest.json",
        "full_2_teachers/teachers/manifest_teacher1.json",
        "2_teachers_custom_adap/initial.manifest.json",
        "2_teachers_custom_adap/student/manifest.json",
    ];
    let bytes = || manifests.map(|name| std::fs::read(place.path("outputs").join(name)).unwrap());
    let before = bytes();
    place.experiment("2_teachers_custom_adap");
    assert_eq!(before, bytes());
    for folder in [
        "full_2_teachers/split.hydra",
        "full_2_teachers/teachers/.hydra_teacher1",
        "2_teachers_custom_adap/initial.hydra",
        "2_teachers_custom_adap/student/.hydra",
    ] {
        let folder = place.path("outputs").join(folder);
        let overrides = std::fs::read_to_string(folder.join("overrides.yaml")).unwrap();
        let wanted =
            "- \"+experiment=2_teachers_custom_adap\"\n- \"+scale=tiny\"\n- \"resume=true\"\n";
        assert_eq!(overrides, wanted);
        // The snapshot is a config of its own that gives the same run: of its groups a stage prints
        // those that it reads.
        let shown = place.run(
            "train_student",
            &["--config-dir", folder.to_str().unwrap(), "--cfg", "job"],
        );
        let saved = std::fs::read_to_string(folder.join("config.yaml")).unwrap();
        let (saved, shown) = (groups(&saved), String::from_utf8(shown.stdout).unwrap());
        let shown = groups(&shown);
        assert!(shown.last().unwrap().starts_with("student:"), "{shown:?}");
        let missing: Vec<_> = shown
            .iter()
            .filter(|group| !saved.contains(group))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

/// The keys at the top of a printed config, each with what is below it.
fn groups(yaml: &str) -> Vec<String> {
    let mut groups: Vec<String> = Vec::new();
    for line in yaml.lines() {
        match groups.last_mut() {
            Some(group) if line.starts_with(' ') => *group += line,
            _ => groups.push(line.into()),
        }
    }
    groups
}

/// The overrides that `docs/experiments.md` gives for other readings of the report.
#[test]
fn other_readings_of_the_report() {
    let readings = [
        (
            "half_1_teacher_custom_weighted",
            "student.class_weights=[10,10,10,10,10,2,2,2,2,2]",
        ),
        ("2_teachers_entropy", "deep_inv.di.loss.entropy_scale=-1"),
        (
            "2_teachers_custom_adap",
            "teacher.selection=best_own_test student.selection=best_test",
        ),
        ("2_teachers_custom_adap", "deep_inv.keep_moments=true"),
    ];
    let text = include_str!("../../../docs/experiments.md");
    for (name, overrides) in readings {
        assert!(text.contains(&format!("`{overrides}`")), "{overrides}");
        let (place, tree) = (Place::new(), config_dir());
        let chosen = format!("+experiment={name}");
        let mut arguments = vec![
            "--config-dir",
            tree.to_str().unwrap(),
            &chosen,
            "+scale=tiny",
        ];
        arguments.extend(overrides.split(' '));
        for stage in [
            "split_data",
            "train_teachers",
            "generate_initial",
            "train_student",
        ] {
            place.run(stage, &arguments);
        }
    }
}

#[test]
fn the_entropy_term_has_the_sign_of_its_scale() {
    let place = Place::new();
    place.experiment("2_teachers_entropy");
    let first = |path: &str| json(&place.path(path))[0]["history"][0].clone();
    let plus = first("outputs/2_teachers_entropy/initial.metrics.json");
    place.run(
        "generate_initial",
        &[
            "--config-dir",
            config_dir().to_str().unwrap(),
            "+experiment=2_teachers_entropy",
            "+scale=tiny",
            "deep_inv.di.loss.entropy_scale=-1",
            "initial.save_path=outputs/minus.safetensors",
        ],
    );
    let minus = first("outputs/minus.metrics.json");
    // The first step sees the same noise, so the losses differ by twice the entropy, which is never
    // negative.
    let of = |step: &Value, key: &str| step[key].as_f64().unwrap();
    let entropy = of(&plus, "entropy");
    assert!(
        entropy > 0.0 && entropy == of(&minus, "entropy"),
        "{plus} {minus}"
    );
    let difference = of(&plus, "total") - of(&minus, "total");
    assert!(
        (difference - 2.0 * entropy).abs() < 1e-4 * of(&plus, "total"),
        "{plus} {minus}"
    );
}
