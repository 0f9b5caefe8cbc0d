//! The fused engine against the plain one, on networks, masks and images of every shape: the same
//! terms to 1e-4 and the same input gradient to 1e-3 in norm, the tolerances that both keep to the
//! float64 oracle.

use crate::common::machine::device;
use fed_distill::inversion::engine::Inversion;
use fed_distill::inversion::objective::{Combination, Loss, Terms};
use fed_distill::inversion::{
    EngineKind, Ensemble, EnsembleKind, InversionSettings, Inverter, LabelMask, LossScales,
    OtherScales, Synthesizer, Teacher,
};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::{Rng, Seeds};
use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use rand_distr::{Distribution, StandardNormal};
use tch::{Kind, Tensor, no_grad};

const CLASSES: i64 = 5;
const SCALES: LossScales = LossScales {
    l2_scale: 0.03,
    var_scale: 2e-3,
    bn_scale: 10.0,
    comp_scale: 10.0,
};

fn normal(rng: &mut Rng, shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>() as usize;
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
    Tensor::from_slice(&values).view(shape).to_device(device())
}

/// A network whose batch norms look trained, and worse: γ negative, zero and tiny, variances over
/// six orders of magnitude.
fn model(
    kind: ModelKind,
    width: i64,
    blocks: &[i64],
    channels: i64,
    size: i64,
    rng: &mut Rng,
) -> Model {
    let residual = kind.is_residual();
    let settings = ModelSettings {
        kind,
        width: residual.then_some(width),
        blocks: residual.then(|| blocks.to_vec()),
    };
    let spec = ModelSpec::new(&settings, channels, size, CLASSES).unwrap();
    let model = Model::new(&spec, device(), rng).unwrap();
    for (name, tensor) in model.state().iter().filter(|(_, tensor)| tensor.dim() == 1) {
        let count = tensor.size()[0];
        let values: Vec<f32> = (0..count).map(|_| value(name, rng)).collect();
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
        true if name.ends_with(".weight") => *[0.0, 1e-6, -0.7, 0.4, normal].choose(rng).unwrap(),
        _ => 0.3 * normal,
    }
}

fn teacher(model: Model, rng: &mut Rng) -> Teacher {
    let counts = (0..CLASSES).map(|_| rng.random_range(1..50)).collect();
    Teacher::new(model, counts).unwrap()
}

fn labels(count: i64, rng: &mut Rng) -> Tensor {
    let labels: Vec<i64> = (0..count).map(|_| rng.random_range(0..CLASSES)).collect();
    Tensor::from_slice(&labels).to_device(device())
}

fn close(plain: &Tensor, fused: &Tensor, what: &str) {
    let (plain, fused) = (f64::try_from(plain).unwrap(), f64::try_from(fused).unwrap());
    assert!(
        (plain - fused).abs() <= 1e-4 * plain.abs() + 1e-7,
        "{what}: {plain} and {fused}"
    );
}

fn same(plain: &(Terms, Tensor), fused: &(Terms, Tensor), what: &str) {
    let (a, b) = (&plain.0, &fused.0);
    close(&a.total, &b.total, &format!("{what}, total"));
    close(
        &a.cross_entropy,
        &b.cross_entropy,
        &format!("{what}, cross-entropy"),
    );
    close(&a.l2, &b.l2, &format!("{what}, l2"));
    close(
        &a.total_variation,
        &b.total_variation,
        &format!("{what}, total variation"),
    );
    close(&a.batch_norm, &b.batch_norm, &format!("{what}, batch norm"));
    for (name, a, b) in [
        ("jensen-shannon", &a.jensen_shannon, &b.jensen_shannon),
        ("entropy", &a.entropy, &b.entropy),
        ("rival", &a.rival, &b.rival),
    ] {
        assert_eq!(a.is_some(), b.is_some(), "{what}, {name}");
        if let (Some(a), Some(b)) = (a, b) {
            close(a, b, &format!("{what}, {name}"));
        }
    }
    let (plain, fused) = (&plain.1, &fused.1);
    assert_eq!(plain.size(), fused.size(), "{what}");
    let norm = |tensor: &Tensor| f64::try_from(tensor.norm()).unwrap();
    let (off, whole) = (norm(&(plain - fused)), norm(plain));
    assert!(
        whole > 0.0 && off <= 1e-3 * whole,
        "{what}: gradients {off} apart, of norm {whole}"
    );
}

