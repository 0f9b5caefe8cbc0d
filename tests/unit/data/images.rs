//! Image folders: order, classes, colours, sizes, archives, and everything that must be refused.

use crate::common::datasets::*;
use fed_distill::data::DatasetKind::ImageFolder;
use fed_distill::data::{Dataset, DatasetSettings};
use std::path::Path;

pub type Files = Vec<(String, Vec<u8>)>;

/// Interleaved 10×10 pixels.
pub fn colour(seed: u32) -> Vec<u8> {
    noise(300, seed)
}

/// A set of two classes in an order that is not the sorted one.
pub fn files() -> Files {
    let file = |name: &str, seed| (name.to_owned(), png(10, 10, 3, &colour(seed)));
    vec![
        file("train/zebra/2.png", 2),
        file("test/zebra/1.PNG", 6),
        file("train/ant/b.png", 4),
        file("train/zebra/10.png", 1),
        file("train/ant/a.png", 3),
        file("test/ant/1.png", 5),
    ]
}

fn planar(interleaved: &[u8]) -> Vec<u8> {
    let channel = |channel| interleaved.iter().skip(channel).step_by(3).copied();
    (0..3).flat_map(channel).collect()
}

fn unpack(folder: &Path, files: &Files) {
    for (name, contents) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
}

pub fn pack(files: &Files) -> Vec<u8> {
    let entries: Vec<(&str, Vec<u8>)> = files
        .iter()
        .map(|(name, file)| (name.as_str(), file.clone()))
        .collect();
    tar(&entries)
}

fn below(top: &str, files: &Files) -> Files {
    files
        .iter()
        .map(|(name, file)| (format!("{top}/{name}"), file.clone()))
        .collect()
}

pub fn folder_settings(root: &Path) -> DatasetSettings {
    settings(ImageFolder, root)
}

fn check(set: &Dataset) {
    assert_eq!(set.classes, ["ant", "zebra"]);
    assert_eq!(set.train.label_list, [0, 0, 1, 1]);
    assert_eq!(set.test.label_list, [0, 1]);
    let expected: Vec<u8> = [3, 4, 1, 2]
        .iter()
        .flat_map(|&seed| planar(&colour(seed)))
        .collect();
    assert_eq!(pixels(&set.train), expected);
    let expected: Vec<u8> = [5, 6]
        .iter()
        .flat_map(|&seed| planar(&colour(seed)))
        .collect();
    assert_eq!(pixels(&set.test), expected);
}

#[test]
fn folders_and_archives_hold_the_same_set() {
    let zstd = |bytes: Vec<u8>| zstd::encode_all(bytes.as_slice(), 1).unwrap();
    let archives: [(&str, Vec<u8>); 6] = [
        ("a.tar", pack(&files())),
        ("a.tar.gz", gzip(&pack(&files()))),
        ("a.tgz", gzip(&pack(&files()))),
        ("a.tar.zst", zstd(pack(&files()))),
        ("a.tar", pack(&below("top", &files()))),
        ("a.tar", pack(&below(".", &files()))),
    ];
    for (name, archive) in archives {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(name), archive).unwrap();
        let before = snapshot(root.path());
        check(&load_cpu(&folder_settings(&root.path().join(name))).unwrap());
        check(&load_cpu(&folder_settings(root.path())).unwrap());
        assert_eq!(snapshot(root.path()), before);
    }
    for files in [files(), below("top", &files())] {
        let root = tempfile::tempdir().unwrap();
        unpack(root.path(), &files);
        check(&load_cpu(&folder_settings(root.path())).unwrap());
    }
}

/// Decoders of JPEG may round differently, so what counts is the files. The expected value is put
/// together here.
#[test]
fn the_fingerprint_of_image_files_is_of_the_files() {
    use sha2::{Digest, Sha256};
    let jpeg = |seed: u32| encode(10, 10, 3, &noise(300, seed), image::ImageFormat::Jpeg);
    let files: Files = vec![
        ("train/a/1.jpg".into(), jpeg(1)),
        ("train/b/1.jpg".into(), jpeg(2)),
        ("test/b/1.jpg".into(), jpeg(3)),
    ];
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &files);
    let mut hash = Sha256::new();
    hash.update(b"fed-distill dataset 1\n");
    for (labels, files) in [(&[0_i64, 1][..], &files[..2]), (&[1][..], &files[2..])] {
        for length in [files.len() as u64, 3, 10, 10] {
            hash.update(length.to_le_bytes());
        }
        labels
            .iter()
            .for_each(|label| hash.update(label.to_le_bytes()));
        files
            .iter()
            .for_each(|(_, file)| hash.update(Sha256::digest(file)));
    }
    let found = load_cpu(&folder_settings(root.path())).unwrap().fingerprint;
    assert_eq!(found, format!("{:x}", hash.finalize()));
}

#[test]
fn other_files_are_skipped() {
    let mut with_others = files();
    for name in [
        "train/zebra/.hidden.png",
        "train/.cache/x.png",
        "train/ant/notes.txt",
        "README.md",
        "val/ant/1.png",
    ] {
        with_others.push((name.into(), b"no image".to_vec()));
    }
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &with_others);
    check(&load_cpu(&folder_settings(root.path())).unwrap());
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.tar"), pack(&with_others)).unwrap();
    check(&load_cpu(&folder_settings(root.path())).unwrap());
}

