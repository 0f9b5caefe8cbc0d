//! Stacks of convolutions against libtorch: logits and gradients with respect to the images and the
//! weights, of every network that is one, for numbers of images that leave lanes empty.

use fed_distill::inversion::Teacher;
use fed_distill::model::{
    FrozenStack, Model, ModelKind, ModelSettings, ModelSpec, Pass, Precision,
};
use fed_distill::runtime::seed::Seeds;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Tensor, no_grad};

fn model(kind: ModelKind, channels: i64, size: i64, classes: i64) -> Model {
    let settings = ModelSettings {
        kind,
        ..ModelSettings::default()
    };
    let spec = ModelSpec::new(&settings, channels, size, classes).unwrap();
    let mut rng = Seeds::new(3).stream("initialisation", 0);
    Model::new(&spec, Device::Cpu, &mut rng).unwrap()
}

fn normal(seed: u64, shape: &[i64]) -> Tensor {
    let mut rng = Seeds::new(seed).stream("test/stack", 0);
    let count = shape.iter().product::<i64>() as usize;
    let draw = StandardNormal.sample_iter(&mut rng).take(count);
    let values: Vec<f32> = draw.collect();
    Tensor::from_slice(&values).view(shape)
}

/// Rounds weights, so that sums of their products with whole numbers are exact: of two pixels whose
/// values differ by the rounding alone, each way of summing may find another one to be the largest,
/// and the gradient is that one's.
fn rounded(model: &Model) {
    for parameter in model.parameters() {
        let largest = f64::try_from(parameter.detach().abs().max()).unwrap();
        let step = (largest / 4.0).log2().floor().exp2();
        let rounded = (parameter.detach() / step).round() * step;
        no_grad(|| parameter.shallow_clone().copy_(&rounded));
    }
}

/// The largest difference, as a share of the largest value.
fn apart(found: &Tensor, wanted: &Tensor) -> f64 {
    let largest = |tensor: &Tensor| f64::try_from(tensor.abs().max()).unwrap();
    assert_eq!(found.size(), wanted.size());
    largest(&(found - wanted)) / largest(wanted)
}

// Odd sizes, whose last row and column pooling drops; padded and not; classes beyond a block. Of
// the last four only the first convolution is not libtorch's.
const STACKS: [(ModelKind, i64, i64, i64); 13] = [
    (ModelKind::Lenet5Unpadded, 1, 32, 10),
    (ModelKind::Lenet5Unpadded, 3, 33, 4),
    (ModelKind::Lenet5, 1, 28, 10),
    (ModelKind::Lenet5, 3, 11, 3),
    (ModelKind::Lenet5, 1, 8, 17),
    (ModelKind::FedavgCnn, 1, 12, 10),
    (ModelKind::MnistCnn, 1, 12, 10),
    (ModelKind::Cnn64, 3, 10, 5),
    (ModelKind::Linear, 1, 8, 3),
    (ModelKind::Cnn5, 3, 18, 10),
    (ModelKind::Cnn64, 3, 19, 10),
    (ModelKind::FedavgCnn, 1, 15, 10),
    (ModelKind::MnistCnn, 1, 15, 10),
];

#[test]
fn logits_and_gradients_are_those_of_libtorch() {
    for (kind, channels, size, classes) in STACKS {
        let mut model = model(kind, channels, size, classes);
        rounded(&model);
        model.freeze();
        let stack = FrozenStack::of(&model);
        let stack = stack.unwrap_or_else(|| panic!("{kind:?} of {size} is no stack"));
        for count in [1, 15, 16, 37] {
            let images = normal(count as u64, &[count, channels, size, size]).round();
            let leaf = images.copy().set_requires_grad(true);
            let wanted = model.eval(&leaf);
            let upstream = normal(99, &[count, classes]);
            let along = (&wanted * &upstream).sum(Kind::Float);
            let gradient = Tensor::run_backward(&[&along], &[&leaf], false, false).remove(0);
            let (maps, tape) = stack.forward(&images);
            let maps = maps.set_requires_grad(true);
            let logits = stack.rest(&maps);
            let error = apart(&logits.detach(), &wanted.detach());
            assert!(error < 1e-5, "{kind:?} of {size}, {count}: logits {error}");
            assert_eq!(logits, stack.predict(&images));
            let along = (&logits * &upstream).sum(Kind::Float);
            let upstream = Tensor::run_backward(&[&along], &[&maps], false, false).remove(0);
            let error = apart(&stack.image_gradient(&tape, &upstream), &gradient);
            assert!(
                error < 1e-5,
                "{kind:?} of {size}, {count}: gradient {error}"
            );
        }
    }
}

