//! The set that a student trains on: what an epoch's order holds while the set grows.

use crate::common::machine::device;
use fed_distill::Result;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::distill::{GrowingSet, SyntheticImages};
use fed_distill::train::View;
use tch::{Kind, Tensor};

/// Synthetic images that are `values` everywhere, labelled with them and made from their halves.
fn synthetic(values: &[i64]) -> SyntheticImages {
    let labels = Tensor::from_slice(values).to_device(device());
    let images = labels.to_kind(Kind::Float).view([-1, 1, 1, 1]);
    let teachers = labels.divide_scalar_mode(2, "floor");
    SyntheticImages {
        images: images.expand([values.len() as i64, 1, 4, 4], false),
        labels,
        teachers,
    }
}

/// A pass that began before images were added has the images of then, real ones too.
#[test]
fn an_order_is_of_the_set_as_it_was() -> Result<()> {
    let pixels = Tensor::from_slice(&[200_u8, 210, 220]).view([3, 1, 1, 1]);
    let pixels = pixels.expand([3, 1, 4, 4], false).to_device(device());
    let real = ImageSet::new(pixels, vec![7, 8, 9])?;
    let normalisation = Normalisation {
        mean: vec![0.0],
        std: vec![1.0 / 255.0],
    };
    let initial = synthetic(&[1, 2]);
    let mut set = GrowingSet::new(&initial, 6, Some(&real), &normalisation, device())?;
    let order = set.order(&[4, 0, 2, 3, 1], 3);
    let batches = |set: &GrowingSet| [0, 1].map(|batch| set.gather(&order, batch));
    let before = batches(&set);
    let shown = |pixel: &Tensor| Vec::<f32>::try_from(pixel.select(1, 0)).unwrap();
    let first = |images: &Tensor| shown(&images.select(3, 0).select(2, 0));
    // Synthetic images of a batch first.
    assert_eq!(first(&before[0].images), [1.0, 220.0, 200.0]);
    assert_eq!(first(&before[1].images), [2.0, 210.0]);
    assert_eq!(Vec::<i64>::try_from(&before[0].labels)?, [1, 9, 7]);

    set.push(&synthetic(&[3, 4, 5, 6]))?;
    for (before, after) in before.iter().zip(&batches(&set)) {
        assert_eq!(before.images, after.images);
        assert_eq!(before.labels, after.labels);
        assert_eq!(before.real, after.real);
        assert_eq!(before.views, after.views);
    }
    let views = set.views(1);
    let teachers = [1, 1, 2, 2, 3].map(Some);
    for (index, (view, teacher)) in views.iter().zip(teachers).enumerate() {
        let expected = View {
            number: Some(index as u64 + 1),
            label: index + 2,
            teacher,
        };
        assert_eq!(*view, expected);
    }
    assert_eq!(views.len(), 5);
    Ok(())
}
