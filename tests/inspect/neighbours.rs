//! `neighbours`: nearest images against a search by hand, and a dataset that gives private images
//! away.

use crate::{copy, data, experiment, inspect};
use fed_distill::artifact::tensors;
use fed_distill::data::{Dataset, DatasetSettings, load};
use std::path::Path;
use tch::{Device, Tensor};

fn digits() -> Dataset {
    let settings = DatasetSettings {
        size: Some(8),
        max_train: Some(200),
        max_test: Some(50),
        ..DatasetSettings::default()
    };
    load(&settings, Device::Cpu).unwrap()
}

const DATASET: [&str; 4] = [
    "dataset=digits",
    "dataset.size=8",
    "dataset.max_train=200",
    "dataset.max_test=50",
];

/// Root mean square difference of two images of bytes, in 0..1.
fn distance(one: &[u8], other: &[u8]) -> f64 {
    let squares = one
        .iter()
        .zip(other)
        .map(|(&a, &b)| ((f64::from(a) - f64::from(b)) / 255.0).powi(2));
    (squares.sum::<f64>() / one.len() as f64).sqrt()
}

fn bytes(images: &Tensor) -> Vec<Vec<u8>> {
    let flat = Vec::<u8>::try_from(images.flatten(0, -1)).unwrap();
    flat.chunks(64).map(<[u8]>::to_vec).collect()
}

#[test]
fn the_nearest_image_is_the_one_found_by_hand() {
    let found = data(&[
        "neighbours",
        "students/1",
        "--samples",
        "32",
        "--shift",
        "0",
        "--out",
        "n.png",
    ]);
    let dataset = digits();
    let file = tensors::read(&experiment().path("students/1/dataset.safetensors")).unwrap();
    let synthetic = bytes(&dataset.normalisation.to_pixels(file.get("images").unwrap()));
    let (train, test) = (bytes(&dataset.train.images), bytes(&dataset.test.images));
    let pixels = &found["views"][0];
    let mut share = 0.0;
    for (at, place) in found["sampled"].as_array().unwrap().iter().enumerate() {
        let image = &synthetic[place.as_u64().unwrap() as usize];
        let distances: Vec<f64> = train.iter().map(|other| distance(image, other)).collect();
        let least = distances.iter().copied().fold(f64::INFINITY, f64::min);
        assert!((pixels["synthetic"][at].as_f64().unwrap() - least).abs() < 1e-5);
        let nearest = pixels["nearest"][at].as_u64().unwrap() as usize;
        assert!((distances[nearest] - least).abs() < 1e-5);
        let unseen = test
            .iter()
            .map(|other| distance(image, other))
            .fold(f64::INFINITY, f64::min);
        share += if least < unseen { 1.0 / 32.0 } else { 0.0 };
    }
    assert_eq!(pixels["nearer_to_training"].as_f64().unwrap(), share);
    assert_eq!(pixels["expected"], 0.8);
    // Cosine distances by the teachers lie in 0..2.
    let features = found["views"][1]["synthetic"].as_array().unwrap();
    assert!(
        features.len() == 32
            && features
                .iter()
                .all(|value| (0.0..=2.0).contains(&value.as_f64().unwrap()))
    );
    assert!(image::open(experiment().path("n.png")).unwrap().width() > 12 * 64);
    let text = inspect(&["neighbours", "students/1", "--shown", "3", "--out", "n.png"]);
    assert!(
        text.contains("node") && text.contains("unseen test"),
        "{text}"
    );
}

/// A dataset whose images are those of `images` (u8), with the card of a real one.
fn planted(path: &Path, images: &Tensor) {
    let (_, metadata) =
        tensors::read_state(&experiment().path("students/1/dataset.safetensors")).unwrap();
    let count = images.size()[0];
    let labels = Tensor::zeros([count], (tch::Kind::Int64, Device::Cpu));
    let images = digits().normalisation.apply(images);
    tensors::write(path, &[("images", &images), ("labels", &labels)], &metadata).unwrap();
}