/// In training, with what dropout drops, and a loss that depends on the weights themselves too.
#[test]
fn a_step_of_training_is_that_of_libtorch() {
    for (kind, channels, size, classes) in STACKS {
        let model = model(kind, channels, size, classes);
        rounded(&model);
        for count in [1, 15, 16, 37, 128] {
            let images = normal(count as u64, &[count, channels, size, size]).round();
            let upstream = normal(98, &[count, classes]);
            let parameters = model.parameters();
            let along = |logits: &Tensor| {
                let sizes = parameters
                    .iter()
                    .map(|parameter| parameter.square().sum(Kind::Float));
                let sizes: Tensor = sizes.sum();
                (logits * &upstream).sum(Kind::Float) + sizes * count
            };
            let masks = model.masks(|| 7);
            let logits = model.forward(&images, &mut Pass::Train(masks));
            let loss = along(&logits);
            let wanted = Tensor::run_backward(&[&loss], &parameters, false, false);
            let found = model.differentiate(&images, masks, |logits| Ok(along(logits)));
            let found = found.unwrap();
            let what = format!("{kind:?} of {size}, {count}");
            assert!(apart(&found.logits, &logits.detach()) < 1e-5, "{what}");
            assert!(!found.loss.requires_grad() && !found.logits.requires_grad());
            assert_eq!(found.gradients.len(), wanted.len(), "{what}");
            for (index, (found, wanted)) in found.gradients.iter().zip(&wanted).enumerate() {
                let error = apart(found, wanted);
                assert!(error < 2e-5, "{what}: gradient {index}: {error}");
            }
        }
    }
}

/// So that logits may be kept, whatever batch an image was in, and however many threads there are.
#[test]
fn an_image_does_not_depend_on_the_others() {
    let model = model(ModelKind::Lenet5Unpadded, 1, 32, 10);
    let stack = FrozenStack::of(&model).unwrap();
    let images = normal(5, &[50, 1, 32, 32]);
    let whole = stack.predict(&images);
    for (from, count) in [(0, 50), (3, 1), (17, 20), (49, 1)] {
        let part = stack.predict(&images.narrow(0, from, count));
        assert_eq!(part, whole.narrow(0, from, count), "{from} {count}");
    }
}

/// Of a window's pixels, only the last one is not a number.
#[test]
fn nan_is_pooled_as_by_libtorch() {
    for (kind, channels, size) in [
        (ModelKind::Lenet5Unpadded, 1, 32),
        (ModelKind::Cnn5, 3, 30),
        (ModelKind::Cnn64, 3, 30),
    ] {
        let model = model(kind, channels, size, 10);
        let images = normal(8, &[3, channels, size, size]);
        let last = images.get(1).narrow(1, size - 1, 1).narrow(2, size - 1, 1);
        let _ = last.shallow_clone().fill_(f64::NAN);
        let found = FrozenStack::of(&model).unwrap().predict(&images).isnan();
        let wanted = no_grad(|| model.eval(&images)).isnan();
        assert_eq!(found, wanted, "{kind:?}");
        assert!(bool::try_from(wanted.get(1).all()).unwrap(), "{kind:?}");
    }
}

/// A stack is the network as it was, whichever of its layers passes compute.
#[test]
fn a_stack_does_not_follow_the_network() {
    for (kind, size) in [(ModelKind::Lenet5Unpadded, 32), (ModelKind::Cnn5, 20)] {
        let mut model = model(kind, 3, size, 10);
        model.freeze();
        let images = normal(9, &[2, 3, size, size]);
        let stack = FrozenStack::of(&model).unwrap();
        let before = stack.predict(&images);
        for mut parameter in model.parameters() {
            let _ = parameter.g_mul_scalar_(2.0);
        }
        assert_eq!(stack.predict(&images), before, "{kind:?}");
    }
}

#[test]
fn teachers_predict_by_their_stack() {
    let model = model(ModelKind::Lenet5Unpadded, 1, 32, 10);
    let wanted = FrozenStack::of(&model).unwrap();
    let images = normal(6, &[5, 1, 32, 32]);
    let wanted = wanted.predict(&images);
    let teacher = Teacher::new(model, vec![1; 10]).unwrap();
    assert_eq!(teacher.loaded().unwrap().predict(&images), wanted);
}

/// Residual networks, layers that are libtorch's from the first on, and other types than float32.
#[test]
fn other_networks_are_no_stacks() {
    for (kind, size) in [(ModelKind::Resnet18, 8), (ModelKind::Lenet5, 300)] {
        assert!(
            FrozenStack::of(&model(kind, 3, size, 10)).is_none(),
            "{kind:?}"
        );
    }
    let half = model(ModelKind::Lenet5, 1, 28, 10).with_precision(Precision::Bf16);
    assert!(FrozenStack::of(&half).is_none());
}
