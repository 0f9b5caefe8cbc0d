//! The whole pipeline through the real binaries on tiny data: files chain, bytes repeat, mistakes
//! are refused and nothing good is lost.

use crate::common::{Place, TINY};
use fed_distill::artifact::{hash, tensors};
use serde_json::Value;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_slice(
        &std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    )
    .unwrap()
}

#[test]
fn four_stages_chain_by_their_files() {
    let place = Place::new();
    let table = place.ok("split_data", &[]);
    assert!(
        table.contains("train") && table.lines().count() > 5,
        "{table}"
    );
    place.ok("train_teachers", &[]);
    let said = place.ok("generate_initial", &[]);
    assert!(said.contains("32 synthetic images"), "{said}");
    let table = place.ok("train_student", &["student.new_batches_per_epoch=1"]);
    for line in [
        "teacher 0",
        "teacher 1",
        "teachers, mean",
        "teachers, ensemble",
        "one-shot average",
        "student",
        "bytes uploaded",
    ] {
        assert!(table.contains(line), "no `{line}` in\n{table}");
    }
    for file in [
        "split.json",
        "split.svg",
        "split.png",
        "split.manifest.json",
        "teachers/model_teacher0.safetensors",
        "teachers/metrics_teacher1.json",
        "teachers/manifest_teacher1.json",
        "initial.safetensors",
        "initial.png",
        "initial.metrics.json",
        "initial.manifest.json",
        "student/student.safetensors",
        "student/dataset.safetensors",
        "student/metrics.json",
        "student/di_metrics_teacher0.json",
        "student/manifest.json",
        "student/curves.svg",
        "student/confusion.png",
        "student/dataset.png",
    ] {
        assert!(place.path(file).exists(), "no {file}");
    }
    let fresh = || {
        ["fresh_first.png", "fresh_last.png"]
            .map(|name| place.path(&format!("student/{name}")).exists())
    };
    assert_eq!(fresh(), [true, true]);
    let pictures = table
        .lines()
        .filter_map(|line| line.strip_prefix("picture:  student/"));
    assert_eq!(
        pictures.collect::<Vec<_>>(),
        [
            "dataset.png",
            "fresh_first.png",
            "fresh_last.png",
            "curves.png",
            "per_class.png",
            "confusion.png"
        ]
    );
    let metrics = json(&place.path("student/metrics.json"));
    assert_eq!(metrics["epochs"].as_array().unwrap().len(), 2);
    // 32 initial images and one batch of 16 in each of two epochs.
    assert_eq!(metrics["synthetic_images"], 64);
    assert_eq!(
        metrics["epochs"][0]["per_class_accuracy"]
            .as_array()
            .unwrap()
            .len(),
        10
    );
    let data = tensors::read(&place.path("student/dataset.safetensors")).unwrap();
    let sizes: Vec<_> = data
        .tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor.size()))
        .collect();
    assert!(
        sizes.contains(&("images", vec![64, 1, 8, 8])) && sizes.contains(&("labels", vec![64])),
        "{sizes:?}"
    );
    let manifest = json(&place.path("student/manifest.json"));
    assert_eq!(manifest["status"], "done");
    assert_eq!(manifest["stage"], "train_student");
}

#[test]
fn no_fresh_batches_no_pictures() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &["initial.num_batches=1"]);
    }
    let said = place.ok("train_student", &["initial.num_batches=1"]);
    assert!(
        said.contains("dataset.png") && place.path("student/dataset.png").exists(),
        "{said}"
    );
    assert!(
        !place.path("student/fresh_first.png").exists()
            && !place.path("student/fresh_last.png").exists()
    );
}

