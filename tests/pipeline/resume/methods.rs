//! Every option of the group `method`, killed while it makes initial batches and while it trains
//! the student: it resumes, and ends with the bytes of a run that was never stopped.

use super::{forget, results, start};
use crate::common::stop::{caught, stop};
use crate::common::{Place, config_dir};
use serde_json::Value;

/// A few steps of everything; a checkpoint at every step.
const SMALL: [&str; 6] = [
    "initial.num_batches=10",
    "student.epochs=3",
    "student.batch_size=16",
    "student.augment.crop=1",
    "deep_inv.batch_size=16",
    "checkpoint.every=0",
];

const OF_GENERATOR: [&str; 4] = [
    "generator.batch_size=16",
    "generator.width=8",
    "generator.steps=40",
    "generator.augment.crop=1",
];

const OF_INVERSION: [&str; 2] = [
    "deep_inv.di.grad_updates_batch=40",
    "deep_inv.adi.grad_updates_batch=40",
];

/// Name, whether it has a generator, and the file at which its student is killed.
const METHODS: [(&str, bool, &str); 9] = [
    ("co_boosting", true, "batch_00012"),
    ("dense", true, "batch_00011"),
    ("dense_co_boosting", true, "batch_00011"),
    ("fed_adi", false, "batch_00011"),
    ("fed_dafl", true, "batch_00011"),
    ("feddf", false, "training"),
    ("label_gated", true, "batch_00011"),
    ("shapes", false, "training"),
    ("shapes_uncounted", false, "training"),
];

#[test]
fn the_table_names_every_method() {
    let files = std::fs::read_dir(config_dir().join("method")).unwrap();
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name.trim_end_matches(".yaml").to_owned()
    };
    let mut found: Vec<String> = files.map(name).collect();
    found.sort();
    assert_eq!(found, METHODS.map(|(name, ..)| name));
}

/// Stops a stage by a signal once `path` is there, and resumes it.
fn stopped_by(signal: i32, place: &Place, stage: &str, options: &[&str], path: &str) {
    caught(|| {
        forget(place, stage);
        let mut child = start(place, stage, options);
        stop(&mut child, signal, || place.path(path).exists()).then_some(())
    });
    let again: Vec<&str> = options.iter().copied().chain(["resume=true"]).collect();
    place.ok(stage, &again);
}

fn check(signal: i32, of: (&str, bool, &str), calm: &Place, stopped: &Place) {
    let (method, generator, file) = of;
    let chosen = format!("+method={method}");
    let fresh = usize::from(!["feddf", "shapes"].contains(&method));
    let batches = format!("student.new_batches_per_epoch={fresh}");
    let more = match generator {
        true => &OF_GENERATOR[..],
        false => &OF_INVERSION[..],
    };
    let options: Vec<&str> = [&[chosen.as_str(), &batches], &SMALL[..], more].concat();
    for stage in ["generate_initial", "train_student"] {
        forget(calm, stage);
        calm.ok(stage, &options);
    }
    stopped_by(
        signal,
        stopped,
        "generate_initial",
        &options,
        "initial.checkpoint/batch_00000.safetensors",
    );
    let file = format!("student/checkpoint/{file}.safetensors");
    stopped_by(signal, stopped, "train_student", &options, &file);
    assert_eq!(
        results(&calm.path(".")),
        results(&stopped.path(".")),
        "{method}"
    );
    let metrics = std::fs::read(calm.path("student/metrics.json")).unwrap();
    let metrics: Value = serde_json::from_slice(&metrics).unwrap();
    assert_eq!(
        metrics["synthetic_images"],
        16 * (10 + 3 * fresh),
        "{method}"
    );
    assert_eq!(
        metrics["teacher_weights"].is_array(),
        method == "co_boosting"
    );
}

#[test]
fn every_method_resumes_after_a_kill() {
    let [calm, stopped] = with_teachers();
    for method in METHODS {
        check(libc::SIGKILL, method, &calm, &stopped);
    }
}

/// Ctrl-C, heard while the teachers' weights learn: what an epoch's batch is followed by.
#[test]
fn interrupted_learning_of_weights_is_taken_again() {
    let [calm, stopped] = with_teachers();
    let method = ("co_boosting", true, "batch_00011");
    for _ in 0..3 {
        check(libc::SIGTERM, method, &calm, &stopped);
    }
}

/// Two places with the same teachers.
fn with_teachers() -> [Place; 2] {
    let places = [Place::new(), Place::new()];
    for place in &places {
        place.ok("split_data", &[]);
        place.ok("train_teachers", &[]);
    }
    places
}

/// The average of teachers of another architecture than the student's.
#[test]
fn a_student_of_another_architecture_is_no_average() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    place.ok("generate_initial", &[]);
    let options = ["student.init=average", "student.model.kind=linear"];
    let errors = place.fails("train_student", &options, 2);
    for words in [
        "`student.init` is `average`",
        "`student.init=random` does without",
    ] {
        assert!(errors.contains(words), "{errors}");
    }
}

/// A crop that leaves nothing of an image.
#[test]
fn a_generators_crop_fits_the_images() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    let options = ["+method=dense", "generator.augment.crop=8"];
    let errors = place.fails("generate_initial", &options, 2);
    assert!(errors.contains("`generator.augment.crop` is 8"), "{errors}");
}
