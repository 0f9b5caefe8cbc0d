//! What the student minimises: distillation, and cross-entropy with class weights.

use super::close;
use crate::common::machine::device;
use fed_distill::distill::Distillation;
use fed_distill::inversion::{Ensemble, EnsembleKind, Teacher};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{Batch, CrossEntropy, Objective};
use tch::{Kind, Tensor, no_grad};

const CLASSES: i64 = 5;

/// A teacher that gives every image the same logits.
fn constant(logits: [f32; 5], counts: [u64; 5]) -> Teacher {
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(2),
        blocks: Some(vec![1]),
    };
    let spec = ModelSpec::new(&settings, 1, 8, CLASSES).unwrap();
    let model = Model::new(&spec, device(), &mut Seeds::new(1).stream("test", 0)).unwrap();
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
    (Tensor::arange(20, (Kind::Float, device())) * 1.7)
        .sin()
        .view([4, CLASSES])
        * 3.0
}

fn batch(real: Option<[f32; 4]>) -> Batch {
    Batch {
        images: Tensor::ones([4, 1, 8, 8], (Kind::Float, device())),
        labels: Tensor::from_slice(&[0i64, 3, 4, 1]).to_device(device()),
        scores: None,
        real: real.map(|real| Tensor::from_slice(&real).to_device(device())),
        teachers: Some(Tensor::from_slice(&[0i64, 1, 1, -1]).to_device(device())),
        views: None,
    }
}

fn class_weights() -> Tensor {
    Tensor::from_slice(&[10f32, 10.0, 2.0, 2.0, 1.0]).to_device(device())
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
/// gates = shares[:, [0, 3, 4, 1]].T
/// gates[2] = 0.5  # no teacher has seen class 4
/// each = torch.stack([(a / T).softmax(0), (b / T).softmax(0)])
/// targets["label_gated"] = gates @ each
/// targets["made_from"] = torch.tensor([[1, 0], [0, 1], [0, 1], [0.5, 0.5]]) @ each
/// for target in targets.values():
///     soft = (student / T).log_softmax(1)
///     print(F.kl_div(soft, target.expand(4, 5), reduction="batchmean") * T * T)
/// target = targets["mean_softmax"].expand(4, 5)
/// soft = F.kl_div((student / T).log_softmax(1), target, reduction="none").sum(1) * T * T
/// each = torch.where(real, F.cross_entropy(student, labels, reduction="none"), soft)
/// w = torch.tensor([10.0, 10, 2, 2, 1])[labels]
/// print(each.mean(), (w * each).sum() / w.sum())
/// hard = F.cross_entropy(student, labels, reduction="none")
/// each = 0.75 * soft + 0.25 * hard
/// print(each.mean(), (w * torch.where(real, hard, each)).sum() / w.sum())
/// ```
#[test]
fn distillation_loss() {
    let teachers = [
        constant([2.0, -1.0, 0.5, 0.0, 1.0], [3, 3, 0, 0, 0]),
        constant([-0.5, 1.5, 0.0, 3.0, -2.0], [0, 1, 2, 5, 0]),
    ];
    let teachers: Vec<&Teacher> = teachers.iter().collect();
    let mixed = |kind, real, label_weight, class_weights| {
        let objective = Distillation {
            teachers: teachers.clone(),
            ensemble: Ensemble::new(kind, &teachers, device()),
            temperature: 2.0,
            label_weight,
            class_weights,
            cache: None,
        };
        number(&objective.loss(&student(), &batch(real)).unwrap())
    };
    let loss = |kind, real, class_weights| mixed(kind, real, 0.0, class_weights);
    for (kind, wanted) in [
        (EnsembleKind::MeanLogits, 2.399758608545847),
        (EnsembleKind::MeanSoftmax, 2.395504920281181),
        (EnsembleKind::LabelShare, 4.138773729032515),
        (EnsembleKind::LabelGated, 2.4215313106424974),
        (EnsembleKind::MadeFrom, 2.5838484446186807),
    ] {
        close(loss(kind, None, None), wanted, 1e-5, &format!("{kind:?}"));
    }
    let (real, soft) = (Some([0.0, 1.0, 0.0, 1.0]), EnsembleKind::MeanSoftmax);
    close(
        loss(soft, real, None),
        1.8420854714697947,
        1e-5,
        "with real images",
    );
    close(
        loss(soft, real, Some(class_weights())),
        1.789466992466153,
        1e-5,
        "weighted",
    );
    close(
        mixed(soft, None, 0.25, None),
        2.461693515053978,
        1e-5,
        "with a quarter of the label",
    );
    close(
        mixed(soft, real, 0.25, Some(class_weights())),
        1.8484909019743898,
        1e-5,
        "with real images, a quarter of the label, weighted",
    );
}

/// With the names of the script above:
/// ```python
/// print(F.cross_entropy(student, labels))
/// print(F.cross_entropy(student, labels, weight=torch.tensor([10.0, 10, 2, 2, 1])))
/// ```
#[test]
fn cross_entropy_with_class_weights() {
    for (class_weights, wanted) in [
        (None, 2.6602592993723686),
        (Some(class_weights()), 2.0255626304991),
    ] {
        let loss = CrossEntropy { class_weights }
            .loss(&student(), &batch(None))
            .unwrap();
        close(number(&loss), wanted, 1e-5, "cross-entropy");
    }
    // A batch none of whose classes weighs anything teaches nothing, and does not end a run.
    let class_weights = Some(class_weights() * 0.0);
    let loss = CrossEntropy { class_weights }.loss(&student(), &batch(None));
    assert_eq!(number(&loss.unwrap()), 0.0);
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}
