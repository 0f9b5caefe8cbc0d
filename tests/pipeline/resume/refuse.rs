//! Checkpoints that do not belong to the run, and processes that do not belong together.

use super::{says, start, wait_for};
use crate::common::Place;
use fed_distill::artifact::{hash, tensors};

const LONG: [&str; 2] = ["teacher.epochs=100000", "checkpoint.every=0"];

/// A teacher in training that was killed after a checkpoint.
fn killed(place: &Place) {
    place.ok("split_data", &[]);
    let mut child = start(place, "train_teachers", &LONG);
    wait_for(
        &place.path("teachers/checkpoint_teacher0/training.safetensors"),
        &mut child,
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn other_config_or_inputs_do_not_resume() {
    let place = Place::new();
    killed(&place);
    let saved = place.path("teachers/checkpoint_teacher0/training.safetensors");
    let before = hash::file(&saved).unwrap();
    says(
        &place.fails("train_teachers", &["teacher.epochs=7", "resume=true"], 2),
        &["teacher.epochs: 100000 then, 7 now", "overwrite=true"],
    );
    let then = hash::file(&place.path("split.json")).unwrap().1;
    place.ok("split_data", &["overwrite=true", "seed=7"]);
    let now = hash::file(&place.path("split.json")).unwrap().1;
    let errors = place.fails("train_teachers", &[LONG[0], "resume=true"], 1);
    says(
        &errors,
        &[
            "checkpoint belongs to another run",
            "split.json",
            &then,
            &now,
            "overwrite=true",
        ],
    );
    assert_eq!(hash::file(&saved).unwrap(), before, "what was saved stays");
    place.ok("train_teachers", &["overwrite=true"]);
    assert!(!saved.exists());
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name() {
    let place = Place::new();
    killed(&place);
    let saved = place.path("teachers/checkpoint_teacher0/training.safetensors");
    let good = std::fs::read(&saved).unwrap();
    let refused = || place.fails("train_teachers", &[LONG[0], "resume=true"], 1);

    std::fs::write(&saved, &good[..good.len() - 5]).unwrap();
    says(&refused(), &["training.safetensors", "overwrite=true"]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    std::fs::write(&saved, &flipped).unwrap();
    says(
        &refused(),
        &["training.safetensors", "not what was written", "sha256"],
    );
    std::fs::write(&saved, &good).unwrap();
    let file = tensors::read(&saved).unwrap();
    let list: Vec<_> = file
        .tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    tensors::write(&saved, &list, &Default::default()).unwrap();
    says(&refused(), &["training.safetensors", "no checkpoint"]);
}

/// A killed run with `overwrite=true` leaves the file of the run before it, which is not its own.
#[test]
fn result_of_a_replaced_run_is_refused() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    let mut child = start(
        &place,
        "train_teachers",
        &[LONG[0], LONG[1], "overwrite=true"],
    );
    wait_for(
        &place.path("teachers/checkpoint_teacher0/training.safetensors"),
        &mut child,
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let errors = place.fails("generate_initial", &[], 1);
    says(
        &errors,
        &[
            "model_teacher0.safetensors",
            "earlier run",
            "status running",
            "resume=true",
        ],
    );
    assert!(
        place.path("teachers/model_teacher0.safetensors").exists(),
        "what was good stays"
    );
}

/// Another teacher of the same folder may be trained meanwhile.
#[test]
fn second_process_is_refused() {
    let place = Place::new();
    place.ok("split_data", &[]);
    let mut child = start(
        &place,
        "train_teachers",
        &[LONG[0], LONG[1], "teacher.only=[0]"],
    );
    wait_for(
        &place.path("teachers/checkpoint_teacher0/training.safetensors"),
        &mut child,
    );
    for more in [&[][..], &["resume=true"], &["overwrite=true"]] {
        let errors = place.fails("train_teachers", &[&LONG[..1], more].concat(), 1);
        says(
            &errors,
            &[
                "another `train_teachers` is at work",
                &format!("process {}", child.id()),
            ],
        );
    }
    place.ok("train_teachers", &["teacher.only=[1]"]);
    assert!(
        child.try_wait().unwrap().is_none(),
        "the first is not disturbed"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    // A dead process holds no lock.
    place.ok("train_teachers", &["overwrite=true"]);
    let left: Vec<_> = std::fs::read_dir(place.path("teachers"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".lock"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A finished teacher of other images is not kept, though nothing else tells them apart.
#[test]
fn other_images_do_not_resume() {
    let place = Place::new();
    let own = ["split.save_path=null"];
    place.ok("train_teachers", &own);
    place.ok("train_teachers", &[own[0], "resume=true"]);
    let manifest = place.path("teachers/manifest_teacher0.json");
    let mut made: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&manifest).unwrap()).unwrap();
    made["facts"]["dataset_fingerprint"] = "5eed".into();
    std::fs::write(&manifest, made.to_string()).unwrap();
    let errors = place.fails("train_teachers", &[own[0], "resume=true"], 1);
    says(
        &errors,
        &[
            "trained on other images",
            "expected: images of the hash 5eed",
            "overwrite=true",
        ],
    );
}

#[test]
fn a_stage_whose_inputs_are_refused_leaves_nothing() {
    let place = Place::new();
    for stage in ["train_teachers", "generate_initial", "train_student"] {
        place.fails(stage, &[], 1);
    }
    let left: Vec<_> = std::fs::read_dir(place.path(".")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A manifest that cannot be read vouches for nothing: the stage that reads what lies beside it
/// must not continue with a warning.
#[test]
fn an_input_whose_manifest_is_damaged_is_refused() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &[]);
    }
    let manifest = place.path("initial.manifest.json");
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &good[..good.len() / 2]).unwrap();
    says(
        &place.fails("train_student", &[], 1),
        &[
            "cannot be checked: its manifest is damaged",
            "initial.safetensors",
            "initial.manifest.json",
            "overwrite=true",
        ],
    );
    assert!(!place.path("student").exists(), "nothing was begun");
    let text = String::from_utf8(good.clone()).unwrap();
    let newer = text.replace("\"schema_version\": 1", "\"schema_version\": 99");
    std::fs::write(&manifest, newer).unwrap();
    let says_newer = place.fails("train_student", &[], 1);
    says(
        &says_newer,
        &[
            "newer format",
            "initial.manifest.json",
            "looking up what wrote",
            "initial.safetensors",
        ],
    );
    assert!(!says_newer.contains("damaged"), "{says_newer}");
    assert!(!place.path("student").exists(), "nothing was begun");
    std::fs::write(&manifest, good).unwrap();
    place.ok("train_student", &[]);
}

/// What lies in one folder with other files has no part in what is wrong with their manifests.
#[test]
fn a_damaged_manifest_condemns_its_own_file_alone() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    // As a teacher that came from elsewhere.
    let own = place.path("teachers/manifest_teacher1.json");
    std::fs::remove_file(&own).unwrap();
    let other = place.path("teachers/manifest_teacher7.json");
    for text in [
        "{\"schema_version\": 1, \"stage\"",
        "{\"schema_version\": 99}",
    ] {
        std::fs::write(&other, text).unwrap();
        place.ok("generate_initial", &["overwrite=true"]);
    }
    std::fs::rename(&other, &own).unwrap();
    says(
        &place.fails("generate_initial", &["overwrite=true"], 1),
        &[
            "newer format",
            "manifest_teacher1.json",
            "model_teacher1.safetensors",
        ],
    );
}

/// The last step's loss is finite, the weights that it leaves are not.
#[test]
fn divergence_in_the_last_step_leaves_no_checkpoint() {
    let place = Place::new();
    place.ok("split_data", &[]);
    let wild = [
        "teacher.epochs=1",
        "teacher.batch_size=1000",
        "teacher.optimizer.lr=1e45",
    ];
    says(
        &place.fails("train_teachers", &wild, 1),
        &[
            "the weights became NaN or infinite in epoch 1",
            "lower the learning rate",
        ],
    );
    assert!(!place.path("teachers/checkpoint_teacher0").exists());
    place.ok("train_teachers", &[]);
}