#[test]
fn grey_and_colour() {
    let grey = noise(100, 9);
    let mut mixed = files();
    for file in mixed
        .iter_mut()
        .filter(|(name, _)| name != "train/ant/a.png")
    {
        file.1 = png(10, 10, 1, &grey);
    }
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &mixed);
    // One colour image makes the set one of colour, and grey is repeated.
    let set = load_cpu(&folder_settings(root.path())).unwrap();
    assert_eq!(set.channels(), 3);
    let repeated = [grey.clone(), grey.clone(), grey.clone()].concat();
    assert_eq!(pixels(&set.train)[..300], planar(&colour(3)));
    assert_eq!(pixels(&set.train)[300..600], repeated);
    // To grey by ITU-R BT.601.
    let mut to_grey = folder_settings(root.path());
    to_grey.channels = Some(1);
    let set = load_cpu(&to_grey).unwrap();
    let luma = |rgb: &[u8]| {
        (0.299 * f64::from(rgb[0]) + 0.587 * f64::from(rgb[1]) + 0.114 * f64::from(rgb[2])).round()
            as u8
    };
    let expected: Vec<u8> = colour(3).chunks(3).map(luma).collect();
    assert_eq!(pixels(&set.train)[..100], expected);
    assert_eq!(pixels(&set.train)[100..200], grey);
    // All grey stays grey, unless asked for colour.
    mixed
        .iter_mut()
        .for_each(|file| file.1 = png(10, 10, 1, &grey));
    unpack(root.path(), &mixed);
    assert_eq!(
        load_cpu(&folder_settings(root.path())).unwrap().channels(),
        1
    );
    let mut to_colour = folder_settings(root.path());
    to_colour.channels = Some(3);
    assert_eq!(pixels(&load_cpu(&to_colour).unwrap().test)[..300], repeated);
}

#[test]
fn different_sizes_need_a_size() {
    let mut mixed = files();
    mixed[0].1 = encode(20, 14, 3, &noise(840, 1), image::ImageFormat::Jpeg);
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &mixed);
    let text = failure(&folder_settings(root.path())).to_string();
    for expected in [
        "train/zebra/2.png",
        "10×10 pixels, as train/ant/a.png",
        "14×20",
        "`size=10`",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let mut resized = folder_settings(root.path());
    resized.size = Some(10);
    let set = load_cpu(&resized).unwrap();
    assert_eq!(set.train.images.size(), [4, 3, 10, 10]);
    assert_eq!(pixels(&set.train)[..300], planar(&colour(3)));
}

#[test]
fn refusals_name_the_file() {
    let with = |name: &str, contents: Vec<u8>| -> Files {
        let mut files = files();
        files.retain(|(known, _)| known != name);
        files.push((name.into(), contents));
        files
    };
    // A PNG header that announces 100,000×100,000 pixels, its checksum right.
    let mut huge = png(10, 10, 1, &[0; 100]);
    huge[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    let mut crc = flate2::Crc::new();
    crc.update(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
    let good = png(10, 10, 3, &colour(1));
    let cases: Vec<(Files, &str, &str)> = vec![
        (
            with("test/ant/1.png", b"just text".to_vec()),
            "test/ant/1.png",
            "format",
        ),
        (
            with("test/ant/1.png", Vec::new()),
            "test/ant/1.png",
            "cannot read",
        ),
        (
            with("test/ant/1.png", good[..good.len() / 2].to_vec()),
            "test/ant/1.png",
            "cannot read",
        ),
        (
            with("test/ant/1.png", huge),
            "test/ant/1.png",
            "100000×100000 pixels are not within",
        ),
        (
            with("test/cow/1.png", good.clone()),
            "test/cow/1.png",
            "test class `cow` has no training images",
        ),
        (
            files()
                .into_iter()
                .filter(|(name, _)| name.starts_with("train"))
                .collect(),
            "",
            "no images in `test`",
        ),
    ];
    for (files, name, expected) in cases {
        let root = tempfile::tempdir().unwrap();
        unpack(root.path(), &files);
        let archive = root.path().join("a.tar");
        std::fs::write(&archive, pack(&files)).unwrap();
        for source in [root.path(), &archive] {
            let text = failure(&folder_settings(source)).to_string();
            assert!(
                text.contains(name) && text.contains(expected),
                "{name} {expected}: {text}"
            );
        }
    }
}

#[test]
fn a_root_without_images_says_what_is_expected() {
    let root = tempfile::tempdir().unwrap();
    let text = failure(&folder_settings(root.path())).to_string();
    assert!(
        text.contains("train/ and test/") && text.contains(".tar.zst"),
        "{text}"
    );
    let text = failure(&folder_settings(&root.path().join("nowhere"))).to_string();
    assert!(text.contains("nowhere"), "{text}");
    std::fs::write(root.path().join("a.tar"), b"").unwrap();
    std::fs::write(root.path().join("b.tar"), b"").unwrap();
    let text = failure(&folder_settings(root.path())).to_string();
    assert!(
        text.contains("several sets") && text.contains("b.tar"),
        "{text}"
    );
}
