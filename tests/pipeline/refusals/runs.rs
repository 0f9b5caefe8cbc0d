//! Runs that diverge, places that cannot be written or hold something, settings that come to
//! nothing.

use super::{made, says};
use crate::common::{self, Place, TINY};
use fed_distill::artifact::{hash, tensors};

#[test]
fn an_inversion_that_diverges_leaves_nothing() {
    let place = made("train_teachers");
    let text = place.fails("generate_initial", &["deep_inv.optimizer.lr=1e30"], 1);
    says(
        &text,
        &[
            "NaN or infinite",
            "making synthetic batch 0",
            "deep_inv.optimizer.lr",
        ],
    );
    assert!(!place.path("initial.safetensors").exists());
    says(
        &place.fails("train_student", &["student.epochs=0"], 2),
        &["student.epochs"],
    );
}

/// The last step's loss is finite, the images that it leaves are not.
#[test]
fn an_inversion_that_diverges_in_its_last_step_says_what_to_lower() {
    let place = made("train_teachers");
    let wild = [
        "deep_inv.optimizer.lr=1e38",
        "deep_inv.keep=last",
        "deep_inv.di.grad_updates_batch=1",
    ];
    says(
        &place.fails("generate_initial", &wild, 1),
        &[
            "the images became NaN or infinite in the last step",
            "lower the learning rate (`deep_inv.optimizer.lr`)",
            "`deep_inv.keep=best`",
        ],
    );
}

/// They are not learnt, and not reported.
#[test]
fn weights_of_teachers_that_no_rule_uses() {
    let place = made("generate_initial");
    let weights = |rule: &str| {
        let rule = format!("student.distill.ensemble={rule}");
        let options = [
            "student.objective=distill",
            "student.teacher_weights.step=0.1",
            &rule,
            "overwrite=true",
        ];
        place.ok("train_student", &options);
        let metrics = std::fs::read(place.path("student/metrics.json")).unwrap();
        let metrics: serde_json::Value = serde_json::from_slice(&metrics).unwrap();
        metrics["teacher_weights"].is_array()
    };
    assert!(weights("weighted_logits"));
    assert!(!weights("mean_logits"));
}

/// Batches of all teachers together have labels of the classes that some have seen.
#[test]
fn label_weights_of_classes_that_nobody_has_seen_are_told_of() {
    let place = Place::new();
    let split = [
        "split.num_nodes=5",
        "split.unif_percentage=0",
        "teacher.num_teachers=2",
    ];
    place.ok("split_data", &split);
    place.ok("train_teachers", &split);
    let seen = |class: usize| {
        (0..2).any(|teacher| {
            let metrics = place.path(&format!("teachers/metrics_teacher{teacher}.json"));
            let metrics = std::fs::read(metrics).unwrap();
            let metrics: serde_json::Value = serde_json::from_slice(&metrics).unwrap();
            metrics["label_counts"][class].as_u64().unwrap() > 0
        })
    };
    let (some, none) = (0..10).partition::<Vec<usize>, _>(|&class| seen(class));
    // Two classes each.
    assert_eq!((some.len(), none.len()), (4, 6));
    let told = |mode: &str, class: usize| {
        let mut weights = ["0"; 10];
        weights[class] = "1";
        let weights = format!("deep_inv.label_weights=[{}]", weights.join(","));
        let mode = format!("deep_inv.teachers.mode={mode}");
        let own = [
            "deep_inv.labels=weighted",
            &weights,
            &mode,
            "overwrite=true",
        ];
        let options = [&split[..], &own].concat();
        let (code, _, errors) = place.run_with("generate_initial", TINY, &options);
        assert_eq!(code, 0, "{errors}");
        errors.contains("`label_weights` is 0 for all classes of 2 teachers")
    };
    for mode in ["ensemble", "sample"] {
        assert!(told(mode, none[0]) && !told(mode, some[0]), "{mode}");
    }
}

