//! CIFAR's binary version: small files in the official layout, packed and unpacked.

use crate::common::datasets::*;
use fed_distill::data::DatasetKind::{self, Cifar10, Cifar100};
use std::path::Path;

type Files = Vec<(&'static str, Vec<u8>)>;

/// Records of `labels` and noise.
fn records(labels: &[&[u8]], seed: u32) -> Vec<u8> {
    let record = |(index, label): (usize, &&[u8])| {
        [label.to_vec(), noise(3072, seed + index as u32)].concat()
    };
    labels.iter().enumerate().flat_map(record).collect()
}

fn cifar10() -> Files {
    let names = "plane\ncar\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    vec![
        ("batches.meta.txt", names.into()),
        ("data_batch_1.bin", records(&[&[0], &[1]], 10)),
        ("data_batch_2.bin", records(&[&[2], &[3], &[9]], 20)),
        ("data_batch_3.bin", records(&[&[4]], 30)),
        ("data_batch_4.bin", records(&[&[5]], 40)),
        ("data_batch_5.bin", records(&[&[6]], 50)),
        ("readme.html", b"<html>".to_vec()),
        ("test_batch.bin", records(&[&[7], &[8]], 60)),
    ]
}

fn cifar100() -> Files {
    let names: String = (0..100).map(|class| format!("name{class}\n")).collect();
    vec![
        ("coarse_label_names.txt", b"fish\n".to_vec()),
        ("fine_label_names.txt", names.into()),
        ("train.bin", records(&[&[19, 99], &[0, 7]], 70)),
        ("test.bin", records(&[&[3, 42]], 80)),
    ]
}

fn unpack(folder: &Path, files: &Files) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, contents) in files {
        std::fs::write(folder.join(name), contents).unwrap();
    }
}

fn pack(root: &Path, kind: DatasetKind, files: &Files) {
    let (top, name) = match kind {
        Cifar10 => ("cifar-10-batches-bin", "cifar-10-binary.tar.gz"),
        _ => ("cifar-100-binary", "cifar-100-binary.tar.gz"),
    };
    let names: Vec<String> = files
        .iter()
        .map(|(name, _)| format!("{top}/{name}"))
        .collect();
    let entries: Vec<(&str, Vec<u8>)> = names
        .iter()
        .zip(files)
        .map(|(name, (_, file))| (name.as_str(), file.clone()))
        .collect();
    std::fs::write(root.join(name), gzip(&tar(&entries))).unwrap();
}

#[test]
fn archive_and_folders_hold_the_same_set() {
    let mut fingerprints = Vec::new();
    for way in ["archive", "cifar-10-batches-bin", "."] {
        let root = tempfile::tempdir().unwrap();
        match way {
            "archive" => pack(root.path(), Cifar10, &cifar10()),
            folder => unpack(&root.path().join(folder), &cifar10()),
        }
        let before = snapshot(root.path());
        let set = load_cpu(&settings(Cifar10, root.path())).unwrap();
        assert_eq!(snapshot(root.path()), before);
        assert_eq!(set.train.label_list, [0, 1, 2, 3, 9, 4, 5, 6]);
        assert_eq!(set.test.label_list, [7, 8]);
        assert_eq!(set.train.images.size(), [8, 3, 32, 32]);
        assert_eq!(pixels(&set.train)[..3072], noise(3072, 10));
        assert_eq!(pixels(&set.test)[3072..], noise(3072, 61));
        assert_eq!((set.classes[0].as_str(), set.classes.len()), ("plane", 10));
        fingerprints.push(set.fingerprint);
    }
    assert_eq!(fingerprints[0], fingerprints[1]);
    assert_eq!(fingerprints[0], fingerprints[2]);
}

#[test]
fn class_names_are_known_without_their_file() {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &cifar10()[1..].to_vec());
    assert_eq!(
        load_cpu(&settings(Cifar10, root.path())).unwrap().classes[9],
        "truck"
    );
}

#[test]
fn cifar100_takes_the_fine_label() {
    let root = tempfile::tempdir().unwrap();
    pack(root.path(), Cifar100, &cifar100());
    let set = load_cpu(&settings(Cifar100, root.path())).unwrap();
    assert_eq!(set.train.label_list, [99, 7]);
    assert_eq!(set.test.label_list, [42]);
    assert_eq!(set.classes[42], "name42");
    assert_eq!(pixels(&set.test), noise(3072, 80));
}

#[test]
fn damaged_files_are_named() {
    let replace = |mut files: Files, name: &str, contents: Vec<u8>| -> Files {
        files
            .iter_mut()
            .find(|(known, _)| *known == name)
            .unwrap()
            .1 = contents;
        files
    };
    let cases: Vec<(DatasetKind, Files, &str, &str)> = vec![
        (
            Cifar10,
            replace(cifar10(), "data_batch_3.bin", vec![0; 3072]),
            "data_batch_3.bin",
            "whole number of records",
        ),
        (
            Cifar10,
            replace(cifar10(), "data_batch_3.bin", vec![]),
            "data_batch_3.bin",
            "whole number of records",
        ),
        (
            Cifar10,
            replace(cifar10(), "test_batch.bin", records(&[&[1], &[10]], 1)),
            "test_batch.bin",
            "record 1 has label [10]",
        ),
        (
            Cifar10,
            replace(cifar10(), "batches.meta.txt", b"a\nb\n".to_vec()),
            "batches.meta.txt",
            "2 class names instead of 10",
        ),
        (
            Cifar10,
            replace(cifar10(), "batches.meta.txt", vec![0xff, 0xfe]),
            "batches.meta.txt",
            "utf-8",
        ),
        (
            Cifar10,
            cifar10()[..7].to_vec(),
            "test_batch.bin",
            "is missing",
        ),
        (
            Cifar100,
            replace(cifar100(), "train.bin", records(&[&[20, 5]], 1)),
            "train.bin",
            "record 0 has label [20, 5]",
        ),
        (
            Cifar100,
            replace(cifar100(), "train.bin", records(&[&[2, 100]], 1)),
            "train.bin",
            "record 0 has label [2, 100]",
        ),
    ];
    for (kind, files, name, expected) in cases {
        for packed in [false, true] {
            let root = tempfile::tempdir().unwrap();
            match packed {
                true => pack(root.path(), kind, &files),
                false => unpack(root.path(), &files),
            }
            let text = failure(&settings(kind, root.path())).to_string();
            assert!(
                text.contains(name) && text.contains(expected),
                "{name} {expected}: {text}"
            );
        }
    }
}

#[test]
fn a_missing_archive_says_where_to_get_it() {
    let root = tempfile::tempdir().unwrap();
    let text = failure(&settings(Cifar100, root.path())).to_string();
    assert!(
        text.contains("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"),
        "{text}"
    );
}
