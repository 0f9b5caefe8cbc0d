//! The loss terms of the teachers a batch is not made from, against plain float64 loops over their
//! definitions (`docs/experiments.md`).

use crate::common::machine::device;
use fed_distill::inversion::losses::{entropy, rival};
use fed_distill::inversion::objective::{Combination, Loss, Terms, inversion_loss};
use fed_distill::inversion::{
    InversionSettings, Inverter, LabelMask, LossScales, OtherScales, Synthesizer, SyntheticBatch,
    Teacher, TeacherMode,
};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use tch::{Kind, Tensor};

const CLASSES: i64 = 5;
const LABELS: [i64; 4] = [0, 1, 1, 0];

type Rows = Vec<Vec<f64>>;

fn rows(tensor: &Tensor) -> Rows {
    Vec::try_from(tensor.to_kind(Kind::Double)).unwrap()
}

/// Logits [4, 5] without ties.
fn logits() -> Tensor {
    let values: Vec<f32> = (0..20).map(|i| (i as f32 * 1.7).sin() * 3.0).collect();
    Tensor::from_slice(&values)
        .view([4, CLASSES])
        .to_device(device())
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let sum: f64 = row.iter().map(|value| value.exp()).sum();
    row.iter().map(|value| value.exp() / sum).collect()
}

/// Mean over rows of −Σ p ln p, p over `kept` alone.
fn naive_entropy(logits: &Rows, kept: &[usize]) -> f64 {
    let row = |row: &Vec<f64>| {
        let chosen: Vec<f64> = kept.iter().map(|&class| row[class]).collect();
        -softmax(&chosen).iter().map(|p| p * p.ln()).sum::<f64>()
    };
    logits.iter().map(row).sum::<f64>() / logits.len() as f64
}

/// Mean over rows of the highest probability, over all classes, of one of `kept` that is not the
/// label.
fn naive_rival(logits: &Rows, kept: &[usize]) -> f64 {
    let row = |(row, label): (&Vec<f64>, &i64)| {
        let p = softmax(row);
        let wrong = kept.iter().filter(|&&class| class as i64 != *label);
        wrong.map(|&class| p[class]).fold(0.0, f64::max)
    };
    logits.iter().zip(&LABELS).map(row).sum::<f64>() / logits.len() as f64
}

fn close(ours: f64, wanted: f64, what: &str) {
    assert!(
        (ours - wanted).abs() <= 1e-5 * wanted.abs().max(1e-2),
        "{what}: {ours} for {wanted}"
    );
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn mask(classes: &[i64]) -> LabelMask {
    LabelMask::new(classes, CLASSES, None, device())
}

#[test]
fn terms_of_logits_and_their_gradients() {
    let labels = Tensor::from_slice(&LABELS).to_device(device());
    let all: Vec<usize> = (0..CLASSES as usize).collect();
    for kept in [all, vec![0, 1], vec![2, 4], vec![1]] {
        let mask = (kept.len() < 5)
            .then(|| mask(&kept.iter().map(|&class| class as i64).collect::<Vec<_>>()));
        let ours = |logits: &Tensor| {
            (
                entropy(logits, mask.as_ref()),
                rival(logits, &labels, mask.as_ref()),
            )
        };
        let naive = |logits: &Rows| (naive_entropy(logits, &kept), naive_rival(logits, &kept));

        let at = logits().set_requires_grad(true);
        let (terms, wanted) = (ours(&at), naive(&rows(&at)));
        close(number(&terms.0), wanted.0, "entropy");
        close(number(&terms.1), wanted.1, "rival");

        let gradient =
            |term: &Tensor| rows(&Tensor::run_backward(&[term], &[&at], false, false).remove(0));
        let (of_entropy, of_rival) = (gradient(&terms.0), gradient(&terms.1));
        let step = 1e-5;
        for (row, column) in (0..4).flat_map(|row| (0..5).map(move |column| (row, column))) {
            let moved = |by: f64| {
                let mut logits = rows(&at);
                logits[row][column] += by;
                naive(&logits)
            };
            let (up, down) = (moved(step), moved(-step));
            let slope = |up: f64, down: f64| (up - down) / (2.0 * step);
            assert!(
                (of_entropy[row][column] - slope(up.0, down.0)).abs() < 1e-5,
                "entropy {row} {column}"
            );
            assert!(
                (of_rival[row][column] - slope(up.1, down.1)).abs() < 1e-5,
                "rival {row} {column}"
            );
        }
    }
}

/// Three teachers of two, two and one classes.
fn teachers() -> Vec<Teacher> {
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(4),
        blocks: Some(vec![1]),
    };
    let spec = ModelSpec::new(&settings, 1, 8, CLASSES).unwrap();
    let counts = [
        vec![3, 3, 0, 0, 0],
        vec![0, 0, 2, 5, 0],
        vec![0, 0, 0, 0, 4],
    ];
    let teacher = |(index, counts): (u64, Vec<u64>)| {
        let mut rng = Seeds::new(7).stream("test", index);
        Teacher::new(Model::new(&spec, device(), &mut rng).unwrap(), counts).unwrap()
    };
    (0..).zip(counts).map(teacher).collect()
}