#[test]
fn images_that_were_copied_are_given_away() {
    let dataset = digits();
    let folder = tempfile::tempdir().unwrap();
    // Rolled by two pixels as synthetic images are.
    let copied = dataset.train.images.narrow(0, 10, 20).roll([2, -1], [2, 3]);
    let unseen = dataset.test.images.narrow(0, 0, 20);
    for (name, images, share) in [("copied", copied, 1.0), ("unseen", unseen, 0.0)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        planted(&path, &images);
        let found = data(
            &[
                &["neighbours", path.to_str().unwrap(), "--samples", "20"],
                &DATASET[..],
            ]
            .concat(),
        );
        let pixels = &found["views"][0];
        assert_eq!(
            found["views"].as_array().unwrap().len(),
            1,
            "no teachers, no features"
        );
        assert_eq!(pixels["nearer_to_training"], share, "{name}");
        let exact = pixels["synthetic"]
            .as_array()
            .unwrap()
            .iter()
            .all(|value| value.as_f64().unwrap() < 1e-3);
        assert_eq!(exact, name == "copied");
    }
}

/// Overrides change the settings that they name, and the run's dataset is compared all the same.
#[test]
fn overrides_of_the_recorded_dataset() {
    let base = [
        "neighbours",
        "students/1",
        "--samples=16",
        "--out=recorded.png",
        "device=cpu",
    ];
    let views = |more: &[&str]| data(&[&base[..], more].concat())["views"].clone();
    let recorded = views(&[]);
    assert_eq!(recorded[0]["expected"], 0.8);
    assert_eq!(views(&["dataset.size=8"]), recorded);

    let run = |more: &[&str]| experiment().run_with("inspect", &base, more);
    let other = "this is not the dataset that was used";
    let (code, _, errors) = run(&["dataset.max_test=20"]);
    assert!(code == 1 && errors.contains(other), "{errors}");
    let differs = "dataset.max_test: 50 then, 20 now";
    assert!(errors.contains(differs), "{errors}");
    // Another dataset may be meant, of which the split says nothing.
    let (code, out, errors) = run(&["dataset=digits", "dataset.size=8"]);
    assert!(code == 0 && errors.contains(other), "{errors}");
    assert!(!out.contains("node"), "{out}");
    let (code, out, errors) = run(&DATASET);
    assert!(code == 0 && !errors.contains(other), "{errors}");
    assert!(out.contains("node"), "{out}");
}

#[test]
fn what_is_not_read_is_refused() {
    let base = [
        "neighbours",
        "students/1",
        "--samples=16",
        "--out=refused.png",
    ];
    for (typed, code, words) in [
        (
            "student.epochs=7",
            2,
            ["`student.epochs`", "available: dataset, device, "],
        ),
        (
            "device=cuda:99",
            1,
            ["the device `cuda:99` cannot be used", ""],
        ),
        ("--shown=0", 2, ["`--shown` cannot be `0`", ""]),
    ] {
        let (found, _, errors) = experiment().run_with("inspect", &base, &[typed]);
        assert_eq!(found, code, "{errors}");
        let told = words.iter().all(|word| errors.contains(word));
        assert!(told, "{typed}: {errors}");
    }
}

/// Neither are the teachers' features compared nor nodes named by files that the run did not read.
#[test]
fn inputs_that_were_made_again_are_not_used() {
    let place = copy();
    place.ok(
        "split_data",
        &["split.unif_percentage=0.5", "overwrite=true"],
    );
    let weights = |node: usize| place.path(&format!("teachers/model_teacher{node}.safetensors"));
    std::fs::copy(weights(1), weights(0)).unwrap();
    let arguments = ["neighbours", "students/1", "--samples=16"];
    let (code, out, errors) = place.run_with("inspect", &arguments, &[]);
    assert_eq!(code, 0, "{errors}");
    assert!(!out.contains("features") && !out.contains("node"), "{out}");
    for warning in [
        "the split is gone or has changed",
        "the teachers are gone or have changed",
    ] {
        assert!(errors.contains(warning), "{errors}");
    }
    std::fs::remove_file(place.path("students/1/manifest.json")).unwrap();
    let arguments = [
        "neighbours",
        "students/1/dataset.safetensors",
        "--samples=16",
    ];
    let (code, _, errors) = place.run_with("inspect", &arguments, &DATASET);
    assert!(
        code == 0 && errors.contains("no manifest names the teachers"),
        "{errors}"
    );
}