#[test]
fn label_counts_travel_with_the_weights() {
    let place = Place::new();
    place.ok("split_data", &["split.unif_percentage=0"]);
    place.ok(
        "train_teachers",
        &["split.unif_percentage=0", "teacher.epochs=1"],
    );
    let counts = json(&place.path("teachers/metrics_teacher0.json"))["label_counts"].clone();
    let (_, metadata) =
        tensors::read_state(&place.path("teachers/model_teacher0.safetensors")).unwrap();
    let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
    assert_eq!(card["label_counts"], counts);
    // The first of two nodes sorted by class has the lower classes only, and its synthetic images
    // ask for no other.
    assert_eq!(counts[9], 0);
    place.ok("generate_initial", &["initial.num_batches=1"]);
    let file = tensors::read(&place.path("initial.safetensors")).unwrap();
    let labels: Vec<i64> = Vec::try_from(
        &file
            .tensors
            .iter()
            .find(|(name, _)| name == "labels")
            .unwrap()
            .1,
    )
    .unwrap();
    assert!(
        labels
            .iter()
            .all(|&label| counts[label as usize].as_u64().unwrap() > 0),
        "{labels:?}"
    );
}

/// Rounded up, so that a class that was seen stays seen; the client's own file is exact. What the
/// server writes counts the images that are in it.
#[test]
fn an_upload_tells_no_more_than_it_must() {
    let place = Place::new();
    let more = ["split.unif_percentage=0", "teacher.count_step=50"];
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &more);
    }
    let counts = |file: &str| -> Vec<u64> {
        let metadata = tensors::read(&place.path(file)).unwrap().metadata;
        let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
        serde_json::from_value(card["label_counts"].clone()).unwrap()
    };
    let metrics = json(&place.path("teachers/metrics_teacher0.json"));
    let exact: Vec<u64> = serde_json::from_value(metrics["label_counts"].clone()).unwrap();
    let told = counts("teachers/model_teacher0.safetensors");
    assert_eq!(exact.iter().sum::<u64>(), 100);
    for (exact, told) in exact.iter().zip(told) {
        let near = (*exact..exact + 50).contains(&told);
        assert!(told % 50 == 0 && near && (told == 0) == (*exact == 0));
    }
    let file = tensors::read(&place.path("initial.safetensors")).unwrap();
    let labels = Vec::<i64>::try_from(file.get("labels").unwrap()).unwrap();
    let of = |class| labels.iter().filter(|label| **label == class).count() as u64;
    let own: Vec<u64> = (0..10).map(of).collect();
    assert_eq!(counts("initial.safetensors"), own);
}

/// Also where teachers and batches are made apart.
#[test]
fn same_seed_same_bytes() {
    let (one, two) = (Place::new(), Place::new());
    for place in [&one, &two] {
        place.ok("split_data", &[]);
    }
    one.ok("train_teachers", &[]);
    two.ok("train_teachers", &["teacher.only=[1]"]);
    two.ok("train_teachers", &["teacher.only=[0]"]);
    // One with both teachers in memory, one with the teachers read again whenever the draw falls on
    // the other.
    for (place, held) in [(&one, "teacher.in_memory=2"), (&two, "teacher.in_memory=1")] {
        place.ok(
            "generate_initial",
            &[
                "deep_inv.teachers.mode=sample",
                "deep_inv.teachers.n=1",
                held,
            ],
        );
        place.ok("train_student", &["student.new_batches_per_epoch=1", held]);
    }
    for file in [
        "split.json",
        "teachers/model_teacher1.safetensors",
        "initial.safetensors",
        "student/student.safetensors",
        "student/dataset.safetensors",
    ] {
        let of = |place: &Place| hash::file(&place.path(file)).unwrap();
        assert_eq!(of(&one), of(&two), "{file}");
    }
    one.ok("split_data", &["seed=43", "overwrite=true"]);
    assert_ne!(
        hash::file(&one.path("split.json")).unwrap(),
        hash::file(&two.path("split.json")).unwrap()
    );
}

