//! Accuracy and confusion.

use crate::common::machine::device;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::train::evaluate;
use tch::{Kind, Tensor};

/// ```python
/// pixels = (torch.arange(48) * 37 % 256).view(12, 4)
/// scores = (pixels / 255 - 0.4) / 0.3 @ torch.cos(torch.arange(12) * 2.3).view(4, 3)
/// truth = torch.arange(12) * 5 % 7 % 3
/// print((scores.argmax(1) == truth).double().mean())
/// print(torch.bincount(truth * 3 + scores.argmax(1), minlength=9).view(3, 3).tolist())
/// ```
#[test]
fn accuracy_and_confusion() {
    let pixels: Vec<u8> = (0..48).map(|i| (i * 37 % 256) as u8).collect();
    let truth: Vec<i64> = (0..12).map(|i| i * 5 % 7 % 3).collect();
    let pixels = Tensor::from_slice(&pixels).view([12, 1, 2, 2]);
    let set = ImageSet::new(pixels.to_device(device()), truth).unwrap();
    let normalisation = Normalisation {
        mean: vec![0.4],
        std: vec![0.3],
    };
    let weight = (Tensor::arange(12, (Kind::Float, device())) * 2.3)
        .cos()
        .view([4, 3]);
    let predict = |images: &Tensor| Ok(images.view([-1, 4]).matmul(&weight));
    // Batches that do and do not divide the set.
    for batch_size in [1, 5, 12, 100] {
        let found = evaluate(&predict, &set, &normalisation, 3, batch_size).unwrap();
        assert_eq!(found.confusion, [[0, 2, 4], [2, 1, 0], [2, 0, 1]]);
        assert_eq!(found.accuracy(), Some(2.0 / 12.0));
        assert_eq!(
            found.per_class(),
            [Some(0.0), Some(1.0 / 3.0), Some(1.0 / 3.0)]
        );
    }
}
