//! Augmentation of whole batches against one image, one pixel at a time.

use crate::common::datasets::{floats, noise};
use fed_distill::data::{Augmentation, augment, unchanged_view, view_count};
use fed_distill::runtime::seed::{Rng, Seeds};
use proptest::prelude::*;
use rand::Rng as _;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

fn rng(seed: u64) -> Rng {
    Seeds::new(seed).stream("test/augment", 0)
}

/// The definition: what the pixel of the padded image at the drawn offset is, mirrored or not.
fn naive(
    images: &[f64],
    [n, c, h, w]: [usize; 4],
    crop: i64,
    flip: bool,
    fill: &[f64],
    rng: &mut Rng,
) -> Vec<f64> {
    let mut result = Vec::new();
    for image in 0..n {
        let mut offset = || {
            if crop > 0 {
                rng.random_range(0..=2 * crop)
            } else {
                0
            }
        };
        let (down, right) = (offset(), offset());
        let mirrored = flip && rng.random_bool(0.5);
        for channel in 0..c {
            for row in 0..h {
                for column in 0..w {
                    let column = if mirrored { w - 1 - column } else { column };
                    let (row, column) = (row as i64 + down - crop, column as i64 + right - crop);
                    let inside = (0..h as i64).contains(&row) && (0..w as i64).contains(&column);
                    result.push(match inside {
                        true => {
                            images[((image * c + channel) * h + row as usize) * w + column as usize]
                        }
                        false => fill[channel],
                    });
                }
            }
        }
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn agrees_with_the_definition(
        n in 1..7_usize, c in 1..4_usize, h in 1..10_usize, w in 1..10_usize,
        crop in 0..5_i64, flip: bool, float: bool, filled: bool, seed: u64,
    ) {
        let pixels = noise(n * c * h * w, seed as u32);
        let shape = [n, c, h, w].map(|length| length as i64);
        let mut images = Tensor::from_slice(&pixels).view(shape);
        if float {
            images = images.to_kind(Kind::Float) / 16.0;
        }
        let fill = [3.0, 7.0, 11.0];
        let given = filled.then_some(&fill[..c]);
        let tensor = given.map(Tensor::from_slice);
        let found = augment(&images, crop, flip, tensor.as_ref(), &mut rng(seed));
        prop_assert_eq!(found.kind(), images.kind());
        prop_assert_eq!(found.size(), shape);
        let padding = given.unwrap_or(&[0.0; 3]);
        let shape = [n, c, h, w];
        let expected = naive(&floats(&images), shape, crop, flip, padding, &mut rng(seed));
        prop_assert_eq!(floats(&found), expected);
    }
}

#[test]
fn every_offset_is_drawn_and_half_is_mirrored() {
    // The one bright pixel in the middle of 9×9 tells the offset; its dimmer right neighbour tells
    // the flip.
    let batch = 4000;
    let mut image = [0_u8; 81];
    image[4 * 9 + 4] = 200;
    image[4 * 9 + 5] = 100;
    let images = Tensor::from_slice(&image.repeat(batch)).view([batch as i64, 1, 9, 9]);
    let found = floats(&augment(&images, 2, true, None, &mut rng(7)));
    let (mut cells, mut mirrored) = (vec![0; 81], 0);
    for image in found.chunks(81) {
        let bright = image.iter().position(|&pixel| pixel == 200.0).unwrap();
        cells[bright] += 1;
        mirrored += usize::from(image[bright - 1] == 100.0);
    }
    let drawn: Vec<usize> = cells.into_iter().filter(|&count| count > 0).collect();
    assert_eq!(drawn.len(), 25);
    // 160 of each expected, standard deviation 12.4; 2000 mirrored, 31.6.
    assert!(
        drawn.iter().all(|&count| (100..220).contains(&count)),
        "{drawn:?}"
    );
    assert!((1850..2150).contains(&mirrored), "{mirrored}");
}

/// Two views of an image have one number if and only if they are the same.
#[test]
fn views_are_numbered() {
    let image = noise(2 * 49, 5);
    let one = Tensor::from_slice(&image).view([1, 2, 7, 7]);
    let images = one.repeat([600, 1, 1, 1]);
    for (crop, flip, count) in [(0, false, 1), (0, true, 2), (1, false, 9), (2, true, 50)] {
        let drawn = Augmentation::draw(600, crop, flip, 7, &mut rng(3), Device::Cpu);
        let (found, numbers) = (drawn.apply(&images, None), drawn.views());
        // A part of what was drawn is that of these images.
        let part = drawn.narrow(200, 70);
        assert_eq!(part.views(), &numbers[200..270]);
        assert_eq!(
            part.apply(&images.narrow(0, 200, 70), None),
            found.narrow(0, 200, 70)
        );
        assert_eq!(found, augment(&images, crop, flip, None, &mut rng(3)));
        let mut views: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (number, view) in numbers.iter().zip(floats(&found).chunks(98)) {
            assert!(*number < view_count(crop));
            assert_eq!(views.entry(*number).or_insert(view.to_vec()), view);
        }
        assert_eq!(views.len(), count);
        let mut distinct: Vec<&Vec<f64>> = views.values().collect();
        distinct.sort_by(|a, b| a.partial_cmp(b).unwrap());
        distinct.dedup();
        assert_eq!(distinct.len(), count);
        assert_eq!(views[&unchanged_view(crop)], floats(&one));
    }
}

/// The batch and the generator stay as they were.
#[test]
fn no_augmentation_draws_nothing() {
    let images = Tensor::from_slice(&noise(2 * 64, 3)).view([2, 1, 8, 8]);
    let mut used = rng(1);
    assert_eq!(augment(&images, 0, false, None, &mut used), images);
    assert_eq!(used.random::<u64>(), rng(1).random::<u64>());
}