#[test]
fn every_mode_objective_and_ensemble_runs() {
    let place = Place::new();
    place.ok("split_data", &["split.num_nodes=3"]);
    // Two teachers; the third node's images are the student's own.
    place.ok(
        "train_teachers",
        &["split.num_nodes=3", "teacher.num_teachers=2"],
    );
    let common = [
        "overwrite=true",
        "split.num_nodes=3",
        "teacher.num_teachers=2",
        "student.epochs=1",
        "student.new_batches_per_epoch=1",
    ];
    for options in [
        [
            "deep_inv.teachers.mode=cycle",
            "deep_inv.labels=balanced",
            "student.objective=cross_entropy",
            "deep_inv.ensemble=label_share",
        ],
        [
            "deep_inv.teachers.mode=ensemble",
            "deep_inv.labels=teacher_share",
            "student.objective=distill",
            "deep_inv.ensemble=mean_softmax",
        ],
        [
            "deep_inv.teachers.mode=ensemble",
            "deep_inv.labels=random",
            "student.adaptive=false",
            "deep_inv.ensemble=label_share",
        ],
        [
            "deep_inv.teachers.mode=sample",
            "deep_inv.labels=random",
            "student.objective=distill",
            "deep_inv.ensemble=mean_logits",
        ],
        [
            "deep_inv.teachers.mode=ensemble",
            "student.distill.label_weight=0.3",
            "student.objective=distill",
            "deep_inv.ensemble=label_gated",
        ],
        [
            "deep_inv.teachers.mode=cycle",
            "student.distill.label_weight=1",
            "student.objective=distill",
            "student.distill.ensemble=made_from",
        ],
    ] {
        let all: Vec<&str> = common.iter().chain(&options).copied().collect();
        place.ok("generate_initial", &all);
        place.ok("train_student", &all);
        let metrics = json(&place.path("student/metrics.json"));
        assert!(metrics["real_images"].as_u64().unwrap() > 10, "{metrics}");
    }
}

/// They can be inverted, with a warning.
#[test]
fn teachers_without_batch_norm() {
    let place = Place::new();
    let model = ["model=lenet5"];
    let lenet: Vec<&str> = TINY
        .iter()
        .copied()
        .filter(|argument| !argument.contains("model"))
        .chain(model)
        .collect();
    for stage in [
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
    ] {
        let (status, _, errors) = place.run_with(stage, &lenet, &[]);
        assert_eq!(status, 0, "{errors}");
        let warned = errors.contains("2 teachers without batch norm");
        assert!(warned || stage != "generate_initial", "{errors}");
    }
}

/// Each mode of inversion and each rule, averaging aside, takes a ResNet, a network without batch
/// norm and a wide residual network together.
#[test]
fn teachers_of_different_architectures() {
    let place = Place::new();
    let base: Vec<&str> = TINY
        .iter()
        .copied()
        .filter(|argument| !argument.contains("model"))
        .chain([
            "split.num_nodes=3",
            "student.objective=distill",
            "overwrite=true",
        ])
        .collect();
    let run = |stage: &str, more: &[&str]| {
        let (status, _, errors) = place.run_with(stage, &base, more);
        assert_eq!(status, 0, "{stage} {more:?}\n{errors}");
        errors
    };
    run("split_data", &[]);
    let small = ["model=resnet_small", "model.width=4", "model.blocks=[1]"];
    for (node, model) in [&small[..], &["model=cnn64"], &["model=wrn16_1"]]
        .iter()
        .enumerate()
    {
        let only = format!("teacher.only=[{node}]");
        run("train_teachers", &[&[only.as_str()], *model].concat());
    }
    let modes = ["cycle", "sample", "ensemble", "cycle", "cycle"];
    let rules = [
        "mean_logits",
        "mean_softmax",
        "label_share",
        "label_gated",
        "made_from",
    ];
    for (mode, rule) in modes.into_iter().zip(rules) {
        let (mode, rule) = (
            format!("deep_inv.teachers.mode={mode}"),
            format!("deep_inv.ensemble={rule}"),
        );
        let more = [
            mode.as_str(),
            rule.as_str(),
            "initial.num_batches=3",
            "student.new_batches_per_epoch=1",
        ];
        let said = run("generate_initial", &more);
        let engines = "inversion of 2 of 3 teachers by the plain engine: cnn64";
        assert!(said.contains(engines), "{said}");
        run("train_student", &more);
        let comparison = &json(&place.path("student/metrics.json"))["comparison"];
        assert!(comparison["one_shot_average"].is_null(), "{comparison}");
        assert!(comparison["ensemble"].is_f64() && comparison["student"].is_f64());
        let teachers = comparison["teachers"].as_array().unwrap();
        assert!(teachers.len() == 3 && teachers.iter().all(Value::is_f64));
    }
}

