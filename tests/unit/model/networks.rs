//! Models: specs that make no sense, sizes, published parameter counts, initialisation, freezing,
//! batch norm while training.

use fed_distill::model::{Masks, Model, ModelKind, ModelSettings, ModelSpec, Pass};
use fed_distill::runtime::seed::{Rng, Seeds};
use fed_distill::{Class, Error};
use tch::{Device, Kind, Tensor};

const KINDS: [ModelKind; 11] = [
    ModelKind::Resnet18,
    ModelKind::Resnet34,
    ModelKind::Resnet50,
    ModelKind::Lenet5,
    ModelKind::Wrn16_1,
    ModelKind::Wrn40_1,
    ModelKind::Cnn5,
    ModelKind::Cnn64,
    ModelKind::FedavgCnn,
    ModelKind::MnistCnn,
    ModelKind::Linear,
];

fn rng(seed: u64) -> Rng {
    Seeds::new(seed).stream("test", 0)
}

fn settings(kind: ModelKind) -> ModelSettings {
    ModelSettings {
        kind,
        width: None,
        blocks: None,
    }
}

/// Narrow where the kind takes a width, so that tests are quick.
fn narrow(kind: ModelKind) -> ModelSettings {
    let is_resnet = matches!(
        kind,
        ModelKind::Resnet18 | ModelKind::Resnet34 | ModelKind::Resnet50
    );
    ModelSettings {
        width: is_resnet.then_some(2),
        ..settings(kind)
    }
}

fn model(settings: &ModelSettings, channels: i64, size: i64, classes: i64) -> Model {
    let spec = ModelSpec::new(settings, channels, size, classes).unwrap();
    Model::new(&spec, Device::Cpu, &mut rng(1)).unwrap()
}

#[test]
fn published_parameter_counts() {
    let count = |kind, channels, size| model(&settings(kind), channels, size, 10).parameter_count();
    assert_eq!(count(ModelKind::Resnet18, 3, 32), 11_173_962);
    assert_eq!(count(ModelKind::Resnet34, 3, 32), 21_282_122);
    assert_eq!(count(ModelKind::Resnet50, 3, 32), 23_520_842);
    assert_eq!(count(ModelKind::FedavgCnn, 1, 28), 1_663_370);
    assert_eq!(count(ModelKind::MnistCnn, 1, 28), 1_199_882);
    assert_eq!(count(ModelKind::Lenet5, 1, 28), 61_706);
    assert_eq!(count(ModelKind::Linear, 1, 28), 7_850);
    assert_eq!(count(ModelKind::Cnn64, 3, 32), 122_570);
    assert_eq!(count(ModelKind::Wrn16_1, 3, 32), 175_066);
    assert_eq!(count(ModelKind::Wrn40_1, 3, 32), 563_930);
}

#[test]
fn every_size_from_eight_gives_logits_and_gradients() {
    tch::set_num_threads(1);
    for kind in KINDS {
        for (size, channels) in (8..=33).zip([1, 3].into_iter().cycle()) {
            let model = model(&narrow(kind), channels, size, 5);
            let images = Tensor::ones([2, channels, size, size], (Kind::Float, Device::Cpu))
                .set_requires_grad(true);
            let logits = model.eval(&images);
            assert_eq!(logits.size(), [2, 5], "{kind:?} at {size}");
            logits.sum(Kind::Float).backward();
            assert_eq!(images.grad().size(), images.size());
            assert!(
                model.parameters().iter().all(|p| p.grad().defined()),
                "{kind:?} at {size}"
            );
        }
    }
}

