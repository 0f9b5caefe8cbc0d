//! Every experiment at tiny scale through the real binaries, and what came out.

use crate::{docs, experiment, others, tree};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

/// `config/scale/tiny.yaml`.
const BATCH: u64 = 16;
const INITIAL: u64 = 2;
const EPOCHS: u64 = 2;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, stage: &str, arguments: &[&str]) -> Output {
        let mut command = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin(stage));
        let output = command.current_dir(self.0.path()).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{stage} {arguments:?}\n{errors}");
        output
    }

    /// The stages of an experiment, as `make experiment` runs them.
    fn experiment(&self, name: &str) {
        let (tree, chosen) = (tree(), format!("+experiment={name}"));
        let stages = ["split_data", "train_teachers", "generate_initial", "train_student"];
        // One teacher on everything needs no split.
        for stage in &stages[usize::from(name.starts_with("1_"))..] {
            let tree = tree.to_str().unwrap();
            self.run(stage, &["--config-dir", tree, &chosen, "+scale=tiny", "resume=true"]);
        }
    }
}

fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap()
}

fn counts(value: &Value) -> Vec<u64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The composed config that a run recorded.
fn recorded(place: &Place, name: &str) -> Value {
    json(&place.path(&format!("outputs/{name}/student/manifest.json")))["config"].clone()
}

/// How many images there are, and of which kind.
fn check_images(place: &Place, name: &str) {
    let config = recorded(place, name);
    let metrics = json(&place.path(&format!("outputs/{name}/student/metrics.json")));
    let fresh = config["student"]["new_batches_per_epoch"].as_u64().unwrap() * EPOCHS;
    assert_eq!(metrics["synthetic_images"], BATCH * (INITIAL + fresh), "{name}");
    // Only in section IV are nodes left over, whose images are the student's own.
    let own = match name.starts_with("half_") {
        true => json(&place.path("outputs/full_2_teachers/split.json"))["teacher1"]["train"]
            .as_array()
            .unwrap()
            .len(),
        false => 0,
    };
    assert_eq!(metrics["real_images"], own as u64, "{name}");
    assert_eq!(metrics["epochs"].as_array().unwrap().len() as u64, EPOCHS, "{name}");
    assert_eq!(
        metrics["comparison"]["teachers"].as_array().unwrap().len(),
        config["teacher"]["num_teachers"]
    );
}

/// Which teachers and classes the initial batches were made from.
fn check_batches(place: &Place, name: &str) {
    let config = recorded(place, name);
    let folder = place.path(config["teacher"]["save_folder"].as_str().unwrap());
    let teachers = config["teacher"]["num_teachers"].as_u64().unwrap();
    let seen = |teacher: u64| counts(&json(&folder.join(format!("metrics_teacher{teacher}.json")))["label_counts"]);
    let initial = place.path(config["initial"]["save_path"].as_str().unwrap());
    let batches = json(&initial.with_extension("metrics.json"));
    assert_eq!(batches.as_array().unwrap().len() as u64, INITIAL);
    for (index, batch) in batches.as_array().unwrap().iter().enumerate() {
        let asked = counts(&batch["label_counts"]);
        assert_eq!(asked.iter().sum::<u64>(), BATCH, "{name}");
        let own = match config["deep_inv"]["teachers"]["mode"].as_str().unwrap() {
            "cycle" => {
                assert_eq!(batch["teacher"], index as u64 % teachers, "{name}");
                seen(index as u64 % teachers)
            }
            _ => {
                assert!(batch["teacher"].is_null(), "{name}");
                (0..teachers).map(seen).fold(vec![0; 10], |sum, counts| {
                    sum.iter().zip(counts).map(|(one, other)| one + other).collect()
                })
            }
        };
        let strange = asked.iter().zip(&own).any(|(asked, seen)| *asked > 0 && *seen == 0);
        let masked = config["deep_inv"]["teachers"]["mask"].as_bool().unwrap();
        assert!(!masked || !strange, "{name}: {asked:?} of {own:?}");
        // Sixteen labels of ten classes: a teacher of some of them is asked for others too.
        let some = own.contains(&0);
        assert!(masked || !some || strange, "{name}: {asked:?} of {own:?}");
        for (term, experiment) in [("entropy", "2_teachers_entropy"), ("rival", "2_teachers_rivals")] {
            assert_eq!(
                batch["history"][0].get(term).is_some(),
                name == experiment,
                "{name}: {term}"
            );
        }
    }
}

/// What fresh batches were made against.
fn check_fresh(place: &Place, name: &str) {
    let config = recorded(place, name);
    let competes =
        config["student"]["adaptive"].as_bool().unwrap() && config["deep_inv"]["adi"]["loss"]["comp_scale"] != 0.0;
    let mut batches = 0;
    for teacher in 0..config["teacher"]["num_teachers"].as_u64().unwrap() {
        let fresh = json(&place.path(&format!("outputs/{name}/student/di_metrics_teacher{teacher}.json")));
        for batch in fresh.as_array().unwrap() {
            let divergence = &batch["history"][0]["jensen_shannon"];
            assert_eq!(divergence.is_null(), !competes, "{name}: {divergence}");
            batches += 1;
        }
    }
    // A batch of several teachers stands in the file of each.
    assert!(
        batches >= EPOCHS * config["student"]["new_batches_per_epoch"].as_u64().unwrap(),
        "{name}: {batches}"
    );
}