#[test]
fn one_teacher_without_a_split() {
    let place = Place::new();
    let alone = ["split.save_path=null"];
    for stage in ["train_teachers", "generate_initial", "train_student"] {
        place.ok(stage, &alone);
    }
    assert!(!place.path("teachers/model_teacher1.safetensors").exists());
}

#[test]
fn changed_inputs_undo_a_finished_run() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &[]);
    }
    place.ok("train_teachers", &["seed=7", "overwrite=true"]);
    let errors = place.fails("generate_initial", &["resume=true"], 1);
    for word in [
        "initial.safetensors",
        "model_teacher0.safetensors",
        "overwrite=true",
    ] {
        assert!(errors.contains(word), "{errors}");
    }
}

#[test]
fn epoch_of_a_pass_over_real_images() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &[]);
    }
    // 32 synthetic images in batches of 16: two steps of their own, twelve for 200 images, one of
    // them fresh.
    for (options, steps) in [
        (
            [
                "student.epoch_images=null",
                "student.new_batches_per_epoch=0",
            ],
            2,
        ),
        (
            [
                "student.epoch_images=200",
                "student.new_batches_per_epoch=1",
            ],
            12,
        ),
    ] {
        let all: Vec<&str> = options.into_iter().chain(["overwrite=true"]).collect();
        place.ok("train_student", &all);
        assert_eq!(
            json(&place.path("student/metrics.json"))["epochs"][0]["steps"],
            steps
        );
    }
}

#[test]
fn selection_keeps_the_best_epoch_and_reports_both() {
    let place = Place::new();
    place.ok("split_data", &[]);
    for selection in ["best_test", "best_validation", "best_own_test", "last"] {
        let selection = format!("teacher.selection={selection}");
        place.ok(
            "train_teachers",
            &[&selection, "teacher.epochs=3", "overwrite=true"],
        );
        let metrics = json(&place.path("teachers/metrics_teacher0.json"));
        let epochs = metrics["epochs"].as_array().unwrap();
        let accuracy = |epoch: &Value, key: &str| epoch[key].as_f64().unwrap_or(0.0);
        let saved = metrics["saved_epoch"].as_u64().unwrap() as usize;
        let best = |key: &str| {
            epochs
                .iter()
                .map(|epoch| accuracy(epoch, key))
                .fold(0.0, f64::max)
        };
        match selection.rsplit('=').next().unwrap() {
            "best_test" => assert_eq!(
                accuracy(&epochs[saved], "test_accuracy"),
                best("test_accuracy")
            ),
            "best_own_test" => assert_eq!(
                accuracy(&epochs[saved], "own_test_accuracy"),
                best("own_test_accuracy")
            ),
            "best_validation" => assert_eq!(
                accuracy(&epochs[saved], "validation_accuracy"),
                best("validation_accuracy")
            ),
            _ => assert_eq!(saved, 2),
        }
        assert_eq!(
            metrics["best_test_accuracy"].as_f64().unwrap(),
            best("test_accuracy")
        );
        assert_eq!(metrics["final_test_accuracy"], epochs[2]["test_accuracy"]);
    }
}