fn images() -> Tensor {
    let values: Vec<f32> = (0..256).map(|i| (i as f32 * 0.37).cos()).collect();
    Tensor::from_slice(&values)
        .view([4, 1, 8, 8])
        .to_device(device())
}

/// The loss of a batch of teacher 0, with the terms of the others where `scales` are given.
fn loss(
    images: &Tensor,
    teachers: &[Teacher],
    masks: &[Option<LabelMask>],
    scales: Option<OtherScales>,
) -> Terms {
    let published = LossScales {
        l2_scale: 0.1,
        var_scale: 1e-3,
        bn_scale: 1.0,
        comp_scale: 0.0,
    };
    let combination = match scales {
        Some(scales) => Combination::WithOthers(masks, scales),
        None => Combination::Separate(masks),
    };
    let teachers: Vec<&Teacher> = teachers.iter().collect();
    inversion_loss(
        images,
        &Tensor::from_slice(&LABELS).to_device(device()),
        &teachers,
        &[0],
        Loss {
            combination,
            scales: &published,
        },
        None,
    )
    .unwrap()
}

#[test]
fn the_loss_gains_the_mean_over_the_other_teachers() {
    let teachers = teachers();
    let scales = OtherScales {
        entropy_scale: 0.7,
        rival_scale: -1.3,
    };
    for masked in [true, false] {
        let seen = [vec![0, 1], vec![2, 3], vec![4]];
        let masks: Vec<_> = seen
            .iter()
            .map(|seen| {
                masked.then(|| mask(&seen.iter().map(|&class| class as i64).collect::<Vec<_>>()))
            })
            .collect();
        let of = |teacher: usize| {
            if masked {
                seen[teacher].clone()
            } else {
                (0..5).collect()
            }
        };
        let logits =
            |teacher: usize| rows(&teachers[teacher].loaded().unwrap().model.eval(&images()));
        // The entropy over the classes of the teacher that makes the batch, the rivals among each
        // other teacher's own.
        let wanted_entropy =
            (naive_entropy(&logits(1), &of(0)) + naive_entropy(&logits(2), &of(0))) / 2.0;
        let wanted_rival =
            (naive_rival(&logits(1), &of(1)) + naive_rival(&logits(2), &of(2))) / 2.0;

        let at = images().set_requires_grad(true);
        let (plain, ours) = (
            loss(&at, &teachers, &masks, None),
            loss(&at, &teachers, &masks, Some(scales)),
        );
        assert!(plain.entropy.is_none() && plain.rival.is_none());
        close(
            number(ours.entropy.as_ref().unwrap()),
            wanted_entropy,
            "entropy",
        );
        close(number(ours.rival.as_ref().unwrap()), wanted_rival, "rival");
        let gained = number(&ours.total) - number(&plain.total);
        close(gained, 0.7 * wanted_entropy - 1.3 * wanted_rival, "gained");

        let gradient = |term: &Tensor| Tensor::run_backward(&[term], &[&at], true, false).remove(0);
        let added = gradient(ours.entropy.as_ref().unwrap()) * 0.7
            - gradient(ours.rival.as_ref().unwrap()) * 1.3;
        assert!(
            number(&added.norm()) > 1e-4,
            "no gradient reaches the images"
        );
        let off = gradient(&ours.total) - gradient(&plain.total) - &added;
        assert!(number(&off.norm()) < 1e-3 * number(&added.norm()));
    }
}

