//! Parties with image folders of their own, and a server that has none of their images: what leaves
//! a party, what the server does with it, and what both are told when it does not fit.

use crate::common::Place;
use crate::common::datasets::{pixels, png};
use fed_distill::artifact::tensors;
use fed_distill::data::{DatasetSettings, load};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::LazyLock;
use tch::{Device, Tensor};

/// What all agree on, and the settings of a run of seconds.
const TASK: &[&str] = &[
    "dataset.size=8",
    "dataset.channels=1",
    "dataset.classes=[0,1,2,3,4,5,6,7,8,9]",
    "dataset.mean=[0.3]",
    "dataset.std=[0.35]",
    "model=resnet_small",
    "model.width=4",
    "model.blocks=[1]",
    "teacher.epochs=1",
    "teacher.batch_size=16",
    "teacher.augment.crop=1",
    "deep_inv.batch_size=16",
    "deep_inv.di.grad_updates_batch=3",
    "initial.num_batches=3",
    "student.epochs=1",
    "student.batch_size=16",
    "student.new_batches_per_epoch=0",
    "threads=1",
    "device=cpu",
];

/// What the server's stages read and write.
const SERVER: &[&str] = &[
    "teacher.save_folder=server",
    "initial.save_path=server/initial.safetensors",
    "student.save_folder=student",
];

/// The classes of each party: each has some that the others lack.
const CLASSES: [&[usize]; 3] = [&[0, 1, 2, 3], &[3, 4, 5, 6], &[6, 7, 8, 9]];

/// Pixels and label of each training image.
static DIGITS: LazyLock<Vec<(Vec<u8>, i64)>> = LazyLock::new(|| {
    let settings = DatasetSettings {
        size: Some(8),
        ..DatasetSettings::default()
    };
    let digits = load(&settings, Device::Cpu).unwrap().train;
    let images = pixels(&digits);
    let images = images.chunks(64).map(<[u8]>::to_vec);
    images.zip(digits.label_list).collect()
});

