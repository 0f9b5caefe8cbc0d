//! Training to the letter of PyTorch: schedules, optimisers, the student's two losses, accuracy. The expected numbers come from PyTorch
//! 2.11 in float64, by the script quoted above each test (all begin with `import torch, torch.nn.functional as F` and
//! `torch.set_default_dtype(torch.float64)`).

use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::distill::Distillation;
use fed_distill::inversion::{Ensemble, EnsembleKind, Teacher};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    Batch, CrossEntropy, Moment, Objective, Optimizer, OptimizerKind, OptimizerSettings, ScheduleKind,
    ScheduleSettings, evaluate,
};
use tch::{Device, Kind, Tensor, no_grad};

fn close(ours: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!(
        (ours - wanted).abs() <= tolerance * wanted.abs().max(1e-3),
        "{what}: {ours} for {wanted}"
    );
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

/// ```python
/// def rates(make, epochs):
///     p = torch.zeros(1, requires_grad=True)
///     opt = torch.optim.SGD([p], lr=0.1)
///     sch, out = make(opt), []
///     for _ in range(epochs):
///         out.append(opt.param_groups[0]["lr"])
///         opt.step(); sch.step()
///     return out
/// s = torch.optim.lr_scheduler
/// print(rates(lambda o: s.MultiStepLR(o, [2, 5], gamma=0.1), 8))
/// print(rates(lambda o: s.CosineAnnealingLR(o, T_max=8), 8))
/// ```
#[test]
fn schedules() {
    let multi_step = [0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001];
    let cosine = [
        0.1,
        0.09619397662556434,
        0.08535533905932738,
        0.0691341716182545,
        0.05,
        0.030865828381745515,
        0.014644660940672627,
        0.0038060233744356634,
    ];
    for (kind, wanted) in [(ScheduleKind::Milestones, multi_step), (ScheduleKind::Cosine, cosine)] {
        let schedule = ScheduleSettings {
            kind,
            milestones: vec![2, 5],
            gamma: 0.1,
            ..ScheduleSettings::default()
        };
        for (epoch, wanted) in wanted.into_iter().enumerate() {
            for within in [0.0, 0.5] {
                let at = Moment {
                    epoch,
                    epochs: 8,
                    within,
                };
                close(0.1 * schedule.factor(at), wanted, 1e-12, &format!("{kind:?} {epoch}"));
            }
        }
    }
}

/// Four steps on the loss of the script below, from its starting point.
fn stepped(settings: &OptimizerSettings, kind: Kind) -> Vec<f64> {
    let parameter = Tensor::from_slice(&[0.5, -1.0, 2.0])
        .to_kind(kind)
        .set_requires_grad(true);
    let mut optimizer = Optimizer::new(settings, vec![parameter.shallow_clone()]);
    let (centre, weight) = (
        Tensor::from_slice(&[1.0, 0.3, -0.7]),
        Tensor::from_slice(&[0.5, 1.0, 3.0]),
    );
    for step in 0..4 {
        let loss = ((&parameter - &centre).square() * &weight).sum(Kind::Double)
            + (&parameter * f64::from(step + 1)).sin().sum(Kind::Double);
        optimizer.step(&loss, settings.lr).unwrap();
    }
    Vec::try_from(parameter.detach()).unwrap()
}

/// ```python
/// def steps(make):
///     p = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
///     opt = make([p])
///     for t in range(4):
///         opt.zero_grad()
///         loss = ((p - torch.tensor([1.0, 0.3, -0.7])) ** 2 * torch.tensor([0.5, 1.0, 3.0])).sum()
///         (loss + torch.sin(p * (t + 1)).sum()).backward()
///         opt.step()
///     return p.tolist()
/// o = torch.optim
/// print(steps(lambda p: o.SGD(p, lr=0.05)))
/// print(steps(lambda p: o.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4)))
/// print(steps(lambda p: o.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)))
/// print(steps(lambda p: o.Adam(p, lr=0.05)))
/// print(steps(lambda p: o.Adam(p, lr=0.05, betas=(0.5, 0.9), eps=1e-4, weight_decay=0.01)))
/// ```
#[test]
fn optimisers() {
    let base = OptimizerSettings {
        lr: 0.05,
        momentum: 0.0,
        weight_decay: 0.0,
        ..OptimizerSettings::default()
    };
    let momentum = OptimizerSettings {
        momentum: 0.9,
        weight_decay: 5e-4,
        ..base.clone()
    };
    let nesterov = OptimizerSettings {
        momentum: 0.9,
        weight_decay: 0.01,
        nesterov: true,
        ..base.clone()
    };
    let adam = OptimizerSettings {
        kind: OptimizerKind::Adam,
        ..base.clone()
    };
    let adam_decay = OptimizerSettings {
        betas: [0.5, 0.9],
        eps: 1e-4,
        weight_decay: 0.01,
        ..adam.clone()
    };
    for (settings, wanted) in [
        (base, [0.5134291783090523, -0.34823166200228156, 0.03018458719165276]),
        (momentum, [0.346556497170961, 0.019666137616326802, -2.70109493960587]),
        (nesterov, [0.1358040711857728, -0.16100302126983618, -1.998647308450308]),
        (adam, [0.3128866190003251, -0.8034616363327869, 1.8000019865654087]),
        (adam_decay, [0.3179279007346344, -0.7869412981781461, 1.79805058007403]),
    ] {
        // Libtorch's operations in float64, and the single pass over float32.
        for (kind, within) in [(Kind::Double, 1e-10), (Kind::Float, 2e-6)] {
            for (ours, wanted) in stepped(&settings, kind).into_iter().zip(wanted) {
                close(ours, wanted, within, &format!("{kind:?} {settings:?}"));
            }
        }
    }
}

/// Weights and gradients in any order of memory, more of them than a thread takes alone: the single pass against float64.
#[test]
fn a_step_takes_tensors_as_they_lie() {
    let (weights, gradient) = (random(&[40, 30, 5, 5]), random(&[40, 30, 5, 5]));
    let channels_last = |tensor: &Tensor| {
        let permuted = tensor.permute([0, 2, 3, 1]).contiguous();
        permuted.permute([0, 3, 1, 2])
    };
    let gapped = |tensor: &Tensor| Tensor::cat(&[tensor, tensor], 3).narrow(3, 0, 5);
    let sgd = OptimizerSettings {
        nesterov: true,
        ..OptimizerSettings::default()
    };
    let adam = OptimizerSettings {
        kind: OptimizerKind::Adam,
        ..OptimizerSettings::default()
    };
    for settings in [sgd, adam] {
        let after_two = |weights: Tensor, gradient: &Tensor| {
            let mut optimizer = Optimizer::new(&settings, vec![weights.shallow_clone()]);
            optimizer.apply(&[gradient.shallow_clone()], 0.1);
            optimizer.apply(&[gradient * 0.5], 0.1);
            weights
        };
        let exact = after_two(weights.to_kind(Kind::Double), &gradient.to_kind(Kind::Double));
        for (ours, gradient) in [
            (weights.copy(), gradient.copy()),
            (channels_last(&weights), gradient.copy()),
            (weights.copy(), channels_last(&gradient)),
            (gapped(&weights), gapped(&gradient)),
        ] {
            let moved = after_two(ours, &gradient);
            let off = f64::try_from((moved.to_kind(Kind::Double) - &exact).abs().max()).unwrap();
            assert!(
                off < 1e-5,
                "{off} with {:?} {:?} {settings:?}",
                moved.stride(),
                gradient.stride()
            );
        }
    }
}

fn random(size: &[i64]) -> Tensor {
    Tensor::randn(size, (Kind::Float, Device::Cpu))
}

const CLASSES: i64 = 5;

/// A teacher that gives every image the same logits.
fn constant(logits: [f32; 5], counts: [u64; 5]) -> Teacher {
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(2),
        blocks: Some(vec![1]),
    };
    let spec = ModelSpec::new(&settings, 1, 8, CLASSES).unwrap();
    let model = Model::new(&spec, Device::Cpu, &mut Seeds::new(1).stream("test", 0)).unwrap();
    let state = model.state();
    no_grad(|| {
        let _ = state.get("linear.weight").unwrap().shallow_clone().zero_();
        state
            .get("linear.bias")
            .unwrap()
            .shallow_clone()
            .copy_(&Tensor::from_slice(&logits));
    });
    Teacher::new(model, counts.to_vec()).unwrap()
}

