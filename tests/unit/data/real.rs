//! Published sets, where `FED_DISTILL_DATASETS` names a folder with `mnist/` (the four files) and
//! `cifar10_jpeg/` (CIFAR-10 as an archive of JPEGs).

use crate::common::datasets::*;
use fed_distill::data::Dataset;
use fed_distill::data::DatasetKind::{ImageFolder, Mnist};
use std::path::PathBuf;
use std::time::Instant;

fn root(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FED_DISTILL_DATASETS").map(|root| PathBuf::from(root).join(name));
    if root.is_none() {
        println!("FED_DISTILL_DATASETS is not given: the published `{name}` is not checked");
    }
    root
}

fn close(found: &[f64], expected: &[f64], within: f64) {
    assert_eq!(found.len(), expected.len());
    let near = |(found, expected): (&f64, &f64)| (found - expected).abs() < within;
    assert!(
        found.iter().zip(expected).all(near),
        "{found:?} {expected:?}"
    );
}

fn timed(settings: &fed_distill::data::DatasetSettings) -> Dataset {
    let start = Instant::now();
    let set = load_cpu(settings).unwrap();
    println!(
        "{}: {:.2} s, fingerprint {}",
        set.name,
        start.elapsed().as_secs_f64(),
        set.fingerprint
    );
    set
}

#[test]
fn mnist() {
    let Some(root) = root("mnist") else { return };
    let set = timed(&settings(Mnist, &root));
    assert_eq!(set.train.images.size(), [60_000, 1, 28, 28]);
    assert_eq!(set.test.images.size(), [10_000, 1, 28, 28]);
    assert_eq!(
        set.train.counts(10),
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    );
    assert_eq!(
        set.test.counts(10),
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    );
    close(&set.normalisation.mean, &[0.1307], 1e-4);
    close(&set.normalisation.std, &[0.3081], 1e-4);
    let mut small = settings(Mnist, &root);
    (small.max_train, small.size) = (Some(1000), Some(16));
    let small = timed(&small);
    assert_eq!(small.train.images.size(), [1000, 1, 16, 16]);
    assert_eq!(
        small.train.counts(10),
        [99, 112, 99, 102, 97, 90, 99, 105, 98, 99]
    );
}

#[test]
fn cifar10_as_jpeg() {
    let Some(root) = root("cifar10_jpeg") else {
        return;
    };
    let set = timed(&settings(ImageFolder, &root));
    assert_eq!(set.train.images.size(), [50_000, 3, 32, 32]);
    assert_eq!(set.test.images.size(), [10_000, 3, 32, 32]);
    assert_eq!(set.train.counts(10), [5000; 10]);
    assert_eq!(set.test.counts(10), [1000; 10]);
    assert_eq!(
        (set.classes[0].as_str(), set.classes[9].as_str()),
        ("airplane", "truck")
    );
    // What Pillow (libjpeg-turbo) decodes; decoders differ by a fraction of a grey level.
    close(&set.normalisation.mean, &[0.4913, 0.4821, 0.4465], 0.002);
    close(&set.normalisation.std, &[0.2452, 0.2428, 0.2606], 0.002);
    let test = set
        .test
        .images
        .mean_dim(&[0_i64, 2, 3][..], false, tch::Kind::Double)
        / 255.0;
    close(&floats(&test), &[0.494, 0.485, 0.450], 0.002);
}

/// A part of the archive, unpacked by the tar library, reads as the same images.
#[test]
fn cifar10_as_jpeg_unpacked() {
    let Some(root) = root("cifar10_jpeg") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::open(root.join("cifar10-jpeg.tar.zst")).unwrap();
    let mut archive = tar::Archive::new(zstd::Decoder::new(file).unwrap());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if path.to_string_lossy().contains("/00") && entry.header().entry_type().is_file() {
            entry.unpack_in(folder.path()).unwrap();
        }
    }
    let part = timed(&settings(ImageFolder, folder.path()));
    assert_eq!(part.train.counts(10), [100; 10]);
    assert_eq!(part.test.counts(10), [100; 10]);
    let whole = load_cpu(&settings(ImageFolder, &root)).unwrap();
    let first: Vec<usize> = (0..10)
        .flat_map(|class| class * 1000..class * 1000 + 100)
        .collect();
    assert_eq!(
        pixels(&whole.test.select(&first).unwrap()),
        pixels(&part.test)
    );
}