/// The figures of the report.
fn check_pictures(place: &Place, name: &str) {
    for stem in [
        "curves",
        "per_class",
        "confusion",
        "fresh_first",
        "fresh_last",
        "dataset",
    ] {
        let picture = place.path(&format!("outputs/{name}/student/{stem}.png"));
        assert!(picture.exists(), "{name}: {stem}");
    }
    let classes = std::fs::read_to_string(place.path(&format!("outputs/{name}/student/per_class.svg"))).unwrap();
    let owned = classes.contains("(teacher 0)");
    assert_eq!(owned, !name.starts_with("iid_"), "{name}: owners of classes");
}

/// Runs the experiments of the docs whose names begin with one of `prefixes`, in one place, so that they share teachers.
fn family(prefixes: &[&str]) -> Place {
    let place = Place::new();
    let mut ran = 0;
    for docs::Experiment { name, .. } in docs::experiments() {
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
    let weights =
        |name: &str| std::fs::read(place.path(&format!("outputs/{name}/student/student.safetensors"))).unwrap();
    // Without competition the adaptive code is the other one, to the byte.
    assert_eq!(weights("1_teacher_custom"), weights("1_teacher_custom_adap_no_comp"));
    assert_ne!(weights("1_teacher_custom"), weights("1_teacher_custom_adap"));
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

/// The baselines of an experiment that has some, and the figure, as `make compare` runs them.
fn check_comparison(place: &Place, name: &str) {
    let (tree, chosen) = (tree(), format!("+experiment={name}"));
    let arguments = [
        "--config-dir",
        tree.to_str().unwrap(),
        &chosen,
        "+scale=tiny",
        "resume=true",
    ];
    for baseline in ["fed_avg", "fed_md"] {
        place.run(baseline, &arguments);
    }
    let folder = format!("outputs/{name}");
    let said = place.run("inspect", &["compare", &folder, "--json"]).stdout;
    let compared: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!(compared["one_split"], true, "{name}");
    let methods = compared["methods"].as_array().unwrap().iter();
    let methods: Vec<&str> = methods.map(|method| method["method"].as_str().unwrap()).collect();
    let wanted = [
        "one-shot student",
        "one-shot average",
        "teachers' ensemble",
        "FedAvg",
        "FedMD",
    ];
    assert_eq!(methods, wanted, "{name}");
    for kind in ["svg", "png"] {
        let plot = place.path(&format!("{folder}/inspect/compare.{kind}"));
        assert!(plot.exists(), "{name}: {kind}");
    }
}

#[test]
fn finished_stages_are_not_run_again_and_say_what_they_were() {
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
        let wanted = "- \"+experiment=2_teachers_custom_adap\"\n- \"+scale=tiny\"\n- \"resume=true\"\n";
        assert_eq!(overrides, wanted);
        // The snapshot is a config of its own that gives the same run.
        let shown = place.run(
            "train_student",
            &["--config-dir", folder.to_str().unwrap(), "--cfg", "job"],
        );
        let saved = std::fs::read_to_string(folder.join("config.yaml")).unwrap();
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), saved);
    }
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
            "teacher.selection=best_test student.selection=best_test",
        ),
        ("2_teachers_custom_adap", "deep_inv.keep_moments=true"),
    ];
    let text = include_str!("../../docs/experiments.md");
    for (name, overrides) in readings {
        assert!(text.contains(&format!("`{overrides}`")), "{overrides}");
        let (place, tree) = (Place::new(), tree());
        let chosen = format!("+experiment={name}");
        let mut arguments = vec!["--config-dir", tree.to_str().unwrap(), &chosen, "+scale=tiny"];
        arguments.extend(overrides.split(' '));
        for stage in ["split_data", "train_teachers", "generate_initial", "train_student"] {
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
            tree().to_str().unwrap(),
            "+experiment=2_teachers_entropy",
            "+scale=tiny",
            "deep_inv.di.loss.entropy_scale=-1",
            "initial.save_path=outputs/minus.safetensors",
        ],
    );
    let minus = first("outputs/minus.metrics.json");
    // The first step sees the same noise, so the losses differ by twice the entropy, which is never negative.
    let of = |step: &Value, key: &str| step[key].as_f64().unwrap();
    let entropy = of(&plus, "entropy");
    assert!(entropy > 0.0 && entropy == of(&minus, "entropy"), "{plus} {minus}");
    let difference = of(&plus, "total") - of(&minus, "total");
    assert!(
        (difference - 2.0 * entropy).abs() < 1e-4 * of(&plus, "total"),
        "{plus} {minus}"
    );
}
