//! Data sets as people have them, through the real binary: what is told, and what is recorded.

use super::says;
use crate::common::Place;
use crate::common::datasets::{noise, png};
use crate::common::signals;
use crate::common::stop::{caught, stop};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

const BASE: &[&str] = &[
    "dataset=image_folder",
    "dataset.root=set",
    "+split=iid",
    "split.num_nodes=2",
    "split.save_path=split.json",
    "threads=1",
    "device=cpu",
];

fn put(place: &Place, name: &str, contents: &[u8]) {
    let path = place.path("set").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

/// Four images of two classes in each of these folders.
fn made(splits: &[&str]) -> Place {
    let place = Place::new();
    for (seed, split) in splits.iter().enumerate() {
        for name in ["cat/1", "cat/2", "dog/1", "dog/2"] {
            let picture = png(8, 8, 1, &noise(64, seed as u32));
            put(&place, &format!("{split}/{name}.png"), &picture);
        }
    }
    place
}

fn facts(place: &Place) -> serde_json::Value {
    let text = std::fs::read_to_string(place.path("split.manifest.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap()["facts"].clone()
}

#[test]
fn what_is_not_read_is_told() {
    let place = made(&["train", "valid"]);
    std::fs::create_dir_all(place.path("set/train/bird")).unwrap();
    for name in [
        "cat/a.heic",
        "cat/b.heic",
        "dog/notes.txt",
        "dog/noend",
        ".DS_Store",
    ] {
        put(&place, &format!("train/{name}"), b"x");
    }
    let (code, _, errors) = place.run_with("split_data", BASE, &[]);
    assert_eq!(code, 0, "{errors}");
    says(
        &errors,
        &[
            "set: 5 files were skipped: 2 .heic, 1 .txt, 1 hidden, 1 without an ending",
            "`valid` are taken as test images",
            "no training images of class `bird`; it keeps its place among the 3 classes",
        ],
    );
    assert!(facts(&place).get("broken_images").is_none());
}

/// The divided set is another one, and so is one of another seed.
#[test]
fn the_division_is_part_of_the_identity() {
    let place = made(&["."]);
    let (code, _, errors) = place.run_with("split_data", BASE, &[]);
    assert_eq!(code, 1, "{errors}");
    says(
        &errors,
        &["cat/ (2), dog/ (2)", "hint: `dataset.test_share=0.2`"],
    );
    let share = "dataset.test_share=0.5";
    let (code, _, errors) = place.run_with("split_data", BASE, &[share]);
    assert_eq!(code, 0, "{errors}");
    let again = ["resume=true", share];
    assert_eq!(place.run_with("split_data", BASE, &again).0, 0);
    let other = ["resume=true", share, "dataset.test_seed=1"];
    let (code, _, errors) = place.run_with("split_data", BASE, &other);
    assert_ne!(code, 0);
    says(&errors, &["dataset.test_seed"]);
    let unread = ["dataset=mnist", "dataset.test_share=0.5"];
    let (code, _, errors) = place.run_with("split_data", &BASE[1..], &unread);
    assert_eq!(code, 2, "{errors}");
    says(&errors, &["dataset.test_share"]);
}

#[test]
fn broken_images_are_recorded() {
    let place = made(&["train", "test"]);
    for name in ["train/cat/3.png", "train/dog/3.jpg"] {
        put(&place, name, b"no image");
    }
    let (code, _, errors) = place.run_with("split_data", BASE, &[]);
    assert_eq!(code, 1, "{errors}");
    says(
        &errors,
        &[
            "2 of 10 images cannot be read",
            "train/cat/3.png",
            "train/dog/3.jpg",
            "hint: `dataset.skip_broken=true` goes without them",
        ],
    );
    let (code, _, errors) = place.run_with("split_data", BASE, &["dataset.skip_broken=true"]);
    assert_eq!(code, 0, "{errors}");
    says(
        &errors,
        &["goes without 2 images that cannot be read: train/"],
    );
    let expected = serde_json::json!(["train/cat/3.png", "train/dog/3.jpg"]);
    assert_eq!(facts(&place)["broken_images"], expected);
}

/// Seven gigabytes, of which the program would make nothing.
#[test]
fn ctrl_c_stops_the_reading_of_an_archive() {
    let place = Place::new();
    let gzip = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    let mut header = tar::Header::new_gnu();
    header.set_path("junk").unwrap();
    header.set_size(7 << 30);
    header.set_cksum();
    let zeros = gzip(&vec![0; 64 << 20]);
    let archive = [gzip(header.as_bytes()), zeros.repeat(7 << 4), zeros].concat();
    std::fs::write(place.path("set.tar.gz"), archive).unwrap();
    caught(|| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("split_data"));
        command
            .current_dir(place.path("."))
            .args(BASE)
            .arg("dataset.root=set.tar.gz")
            .stderr(Stdio::null())
            .stdout(Stdio::null());
        let mut child = signals::heard(&mut command).spawn().unwrap();
        let files = Path::new("/proc").join(child.id().to_string()).join("fd");
        let is_reading = || {
            let files = std::fs::read_dir(&files).into_iter().flatten().flatten();
            let mut targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
            targets.any(|target| target.ends_with("set.tar.gz"))
        };
        stop(&mut child, libc::SIGINT, is_reading).then_some(())
    });
}