struct Scene<'a> {
    teachers: Vec<&'a Teacher>,
    chosen: Vec<usize>,
    student: Option<&'a Model>,
    images: Tensor,
    labels: Tensor,
}

impl Scene<'_> {
    fn agree(&self, combination: Combination, what: &str) {
        let by = |fused| {
            let inversion = Inversion {
                teachers: &self.teachers,
                loss: Loss {
                    combination,
                    scales: &SCALES,
                },
                student: self.student,
                steps: 1,
                fused,
            };
            inversion
                .differentiate(&self.images, &self.labels, &self.chosen)
                .unwrap()
        };
        same(&by(false), &by(true), what);
    }
}

#[test]
fn random_residual_networks() {
    let kinds = [ModelKind::Resnet18, ModelKind::Resnet50];
    let stages: [&[i64]; 5] = [&[1], &[2], &[1, 1], &[2, 1, 1], &[1, 2, 1, 1]];
    let mut rng = Seeds::new(1).stream("engines", 0);
    for round in 0..40 {
        let (kind, blocks) = (
            *kinds.choose(&mut rng).unwrap(),
            *stages.choose(&mut rng).unwrap(),
        );
        let (width, channels) = (
            *[1, 3, 16, 20, 33, 64].choose(&mut rng).unwrap(),
            *[1, 3].choose(&mut rng).unwrap(),
        );
        let (size, count) = (rng.random_range(8..21), rng.random_range(1..6));
        let own = teacher(
            model(kind, width, blocks, channels, size, &mut rng),
            &mut rng,
        );
        let student = model(ModelKind::Resnet18, 4, &[1, 1], channels, size, &mut rng);
        let classes = [vec![0, 1, 2, 3, 4], vec![1, 3], vec![4, 0, 2]]
            .choose(&mut rng)
            .unwrap()
            .clone();
        let weights: Vec<f64> = classes.iter().map(|_| rng.random_range(0.1..3.0)).collect();
        let weights = rng.random_bool(0.5).then_some(&weights[..]);
        let masks = [rng
            .random_bool(0.6)
            .then(|| LabelMask::new(&classes, CLASSES, weights, device()))];
        let scene = Scene {
            teachers: vec![&own],
            chosen: vec![0],
            student: rng.random_bool(0.5).then_some(&student),
            images: normal(&mut rng, &[count, channels, size, size]),
            labels: Tensor::full([count], classes[0], (Kind::Int64, device())),
        };
        scene.agree(
            Combination::Separate(&masks),
            &format!(
                "round {round}: {kind:?} {width} {blocks:?}, {count}×{channels}×{size}×{size}"
            ),
        );
    }
}

/// Also those that are not chosen for a step.
#[test]
fn several_teachers_and_their_ensemble() {
    let mut rng = Seeds::new(2).stream("engines", 0);
    let teachers: Vec<Teacher> = [
        (8, ModelKind::Resnet18),
        (4, ModelKind::Resnet50),
        (16, ModelKind::Resnet18),
    ]
    .into_iter()
    .map(|(width, kind)| teacher(model(kind, width, &[1, 1], 3, 12, &mut rng), &mut rng))
    .collect();
    let student = model(ModelKind::Resnet18, 8, &[1], 3, 12, &mut rng);
    let mut scene = Scene {
        teachers: teachers.iter().collect(),
        chosen: vec![2, 0],
        student: Some(&student),
        images: normal(&mut rng, &[6, 3, 12, 12]),
        labels: labels(6, &mut rng),
    };
    let masks = [None, None, None];
    scene.agree(Combination::Separate(&masks), "two of three");
    for kind in [
        EnsembleKind::MeanLogits,
        EnsembleKind::MeanSoftmax,
        EnsembleKind::LabelShare,
    ] {
        let ensemble = Ensemble::new(kind, &scene.teachers, device());
        scene.chosen = vec![0, 1, 2];
        scene.agree(Combination::Ensemble(&ensemble), &format!("{kind:?}"));
    }
    scene.chosen = vec![1];
    let others = OtherScales {
        entropy_scale: 0.8,
        rival_scale: 2.0,
    };
    scene.agree(Combination::WithOthers(&masks, others), "one among three");
}

