//! What a teacher answers to pictures of shapes, as an estimate of its classes' shares.

use crate::common::machine::device;
use fed_distill::data::Normalisation;
use fed_distill::inversion::{Loaded, estimate_class_shares};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, StateDict};
use fed_distill::runtime::seed::Seeds;
use tch::{Kind, Tensor};

/// A linear model of images of 8 by 8 whose weights are `slope` for the first class, else zero.
fn teacher(priors: &[f32], slope: f64) -> Loaded {
    let settings = ModelSettings {
        kind: ModelKind::Linear,
        ..ModelSettings::default()
    };
    let spec = ModelSpec::new(&settings, 1, 8, priors.len() as i64).unwrap();
    let (classes, options) = (priors.len() as i64, (Kind::Float, device()));
    let weight = Tensor::zeros([classes, 64], options);
    let _ = weight.get(0).fill_(slope);
    let bias = Tensor::from_slice(priors).log().to_device(device());
    let random = Model::new(&spec, device(), &mut Seeds::new(1).stream("test", 0)).unwrap();
    let named = |(name, _): (&str, &Tensor)| match name.ends_with("bias") {
        true => (name.to_owned(), bias.shallow_clone()),
        false => (name.to_owned(), weight.shallow_clone()),
    };
    let state = StateDict::new(random.state().iter().map(named).collect());
    Loaded::new(Model::from_state(&spec, &state, device()).unwrap())
}

fn estimate(teacher: &Loaded, mean: f64) -> Vec<f64> {
    let normalisation = Normalisation {
        mean: vec![mean],
        std: vec![0.5],
    };
    estimate_class_shares(teacher, &normalisation).unwrap()
}

/// A teacher that sees nothing in an image answers with its prior.
#[test]
fn the_prior_of_a_teacher_that_sees_nothing() {
    let priors = [0.54, 0.3, 0.13, 0.03];
    let found = estimate(&teacher(&priors, 0.0), 0.5);
    for (found, prior) in found.iter().zip(priors) {
        assert!((found - f64::from(prior)).abs() < 1e-6, "{found} {prior}");
    }
}

/// Pictures are normalised as the teacher's images are: most are darker than 0.9, and brighter than
/// nothing.
#[test]
fn pictures_are_normalised() {
    let teacher = teacher(&[0.5, 0.5], 0.1);
    let [dark, bright] = [0.9, 0.0].map(|mean| estimate(&teacher, mean)[0]);
    assert!(dark < 0.2 && bright > 0.8, "{dark} {bright}");
    assert_eq!(estimate(&teacher, 0.9), estimate(&teacher, 0.9));
}