/// The student's logits [4, 5] of both scripts below.
fn student() -> Tensor {
    (Tensor::arange(20, (Kind::Float, Device::Cpu)) * 1.7)
        .sin()
        .view([4, CLASSES])
        * 3.0
}

fn batch(real: Option<[f32; 4]>) -> Batch {
    Batch {
        images: Tensor::ones([4, 1, 8, 8], (Kind::Float, Device::Cpu)),
        labels: Tensor::from_slice(&[0i64, 3, 4, 1]),
        scores: None,
        real: real.map(|real| Tensor::from_slice(&real)),
    }
}

fn class_weights() -> Tensor {
    Tensor::from_slice(&[10f32, 10.0, 2.0, 2.0, 1.0])
}

/// ```python
/// T = 2.0
/// a, b = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0]), torch.tensor([-0.5, 1.5, 0.0, 3.0, -2.0])
/// shares = torch.tensor([[3, 3, 0, 0, 0], [0, 1, 2, 5, 0]]) / torch.tensor([3, 4, 2, 5, 1])
/// student = torch.sin(torch.arange(20) * 1.7).view(4, 5) * 3
/// labels, real = torch.tensor([0, 3, 4, 1]), torch.tensor([False, True, False, True])
/// weighted = (a / T).softmax(0) * shares[0] + (b / T).softmax(0) * shares[1]
/// targets = {
///     "mean_logits": ((a + b) / 2 / T).softmax(0),
///     "mean_softmax": ((a / T).softmax(0) + (b / T).softmax(0)) / 2,
///     "label_share": weighted / weighted.sum(),
/// }
/// for target in targets.values():
///     print(F.kl_div((student / T).log_softmax(1), target.expand(4, 5), reduction="batchmean") * T * T)
/// target = torch.where(real[:, None], F.one_hot(labels, 5).double(), targets["mean_softmax"].expand(4, 5))
/// each = F.kl_div((student / T).log_softmax(1), target, reduction="none").sum(1)
/// w = torch.tensor([10.0, 10, 2, 2, 1])[labels]
/// print(each.mean() * T * T, (w * each).sum() / w.sum() * T * T)
/// ```
#[test]
fn distillation_loss() {
    let teachers = [
        constant([2.0, -1.0, 0.5, 0.0, 1.0], [3, 3, 0, 0, 0]),
        constant([-0.5, 1.5, 0.0, 3.0, -2.0], [0, 1, 2, 5, 0]),
    ];
    let teachers: Vec<&Teacher> = teachers.iter().collect();
    let loss = |kind, real, class_weights| {
        let objective = Distillation {
            teachers: teachers.clone(),
            ensemble: Ensemble::new(kind, &teachers, Device::Cpu),
            temperature: 2.0,
            class_weights,
        };
        number(&objective.loss(&student(), &batch(real)).unwrap())
    };
    for (kind, wanted) in [
        (EnsembleKind::MeanLogits, 2.399758608545847),
        (EnsembleKind::MeanSoftmax, 2.395504920281181),
        (EnsembleKind::LabelShare, 4.138773729032515),
    ] {
        close(loss(kind, None, None), wanted, 1e-5, &format!("{kind:?}"));
    }
    let (mixed, soft) = (Some([0.0, 1.0, 0.0, 1.0]), EnsembleKind::MeanSoftmax);
    close(loss(soft, mixed, None), 3.3717062199283276, 1e-5, "with real images");
    close(
        loss(soft, mixed, Some(class_weights())),
        3.3693370838427517,
        1e-5,
        "weighted",
    );
}

