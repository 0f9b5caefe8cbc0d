//! What an inversion starts from: pictures of shapes in the units of the teachers' images.

use crate::common::machine::device;
use fed_distill::data::Normalisation;
use fed_distill::inversion::{
    Ensemble, EnsembleKind, InversionSettings, Inverter, Start, Synthesizer, SyntheticBatch,
    Teacher,
};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use tch::Kind;

const SIZE: usize = 16;

fn teacher(channels: i64) -> Teacher {
    let settings = ModelSettings {
        kind: ModelKind::Linear,
        ..ModelSettings::default()
    };
    let spec = ModelSpec::new(&settings, channels, SIZE as i64, 4).unwrap();
    let model = Model::new(&spec, device(), &mut Seeds::new(1).stream("test", 0)).unwrap();
    Teacher::new(model, vec![5; 4]).unwrap()
}

/// The images of the lowest loss of one step are those that it starts from.
fn settings() -> InversionSettings {
    let mut settings = InversionSettings {
        batch_size: 200,
        start: Start::Shapes,
        ..InversionSettings::default()
    };
    settings.di.grad_updates_batch = 1;
    settings.di.input_jitter = false;
    settings
}

fn made(channels: i64, index: usize) -> SyntheticBatch {
    let (teacher, settings) = (teacher(channels), settings());
    let normalisation = Normalisation {
        mean: vec![0.25, 0.5, 0.75][..channels as usize].to_vec(),
        std: vec![0.5, 0.25, 0.2][..channels as usize].to_vec(),
    };
    let inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(3)).unwrap();
    let mut inverter = inverter.with_normalisation(&normalisation);
    inverter.make(index, None, &mut ()).unwrap()
}

#[test]
fn pictures_are_of_the_units_of_images() {
    for channels in [1, 3] {
        let images = made(channels, 0).images;
        let (mean, std) = ([0.25, 0.5, 0.75], [0.5, 0.25, 0.2]);
        for channel in 0..channels {
            let [mean, std] = [mean, std].map(|of| of[channel as usize]);
            let plane = images.select(1, channel) * std + mean;
            let [low, high] = [plane.min(), plane.max()].map(|of| f64::try_from(of).unwrap());
            assert!(
                low.abs() < 1e-5 && (high - 1.0).abs() < 1e-5,
                "{low} {high}"
            );
        }
    }
}

/// Edges and flat parts: neighbours are alike, and now and then very different.
#[test]
fn pictures_have_shapes() {
    let images = made(1, 0).images * 0.5 + 0.25;
    let across = images.narrow(3, 1, 15) - images.narrow(3, 0, 15);
    let change = Vec::<f64>::try_from(across.abs().flatten(0, -1).to_kind(Kind::Double)).unwrap();
    let share = |is: &dyn Fn(f64) -> bool| {
        change.iter().filter(|&&change| is(change)).count() as f64 / change.len() as f64
    };
    let (flat, edges) = (
        share(&|change| change < 0.05),
        share(&|change| change > 0.3),
    );
    assert!((0.4..0.95).contains(&flat), "{flat}");
    assert!((0.02..0.3).contains(&edges), "{edges}");
    // Half of 200 pictures are mirrored, standard deviation 7; few others look the same both ways.
    let folded = (&images - images.flip([3]))
        .abs()
        .amax([1_i64, 2, 3], false);
    let mirrored = i64::try_from(folded.lt(1e-6).sum(Kind::Int64)).unwrap();
    assert!((70..140).contains(&mirrored), "{mirrored}");
    // Each has something in it, and no two are the same.
    let spread = images.std_dim(&[1_i64, 2, 3][..], false, false);
    assert!(f64::try_from(spread.gt(0.0).mean(Kind::Double)).unwrap() > 0.95);
    assert_eq!(made(1, 0).images, made(1, 0).images);
    assert_ne!(made(1, 0).images, made(1, 1).images);
}

/// Every other one of the batch is more surely of its label than what was drawn without a choice,
/// by the teachers' joint prediction; none comes twice.
#[test]
fn teachers_choose_among_candidates() {
    let teacher = teacher(1);
    let joint = Ensemble::new(EnsembleKind::LabelShare, &[&teacher], device());
    let normalisation = Normalisation {
        mean: vec![0.25],
        std: vec![0.5],
    };
    let probabilities = |candidates: usize| {
        let settings = InversionSettings {
            candidates,
            ..settings()
        };
        let inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(3)).unwrap();
        let mut inverter = inverter.with_normalisation(&normalisation);
        let made = inverter.make(0, None, &mut ()).unwrap();
        let images = made.images.flatten(1, -1);
        let apart = (images.unsqueeze(0) - images.unsqueeze(1)).abs();
        let equal = apart.amax([2_i64], false).eq(0.0).sum(Kind::Int64);
        // But for two or three without any shape.
        assert!(i64::try_from(equal).unwrap() <= 206);
        let joint = joint.predict(&[&teacher], &made.images, 1.0).unwrap().exp();
        let of_label = joint.gather(1, &made.labels.unsqueeze(1), false).squeeze();
        Vec::<f64>::try_from(of_label.to_kind(Kind::Double)).unwrap()
    };
    let mean = |all: &[f64], from: usize| {
        let every_other: Vec<f64> = all.iter().copied().skip(from).step_by(2).collect();
        every_other.iter().sum::<f64>() / every_other.len() as f64
    };
    let (drawn, chosen) = (probabilities(1), probabilities(8));
    let all = (mean(&drawn, 0) + mean(&drawn, 1)) / 2.0;
    assert!((mean(&drawn, 0) - all).abs() < 0.1 && all < 0.5, "{all}");
    assert!(mean(&chosen, 0) > all + 0.2, "{}", mean(&chosen, 0));
    assert!(mean(&chosen, 1) < all + 0.1, "{}", mean(&chosen, 1));
}

#[test]
fn shapes_need_a_normalisation() {
    let (teacher, settings) = (teacher(1), settings());
    let mut inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(3)).unwrap();
    let error = inverter.make(0, None, &mut ()).unwrap_err().to_string();
    assert!(
        error.contains("`start` is `shapes`") && error.contains("normalisation"),
        "{error}"
    );
}