/// A student that becomes a teacher is asked about every class that it learned, from real images
/// too; its card says which images were synthetic.
#[test]
fn a_students_card_counts_real_and_synthetic_images() {
    let place = Place::new();
    // The teacher has the lower classes, the student the others.
    let more = [
        "split.unif_percentage=0",
        "teacher.num_teachers=1",
        "student.epochs=1",
    ];
    for stage in [
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
    ] {
        place.ok(stage, &more);
    }
    let (_, metadata) = tensors::read_state(&place.path("student/student.safetensors")).unwrap();
    let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
    let counts = |key: &str| -> Vec<u64> {
        let counts = card[key].as_array().unwrap().iter();
        counts.map(|count| count.as_u64().unwrap()).collect()
    };
    let (all, synthetic) = (counts("label_counts"), counts("synthetic_counts"));
    let metrics = json(&place.path("student/metrics.json"));
    let real = metrics["real_images"].as_u64().unwrap();
    assert!(real > 10, "{metrics}");
    assert_eq!(synthetic.iter().sum::<u64>(), 32);
    assert_eq!(all.iter().sum::<u64>(), 32 + real);
    assert!(
        synthetic[9] == 0 && all[9] > 0 && synthetic[0] == all[0],
        "{card}"
    );

    std::fs::create_dir(place.path("second")).unwrap();
    std::fs::copy(
        place.path("student/student.safetensors"),
        place.path("second/model_teacher0.safetensors"),
    )
    .unwrap();
    place.ok(
        "generate_initial",
        &[
            "teacher.save_folder=second",
            "initial.save_path=second.safetensors",
            "split.save_path=null",
            "deep_inv.labels=balanced",
        ],
    );
    let made = tensors::read(&place.path("second.safetensors")).unwrap();
    let labels = Vec::<i64>::try_from(made.get("labels").unwrap()).unwrap();
    assert!((0..10).all(|class| labels.contains(&class)), "{labels:?}");
}

/// Fresh batches count on from the batches in the file, whatever the student is told of them.
#[test]
fn fresh_batches_follow_the_initial_ones() {
    let place = teachers();
    place.ok("generate_initial", &["initial.num_batches=3"]);
    let student = |folder: &str, batches: &str| {
        let save = format!("student.save_folder={folder}");
        let told = [&save, "student.new_batches_per_epoch=1", batches];
        place.ok("train_student", &told);
        hash::file(&place.path(&format!("{folder}/student.safetensors"))).unwrap()
    };
    let one = student("one", "initial.num_batches=3");
    assert_eq!(one, student("other", "initial.num_batches=50"));
    let lines = std::fs::read_to_string(place.path("other/metrics.jsonl")).unwrap();
    assert!(lines.contains("\"batch\":3,"), "{lines}");
}

/// Padding with zero after normalisation is padding with black where the mean is black, and only
/// there.
#[test]
fn padding_with_the_mean_colour() {
    for (mean, same) in [("dataset.mean=[0]", true), ("dataset.mean=[0.3]", false)] {
        let place = Place::new();
        let constants = [mean, "dataset.std=[0.25]"];
        for stage in ["split_data", "train_teachers", "generate_initial"] {
            place.ok(stage, &constants);
        }
        let student = |padding: &str| {
            let own = ["overwrite=true", padding];
            place.ok("train_student", &[&constants[..], &own].concat());
            hash::file(&place.path("student/student.safetensors")).unwrap()
        };
        let [black, mean] = ["student.padding=black", "student.padding=mean"].map(student);
        assert_eq!(black == mean, same, "{constants:?}");
    }
}