/// It leaves no weights.
#[test]
fn diverging_training_names_the_step() {
    let place = made("split_data");
    let text = place.fails(
        "train_teachers",
        &[
            "teacher.optimizer.lr=1e30",
            "teacher.schedule.kind=constant",
        ],
        1,
    );
    says(
        &text,
        &[
            "NaN or infinite",
            "epoch",
            "step",
            "training teacher 0",
            "hint:",
        ],
    );
    assert!(!place.path("teachers/model_teacher0.safetensors").exists());
}

#[test]
fn results_that_cannot_be_printed_are_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        println!("there is no /dev/full here");
        return;
    };
    let place = Place::new();
    let output = std::process::Command::new(assert_cmd::cargo::cargo_bin("split_data"))
        .current_dir(place.path("."))
        .args(common::TINY)
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    says(
        &String::from_utf8(output.stderr).unwrap(),
        &["standard output"],
    );
}

#[test]
fn finished_runs_are_kept_unless_told_otherwise() {
    let place = made("train_student");
    let student = place.path("student/student.safetensors");
    let before = hash::file(&student).unwrap();
    for stage in [
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
    ] {
        says(
            &place.fails(stage, &[], 2),
            &["overwrite=true", "resume=true"],
        );
        place.ok(stage, &["resume=true"]);
    }
    assert_eq!(hash::file(&student).unwrap(), before);
    place.ok("train_student", &["overwrite=true", "student.seed=9"]);
    assert_ne!(hash::file(&student).unwrap(), before);
}

/// Before anything is computed.
#[test]
fn settings_beyond_any_memory_or_number() {
    let place = made("train_teachers");
    let drawn = [
        "deep_inv.start=shapes",
        "deep_inv.candidates=1000",
        "deep_inv.batch_size=100000",
    ];
    let text = place.fails("generate_initial", &drawn, 2);
    says(
        &text,
        &[
            "`deep_inv.batch_size` and `deep_inv.candidates` ask for",
            "pictures to choose from",
        ],
    );
    let weights = format!("deep_inv.label_weights=[{}]", ["1e308"; 10].join(","));
    let weighted = ["deep_inv.labels=weighted", &weights];
    let text = place.fails("generate_initial", &weighted, 2);
    says(
        &text,
        &[
            "`deep_inv.label_weights` adds up to more",
            "divide them all",
        ],
    );
    // Too few, for a teacher that has seen none of the classes that they are of.
    let place = Place::new();
    place.ok("split_data", &["split.unif_percentage=0"]);
    place.ok("train_teachers", &["split.unif_percentage=0"]);
    let few = ["deep_inv.labels=weighted", "deep_inv.label_weights=[1,2]"];
    let text = place.fails("generate_initial", &few, 2);
    says(&text, &["`deep_inv.label_weights` has 2 values for 10"]);
}