/// With the names of the script above:
/// ```python
/// print(F.cross_entropy(student, labels))
/// print(F.cross_entropy(student, labels, weight=torch.tensor([10.0, 10, 2, 2, 1])))
/// ```
#[test]
fn cross_entropy_with_class_weights() {
    for (class_weights, wanted) in [(None, 2.6602592993723686), (Some(class_weights()), 2.0255626304991)] {
        let loss = CrossEntropy { class_weights }.loss(&student(), &batch(None)).unwrap();
        close(number(&loss), wanted, 1e-5, "cross-entropy");
    }
}

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
    let set = ImageSet::new(Tensor::from_slice(&pixels).view([12, 1, 2, 2]), truth).unwrap();
    let normalisation = Normalisation {
        mean: vec![0.4],
        std: vec![0.3],
    };
    let weight = (Tensor::arange(12, (Kind::Float, Device::Cpu)) * 2.3)
        .cos()
        .view([4, 3]);
    let predict = |images: &Tensor| Ok(images.view([-1, 4]).matmul(&weight));
    // Batches that do and do not divide the set.
    for batch_size in [1, 5, 12, 100] {
        let found = evaluate(&predict, &set, &normalisation, 3, batch_size).unwrap();
        assert_eq!(found.confusion, [[0, 2, 4], [2, 1, 0], [2, 0, 1]]);
        assert_eq!(found.accuracy(), Some(2.0 / 12.0));
        assert_eq!(found.per_class(), [Some(0.0), Some(1.0 / 3.0), Some(1.0 / 3.0)]);
    }
}