#[test]
fn initialisation_is_pytorchs() {
    let wide = ModelSettings {
        width: Some(32),
        blocks: Some(vec![1, 1]),
        ..settings(ModelKind::Resnet18)
    };
    for model in [
        model(&wide, 3, 8, 10),
        model(&settings(ModelKind::FedavgCnn), 1, 28, 10),
    ] {
        let mut fan_in = 0.0;
        for (name, tensor) in model.state().iter() {
            let all = |value: f64| tensor.eq(value).all().int64_value(&[]) == 1;
            if name.contains("bn") || name.contains("shortcut.1") {
                let value = if name.ends_with("weight") || name.ends_with("running_var") {
                    1.0
                } else {
                    0.0
                };
                assert!(all(value), "{name}");
                continue;
            }
            if name.ends_with("weight") {
                fan_in = tensor.size()[1..].iter().product::<i64>() as f64;
            }
            let (bound, count) = (1.0 / f64::sqrt(fan_in), tensor.numel() as f64);
            let values = tensor.to_kind(Kind::Double);
            assert!(
                values.abs().max().double_value(&[]) <= bound * (1.0 + 1e-6),
                "{name} exceeds its bound"
            );
            if count < 200.0 {
                continue;
            }
            // Uniform: mean 0, variance b²/3, fourth moment b⁴/5; five standard errors.
            let moment = |power: f64| {
                values
                    .pow_tensor_scalar(power)
                    .mean(Kind::Double)
                    .double_value(&[])
            };
            assert!(
                moment(1.0).abs() < 5.0 * bound / (3.0 * count).sqrt(),
                "{name}: mean {}",
                moment(1.0)
            );
            let tolerance = 5.0 * (4.0f64 / 45.0 / count).sqrt();
            assert!(
                (moment(2.0) / bound.powi(2) - 1.0 / 3.0).abs() < tolerance,
                "{name}: variance"
            );
            assert!(
                (moment(4.0) / bound.powi(4) - 0.2).abs() < tolerance,
                "{name}: fourth moment"
            );
        }
    }
}

#[test]
fn a_seed_decides_the_weights() {
    let spec = ModelSpec::new(&narrow(ModelKind::Resnet18), 3, 8, 10).unwrap();
    let make = |seed| {
        Model::new(&spec, Device::Cpu, &mut rng(seed))
            .unwrap()
            .state()
    };
    let (a, b, other) = (make(7), make(7), make(8));
    for ((name, x), (_, y)) in a.iter().zip(b.iter()) {
        assert!(x.equal(y), "{name}");
    }
    assert!(
        !a.get("conv1.weight")
            .unwrap()
            .equal(other.get("conv1.weight").unwrap())
    );
    // The very numbers, whatever the platform: the generator's first draw is U(−1/√27, 1/√27).
    use rand::Rng as _;
    let first = (2.0 * rng(7).random::<f32>() - 1.0) * (1.0 / 27f64.sqrt()) as f32;
    assert_eq!(
        a.get("conv1.weight").unwrap().double_value(&[0, 0, 0, 0]),
        f64::from(first)
    );
}

