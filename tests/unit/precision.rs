//! Frozen networks by libtorch's operations, in float32 against the C++ passes and in bfloat16
//! against float32; training in bfloat16 against float32.
//!
//! # What bfloat16 may change
//!
//! It has 8 bits of precision, so a rounding is off by at most u = 2⁻⁸ of the value. Every unit of
//! a network rounds its weights, the convolution's output, the norm's output and the sum with the
//! shortcut, and on the way back what leaves the norm, the convolution and the sum of two branches:
//! 7 roundings. They know nothing of each other, so that R of them change a result by no more than
//! √R·u of its norm: with U units √(4·U)·u for logits and statistics, √(7·U)·u for a gradient.
//!
//! A ReLU whose input changes by δ lets the wrong sign pass for the inputs within δ of zero: of
//! inputs of unit variance a share of 2δ/√(2π) < δ. The gradients that it lets through wrongly
//! weigh √δ of the norm, those of U layers √(U·δ), with δ = √(4·U)·u.

use fed_distill::inversion::engine::Inversion;
use fed_distill::inversion::fused::{Frozen, kernels, operations};
use fed_distill::inversion::objective::{Combination, Loss, Terms};
use fed_distill::inversion::{InversionSettings, Inverter, LossScales, Synthesizer, Teacher};
use fed_distill::model::{BatchNorm, PrecisionChoice};
use fed_distill::model::{Masks, Model, ModelKind, ModelSettings, ModelSpec, Pass, Precision};
use fed_distill::optim::Layout;
use fed_distill::runtime::seed::{Rng, Seeds};
use fed_distill::train::{
    AdamMoments, Optimizer, OptimizerKind, OptimizerSettings, Position, SgdMomentum,
};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_distr::{Distribution, StandardNormal};
use tch::{Device, Kind, Reduction, Tensor, no_grad};

const CLASSES: i64 = 5;
const U: f64 = 1.0 / 256.0;

/// What the module's text allows with so many units: to logits and statistics, and to gradients.
fn bounds(units: f64) -> [f64; 2] {
    let forward = (4.0 * units).sqrt() * U;
    [forward, (7.0 * units).sqrt() * U + (units * forward).sqrt()]
}

fn normal(rng: &mut Rng, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
    Tensor::from_slice(&values).view(shape)
}

fn spec(kind: ModelKind, width: i64, blocks: &[i64], channels: i64, size: i64) -> ModelSpec {
    let settings = ModelSettings {
        kind,
        width: Some(width),
        blocks: Some(blocks.to_vec()),
    };
    ModelSpec::new(&settings, channels, size, CLASSES).unwrap()
}

/// A network whose batch norms look worse than trained: γ negative, zero and tiny, variances over
/// four orders of magnitude.
fn odd(spec: &ModelSpec, rng: &mut Rng) -> Model {
    let model = Model::new(spec, Device::Cpu, rng).unwrap();
    for (name, tensor) in model.state().iter().filter(|(_, tensor)| tensor.dim() == 1) {
        let values: Vec<f32> = (0..tensor.size()[0]).map(|_| value(name, rng)).collect();
        no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(&values)));
    }
    model
}

fn value(name: &str, rng: &mut Rng) -> f32 {
    let normal: f32 = StandardNormal.sample(rng);
    if name.ends_with("running_var") {
        return 10f32.powf(rng.random_range(-3.0..1.0));
    }
    match name.contains("bn") || name.contains("shortcut") {
        true if name.ends_with(".weight") => {
            *[0.0, 1e-20, 1e-6, -0.7, 0.4, normal].choose(rng).unwrap()
        }
        _ => 0.3 * normal,
    }
}

/// A network whose running statistics are those of images of its kind.
fn settled(spec: &ModelSpec, rng: &mut Rng) -> Model {
    let model = Model::new(spec, Device::Cpu, rng).unwrap();
    for _ in 0..30 {
        let images = normal(rng, &[16, spec.channels, spec.size, spec.size]) * 0.7;
        let _ = no_grad(|| model.forward(&images, &mut Pass::Train(Masks::default())));
    }
    model
}

fn norm(tensor: &Tensor) -> f64 {
    f64::try_from(tensor.to_kind(Kind::Double).norm()).unwrap()
}

