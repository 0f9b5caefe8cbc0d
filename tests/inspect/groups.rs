//! `runs --group`: repetitions are runs whose split, teachers and initial batches were made alike
//! too, whatever each stage was told of that.

use crate::common::Place;
use serde_json::Value;
use std::sync::OnceLock;

/// A chain of stages in `folder`, where only the stage that makes a thing is told how. `of` says
/// which folder's teachers it takes.
pub fn chain(place: &Place, folder: &str, of: &str, told: &[(&str, &[&str])]) {
    let shared = [
        format!("split.save_path={of}/split.json"),
        format!("teacher.save_folder={of}/teachers"),
        format!("initial.save_path={folder}/initial.safetensors"),
        format!("student.save_folder={folder}/student"),
    ];
    let first = if of == folder { 0 } else { 2 };
    for stage in &[
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
    ][first..]
    {
        let own = told
            .iter()
            .filter(|(name, _)| [stage, &"all"].contains(&name));
        let own = own.flat_map(|(_, overrides)| overrides.iter().copied());
        let overrides: Vec<&str> = shared.iter().map(String::as_str).chain(own).collect();
        place.ok(stage, &overrides);
    }
}

const DISJOINT: (&str, &[&str]) = ("split_data", &["split.unif_percentage=0"]);

/// Five students. No test changes them.
pub fn students() -> &'static Place {
    static PLACE: OnceLock<Place> = OnceLock::new();
    PLACE.get_or_init(|| {
        let place = Place::new();
        chain(&place, "one", "one", &[DISJOINT]);
        chain(
            &place,
            "two",
            "two",
            &[DISJOINT, ("all", &["seed=7", "student.seed=8"])],
        );
        chain(
            &place,
            "even",
            "even",
            &[("split_data", &["split.unif_percentage=0.9"])],
        );
        let short = ("train_teachers", &["teacher.epochs=1"][..]);
        chain(&place, "short", "short", &[DISJOINT, short]);
        let few = (
            "generate_initial",
            &["deep_inv.di.grad_updates_batch=2"][..],
        );
        chain(&place, "few", "one", &[few]);
        place
    })
}

fn groups(place: &Place, folder: &str) -> (Vec<Value>, String) {
    let (code, out, errors) =
        place.run_with("inspect", &[], &["runs", folder, "--group", "--json"]);
    assert_eq!(code, 0, "{errors}");
    (serde_json::from_str(&out).unwrap(), errors)
}

/// Settings and number of runs of a stage's groups, sorted.
fn of_stage(groups: &[Value], stage: &str) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = groups
        .iter()
        .filter(|group| group["stage"] == stage)
        .map(|group| {
            (
                group["settings"].as_str().unwrap().to_owned(),
                group["runs"].as_u64().unwrap(),
            )
        })
        .collect();
    found.sort();
    found
}

/// The number of runs of the only group with these words.
fn runs(found: &[(String, u64)], words: &[&str]) -> u64 {
    let mut fitting = found.iter().filter(|(settings, _)| {
        words
            .iter()
            .all(|word| settings.split([' ', ',']).any(|part| part == *word))
    });
    let (one, none) = (fitting.next(), fitting.next());
    assert!(one.is_some() && none.is_none(), "{words:?} in {found:?}");
    one.unwrap().1
}

/// Students of another split, of other teachers or of other initial batches.
#[test]
fn other_inputs_are_other_groups() {
    let (all, errors) = groups(students(), ".");
    assert!(!errors.contains("no manifest says"), "{errors}");
    let (updates, usual) = (
        "generate_initial:deep_inv.di.grad_updates_batch=",
        "teacher.epochs=2",
    );
    let of_initial = |count: u64| format!("{updates}{count}");
    let found = of_stage(&all, "train_student");
    assert_eq!(found.len(), 4, "{found:?}");
    let repeated = ["split.unif_percentage=0.0", usual, &of_initial(4)];
    assert_eq!(runs(&found, &repeated), 2, "two seeds");
    assert_eq!(runs(&found, &["split.unif_percentage=0.9"]), 1);
    assert_eq!(runs(&found, &["teacher.epochs=1"]), 1);
    assert_eq!(runs(&found, &[&of_initial(2)]), 1);
    // The teachers say nothing of how their split was dealt, as they were only told where it is.
    let found = of_stage(&all, "train_teachers");
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(runs(&found, &["split.unif_percentage=0.0", usual]), 2);
    assert_eq!(runs(&found, &["split.unif_percentage=0.9"]), 1);
}

#[test]
fn unknown_settings_are_kept_apart() {
    let place = Place::new();
    chain(&place, "one", "one", &[DISJOINT]);
    chain(&place, "two", "two", &[DISJOINT, ("all", &["seed=7"])]);
    // A student with another seed of the very same files.
    place.ok(
        "train_student",
        &[
            "split.save_path=two/split.json",
            "teacher.save_folder=two/teachers",
            "initial.save_path=two/initial.safetensors",
            "student.save_folder=two/again",
            "student.seed=5",
            "seed=7",
        ],
    );
    assert_eq!(of_stage(&groups(&place, ".").0, "train_student").len(), 1);
    // Another split in the place of the one that the second run was made of: its manifest says
    // nothing of that.
    place.ok(
        "split_data",
        &[
            "split.save_path=two/split.json",
            "split.unif_percentage=0.5",
            "overwrite=true",
        ],
    );
    let (all, errors) = groups(&place, ".");
    assert!(
        errors.contains("no manifest says how 1 input of these runs was made"),
        "{errors}"
    );
    let found = of_stage(&all, "train_student");
    assert_eq!(found.len(), 2, "{found:?}");
    let mut counts: Vec<u64> = found.iter().map(|(_, runs)| *runs).collect();
    counts.sort_unstable();
    assert_eq!(
        counts,
        [1, 2],
        "those of the same files repeat each other: {found:?}"
    );
    assert!(
        found
            .iter()
            .any(|(settings, _)| settings.contains("(unknown)")),
        "{found:?}"
    );
}

/// Teachers of two architectures are two groups of one folder, which is whole.
#[test]
fn teachers_of_several_architectures_are_counted_together() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &["teacher.only=[0]"]);
    let (all, errors) = groups(&place, ".");
    assert!(errors.contains("teachers (1 of 2 teachers)"), "{errors}");
    assert_eq!(of_stage(&all, "train_teachers"), []);
    place.ok(
        "train_teachers",
        &["teacher.only=[1]", "model.blocks=[1,1]"],
    );
    let (all, errors) = groups(&place, ".");
    assert!(!errors.contains("left out"), "{errors}");
    assert_eq!(of_stage(&all, "train_teachers").len(), 2, "{all:?}");
}