#[test]
fn frozen_models_get_no_gradient() {
    let mut model = model(&narrow(ModelKind::Resnet50), 3, 8, 4);
    assert!(model.parameters().iter().all(Tensor::requires_grad));
    model.freeze();
    assert!(!model.parameters().iter().any(Tensor::requires_grad));
    let images = Tensor::ones([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    assert!(!model.eval(&images).requires_grad(), "nothing is recorded");
    let images = images.set_requires_grad(true);
    model.eval(&images).sum(Kind::Float).backward();
    assert!(images.grad().defined());
    assert!(!model.parameters().iter().any(|p| p.grad().defined()));
}

#[test]
fn one_value_a_channel_keeps_statistics_finite() {
    let model = model(&narrow(ModelKind::Resnet18), 1, 8, 2);
    let image = Tensor::ones([1, 1, 8, 8], (Kind::Float, Device::Cpu));
    for _ in 0..3 {
        let _ = model.forward(&image, &mut Pass::Train(Masks::default()));
    }
    for (name, tensor) in model.state().iter() {
        assert_eq!(tensor.isfinite().all().int64_value(&[]), 1, "{name}");
    }
    assert_eq!(
        model
            .state()
            .get("bn1.num_batches_tracked")
            .unwrap()
            .int64_value(&[]),
        3
    );
}

#[test]
fn eval_passes_change_no_state() {
    let model = model(&narrow(ModelKind::Resnet18), 3, 9, 2);
    let before = model.state().deep_clone();
    let images = Tensor::ones([2, 3, 9, 9], (Kind::Float, Device::Cpu));
    let _ = model.eval(&images);
    let _ = model.forward(&images, &mut Pass::Observe(&mut |_, _| {}));
    for ((name, x), (_, y)) in before.iter().zip(model.state().iter()) {
        assert!(x.equal(y), "{name}");
    }
}

fn refused(settings: &ModelSettings, channels: i64, size: i64, classes: i64) -> Error {
    let error = ModelSpec::new(settings, channels, size, classes).unwrap_err();
    assert_eq!(error.class(), Class::Usage);
    error
}

#[test]
fn specs_that_make_no_sense_are_usage_errors() {
    for kind in KINDS {
        let good = settings(kind);
        assert!(
            refused(&good, 2, 32, 10)
                .to_string()
                .contains("1 or 3 channels")
        );
        assert!(refused(&good, 3, 7, 10).to_string().contains("size"));
        assert!(refused(&good, 3, 32, 1).to_string().contains("classes"));
    }
    let with = |kind, width, blocks: Option<&[i64]>| {
        let blocks = blocks.map(<[i64]>::to_vec);
        refused(
            &ModelSettings {
                kind,
                width,
                blocks,
            },
            3,
            32,
            10,
        )
        .to_string()
    };
    let text = with(ModelKind::Lenet5, Some(8), None);
    assert!(
        text.contains("`width` does not apply to `lenet5`"),
        "{text}"
    );
    let text = with(ModelKind::Cnn5, None, Some(&[1]));
    assert!(text.contains("`blocks` does not apply to `cnn5`"), "{text}");
    assert!(with(ModelKind::Resnet18, Some(0), None).contains("`width` is out of range"));
    assert!(with(ModelKind::Resnet18, Some(i64::MAX), None).contains("`width` is out of range"));
    assert!(with(ModelKind::Resnet18, None, Some(&[])).contains("one to five stages"));
    assert!(with(ModelKind::Resnet18, None, Some(&[1; 6])).contains("one to five stages"));
    assert!(with(ModelKind::Resnet18, None, Some(&[2, 0])).contains("`blocks` is out of range"));
}

/// A quarter of what the convolutions give and half of the hidden layer is zero in training, the
/// rest is scaled so that the mean stays, and nothing is dropped in evaluation.
#[test]
fn dropout_in_training() {
    let model = model(&settings(ModelKind::MnistCnn), 1, 8, 10);
    let images = Tensor::arange(64 * 64, (Kind::Float, Device::Cpu)).sin() * 2;
    let images = images.view([64, 1, 8, 8]);
    let train = |seed| model.forward(&images, &mut Pass::Train(Masks::new(seed)));
    let eval = model.eval(&images);
    assert_eq!(train(1), train(1), "a seed decides the masks");
    assert_ne!(train(1), train(2));
    assert_eq!(
        model.forward(&images, &mut Pass::Train(Masks::default())),
        eval
    );
    // The mean over many masks comes near what is computed without them: a standard error of 0.05
    // of the spread over 400 masks, and ReLU between the two layers makes it no more than near.
    let logits: Vec<Tensor> = (0..400).map(train).collect();
    let stacked = Tensor::stack(&logits, 0);
    let (mean, spread) = (
        stacked.mean_dim(0_i64, false, Kind::Float),
        stacked.std_dim(0_i64, true, false).mean(Kind::Float),
    );
    let off = (mean - eval).abs().mean(Kind::Float);
    let (off, spread) = (off.double_value(&[]), spread.double_value(&[]));
    assert!(spread > 0.01 && off < 0.2 * spread, "{off} of {spread}");
}

/// The masks of a part of a batch are those that the whole batch has there.
#[test]
fn a_part_of_a_batch_drops_what_the_batch_does() {
    let model = model(&settings(ModelKind::MnistCnn), 1, 8, 10);
    let images = Tensor::arange(6 * 64, (Kind::Float, Device::Cpu)).cos();
    let images = images.view([6, 1, 8, 8]);
    let masks = Masks::new(7);
    let whole = model.forward(&images, &mut Pass::Train(masks));
    for first in 0..5 {
        let part = images.narrow(0, first, 2);
        let masks = Masks {
            first: first as usize,
            ..masks
        };
        let part = model.forward(&part, &mut Pass::Train(masks));
        let off = (part - whole.narrow(0, first, 2)).abs().max();
        assert!(off.double_value(&[]) < 1e-5);
    }
}
