//! The embedded digits against the file in `assets/`, read here once more.

use crate::common::datasets::*;
use fed_distill::data::DatasetSettings;
use std::io::Read;

/// Label and 64 values of each line.
fn rows() -> Vec<(i64, Vec<u8>)> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("../../../assets/digits.csv.gz")[..])
        .read_to_string(&mut text)
        .unwrap();
    let row = |line: &str| {
        let mut values: Vec<u8> = line
            .split(',')
            .map(|value| value.parse().unwrap())
            .collect();
        (i64::from(values.pop().unwrap()), values)
    };
    text.lines().map(row).collect()
}

#[test]
fn every_fifth_of_a_class_is_a_test_image() {
    let set = load_cpu(&DatasetSettings {
        size: Some(8),
        ..DatasetSettings::default()
    })
    .unwrap();
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for class in 0..10 {
        let of_class = rows()
            .into_iter()
            .enumerate()
            .filter(|(_, (label, _))| *label == class);
        for (nth, (line, _)) in of_class.enumerate() {
            if nth % 5 == 4 {
                test.push(line)
            } else {
                train.push(line)
            }
        }
    }
    train.sort();
    test.sort();
    assert_eq!(train.len() + test.len(), 1797);
    for (split, lines) in [(&set.train, train), (&set.test, test)] {
        let expected: Vec<_> = lines.iter().map(|&line| rows()[line].clone()).collect();
        let labels: Vec<i64> = expected.iter().map(|(label, _)| *label).collect();
        let scaled = expected.iter().flat_map(|(_, values)| values);
        let scaled: Vec<u8> = scaled
            .map(|&value| (f64::from(value) * 255.0 / 16.0).round() as u8)
            .collect();
        assert_eq!(split.label_list, labels);
        assert_eq!(pixels(split), scaled);
    }
}

#[test]
fn sixteen_pixels_by_default() {
    let set = load_cpu(&DatasetSettings::default()).unwrap();
    assert_eq!(set.train.images.size(), [1442, 1, 16, 16]);
    assert_eq!(set.test.images.size(), [355, 1, 16, 16]);
    assert_eq!(
        (set.name.as_str(), set.channels(), set.size()),
        ("digits", 1, 16)
    );
    assert_eq!(
        set.classes,
        ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
    );
    assert_eq!(set.train.counts(10).iter().sum::<u64>(), 1442);
    assert!(
        set.test
            .counts(10)
            .iter()
            .all(|&count| (34..=37).contains(&count))
    );
}