/// Writes `count` digits of each class, from its `first` on, to `FOLDER/CLASS/N.png`.
fn folder(path: &Path, classes: &[usize], count: usize, first: usize) {
    for &class in classes {
        let folder = path.join(class.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let of_class = DIGITS.iter().filter(|(_, label)| *label == class as i64);
        for (number, (image, _)) in of_class.skip(first).take(count).enumerate() {
            std::fs::write(folder.join(format!("{number}.png")), png(8, 8, 1, image)).unwrap();
        }
    }
}

/// `resume=true` keeps no split of the images of another folder.
#[test]
fn a_split_of_other_images_is_not_kept() {
    let place = Place::new();
    for (name, first) in [("v1", 0), ("v2", 20)] {
        folder(&place.path(name), CLASSES[0], 10, first);
    }
    let split = |root: &str, more: &[&str]| {
        let root = format!("dataset.root={root}");
        let own = ["dataset=image_folder", &root, "dataset.test_share=0.2"];
        let own = [
            &own[..],
            &["split.save_path=s.json", "split.num_nodes=2"],
            more,
        ]
        .concat();
        stage(&place, "split_data", &own, &[])
    };
    let (code, _, errors) = split("v1", &[]);
    assert_eq!(code, 0, "{errors}");
    let (code, _, errors) = split("v2", &["resume=true"]);
    assert_eq!(code, 2, "{errors}");
    says(&errors, &["read something else", "dataset_fingerprint"]);
    let (code, _, errors) = split("v1", &["resume=true"]);
    assert_eq!(code, 0, "{errors}");
    says(&errors, &["is there already"]);
}

/// A place with the folders of the first `parties` parties.
fn place(parties: usize) -> Place {
    let place = Place::new();
    for (party, classes) in CLASSES.iter().enumerate().take(parties) {
        folder(
            &place.path(&format!("images{party}")),
            classes,
            10,
            10 * party,
        );
    }
    place
}

/// Runs a stage with the task's settings but those of `without`: exit code, stdout, stderr.
fn stage(place: &Place, stage: &str, more: &[&str], without: &[&str]) -> (i32, String, String) {
    let task: Vec<&str> = TASK
        .iter()
        .copied()
        .filter(|key| !without.contains(key))
        .collect();
    place.run_with(stage, &task, more)
}

/// Trains the teacher of a party at its own site, and uploads its file.
fn party(place: &Place, party: usize, more: &[&str], without: &[&str]) {
    let own = [
        "dataset=image_folder".to_owned(),
        format!("dataset.root=images{party}"),
        "dataset.test_share=0.2".to_owned(),
        format!("teacher.index={party}"),
        format!("teacher.save_folder=party{party}"),
        "overwrite=true".to_owned(),
    ];
    let own: Vec<&str> = own
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    let (code, _, errors) = stage(place, "train_teachers", &own, without);
    assert_eq!(code, 0, "{errors}");
    std::fs::create_dir_all(place.path("server")).unwrap();
    let file = format!("model_teacher{party}.safetensors");
    let upload = place.path(&format!("party{party}/{file}"));
    std::fs::copy(upload, place.path(&format!("server/{file}"))).unwrap();
}

/// Runs a stage of the server that must succeed: stdout, stderr.
fn server(place: &Place, name: &str, more: &[&str]) -> (String, String) {
    let (code, out, errors) = stage(place, name, &[SERVER, more].concat(), &[]);
    assert_eq!(code, 0, "{name} {more:?}\n{errors}");
    (out, errors)
}

/// Runs a stage of the server that must fail with `code`: stderr.
fn refused(place: &Place, name: &str, more: &[&str], code: i32) -> String {
    let (found, _, errors) = stage(place, name, &[SERVER, more].concat(), &[]);
    assert_eq!(found, code, "{name} {more:?}\n{errors}");
    assert!(
        errors.contains("error: ") && !errors.contains("panicked"),
        "{errors}"
    );
    errors
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

fn json_at(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn card(path: &Path) -> Value {
    serde_json::from_str(&tensors::metadata(path).unwrap()["fed_distill"]).unwrap()
}

/// Writes the file again with another card, or as another program would, with none.
fn with_card(path: &Path, to: &Path, card: Option<&Value>) {
    let (state, mut metadata) = tensors::read_state(path).unwrap();
    match card {
        Some(card) => metadata.insert("fed_distill".into(), card.to_string()),
        None => metadata.remove("fed_distill"),
    };
    let list: Vec<(&str, &Tensor)> = state.iter().collect();
    tensors::write(to, &list, &metadata).unwrap();
}

/// The whole way: three folders, three uploads, a student; first at a server that has no image at
/// all, then with test images of the server's own.
#[test]
fn three_parties_and_a_server_without_their_images() {
    let place = place(3);
    for number in 0..3 {
        party(&place, number, &[], &[]);
    }
    // The hash of the images stays where they are; so does what the training took.
    let manifest = json_at(&place.path("party1/manifest_teacher1.json"));
    let fingerprint = manifest["facts"]["dataset_fingerprint"].as_str().unwrap();
    let upload = place.path("server/model_teacher1.safetensors");
    assert!(!String::from_utf8_lossy(&std::fs::read(&upload).unwrap()).contains(fingerprint));
    let told = card(&upload);
    assert_eq!(told.get("dataset_fingerprint"), None);
    assert_eq!(told["label_counts"], json!([0, 0, 0, 8, 8, 8, 8, 0, 0, 0]));
    let (state, _) = tensors::read_state(&upload).unwrap();
    for (name, tensor) in state.iter().filter(|(name, _)| name.ends_with("tracked")) {
        assert_eq!(tensor.int64_value(&[]), 0, "{name}");
    }

    server(&place, "generate_initial", &["dataset=none"]);
    let (table, _) = server(&place, "train_student", &["dataset=none"]);
    for row in [
        "teacher 2",
        "teachers, ensemble",
        "one-shot average",
        "student",
    ] {
        let line = table.lines().find(|line| line.starts_with(row)).unwrap();
        assert!(line.contains('–') && !line.contains('%'), "{line}");
    }
    assert!(place.path("student/dataset.png").exists());
    assert!(!table.contains("confusion.png") && !place.path("student/confusion.png").exists());
    let metrics = json_at(&place.path("student/metrics.json"));
    assert_eq!(metrics["saved_test_accuracy"], Value::Null);
    assert_eq!(metrics["confusion"], Value::Null);
    let manifest = json_at(&place.path("student/manifest.json"));
    assert_eq!(manifest["facts"].get("dataset_fingerprint"), None);
    // The counts are those of the images that are in it.
    let counts = card(&place.path("server/initial.safetensors"))["label_counts"].clone();
    let counts: Vec<u64> = serde_json::from_value(counts).unwrap();
    assert_eq!(counts.iter().sum::<u64>(), 48);

    // All images of a folder are test images, of which party 0 knows no more than others.
    folder(&place.path("held_out"), &[0, 2, 5, 9], 6, 100);
    let own = [
        "dataset=image_folder",
        "dataset.root=held_out",
        "dataset.test_share=1",
        "student.save_folder=tested",
        "student.selection=best_test",
    ];
    let (table, errors) = server(&place, "train_student", &own);
    says(&errors, &["0 training and 24 test images"]);
    let line = table
        .lines()
        .find(|line| line.starts_with("student"))
        .unwrap();
    assert!(line.contains('%'), "{table}");
    assert!(place.path("tested/confusion.png").exists());

    // A party that never uploads.
    std::fs::remove_file(&upload).unwrap();
    let text = refused(
        &place,
        "generate_initial",
        &["dataset=none", "overwrite=true"],
        1,
    );
    says(&text, &["teacher 1 is missing", "`teacher.only=[0,2]`"]);
    let others = ["dataset=none", "teacher.only=[0,2]", "overwrite=true"];
    server(&place, "generate_initial", &others);
    server(&place, "train_student", &others);
}

/// Nothing of the data set but the task is a condition: a file of an earlier version, which has a
/// hash of its own images, goes with others.
#[test]
fn a_fingerprint_is_no_condition() {
    let place = place(2);
    for number in 0..2 {
        party(&place, number, &[], &[]);
    }
    for number in 0..2 {
        let path = place.path(&format!("server/model_teacher{number}.safetensors"));
        let mut old = card(&path);
        old["dataset_fingerprint"] = json!("5eed".repeat(16));
        with_card(&path, &path, Some(&old));
    }
    server(&place, "generate_initial", &["dataset=none"]);
    server(&place, "train_student", &["dataset=none"]);
    for file in ["server/initial.safetensors", "student/student.safetensors"] {
        assert_eq!(
            card(&place.path(file)).get("dataset_fingerprint"),
            None,
            "{file}"
        );
    }
    let manifest = json_at(&place.path("server/initial.manifest.json"));
    assert_eq!(manifest["facts"].get("dataset_fingerprint"), None);
}

/// A client may keep its label counts to itself: the server estimates them, for all rules.
#[test]
fn a_party_that_declines_label_counts() {
    let place = place(2);
    party(&place, 0, &[], &[]);
    let more = ["teacher.label_counts=none", "teacher.epochs=30"];
    party(&place, 1, &more, &[]);
    let upload = place.path("server/model_teacher1.safetensors");
    assert_eq!(card(&upload).get("label_counts"), None);
    let own = json_at(&place.path("party1/metrics_teacher1.json"));
    assert_eq!(own["label_counts"][3], 8);
    let unknown = "1 teacher without label counts, which are estimated from their weights: 1";
    let (_, errors) = server(&place, "generate_initial", &["dataset=none"]);
    says(&errors, &[unknown]);
    let (_, errors) = server(&place, "train_student", &["dataset=none"]);
    says(&errors, &[unknown]);
    let more = ["dataset=none", "overwrite=true"];
    let shared = [&more[..], &["deep_inv.labels=teacher_share"]].concat();
    server(&place, "generate_initial", &shared);
    // Its batch is made for the classes of its images more than for the six others.
    let own = |teacher: usize| -> u64 {
        let batches = json_at(&place.path("server/initial.metrics.json"));
        let made = batches[teacher]["label_counts"].clone();
        let made: Vec<u64> = serde_json::from_value(made).unwrap();
        assert_eq!(made.iter().sum::<u64>(), 16);
        CLASSES[teacher].iter().map(|&class| made[class]).sum()
    };
    assert!(own(1) > 8, "{}", own(1));
    assert_eq!(own(0), 16);
    let gated = [&more[..], &["student.distill.ensemble=label_gated"]].concat();
    server(&place, "train_student", &gated);
    // As if no party had told its own: one epoch teaches the first party's rows little.
    let both = [&shared[..], &["teacher.counts_from=weights"]].concat();
    let (_, errors) = server(&place, "generate_initial", &both);
    says(&errors, &[unknown]);
    assert!(!errors.contains("weights: 0"), "{errors}");
    assert!(own(0) < 16);
}

/// Each mismatch is told with the number, file and value of both, and with what to type.
#[test]
fn parties_that_do_not_agree() {
    let place = place(2);
    party(&place, 0, &[], &[]);
    for (without, more, words) in [
        (
            "dataset.classes=[0,1,2,3,4,5,6,7,8,9]",
            "dataset.classes=[3,4,5,6]",
            &[
                "they differ in class names",
                "teacher 0 has 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)",
                "teacher 1 has 4 classes (3, 4, 5, 6)",
                "`dataset.classes=[0,1,2,3,4,5,6,7,8,9]`",
            ][..],
        ),
        (
            "dataset.mean=[0.3]",
            "dataset.mean=[0.5]",
            &[
                "they differ in normalisation",
                "teacher 0 has mean [0.3], std [0.35]",
                "teacher 1 has mean [0.5], std [0.35]",
                "`dataset.mean=[0.3] dataset.std=[0.35]`",
            ],
        ),
        (
            "dataset.size=8",
            "dataset.size=12",
            &[
                "they differ in image shape",
                "teacher 0 has images of 1×8×8",
                "teacher 1 has images of 1×12×12",
                "`dataset.channels=1 dataset.size=8`",
            ],
        ),
    ] {
        party(&place, 1, &[more], &[without]);
        let text = refused(&place, "generate_initial", &["dataset=none"], 1);
        says(&text, words);
        says(
            &text,
            &[
                "server/model_teacher0.safetensors: ",
                "server/model_teacher1",
            ],
        );
    }
    assert!(!place.path("server/initial.safetensors").exists());
    // The server's own images in other places among the labels.
    party(&place, 1, &[], &[]);
    server(&place, "generate_initial", &["dataset=none"]);
    folder(&place.path("held_out"), &[0, 2], 6, 100);
    let own = [
        "dataset=image_folder",
        "dataset.root=held_out",
        "dataset.test_share=1",
    ];
    let own = [SERVER, &own].concat();
    let (code, _, text) = stage(&place, "train_student", &own, &TASK[2..3]);
    assert_eq!(code, 1, "{text}");
    says(
        &text,
        &[
            "trained on other classes",
            TASK[2],
            "gives the images these labels",
        ],
    );
    let (code, _, text) = stage(
        &place,
        "train_student",
        &[&own[..], &["dataset.classes=[0,1]"]].concat(),
        &TASK[2..3],
    );
    assert_eq!(code, 2, "{text}");
    says(
        &text,
        &["`dataset.classes` does not name all classes", "found: `2`"],
    );
}

/// What a party keeps in its environment is not written to the files of a run, which are sent on
/// now and then; the references are, and stand for the same.
#[test]
fn environment_variables_are_recorded_by_name() {
    let place = place(1);
    let secret = "images0";
    let run = |stage: &str, arguments: &[&str], value: &str| {
        let output = assert_cmd::Command::new(assert_cmd::cargo::cargo_bin(stage))
            .current_dir(place.path(""))
            .env("PARTY_IMAGES", value)
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let own = [
        "dataset=image_folder",
        "dataset.root=${oc.env:PARTY_IMAGES}",
        "dataset.test_share=0.2",
        "+split=iid",
        "split.num_nodes=2",
        // By way of another key.
        "split.save_path=out/${dataset.root}.json",
    ];
    let own = [TASK, &own].concat();
    let (code, _, errors) = run("split_data", &own, secret);
    assert_eq!(code, Some(0), "{errors}");
    let manifest = json_at(&place.path("out/images0.manifest.json"));
    assert_eq!(
        manifest["config"]["dataset"]["root"],
        "${oc.env:PARTY_IMAGES}"
    );
    assert_eq!(
        manifest["config"]["split"]["save_path"],
        "out/${dataset.root}.json"
    );
    let record = std::fs::read_to_string(place.path("out/images0.hydra/config.yaml")).unwrap();
    assert!(!record.contains(secret), "{record}");
    // It is finished, and for another value it is another.
    let again = [&own[..], &["resume=true"]].concat();
    let (code, _, errors) = run("split_data", &again, secret);
    assert_eq!(code, Some(0), "{errors}");
    let whole = ["--config-dir", "out/images0.hydra", "resume=true"];
    let (code, _, errors) = run("split_data", &whole, secret);
    assert_eq!(code, Some(0), "{errors}");
    let (code, out, errors) = run("inspect", &["split", "out/images0.json"], secret);
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains("total variation"), "{out}");
    let (code, _, errors) = run("inspect", &["split", "out/images0.json"], "nowhere");
    assert_ne!(code, Some(0));
    says(&errors, &["nowhere"]);
    // The numbers of a run stay readable.
    assert_eq!(manifest["config"]["split"]["num_nodes"], 2);
}

/// The label counts of teachers without cards come from the split: another one is another input.
#[test]
fn counts_of_another_split_are_another_input() {
    let place = Place::new();
    place.ok("split_data", &[]);
    place.ok("train_teachers", &[]);
    for number in 0..2 {
        let ours = place.path(&format!("teachers/model_teacher{number}.safetensors"));
        with_card(&ours, &ours.with_extension("pt"), None);
        std::fs::remove_file(&ours).unwrap();
        let manifest = format!("teachers/manifest_teacher{number}.json");
        std::fs::remove_file(place.path(&manifest)).unwrap();
    }
    place.ok("generate_initial", &[]);
    place.ok("split_data", &["split.save_path=other.json", "seed=7"]);
    let other = ["split.save_path=other.json", "resume=true"];
    let errors = place.fails("generate_initial", &other, 2);
    says(&errors, &["read something else", "label_counts"]);
}

/// Weights of another program, at a server that has no images: the task is given, or is that of
/// another teacher's card.
#[test]
fn weights_without_a_card_and_without_data() {
    let place = place(2);
    for number in 0..2 {
        party(&place, number, &[], &[]);
    }
    let ours = place.path("server/model_teacher1.safetensors");
    with_card(&ours, &place.path("server/model_teacher1.pt"), None);
    std::fs::remove_file(&ours).unwrap();
    let bare = [SERVER, &["dataset=none"]].concat();
    // As teacher 0 has it.
    let (code, _, errors) = stage(&place, "generate_initial", &bare, &TASK[..5]);
    assert_eq!(code, 0, "{errors}");
    says(
        &errors,
        &["1 teacher without label counts", "their weights: 1"],
    );
    assert!(!errors.contains("their weights: 0"), "{errors}");

    let first = place.path("server/model_teacher0.safetensors");
    with_card(&first, &place.path("server/model_teacher0.pt"), None);
    std::fs::remove_file(&first).unwrap();
    let again = [&bare[..], &["overwrite=true"]].concat();
    let (code, _, text) = stage(&place, "generate_initial", &again, &TASK[..5]);
    assert_eq!(code, 2, "{text}");
    says(
        &text,
        &[
            "`dataset.num_classes`, `dataset.size`, `dataset.mean`, `dataset.std` must be given",
            "server/model_teacher0.pt",
            "dataset=none dataset.num_classes=10",
        ],
    );
    let numbered = [&again[..], &["dataset.num_classes=10"]].concat();
    let (code, _, errors) = stage(&place, "generate_initial", &numbered, &TASK[2..3]);
    assert_eq!(code, 0, "{errors}");
    says(&errors, &["2 teachers without label counts"]);
    let (code, out, errors) = stage(&place, "train_student", &numbered, &TASK[2..3]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains('–'), "{out}");
    assert_eq!(
        card(&place.path("student/student.safetensors"))["classes"][9],
        "9"
    );

    // A data set that is not there leads here.
    let missing = [
        "dataset=mnist",
        "dataset.root=nowhere",
        "dataset.download=false",
        "overwrite=true",
    ];
    let missing = [SERVER, &missing].concat();
    let (code, _, text) = stage(&place, "generate_initial", &missing, &TASK[..5]);
    assert_eq!(code, 1, "{text}");
    says(
        &text,
        &["train-images", "`dataset=none`, with `dataset.num_classes`"],
    );
}

#[test]
fn mistakes_of_a_party_and_of_a_server_without_data() {
    let place = place(1);
    let own = [
        "dataset=image_folder",
        "dataset.root=images0",
        "dataset.test_share=0.2",
    ];
    let own = [&own[..], &["teacher.save_folder=party0"]].concat();
    let train = |more: &[&str]| {
        let (code, _, errors) = stage(&place, "train_teachers", &[&own[..], more].concat(), &[]);
        assert_eq!(code, 2, "{more:?}\n{errors}");
        errors
    };
    let number = "`teacher.index=1`";
    says(
        &train(&["teacher.num_teachers=2"]),
        &["no split is given", number],
    );
    says(&train(&["teacher.only=[1]"]), &["names teacher 1", number]);
    let text = train(&["teacher.index=1", "split.save_path=split.json"]);
    says(
        &text,
        &[
            "images of its own",
            "`teacher.only=[1]`",
            "split.save_path=null",
        ],
    );
    let text = train(&["teacher.index=3", "teacher.num_teachers=3"]);
    says(&text, &["there are 3 teachers", "choose from 0 to 2"]);
    let text = train(&["teacher.index=1", "teacher.only=[0]"]);
    says(&text, &["`teacher.only` is [0]", "`teacher.index` alone"]);
    assert!(!place.path("party0").exists());

    for (classes, words) in [
        ("[0,1,2]", "does not name all classes"),
        ("[0,1,2,3,3]", "names `3` twice"),
        ("[]", "names no class"),
    ] {
        let classes = format!("dataset.classes={classes}");
        let more = [&own[..], &[&classes]].concat();
        let (code, _, text) = stage(&place, "train_teachers", &more, &TASK[2..3]);
        assert_eq!(code, 2, "{text}");
        says(&text, &["`dataset.classes`", words]);
    }
    let (code, _, text) = stage(
        &place,
        "split_data",
        &["dataset=none", "split.save_path=split.json"],
        &[],
    );
    assert_eq!(code, 2, "{text}");
    says(
        &text,
        &[
            "`dataset.kind` is `none`: there are no images",
            "image_folder",
        ],
    );
    let best = ["dataset=none", "student.selection=best_test"];
    let text = refused(&place, "train_student", &best, 2);
    says(
        &text,
        &[
            "`student.selection`",
            "`dataset.kind` is `none`",
            "selection=last",
        ],
    );

    // Constants of its own go with nobody else's.
    let alone = [&own[..], &["teacher.index=0"]].concat();
    let (code, _, errors) = stage(&place, "train_teachers", &alone, &TASK[3..5]);
    assert_eq!(code, 0, "{errors}");
    says(&errors, &["`dataset.mean=[0.5] dataset.std=[0.25]`"]);
}

/// The student's own images come out of a split of a data set that the server has.
#[test]
fn real_images_need_a_dataset() {
    let place = Place::new();
    place.ok("split_data", &["split.num_nodes=3"]);
    for stage in ["train_teachers", "generate_initial"] {
        place.ok(stage, &["split.num_nodes=3", "teacher.num_teachers=2"]);
    }
    let bare: Vec<&str> = crate::common::TINY
        .iter()
        .copied()
        .filter(|key| !key.starts_with("dataset") && !key.starts_with("split.num"))
        .collect();
    let none = ["dataset=none", "teacher.num_teachers=2"];
    let (code, _, text) = place.run_with("train_student", &bare, &none);
    assert_eq!(code, 2, "{text}");
    says(
        &text,
        &[
            "nodes 2 to 2 of the split",
            "`dataset.kind` is `none`",
            "split.json",
        ],
    );
    let none = [&none[..], &["split.save_path=null"]].concat();
    let (code, _, text) = place.run_with("train_student", &bare, &none);
    assert_eq!(code, 0, "{text}");
}
