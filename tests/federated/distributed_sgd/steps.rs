//! Every form takes the same steps, which are those of the training loop.

use super::support::*;
use crate::support::{Passes, difference};
use fed_distill::federated::Ledger;
use fed_distill::federated::distributed_sgd::{Method, SgdSettings, shard};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use proptest::prelude::*;
use tch::{Device, Kind as Type, Tensor};

#[test]
fn both_forms_take_the_steps_of_one_process() {
    // 230 images: batches of 25 divide neither by the ranks nor the set, those of 3 leave ranks
    // without an image.
    for (batch_size, every, windows) in [(25, 3, 9), (3, 20, 9)] {
        let settings = settings(batch_size, every);
        let (central, weights, nothing) = trained(Method::Centralised, 1, &settings, 230);
        assert_eq!(central.len(), windows);
        assert!(
            central[windows - 1].loss < 0.95 * central[0].loss,
            "it must move far more than the tolerance below: {central:?}"
        );
        assert_eq!(nothing, Ledger::default());
        for method in [Method::AllReduce, Method::ParameterServer] {
            for ranks in [1, 2, 4] {
                let (losses, others, _) = trained(method, ranks, &settings, 230);
                for (ours, wanted) in losses.iter().zip(&central) {
                    assert_eq!((ours.epoch, ours.batch), (wanted.epoch, wanted.batch));
                    let apart = (ours.loss - wanted.loss).abs() / wanted.loss;
                    assert!(
                        apart < 1e-5,
                        "{method:?}, {ranks} ranks: {ours:?} for {wanted:?}"
                    );
                }
                assert_eq!(losses.len(), windows);
                let apart = difference(&others, &weights);
                assert!(
                    apart < 1e-5,
                    "{method:?}, {ranks} ranks: weights differ by {apart}"
                );
            }
        }
    }
}

#[test]
fn the_forms_agree_to_the_bit_on_equally_many_ranks() {
    let settings = settings(25, 3);
    let (losses, weights, _) = trained(Method::AllReduce, 4, &settings, 100);
    let (others, other, _) = trained(Method::ParameterServer, 4, &settings, 100);
    assert_eq!(losses, others);
    assert_eq!(difference(&weights, &other), 0.0);
}

#[test]
fn shared_parts_have_the_bits_of_one_process() {
    // As above.
    for (batch_size, parts) in [(25, 4), (3, 4), (25, 8)] {
        let settings = SgdSettings {
            parts,
            ..settings(batch_size, 3)
        };
        let (central, weights, _) = trained(Method::Centralised, 1, &settings, 230);
        for method in [Method::AllReduce, Method::ParameterServer] {
            for ranks in [1, 2, 4] {
                let (losses, others, _) = trained(method, ranks, &settings, 230);
                assert_eq!(losses, central, "{method:?}, {ranks} ranks");
                assert_eq!(
                    difference(&others, &weights),
                    0.0,
                    "{method:?}, {ranks} ranks"
                );
            }
        }
    }
}

/// Masks depend on an image's place in its batch, and a resumed run draws those of the steps that
/// were left.
#[test]
fn dropout_is_the_same_on_any_ranks_and_after_a_resume() {
    let model = ModelSettings {
        kind: ModelKind::MnistCnn,
        ..spec().model
    };
    let spec = ModelSpec::new(&model, 1, SIZE, 5).unwrap();
    let settings = SgdSettings {
        parts: 4,
        epochs: 2,
        ..settings(25, 2)
    };
    let run = |method, ranks, start, at| saved(&spec, method, ranks, &settings, 60, start, at);
    let ((_, weights, _), kept) = run(Method::Centralised, 1, None, 3);
    let ((_, resumed, _), _) = run(Method::Centralised, 1, kept, usize::MAX);
    assert_eq!(difference(&resumed, &weights), 0.0);
    for method in [Method::AllReduce, Method::ParameterServer] {
        for ranks in [1, 2, 4] {
            let ((_, others, _), _) = run(method, ranks, None, usize::MAX);
            let apart = difference(&others, &weights);
            assert_eq!(apart, 0.0, "{method:?}, {ranks} ranks");
        }
    }
}

#[test]
fn one_process_is_the_training_loop() {
    let settings = settings(25, 9);
    let (losses, weights, _) = trained(Method::Centralised, 1, &settings, 225);
    let mut model = initial();
    let passes = Passes {
        epochs: 3,
        batch_size: 25,
        optimizer: &settings.optimizer,
        augment: &settings.augment,
        normalisation: &normalisation(),
        seeds: seeds(),
        purpose: "distributed_sgd/batches",
    };
    let wanted = passes.over(&images(225), &mut model);
    let ours: Vec<f64> = losses.iter().map(|at| at.loss).collect();
    assert!(
        ours.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-6),
        "{ours:?} {wanted:?}"
    );
    assert_eq!(difference(&weights, &model.state()), 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shards_lose_no_image(images in 0i64..300, ranks in 1usize..20) {
        let mut next = 0;
        for rank in 0..ranks {
            let (start, count) = shard(images, ranks, rank);
            prop_assert_eq!(start, next);
            prop_assert!((images / ranks as i64..=images / ranks as i64 + 1).contains(&count));
            next = start + count;
        }
        prop_assert_eq!(next, images);
    }
}

#[test]
fn the_tutorials_network_has_its_parameters() {
    let spec = ModelSpec::new(&spec().model, 3, 32, 10).unwrap();
    let model = Model::new(&spec, Device::Cpu, &mut seeds().stream("x", 0)).unwrap();
    assert_eq!(model.parameter_count(), 62_006);
    let logits = model.eval(&Tensor::zeros([2, 3, 32, 32], (Type::Float, Device::Cpu)));
    assert_eq!(logits.size(), [2, 10]);
    let error = ModelSpec::new(&spec.model, 3, 15, 10).unwrap_err();
    assert!(error.to_string().contains("16×16"), "{error}");
}