/// Nothing of an earlier run is left beside the results of the one that replaced it.
#[test]
fn an_overwriting_run_takes_the_place_of_all_files() {
    let files = |place: &Place| {
        let folders = [place.path("student"), place.path("student/tensorboard")];
        let entries = folders
            .iter()
            .flat_map(|folder| std::fs::read_dir(folder).unwrap());
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    let place = made("generate_initial");
    place.ok(
        "train_student",
        &["tensorboard=true", "student.new_batches_per_epoch=1"],
    );
    assert!(files(&place).iter().any(|name| name.starts_with("events.")));
    let own = place.path("student/notes.txt");
    std::fs::write(&own, "mine").unwrap();
    let plain = ["tensorboard=false"];
    place.ok("train_student", &[&plain[..], &["overwrite=true"]].concat());
    std::fs::remove_file(own).expect("a file of the user's own stays");

    let fresh = made("generate_initial");
    std::fs::create_dir_all(fresh.path("student/tensorboard")).unwrap();
    fresh.ok("train_student", &plain);
    assert_eq!(files(&place), files(&fresh));
}

#[test]
fn a_finished_run_says_what_differs() {
    let place = made("split_data");
    let text = place.fails("split_data", &[], 2);
    says(
        &text,
        &[
            "holds a finished run",
            "this very config",
            "resume=true",
            "overwrite=true",
        ],
    );
    let text = place.fails("split_data", &["split.num_nodes=3", "seed=7"], 2);
    says(
        &text,
        &[
            "holds a finished run",
            "differs: seed: 42 then, 7 now",
            "differs: split.num_nodes: 2 then, 3 now",
            "overwrite=true",
        ],
    );
}

#[test]
fn places_that_cannot_be_written() {
    let place = made("split_data");
    std::fs::write(place.path("file"), "x").unwrap();
    says(
        &place.fails("train_teachers", &["teacher.save_folder=file/inside"], 1),
        &["file/inside"],
    );
}

#[test]
fn full_disk_keeps_what_was_there() {
    let place = made("split_data");
    let small = place.path("small");
    std::fs::create_dir(&small).unwrap();
    let mount = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24k", "tmpfs"])
        .arg(&small)
        .output();
    if !mount.is_ok_and(|output| output.status.success()) {
        println!("only root can mount a small file system; a full disk cannot be shown");
        return;
    }
    std::fs::copy(place.path("split.json"), small.join("good.json")).unwrap();
    let good = hash::file(&small.join("good.json")).unwrap();
    let result = std::panic::catch_unwind(|| {
        let text = place.fails(
            "train_teachers",
            &["teacher.save_folder=small", "model.width=16"],
            1,
        );
        says(&text, &["small", "space"]);
        assert_eq!(hash::file(&small.join("good.json")).unwrap(), good);
        assert!(!small.join("model_teacher0.safetensors").exists());
    });
    std::process::Command::new("umount")
        .arg(&small)
        .status()
        .unwrap();
    result.unwrap();
}

#[test]
fn a_gpu_that_is_not_there() {
    let place = Place::new();
    if tch::Cuda::is_available() {
        println!("there is a GPU here; the refusal cannot be shown");
        return;
    }
    says(
        &place.fails("split_data", &["device=cuda:0"], 1),
        &["cuda:0", "device=cpu"],
    );
    says(
        &place.fails("split_data", &["device=gpu"], 2),
        &["auto", "cpu", "cuda:"],
    );
}

#[test]
fn what_a_stage_does_not_read_is_said_and_no_more() {
    let place = Place::new();
    let said = |overrides: &[&str]| {
        let typed = [&["split.save_path=split.json", "overwrite=true"], overrides].concat();
        let (code, _, errors) = place.run_with("split_data", &typed, &[]);
        assert_eq!(code, 0, "{errors}");
        let lines: Vec<&str> = errors
            .lines()
            .filter(|line| line.contains("does not read"))
            .collect();
        lines.join("\n")
    };
    assert_eq!(
        said(&["teacher.epochs=5"]),
        "split_data does not read `teacher.epochs=5`"
    );
    assert_eq!(
        said(&["model=lenet5", "student.seed=3"]),
        "split_data does not read `model=lenet5`, `student.seed=3`"
    );
    // One set of overrides for all stages.
    let many = [
        "teacher.epochs=5",
        "student.seed=3",
        "student.epochs=3",
        "initial.num_batches=2",
    ];
    assert_eq!(said(&many), "");
    // Read by way of a reference, or of a file that sets more than its own group.
    assert_eq!(said(&["student.seed=3", "seed=${student.seed}"]), "");
    assert_eq!(said(&["+scale=tiny", "threads=1"]), "");
}

/// A key that only another mode or objective reads is no mistake, since one key of an experiment
/// may have been changed; but it must not pass in silence.
#[test]
fn settings_without_effect_are_named() {
    let place = Place::new();
    let said = |stage: &str, overrides: &[&str]| {
        // Nothing is there to work on, so that it ends at once.
        let (_, _, errors) = place.run_with(stage, TINY, overrides);
        let lines = errors.lines().filter(|line| line.contains("has no effect"));
        lines.map(str::to_owned).collect::<Vec<_>>().join("\n")
    };
    for (stage, typed, decider, reads) in [
        (
            "train_student",
            "student.distill.temperature=3",
            "`student.objective` is `cross_entropy`",
            "`student.objective=distill`",
        ),
        (
            "train_student",
            "student.teacher_weights.step=0.1",
            "`student.distill.ensemble` is `null`",
            "`student.distill.ensemble=weighted_logits`",
        ),
        (
            "generate_initial",
            "deep_inv.teachers.n=3",
            "`deep_inv.teachers.mode` is `cycle`",
            "`deep_inv.teachers.mode=sample`",
        ),
        (
            "generate_initial",
            "deep_inv.label_weights=[1,2]",
            "`deep_inv.labels` is `random`",
            "`deep_inv.labels=weighted`",
        ),
        (
            "train_teachers",
            "teacher.validation_share=0.2",
            "`teacher.selection` is `last`",
            "`teacher.selection=best_validation`",
        ),
    ] {
        let line = said(stage, &[typed]);
        let key = typed.split('=').next().unwrap();
        let set = format!("`{key}`, set by command line `{typed}`");
        says(&line, &[set.as_str(), decider, reads]);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert_eq!(said(stage, &[typed, reads.trim_matches('`')]), "");
    }
    // Of no other data set.
    let seed = [
        "dataset.kind=image_folder",
        "dataset.root=photographs",
        "dataset.test_seed=3",
    ];
    let line = said("split_data", &seed);
    says(&line, &["`dataset.test_seed`", "`dataset.test_share=0.2`"]);
    let share = [&seed[..], &["dataset.test_share=0.1"]].concat();
    assert_eq!(said("split_data", &share), "");
    // By the rule of synthesis, which the student's is where it is not set.
    let inherited = [
        "student.teacher_weights.step=0.1",
        "deep_inv.ensemble=weighted_logits",
    ];
    assert_eq!(said("train_student", &inherited), "");
    // Of another stage, the default, or with an effect in one of the jobs.
    let distil = "student.distill.temperature=3";
    assert_eq!(said("generate_initial", &[distil]), "");
    assert_eq!(
        said("train_student", &["student.distill.temperature=1"]),
        ""
    );
    let sweep = ["-m", "student.objective=cross_entropy,distill", distil];
    assert_eq!(said("train_student", &sweep), "");
    // A generator takes the place of an experiment's inversion; what is typed beside it is named.
    let beside = ["+method=dense", "deep_inv.batch_size=64"];
    let line = said("generate_initial", &beside);
    says(
        &line,
        &[
            "`deep_inv.batch_size`, set by command line",
            "a generator makes the batches",
        ],
    );
    let nowhere = ["split.save_path=null", "split.num_nodes=4"];
    let line = said("train_teachers", &nowhere);
    says(
        &line,
        &[
            "`split.num_nodes`, set by command line",
            "there is no split",
        ],
    );
    // Named with its file.
    std::fs::create_dir_all(place.path("own/student")).unwrap();
    std::fs::write(
        place.path("own/student/mine.yaml"),
        "distill: {label_weight: 0.5}\n",
    )
    .unwrap();
    let line = said("train_student", &["--config-dir=own", "+student=mine"]);
    says(&line, &["set by own/student/mine.yaml:1"]);
}

#[test]
fn diverged_training_leaves_no_checkpoint() {
    let place = made("split_data");
    let diverging = [
        "teacher.optimizer.lr=1e30",
        "teacher.schedule.kind=constant",
        "teacher.epochs=50",
        "checkpoint.every=0",
    ];
    let text = place.fails("train_teachers", &diverging, 1);
    says(&text, &["NaN or infinite in epoch 1", "training teacher 0"]);
    let folder = std::fs::read_dir(place.path("teachers/checkpoint_teacher0"));
    for entry in folder.into_iter().flatten() {
        let path = entry.unwrap().path();
        for (name, tensor) in tensors::read(&path).unwrap().tensors {
            let finite =
                !tensor.is_floating_point() || bool::try_from(tensor.isfinite().all()).unwrap();
            assert!(finite, "{name} in {}", path.display());
        }
    }
}
