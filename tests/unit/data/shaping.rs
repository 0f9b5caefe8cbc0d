//! What happens to every set after reading: limits, resizing, normalisation, fingerprint; and the
//! methods of its types.

use crate::common::datasets::*;
use fed_distill::data::DatasetKind::Mnist;
use fed_distill::data::{DatasetSettings, ImageSet, Normalisation};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// A set of 12×12 images with the given training labels.
fn labelled(labels: &[u8]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut files = idx_files(labels.len() as u32, 10);
    files[1] = idx(&[labels.len() as u32], labels);
    write_idx(root.path(), &files, false);
    root
}

fn limited(root: &std::path::Path, max: usize) -> DatasetSettings {
    DatasetSettings {
        max_train: Some(max),
        ..settings(Mnist, root)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn limits_keep_order_proportion_and_every_class(
        labels in prop::collection::vec(prop_oneof![0..10_u8, Just(3)], 30..120),
        max in 10..130_usize,
    ) {
        let root = labelled(&labels);
        let all = load_cpu(&settings(Mnist, root.path())).unwrap();
        let some = load_cpu(&limited(root.path(), max)).unwrap();
        prop_assert_eq!(some.train.len(), max.min(labels.len()));
        let (before, after) = (all.train.counts(10), some.train.counts(10));
        for class in 0..10 {
            let exact = before[class] as f64 * some.train.len() as f64 / labels.len() as f64;
            prop_assert!(after[class] >= before[class].min(1));
            // Rounding moves a share by less than one; classes that get one for free cost others at
            // most that many.
            prop_assert!((after[class] as f64) < exact + 1.0 + f64::from(exact < 1.0));
            prop_assert!(after[class] as f64 > exact - 10.0);
        }
        // The first of each class, in file order.
        let mut left = after.clone();
        let keep: Vec<usize> = (0..labels.len()).filter(|&index| {
            let left = &mut left[usize::from(labels[index])];
            let kept = *left > 0;
            *left -= u64::from(kept);
            kept
        }).collect();
        prop_assert_eq!(pixels(&some.train), pixels(&all.train.select(&keep).unwrap()));
        prop_assert_eq!(&some.train.label_list, &all.train.select(&keep).unwrap().label_list);
    }
}

#[test]
fn exact_proportions_stay_exact() {
    let labels: Vec<u8> = (0..100)
        .map(|index| if index < 50 { 0 } else { index % 10 })
        .collect();
    let some = load_cpu(&limited(labelled(&labels).path(), 20)).unwrap();
    assert_eq!(some.train.counts(10), [11, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn settings_out_of_range_are_usage_errors() {
    let root = tempfile::tempdir().unwrap();
    write_idx(root.path(), &idx_files(40, 20), false);
    type Change = fn(&mut DatasetSettings);
    let cases: [(&str, Change); 10] = [
        ("`max_train`", |settings| settings.max_train = Some(0)),
        ("`max_test`", |settings| settings.max_test = Some(9)),
        ("`size`", |settings| settings.size = Some(7)),
        ("`size`", |settings| settings.size = Some(-1)),
        ("`size`", |settings| settings.size = Some(5000)),
        ("`channels`", |settings| settings.channels = Some(2)),
        ("`mean`", |settings| settings.mean = Some(vec![0.1; 3])),
        ("`mean`", |settings| settings.mean = Some(vec![f64::NAN])),
        ("`std`", |settings| settings.std = Some(vec![0.0])),
        ("`std`", |settings| settings.std = Some(vec![])),
    ];
    for (key, change) in cases {
        let mut settings = settings(Mnist, root.path());
        change(&mut settings);
        let error = failure(&settings);
        assert_eq!(error.class(), fed_distill::Class::Usage, "{error}");
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

#[test]
fn images_a_model_cannot_take_are_refused() {
    for (height, width, expected) in [(12, 10, "not square"), (6, 6, "smaller than 8×8")] {
        let root = tempfile::tempdir().unwrap();
        let mut files = idx_files(10, 10);
        files[0] = idx(
            &[10, height, width],
            &noise((10 * height * width) as usize, 1),
        );
        files[2] = files[0].clone();
        write_idx(root.path(), &files, false);
        let mut settings = settings(Mnist, root.path());
        let text = failure(&settings).to_string();
        assert!(text.contains(expected) && text.contains("`size="), "{text}");
        settings.size = Some(9);
        assert_eq!(
            load_cpu(&settings).unwrap().train.images.size(),
            [10, 1, 9, 9]
        );
    }
}

#[test]
fn training_and_test_images_must_be_alike() {
    let root = tempfile::tempdir().unwrap();
    let mut files = idx_files(10, 10);
    files[2] = idx(&[10, 9, 9], &noise(810, 1));
    write_idx(root.path(), &files, false);
    let text = failure(&settings(Mnist, root.path())).to_string();
    assert!(text.contains("training 1×12×12, test 1×9×9"), "{text}");
}

/// Triangle filter of width max(1, scale) around each output pixel's centre, in float64.
fn naive_resize(image: &[u8], side: usize, size: usize) -> Vec<f64> {
    let scale = side as f64 / size as f64;
    let weights = |at: usize| -> Vec<f64> {
        let centre = (at as f64 + 0.5) * scale;
        let weight =
            |source: usize| (1.0 - (source as f64 + 0.5 - centre).abs() / scale.max(1.0)).max(0.0);
        let weights: Vec<f64> = (0..side).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    };
    let mut result = Vec::new();
    for row in 0..size {
        for column in 0..size {
            let (vertical, horizontal) = (weights(row), weights(column));
            let pixel = |index: usize| {
                vertical[index / side] * horizontal[index % side] * f64::from(image[index])
            };
            result.push((0..side * side).map(pixel).sum());
        }
    }
    result
}

#[test]
fn resizing_is_bilinear() {
    let root = tempfile::tempdir().unwrap();
    let files = idx_files(30, 10);
    write_idx(root.path(), &files, false);
    for size in [8, 12, 16, 27, 48] {
        let set = load_cpu(&DatasetSettings {
            size: Some(size),
            ..settings(Mnist, root.path())
        })
        .unwrap();
        let area = (size * size) as usize;
        for (image, resized) in files[0][16..]
            .chunks(144)
            .zip(pixels(&set.train).chunks(area))
        {
            let expected = naive_resize(image, 12, size as usize);
            for (&found, expected) in resized.iter().zip(expected) {
                assert!(
                    (f64::from(found) - expected).abs() < 0.51,
                    "{size}: {found} {expected}"
                );
            }
        }
    }
}

#[test]
fn normalisation_is_computed_or_given() {
    let root = tempfile::tempdir().unwrap();
    let files = idx_files(40, 20);
    write_idx(root.path(), &files, false);
    let values: Vec<f64> = files[0][16..]
        .iter()
        .map(|&pixel| f64::from(pixel) / 255.0)
        .collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / values.len() as f64;
    let set = load_cpu(&settings(Mnist, root.path())).unwrap();
    assert!((set.normalisation.mean[0] - mean).abs() < 1e-12);
    assert!((set.normalisation.std[0] - variance.sqrt()).abs() < 1e-12);

    let mut given = settings(Mnist, root.path());
    given.mean = Some(vec![0.25]);
    let half = load_cpu(&given).unwrap();
    assert_eq!(half.normalisation.mean, [0.25]);
    assert_eq!(half.normalisation.std, set.normalisation.std);
    assert_eq!(half.fingerprint, set.fingerprint);

    let mut constant = files;
    constant[0] = idx(&[40, 12, 12], &[51; 40 * 144]);
    write_idx(root.path(), &constant, false);
    let flat = load_cpu(&settings(Mnist, root.path())).unwrap();
    assert!((flat.normalisation.mean[0] - 0.2).abs() < 1e-12);
    assert_eq!(flat.normalisation.std, [1.0]);
}

/// It follows its formula.
#[test]
fn normalising_can_be_undone() {
    let normalisation = Normalisation {
        mean: vec![0.4914, 0.4822, 0.4465],
        std: vec![0.2023, 0.1994, 0.201],
    };
    let all: Vec<u8> = (0..3 * 256).map(|index| (index % 256) as u8).collect();
    let pixels = Tensor::from_slice(&all).view([1, 3, 16, 16]);
    let images = normalisation.apply(&pixels);
    assert_eq!(
        (images.kind(), images.size()),
        (Kind::Float, vec![1, 3, 16, 16])
    );
    for (index, found) in floats(&images).into_iter().enumerate() {
        let channel = index / 256;
        let expected = (f64::from(all[index]) / 255.0 - normalisation.mean[channel])
            / normalisation.std[channel];
        assert!((found - expected).abs() < 2e-6, "{found} {expected}");
    }
    assert_eq!(bytes(&normalisation.to_pixels(&images)), all);
    let outside = Tensor::from_slice(&[-100.0_f32, 0.0, 100.0]).view([1, 3, 1, 1]);
    assert_eq!(bytes(&normalisation.to_pixels(&outside)), [0, 123, 255]);
    let grey = Tensor::zeros([1, 1, 4, 4], (Kind::Uint8, Device::Cpu));
    assert!(std::panic::catch_unwind(|| normalisation.apply(&grey)).is_err());
}

#[test]
fn the_fingerprint_is_of_the_contents() {
    let root = tempfile::tempdir().unwrap();
    let files = idx_files(40, 20);
    write_idx(root.path(), &files, true);
    let base = settings(Mnist, root.path());
    let fingerprint = |settings: &DatasetSettings| load_cpu(settings).unwrap().fingerprint;
    let original = fingerprint(&base);
    assert_eq!(original.len(), 64);
    assert_eq!(original, fingerprint(&base));
    let mut fingerprints = vec![original.clone()];
    for (which, at) in [(0, 20), (1, 8), (2, 2000), (3, 27)] {
        let mut changed = files.clone();
        changed[which][at] ^= 1;
        write_idx(root.path(), &changed, true);
        fingerprints.push(fingerprint(&base));
    }
    write_idx(root.path(), &files, true);
    for change in [
        |settings: &mut DatasetSettings| settings.size = Some(16),
        |settings: &mut DatasetSettings| settings.channels = Some(3),
        |settings: &mut DatasetSettings| settings.max_train = Some(30),
        |settings: &mut DatasetSettings| settings.max_test = Some(10),
    ] {
        let mut changed = base.clone();
        change(&mut changed);
        fingerprints.push(fingerprint(&changed));
    }
    fingerprints.sort();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 9);
    // Another name for the same contents.
    let other = settings(fed_distill::data::DatasetKind::Kmnist, root.path());
    assert_eq!(original, fingerprint(&other));
}

#[test]
fn image_sets_are_selected_and_counted() {
    let images = Tensor::from_slice(&noise(5 * 64, 1)).view([5, 1, 8, 8]);
    let set = ImageSet::new(images, vec![2, 0, 2, 1, 0]).unwrap();
    assert_eq!((set.len(), set.is_empty()), (5, false));
    assert_eq!(set.counts(4), [2, 1, 2, 0]);
    let picked = set.select(&[4, 2, 2]).unwrap();
    assert_eq!(picked.label_list, [0, 2, 2]);
    assert_eq!(Vec::<i64>::try_from(&picked.labels).unwrap(), [0, 2, 2]);
    let image = |index: usize| pixels(&set)[index * 64..(index + 1) * 64].to_vec();
    assert_eq!(pixels(&picked), [image(4), image(2), image(2)].concat());
    assert!(set.select(&[]).unwrap().is_empty());
    assert!(
        set.select(&[5])
            .unwrap_err()
            .to_string()
            .contains("no image 5")
    );
    assert!(
        ImageSet::new(
            Tensor::zeros([2, 1, 8, 8], (Kind::Uint8, Device::Cpu)),
            vec![0]
        )
        .is_err()
    );
    assert!(
        ImageSet::new(
            Tensor::zeros([1, 1, 8, 8], (Kind::Float, Device::Cpu)),
            vec![0]
        )
        .is_err()
    );
}