#[test]
fn terms_without_a_scale_cost_and_change_nothing() {
    let teachers = teachers();
    let (masks, scales) = ([None, None, None], OtherScales::default());
    let (plain, ours) = (
        loss(&images(), &teachers, &masks, None),
        loss(&images(), &teachers, &masks, Some(scales)),
    );
    assert_eq!(number(&plain.total), number(&ours.total));
    assert!(ours.entropy.is_none() && ours.rival.is_none() && !scales.in_use());
}

fn made(settings: &InversionSettings) -> SyntheticBatch {
    tch::set_num_threads(1);
    let teachers = teachers();
    let mut inverter = Inverter::new(teachers.iter().collect(), settings, Seeds::new(1)).unwrap();
    inverter.make(0, None, &mut ()).unwrap()
}

#[test]
fn the_sign_of_a_scale_says_where_the_others_go() {
    let settings = |entropy_scale: f64, rival_scale: f64| {
        let mut settings = InversionSettings {
            batch_size: 8,
            ..InversionSettings::default()
        };
        settings.di.grad_updates_batch = 40;
        settings.di.loss.bn_scale = 0.0;
        (settings.di.loss.entropy_scale, settings.di.loss.rival_scale) =
            (entropy_scale, rival_scale);
        settings
    };
    let last = |settings: InversionSettings| made(&settings).history.pop().unwrap();
    // A scale that weighs nothing measures where the other teachers go by themselves.
    let nothing = 1e-9;
    let (sure, left, undecided) = (
        last(settings(20.0, 0.0)),
        last(settings(nothing, 0.0)),
        last(settings(-20.0, 0.0)),
    );
    assert!(
        sure.entropy < left.entropy && left.entropy < undecided.entropy,
        "{sure:?} {left:?} {undecided:?}"
    );
    assert_eq!((sure.rival, undecided.rival), (None, None));
    let (shy, left, keen) = (
        last(settings(0.0, 20.0)),
        last(settings(0.0, nothing)),
        last(settings(0.0, -20.0)),
    );
    assert!(
        shy.rival < left.rival && left.rival < keen.rival,
        "{shy:?} {left:?} {keen:?}"
    );
    let plain = last(settings(0.0, 0.0));
    assert_eq!((plain.entropy, plain.rival), (None, None));
    // What is not in use is not in the files either.
    let text = serde_json::to_string(&plain).unwrap();
    assert!(
        !text.contains("rival") && !text.contains("\"entropy\""),
        "{text}"
    );
}

#[test]
fn refused_where_a_batch_has_no_other_teachers() {
    let teachers = teachers();
    let mut settings = InversionSettings::default();
    settings.adi.loss.rival_scale = 1.0;
    let refused = |teachers: Vec<&Teacher>, settings: &InversionSettings| {
        let error = Inverter::new(teachers, settings, Seeds::new(1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("`adi.loss.rival_scale` is 1"), "{error}");
        assert!(error.contains("adi.loss.rival_scale=0"), "{error}");
    };
    refused(vec![&teachers[0]], &settings);
    assert!(Inverter::new(teachers.iter().collect(), &settings, Seeds::new(1)).is_ok());
    for mode in [TeacherMode::Ensemble, TeacherMode::Sample] {
        settings.teachers.mode = mode;
        refused(teachers.iter().collect(), &settings);
    }
}
