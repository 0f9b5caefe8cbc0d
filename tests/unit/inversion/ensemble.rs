//! The teachers' joint prediction where clients hold different classes, with numbers by hand.

use fed_distill::inversion::{Ensemble, EnsembleKind, Origin, Teacher};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use tch::{Device, Kind, Tensor};

fn teacher(counts: [u64; 4]) -> Teacher {
    let settings = ModelSettings {
        kind: ModelKind::Linear,
        ..ModelSettings::default()
    };
    let spec = ModelSpec::new(&settings, 1, 8, 4).unwrap();
    let mut rng = Seeds::new(1).stream("test", 0);
    let model = Model::new(&spec, Device::Cpu, &mut rng).unwrap();
    Teacher::new(model, counts.to_vec()).unwrap()
}

/// Two teachers are sure of class 0, and no teacher has seen class 3.
#[test]
fn softening_the_joint_prediction_keeps_what_is_improbable_so() {
    let teachers = [[5, 5, 0, 0], [0, 0, 5, 0]].map(teacher);
    let teachers: Vec<&Teacher> = teachers.iter().collect();
    let row = Tensor::from_slice(&[40.0_f32, 0.0, 0.0, 0.0]).view([1, 4]);
    let logits = [row.shallow_clone(), row];
    let temperature = 20.0;
    for (kind, wanted) in [
        // The teacher of classes 0 and 1, e^40 to 1, beside e^-40 of the other for class 2.
        (
            EnsembleKind::LabelShare,
            [40.0, 0.0, 0.0, f64::NEG_INFINITY],
        ),
        (EnsembleKind::MeanSoftmax, [40.0, 0.0, 0.0, 0.0]),
    ] {
        let ensemble = Ensemble::new(kind, &teachers, Device::Cpu).softening_joint(true);
        let joint = ensemble.log_probabilities(&logits, temperature, None).exp();
        let found = Vec::<f64>::try_from(joint.view(-1).to_kind(Kind::Double)).unwrap();
        let parts = wanted.map(|logit: f64| (logit / temperature).exp());
        let sum: f64 = parts.iter().sum();
        for (found, part) in found.iter().zip(parts) {
            assert!(
                (found - part / sum).abs() < 1e-5,
                "{kind:?}: {found} {}",
                part / sum
            );
        }
    }
}

/// Estimated counts are above zero for every class.
#[test]
fn few_images_of_an_estimate_were_not_seen() {
    let told = teacher([60, 1, 38, 1]);
    assert_eq!(told.seen(), [0, 1, 2, 3]);
    let estimated = teacher([60, 1, 37, 2]).with_estimated_counts();
    assert_eq!(estimated.seen(), [0, 2]);
}

/// One image, made for class 0 from the teacher of classes 0 and 1. `label_share` gives 90 parts of
/// 170 to the classes of the other teacher, which has never seen such an image; by the label the
/// image was made for, its own teacher alone is asked.
#[test]
fn target_of_disjoint_clients() {
    let (own, foreign) = ([0.7, 0.1, 0.1, 0.1], [0.05, 0.05, 0.6, 0.3]);
    let logits = [own, foreign].map(|row| Tensor::from_slice(&row).log().view([1, 4]));
    let target = |counts: [[u64; 4]; 2], kind, label: i64| {
        let teachers = counts.map(teacher);
        let teachers: Vec<&Teacher> = teachers.iter().collect();
        let (labels, made_from) = (Tensor::from_slice(&[label]), Tensor::from_slice(&[0_i64]));
        let origin = Origin {
            labels: &labels,
            teachers: Some(&made_from),
        };
        let ensemble = Ensemble::new(kind, &teachers, Device::Cpu);
        let joint = ensemble.log_probabilities(&logits, 1.0, Some(origin));
        Vec::<f64>::try_from(joint.exp().view(-1).to_kind(Kind::Double)).unwrap()
    };
    let disjoint = [[5, 5, 0, 0], [0, 0, 5, 5]];
    let shared = [[3, 5, 0, 0], [1, 0, 5, 5]];
    let parts = |parts: [f64; 4], of: f64| parts.map(|part| part / of);
    for (counts, kind, label, wanted) in [
        (
            disjoint,
            EnsembleKind::LabelShare,
            0,
            parts([70.0, 10.0, 60.0, 30.0], 170.0),
        ),
        (disjoint, EnsembleKind::LabelGated, 0, own),
        (disjoint, EnsembleKind::LabelGated, 2, foreign),
        // Three quarters of the images of class 0 are at the first client.
        (
            shared,
            EnsembleKind::LabelGated,
            0,
            parts([53.75, 8.75, 22.5, 15.0], 100.0),
        ),
        (disjoint, EnsembleKind::MadeFrom, 2, own),
    ] {
        let found = target(counts, kind, label);
        let near = found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near, "{kind:?}, label {label}: {found:?}");
    }
}