/// How far `ours` is from `exact`, of the norm of `exact`; both are zero behind norms of scale 0.
fn apart(ours: &Tensor, exact: &Tensor) -> f64 {
    assert_eq!(ours.size(), exact.size());
    let off = norm(&(ours.to_kind(Kind::Double) - exact.to_kind(Kind::Double)));
    off / norm(exact).max(1e-8)
}

fn last(images: &Tensor) -> Tensor {
    images.permute([0, 2, 3, 1]).contiguous()
}

#[test]
fn operations_in_f32_equal_the_passes() {
    let kinds = [ModelKind::Resnet18, ModelKind::Resnet50];
    let stages: [&[i64]; 5] = [&[1], &[2], &[1, 1], &[2, 1, 1], &[1, 2, 1, 1]];
    let mut rng = Seeds::new(1).stream("precision", 0);
    for round in 0..12 {
        let kind = *kinds.choose(&mut rng).unwrap();
        let blocks = *stages.choose(&mut rng).unwrap();
        let width = *[1, 3, 16, 20, 33, 64].choose(&mut rng).unwrap();
        let channels = *[1, 3].choose(&mut rng).unwrap();
        let (size, count) = (rng.random_range(8..21), rng.random_range(1..6));
        let model = odd(&spec(kind, width, blocks, channels, size), &mut rng);
        let what = format!("round {round}: {kind:?} {width} {blocks:?}, {count}×{channels}×{size}");
        let images = normal(&mut rng, &[count, channels, size, size]);
        let upstream = normal(&mut rng, &[count, CLASSES]);
        let passes = Frozen::of(&model).unwrap();
        let operations = Frozen::with_operations(&model, Precision::F32).unwrap();
        assert!(matches!(passes, Frozen::Passes(_)));
        assert!(
            apart(&operations.predict(&images), &passes.predict(&images)) < 1e-4,
            "{what}"
        );
        for observe in [false, true] {
            let by = |frozen: &Frozen| {
                let passed = frozen.forward(&last(&images), observe);
                let distance = passed
                    .distance
                    .map(|distance| f64::try_from(distance).unwrap());
                (passed.logits, distance, (passed.backward)(&upstream, 3.0))
            };
            let (exact, ours) = (by(&passes), by(&operations));
            assert!(apart(&ours.0, &exact.0) < 1e-4, "{what}");
            assert_eq!(ours.1.is_some(), observe);
            if let (Some(ours), Some(exact)) = (ours.1, exact.1) {
                assert!(
                    (ours / exact - 1.0).abs() < 1e-4,
                    "{what}: {ours} and {exact}"
                );
            }
            assert_eq!(ours.2.kind(), Kind::Float);
            let off = apart(&ours.2, &exact.2);
            assert!(
                off < 1e-3,
                "{what}, observe {observe}: gradients {off} apart"
            );
        }
    }
}

#[test]
fn image_terms_equal_the_passes() {
    let mut rng = Seeds::new(2).stream("precision", 0);
    for shape in [[3, 7, 5, 3], [1, 8, 8, 1], [2, 2, 2, 3]] {
        for images in [
            normal(&mut rng, &shape),
            Tensor::ones(shape, (Kind::Float, Device::Cpu)),
        ] {
            let exact = kernels::variation(&images);
            let (tv, l2) = (0.3, 0.7);
            let gradient = kernels::variation_gradient(&images, &exact, tv, l2);
            let scales = Tensor::from_slice(&[tv, tv, tv, tv, l2]).to_kind(Kind::Float);
            let (norms, ours) = operations::image_terms(&images, &scales);
            assert!(apart(&norms, &Tensor::from_slice(&exact)) < 1e-5);
            assert!(apart(&ours, &gradient) < 1e-5);
        }
    }
}

#[test]
fn moments_keep_a_variance_far_below_epsilon() {
    let mut rng = Seeds::new(3).stream("precision", 0);
    let x = normal(&mut rng, &[4, 6, 6, 3]) * 1e-5 + 2.0;
    let moments = operations::moments(&x);
    let rows = x.view([-1, 3]).to_kind(Kind::Double);
    let var = rows.var_dim(0i64, false, false);
    assert!(f64::try_from(var.max()).unwrap() < 1e-2 * BatchNorm::EPS);
    assert!(apart(&moments.var, &var) < 1e-2);
    assert!(apart(&moments.mean, &rows.mean_dim(0i64, false, None)) < 1e-6);
}