#[test]
fn networks_without_a_fused_path_join_by_autograd() {
    let mut rng = Seeds::new(3).stream("engines", 0);
    let residual = teacher(
        model(ModelKind::Resnet18, 6, &[1, 1], 1, 28, &mut rng),
        &mut rng,
    );
    let plain = teacher(model(ModelKind::Lenet5, 0, &[], 1, 28, &mut rng), &mut rng);
    let student = model(ModelKind::Lenet5, 0, &[], 1, 28, &mut rng);
    let scene = Scene {
        teachers: vec![&residual, &plain],
        chosen: vec![0, 1],
        student: Some(&student),
        images: normal(&mut rng, &[3, 1, 28, 28]),
        labels: labels(3, &mut rng),
    };
    scene.agree(
        Combination::Separate(&[None, None]),
        "LeNet beside a ResNet",
    );
}

/// With `auto` each teacher has the engine that it has alone: the residual network's batch has the
/// bytes of the fused engine, the wide residual network's agrees with the plain one.
#[test]
fn one_teacher_without_fused_passes_leaves_the_others_theirs() {
    let mut rng = Seeds::new(7).stream("engines", 0);
    let kinds = [ModelKind::Resnet18, ModelKind::Wrn16_1];
    let teachers = kinds.map(|kind| teacher(model(kind, 8, &[1, 1], 3, 12, &mut rng), &mut rng));
    let make = |engine, teachers: Vec<&Teacher>, index| {
        let mut settings = InversionSettings {
            batch_size: 6,
            engine,
            ..InversionSettings::default()
        };
        settings.di.grad_updates_batch = 4;
        let mut inverter = Inverter::new(teachers, &settings, Seeds::new(8)).unwrap();
        inverter.make(index, None, &mut ()).unwrap()
    };
    let all = || teachers.iter().collect();
    let alone = make(EngineKind::Fused, vec![&teachers[0]], 0);
    let beside = make(EngineKind::Auto, all(), 0);
    let plain = make(EngineKind::Plain, all(), 0);
    assert_eq!((beside.teacher, plain.teacher), (Some(0), Some(0)));
    assert_eq!(beside.images, alone.images);
    assert_ne!(beside.images, plain.images, "the engines round alike");
    let [wide, plain] = [EngineKind::Auto, EngineKind::Plain].map(|engine| make(engine, all(), 1));
    assert_eq!((wide.teacher, &wide.labels), (Some(1), &plain.labels));
    let (off, whole) = ((&plain.images - &wide.images).norm(), plain.images.norm());
    assert!(f64::try_from(off / whole).unwrap() <= 1e-3);
}

/// Whole batches: jitter, Adam and the best batch on top of the steps.
#[test]
fn batches_of_both_engines_agree_and_repeat() {
    let mut rng = Seeds::new(4).stream("engines", 0);
    let teacher = teacher(
        model(ModelKind::Resnet18, 8, &[1, 1], 3, 16, &mut rng),
        &mut rng,
    );
    let student = model(ModelKind::Resnet18, 8, &[1], 3, 16, &mut rng);
    let make = |engine| {
        let mut settings = InversionSettings {
            batch_size: 8,
            engine,
            ..InversionSettings::default()
        };
        settings.adi.grad_updates_batch = 6;
        let mut inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(5)).unwrap();
        inverter.make(0, Some(&student), &mut ()).unwrap()
    };
    let (plain, fused, again) = (
        make(EngineKind::Plain),
        make(EngineKind::Fused),
        make(EngineKind::Auto),
    );
    assert_eq!(
        fused.images, again.images,
        "the same bytes, and `auto` is `fused` here"
    );
    assert!((plain.best_loss - fused.best_loss).abs() <= 1e-4 * plain.best_loss);
    assert_eq!(plain.labels, fused.labels);
    let (off, whole) = ((&plain.images - &fused.images).norm(), plain.images.norm());
    assert!(f64::try_from(off / whole).unwrap() <= 1e-3);
}

#[test]
fn the_fused_engine_is_refused_where_it_cannot_be() {
    let mut rng = Seeds::new(6).stream("engines", 0);
    let teacher = teacher(model(ModelKind::Lenet5, 0, &[], 1, 28, &mut rng), &mut rng);
    let inverter = |engine| {
        let settings = InversionSettings {
            engine,
            ..InversionSettings::default()
        };
        Inverter::new(vec![&teacher], &settings, Seeds::new(5)).map(|_| ())
    };
    let error = inverter(EngineKind::Fused).unwrap_err().to_string();
    assert!(
        error.contains("`engine` is fused") && error.contains("lenet5"),
        "{error}"
    );
    inverter(EngineKind::Auto).unwrap();
}
