//! CIFAR as torchvision keeps it: pickles. `tests/data/cifar/make.py` wrote them, with Python's own
//! pickler.

use crate::common::datasets::*;
use fed_distill::data::Dataset;
use fed_distill::data::DatasetKind::{self, Cifar10, Cifar100};
use std::path::Path;

const FORMS: [&str; 6] = [
    "python2",
    "protocol2",
    "numpy1",
    "protocol4",
    "protocol5",
    "strings",
];

fn made(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cifar");
    std::fs::read(folder.join(name)).unwrap()
}

/// The files of a set below its official folder, all made of one batch.
fn files(kind: DatasetKind, batch: &[u8], meta: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (folder, batches, meta_name): (_, &[&str], _) = match kind {
        Cifar10 => (
            "cifar-10-batches-py",
            &[
                "data_batch_1",
                "data_batch_2",
                "data_batch_3",
                "data_batch_4",
                "data_batch_5",
                "test_batch",
            ],
            "batches.meta",
        ),
        _ => ("cifar-100-python", &["train", "test"], "meta"),
    };
    let batches = batches.iter().map(|name| (*name, batch.to_vec()));
    batches
        .chain([(meta_name, meta.to_vec())])
        .map(|(name, file)| (format!("{folder}/{name}"), file))
        .collect()
}

fn unpack(root: &Path, files: &[(String, Vec<u8>)]) {
    for (name, file) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
}

fn packed(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let entries = files
        .iter()
        .map(|(name, file)| (name.as_str(), file.clone()));
    gzip(&tar(&entries.collect::<Vec<_>>()))
}

fn check(set: &Dataset, kind: DatasetKind) {
    let expected: Vec<u8> = (0..2 * 3072).map(|i| ((7 * i + 3) % 251) as u8).collect();
    assert_eq!(pixels(&set.test), expected);
    let (labels, batches, classes) = match kind {
        Cifar10 => ([3, 1], 5, ["ten0", "ten9"]),
        _ => ([42, 99], 1, ["fine0", "fine99"]),
    };
    assert_eq!(set.test.label_list, labels);
    assert_eq!(set.train.label_list, labels.repeat(batches));
    assert_eq!(pixels(&set.train), expected.repeat(batches));
    let ends = [set.classes.first().unwrap(), set.classes.last().unwrap()];
    assert_eq!(ends, classes);
}

#[test]
fn every_form_of_pickle_is_read() {
    for form in FORMS {
        for kind in [Cifar10, Cifar100] {
            let (batch, meta) = (
                made(&format!("batch_{form}")),
                made(&format!("meta_{form}")),
            );
            let root = tempfile::tempdir().unwrap();
            unpack(root.path(), &files(kind, &batch, &meta));
            let set = load_cpu(&settings(kind, root.path()))
                .unwrap_or_else(|error| panic!("{form}: {error}"));
            check(&set, kind);
        }
    }
}

/// In the official folder, above it, below others, in the archive, and with the archive as root.
#[test]
fn every_place_holds_the_same_set() {
    for kind in [Cifar10, Cifar100] {
        let files = files(kind, &made("batch_python2"), &made("meta_python2"));
        let (folder, _) = files[0].0.split_once('/').unwrap();
        let outer = tempfile::tempdir().unwrap();
        unpack(&outer.path().join("a/b"), &files);
        let name = match kind {
            Cifar10 => "cifar-10-python.tar.gz",
            _ => "cifar-100-python.tar.gz",
        };
        let archives = outer.path().join("archives");
        std::fs::create_dir(&archives).unwrap();
        std::fs::write(archives.join(name), packed(&files)).unwrap();
        let inside = format!("a/b/{folder}");
        let file = format!("archives/{name}");
        for root in ["a/b", &inside, "a", "archives", &file] {
            let root = outer.path().join(root);
            let before = snapshot(outer.path());
            let set = load_cpu(&settings(kind, &root))
                .unwrap_or_else(|error| panic!("{}: {error}", root.display()));
            check(&set, kind);
            assert_eq!(snapshot(outer.path()), before);
        }
    }
}

#[test]
fn other_pickles_are_named() {
    let good = made("batch_python2");
    let changed = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|part| part == from);
        let mut file = good.clone();
        file.splice(at.unwrap()..at.unwrap() + from.len(), to.iter().copied());
        file
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            changed(b"U\x06labels", b"U\x06lobels"),
            "it has no `labels`",
        ),
        (changed(b"U\x04data", b"U\x04dota"), "it has no `data`"),
        (
            changed(b"](K\x03K\x01e", b"](K\x03K\x0ae"),
            "record 1 has label 10",
        ),
        (
            changed(b"](K\x03K\x01e", b"](K\x03Ne"),
            "record 1 has label None",
        ),
        (
            changed(b"](K\x03K\x01e", b"](K\x03e"),
            "do not fit together",
        ),
        (changed(b"](K\x03K\x01e", b"K\x03"), "`labels` is no list"),
        (changed(b"U\x02u1", b"U\x02f8"), "no NumPy array of bytes"),
        (
            changed(b"_reconstruct\n", b"_recreate\n"),
            "no NumPy array of bytes",
        ),
        (
            changed(b"K\x02M\x00\x0c\x86", b"K\x03M\x00\x0c\x86"),
            "has 6144 bytes",
        ),
        (
            changed(b"K\x02M\x00\x0c\x86", b"M\x00\x0cK\x02\x86"),
            "do not fit together",
        ),
        // Pixels one behind the other, where the set has one plane behind the other.
        (
            changed(b"K\x02M\x00\x0c\x86", b"(K\x02K\x20K\x20K\x03t"),
            "do not fit together",
        ),
        (good[..good.len() - 900].to_vec(), "is damaged"),
        (b"<html>".repeat(50), "pickle"),
        (b"N".repeat(3_000_000), "more than 2000000 operations"),
    ];
    for (batch, expected) in cases {
        let root = tempfile::tempdir().unwrap();
        let mut set = files(Cifar10, &good, &made("meta_python2"));
        set[2].1 = batch;
        unpack(root.path(), &set);
        let text = failure(&settings(Cifar10, root.path())).to_string();
        assert!(
            text.contains(expected) && text.contains("data_batch_3"),
            "{expected}: {text}"
        );
    }
}

#[test]
fn missing_batches_list_what_there_is() {
    let root = tempfile::tempdir().unwrap();
    let mut set = files(Cifar10, &made("batch_python2"), &made("meta_python2"));
    set.remove(1);
    unpack(root.path(), &set);
    let text = failure(&settings(Cifar10, root.path())).to_string();
    assert!(
        text.contains("`data_batch_2` is missing") && text.contains("available: batches.meta"),
        "{text}"
    );
    // The other set, or none.
    let text = failure(&settings(Cifar100, root.path())).to_string();
    assert!(
        text.contains("available: cifar-10-batches-py/ in"),
        "{text}"
    );
    let archive = root.path().join("other.tar");
    std::fs::write(&archive, tar(&[("readme", b"x".to_vec())])).unwrap();
    let text = failure(&settings(Cifar10, &archive)).to_string();
    assert!(
        text.contains("no images of the set") && text.contains("found: readme"),
        "{text}"
    );
}