struct Scene {
    teachers: Vec<Teacher>,
    student: Model,
    images: Tensor,
    labels: Tensor,
}

/// Three units in the teachers, the same at every call.
fn scene(precision: Precision) -> Scene {
    let mut rng = Seeds::new(4).stream("precision", 0);
    let shape = spec(ModelKind::Resnet18, 16, &[1], 3, 12);
    let mut teacher = || {
        let model = settled(&shape, &mut rng).with_precision(precision);
        Teacher::new(model, vec![3, 1, 4, 1, 5]).unwrap()
    };
    Scene {
        teachers: vec![teacher(), teacher()],
        student: settled(&shape, &mut rng).with_precision(precision),
        images: normal(&mut rng, &[8, 3, 12, 12]),
        labels: Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0, 1, 2]),
    }
}

impl Scene {
    fn differentiate(&self, fused: bool) -> (Terms, Tensor) {
        let teachers: Vec<&Teacher> = self.teachers.iter().collect();
        let inversion = Inversion {
            teachers: &teachers,
            loss: Loss {
                combination: Combination::Separate(&[None, None]),
                scales: &LossScales {
                    l2_scale: 0.03,
                    var_scale: 2e-3,
                    bn_scale: 10.0,
                    comp_scale: 10.0,
                },
            },
            student: Some(&self.student),
            steps: 1,
            fused,
        };
        let chosen = [0, 1];
        inversion
            .differentiate(&self.images, &self.labels, &chosen)
            .unwrap()
    }
}

#[test]
fn inversion_in_bf16_is_within_its_roundings() {
    let exact = scene(Precision::F32).differentiate(true);
    let [forward, backward] = bounds(3.0);
    for fused in [true, false] {
        let ours = scene(Precision::Bf16).differentiate(fused);
        let number = |tensor: &Tensor| f64::try_from(tensor).unwrap();
        for (name, ours, exact) in [
            ("total", &ours.0.total, &exact.0.total),
            (
                "cross-entropy",
                &ours.0.cross_entropy,
                &exact.0.cross_entropy,
            ),
            ("batch norm", &ours.0.batch_norm, &exact.0.batch_norm),
        ] {
            let off = (number(ours) / number(exact) - 1.0).abs();
            assert!(off < forward, "fused {fused}, {name}: {off}");
        }
        // The images' own terms are computed in float32.
        assert!((number(&ours.0.l2) / number(&exact.0.l2) - 1.0).abs() < 1e-6);
        let variation = number(&ours.0.total_variation) / number(&exact.0.total_variation);
        assert!((variation - 1.0).abs() < 1e-6);
        let off = apart(&ours.1, &exact.1);
        assert!(
            off < backward,
            "fused {fused}: gradients {off} apart, of {backward}"
        );
        assert!(off > U / 16.0, "fused {fused}: computed in float32");
    }
}

#[test]
fn batches_in_bf16_repeat_and_lower_the_loss() {
    let scene = scene(Precision::Bf16);
    let mut settings = InversionSettings {
        batch_size: 8,
        ..InversionSettings::default()
    };
    settings.adi.grad_updates_batch = 12;
    let make = || {
        let teachers = scene.teachers.iter().collect();
        let mut inverter = Inverter::new(teachers, &settings, Seeds::new(5)).unwrap();
        inverter.make(0, Some(&scene.student), &mut ()).unwrap()
    };
    let (once, again) = (make(), make());
    assert_eq!(once.images, again.images);
    assert_eq!(once.images.kind(), Kind::Float);
    assert!(once.best_loss < 0.9 * once.history[0].total);
}