/// People count epochs from 1, files from 0; a loss term of scale 0 is not part of the loss, and
/// no line stands for it.
#[test]
fn plots_count_from_one_and_show_what_is_in_use() {
    let place = Place::new();
    for stage in ["split_data", "train_teachers", "generate_initial"] {
        place.ok(stage, &[]);
    }
    place.ok("train_student", &["student.epochs=3"]);
    let texts = |name: &str| -> Vec<(bool, String)> {
        let svg = std::fs::read_to_string(place.path(name)).unwrap();
        let doc = roxmltree::Document::parse(&svg).unwrap();
        let texts = doc.descendants().filter(|node| node.has_tag_name("text"));
        let below = |node: &roxmltree::Node| node.attribute("text-anchor") == Some("middle");
        let text = |node: roxmltree::Node| node.text().unwrap_or_default().trim().to_owned();
        texts.map(|node| (below(&node), text(node))).collect()
    };
    for name in ["student/curves.svg", "student/per_class.svg"] {
        let all = texts(name);
        let epochs = all
            .iter()
            .filter(|(below, text)| *below && text.parse::<u32>().is_ok());
        let epochs: Vec<&str> = epochs.map(|(_, text)| text.as_str()).collect();
        assert!(
            !epochs.contains(&"0") && epochs.contains(&"3"),
            "{name}: {epochs:?}"
        );
    }
    let lines = json(&place.path("student/metrics.json"));
    assert_eq!(lines["epochs"][0]["epoch"], 0);
    let has = |file: &str, name: &str| texts(file).iter().any(|(_, text)| text.starts_with(name));
    let loss = |name: &str| has("initial.loss.svg", name);
    assert!(
        loss("batch norm") && loss("total variation") && !loss("l2"),
        "{:?}",
        texts("initial.loss.svg")
    );
    // The title says what made the batches.
    assert!(loss("Inversion loss and its terms"));
    place.ok(
        "generate_initial",
        &["+method=dense", "generator.steps=2", "overwrite=true"],
    );
    assert!(loss("Generator's loss and its terms") && !loss("Inversion"));
    // And the legend which images and labels an accuracy is of.
    assert!(has("student/curves.svg", "synthetic, as labelled"));
}

/// Two teachers.
fn teachers() -> Place {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    place
}

/// Without a student and without batch norm nothing is left of DENSE's loss but the cross-entropy.
#[test]
fn a_loss_that_is_zero_throughout_is_drawn() {
    let place = teachers();
    let nothing = [
        "+method=dense",
        "generator.steps=2",
        "generator.batch_size=16",
        "generator.loss.cross_entropy=0",
        "generator.loss.batch_norm=0",
    ];
    place.ok("generate_initial", &nothing);
    assert!(place.path("initial.loss.png").is_file());
    // Pictures that are chosen, not inverted, have no curve, and none of another run is left.
    let chosen = [
        "+method=shapes",
        "deep_inv.di.grad_updates_batch=1",
        "overwrite=true",
    ];
    let printed = place.ok("generate_initial", &chosen);
    assert!(printed.contains("grid:"), "{printed}");
    assert!(!printed.contains("loss:"), "{printed}");
    assert!(!place.path("initial.loss.png").exists());
}

#[test]
fn initial_batches_of_another_method_are_told_of() {
    let place = teachers();
    let generator = [
        "+method=dense",
        "generator.steps=2",
        "generator.batch_size=16",
    ];
    place.ok("generate_initial", &generator);
    let said = |overrides: &[&str]| {
        let (code, _, errors) = place.run_with("train_student", TINY, overrides);
        assert_eq!(code, 0, "{errors}");
        let told = |line: &&str| line.contains("initial");
        errors.lines().filter(told).collect::<Vec<_>>().join("\n")
    };
    let alone = ["student.new_batches_per_epoch=0", "overwrite=true"];
    let text = said(&[&alone[..], &["initial.num_batches=7"]].concat());
    for words in [
        "made with a `generator`, but the config has `deep_inv.start=noise`",
        "`initial.num_batches`, set by command line `initial.num_batches=7`, makes no batches here",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let same = [&generator[..], &["student.epochs=1"]].concat();
    let text = said(&[&alone[..], &same].concat());
    assert!(!text.contains("made"), "{text}");
    let other = [&generator[..], &["student.epochs=1", "generator.width=4"]].concat();
    let text = said(&[&alone[..], &other].concat());
    assert!(
        text.contains("by a generator with other settings"),
        "{text}"
    );
}
