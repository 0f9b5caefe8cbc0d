//! Random damage to files of every format: an error that names the file, or a set of the same
//! shape; never a panic.

use crate::common::datasets::*;
use fed_distill::data::DatasetKind::{self, Cifar10, ImageFolder, Mnist};
use proptest::prelude::*;
use std::error::Error as _;

/// One file of a set in which everything else is whole.
struct Case {
    kind: DatasetKind,
    file: &'static str,
    contents: Vec<u8>,
    others: Vec<(&'static str, Vec<u8>)>,
}

fn cases() -> Vec<Case> {
    let idx = idx_files(20, 10);
    let idx_others: Vec<(&'static str, Vec<u8>)> = IDX_FILES.into_iter().zip(idx.clone()).collect();
    let case = |kind, file, contents| Case {
        kind,
        file,
        contents,
        others: Vec::new(),
    };
    let Pictures {
        png,
        jpeg,
        tar: folder,
        others,
    } = pictures();
    vec![
        Case {
            others: idx_others[1..].to_vec(),
            ..case(Mnist, IDX_FILES[0], idx[0].clone())
        },
        Case {
            others: idx_others[1..].to_vec(),
            ..case(Mnist, "train-images-idx3-ubyte.gz", gzip(&idx[0]))
        },
        Case {
            others: [&idx_others[..1], &idx_others[2..]].concat(),
            ..case(Mnist, IDX_FILES[1], idx[1].clone())
        },
        case(
            Cifar10,
            "cifar-10-binary.tar.gz",
            gzip(&tar(&cifar10_files())),
        ),
        case(ImageFolder, "set.tar", folder.clone()),
        case(ImageFolder, "set.tar.gz", gzip(&folder)),
        case(
            ImageFolder,
            "set.tar.zst",
            zstd::encode_all(folder.as_slice(), 1).unwrap(),
        ),
        Case {
            others: others.clone(),
            ..case(ImageFolder, "train/b/1.jpg", jpeg)
        },
        Case {
            others,
            ..case(ImageFolder, "train/b/1.png", png)
        },
    ]
}

fn check(case: &Case, contents: &[u8]) -> Result<(), TestCaseError> {
    let root = tempfile::tempdir().unwrap();
    for (name, contents) in case
        .others
        .iter()
        .map(|(name, file)| (name, file.as_slice()))
        .chain([(&case.file, contents)])
    {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
    let before = snapshot(root.path());
    let outcome = load_cpu(&settings(case.kind, root.path()));
    prop_assert_eq!(snapshot(root.path()), before);
    match outcome {
        Ok(set) => prop_assert_eq!(set.train.len() as i64, set.train.images.size()[0]),
        Err(error) => prop_assert!(
            error.to_string().contains(root.path().to_str().unwrap()),
            "{}",
            error
        ),
    }
    Ok(())
}

#[test]
fn the_undamaged_sets_load() {
    for case in cases() {
        let root = tempfile::tempdir().unwrap();
        for (name, contents) in case
            .others
            .iter()
            .chain([&(case.file, case.contents.clone())])
        {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, contents).unwrap();
        }
        load_cpu(&settings(case.kind, root.path())).unwrap();
    }
}

/// The errors of the decoders stay behind the text.
#[test]
fn causes_of_damage_are_kept() {
    let error = |picture: Vec<u8>, share: usize| {
        let names = ["train/a/1.png", "train/b/1.png", "test/a/1.png"];
        let files: Vec<(&str, Vec<u8>)> = names.map(|name| (name, picture.clone())).into();
        let archive = gzip(&tar(&files));
        let root = tempfile::tempdir().unwrap();
        let cut = &archive[..archive.len() * share / 10];
        std::fs::write(root.path().join("set.tar.gz"), cut).unwrap();
        load_cpu(&settings(ImageFolder, root.path())).unwrap_err()
    };
    let no_picture = error(b"no picture".into(), 10);
    assert!(
        no_picture
            .source()
            .is_some_and(|source| source.is::<image::ImageError>())
    );
    let cut = error(png(40, 40, 3, &noise(4800, 1)), 5);
    assert!(
        cut.source()
            .is_some_and(|source| source.is::<std::io::Error>())
    );
}

/// The error names the archive and no picture in it.
#[test]
fn cut_archive_is_named() {
    let picture = png(40, 40, 3, &noise(4800, 1));
    let files: Vec<(&str, Vec<u8>)> = ["train/a/1.png", "train/b/1.png", "test/a/1.png"]
        .into_iter()
        .map(|name| (name, picture.clone()))
        .collect();
    let whole = tar(&files);
    for (name, contents) in [
        ("set.tar", whole.clone()),
        ("set.tar.gz", gzip(&whole)),
        (
            "set.tar.zst",
            zstd::encode_all(whole.as_slice(), 1).unwrap(),
        ),
    ] {
        // In the middle of a picture, and in what stands between two.
        for share in [3, 5, 6, 8] {
            let root = tempfile::tempdir().unwrap();
            std::fs::write(
                root.path().join(name),
                &contents[..contents.len() * share / 10],
            )
            .unwrap();
            let text = load_cpu(&settings(ImageFolder, root.path()))
                .unwrap_err()
                .to_string();
            assert!(text.starts_with(&format!("cannot read `{name}`")), "{text}");
            assert!(
                text.contains("hint: fetch or pack the archive again"),
                "{text}"
            );
            assert!(!text.contains(".png"), "{text}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn damage_never_panics(
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        head: bool,
        junk in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        for case in cases() {
            // Half of the damage goes to the first 64 bytes, where headers are.
            let reach = if head { case.contents.len().min(64) } else { case.contents.len() };
            let at = at.index(reach);
            let mut flipped = case.contents.clone();
            flipped[at] ^= 1 << bit;
            check(&case, &flipped)?;
            check(&case, &case.contents[..at])?;
            let mut replaced = case.contents.clone();
            replaced.iter_mut().skip(at).zip(&junk).for_each(|(old, new)| *old = *new);
            check(&case, &replaced)?;
            check(&case, &junk)?;
        }
    }
}