/// Gradients of all parameters and the running statistics of a training step.
fn training(shape: &ModelSpec, precision: Precision) -> (Tensor, Tensor, Tensor) {
    let mut rng = Seeds::new(6).stream("precision", 0);
    let model = Model::new(shape, Device::Cpu, &mut rng)
        .unwrap()
        .with_precision(precision);
    let images = normal(&mut rng, &[16, shape.channels, shape.size, shape.size]);
    let labels: Vec<i64> = (0..16).map(|index| index % CLASSES).collect();
    let logits = model.forward(&images, &mut Pass::Train(Masks::default()));
    assert_eq!(logits.kind(), Kind::Float);
    let labels = Tensor::from_slice(&labels);
    let loss = logits.cross_entropy_loss(&labels, None::<&Tensor>, Reduction::Mean, -100, 0.0);
    let parameters = model.parameters();
    let gradients = Tensor::run_backward(&[&loss], &parameters, false, false);
    let flat = |tensors: Vec<Tensor>| {
        let each: Vec<Tensor> = tensors
            .iter()
            .map(|tensor| tensor.detach().flatten(0, -1))
            .collect();
        assert!(each.iter().all(|tensor| tensor.kind() == Kind::Float));
        Tensor::cat(&each, 0)
    };
    let state = model.state();
    let running = state.iter().filter(|(name, _)| name.contains("running"));
    let mut running: Vec<Tensor> = running.map(|(_, tensor)| tensor.shallow_clone()).collect();
    running.push(loss.detach().view([1]));
    (flat(gradients), flat(running), loss)
}

#[test]
fn a_training_step_in_bf16_is_within_its_roundings() {
    let residual = spec(ModelKind::Resnet18, 16, &[1, 1], 3, 12);
    let plain = ModelSettings {
        kind: ModelKind::FedavgCnn,
        width: None,
        blocks: None,
    };
    let plain = ModelSpec::new(&plain, 1, 28, CLASSES).unwrap();
    for (shape, units) in [(residual, 6.0), (plain, 4.0)] {
        let exact = training(&shape, Precision::F32);
        let ours = training(&shape, Precision::Bf16);
        let [forward, backward] = bounds(units);
        let (off, running) = (apart(&ours.0, &exact.0), apart(&ours.1, &exact.1));
        assert!(off < backward, "gradients {off} apart, of {backward}");
        assert!(off > U / 16.0, "computed in float32");
        assert!(
            running < forward,
            "statistics {running} apart, of {forward}"
        );
    }
}

/// On the CPU a model's parameters lie apart; packed, as on CUDA, they take the same steps.
#[test]
fn an_optimiser_of_one_buffer_takes_the_same_steps() {
    let shape = spec(ModelKind::Resnet18, 5, &[1, 1], 3, 8);
    let nesterov = SgdMomentum {
        nesterov: true,
        ..SgdMomentum::default()
    };
    let adam = AdamMoments::default();
    for kind in [OptimizerKind::Sgd(nesterov), OptimizerKind::Adam(adam)] {
        let settings = OptimizerSettings {
            kind: kind.clone(),
            ..OptimizerSettings::default()
        };
        let run = |packed: bool| {
            let mut rng = Seeds::new(7).stream("precision", 0);
            let model = Model::new(&shape, Device::Cpu, &mut rng).unwrap();
            let mut parameters = model.parameters();
            let layout = Layout::of(&parameters).unwrap();
            assert!(layout.buffer_of(&parameters).is_none());
            if packed {
                layout.pack(&mut parameters);
                assert!(layout.buffer_of(&model.parameters()).is_some());
            }
            let mut optimizer = Optimizer::new(&settings, model.parameters());
            for _ in 0..3 {
                let images = normal(&mut rng, &[4, 3, 8, 8]);
                let loss = |logits: &Tensor| Ok(logits.square().sum(Kind::Float));
                let step = model.differentiate(&images, Masks::default(), loss);
                optimizer.apply(&step.unwrap().gradients, 0.01);
            }
            optimizer.state(&model, Position::default()).copy().tensors
        };
        let (apart, packed) = (run(false), run(true));
        assert_eq!(apart.len(), packed.len());
        for ((name, apart), (other, packed)) in apart.iter().zip(&packed) {
            assert_eq!(name, other);
            assert_eq!(apart, packed, "{kind:?}: {name}");
        }
    }
}

#[test]
fn auto_is_bf16_on_cuda_alone() {
    let choose = |choice: PrecisionChoice| [choice.on(Device::Cpu), choice.on(Device::Cuda(1))];
    assert_eq!(
        choose(PrecisionChoice::Auto),
        [Precision::F32, Precision::Bf16]
    );
    assert_eq!(choose(PrecisionChoice::F32), [Precision::F32; 2]);
    assert_eq!(choose(PrecisionChoice::Bf16), [Precision::Bf16; 2]);
}
