//! The lengths of the last layer's rows, as an estimate of the classes' shares.

use crate::common::machine::device;
use fed_distill::artifact::StateDict;
use fed_distill::inversion::estimate_class_shares;
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use tch::{Kind, Tensor};

/// A network whose last layer has rows of these lengths.
fn teacher(kind: ModelKind, lengths: &[f64]) -> Model {
    let settings = ModelSettings {
        kind,
        ..ModelSettings::default()
    };
    let spec = ModelSpec::new(&settings, 1, 32, lengths.len() as i64).unwrap();
    let random = Model::new(&spec, device(), &mut Seeds::new(1).stream("test", 0)).unwrap();
    let state = random.state();
    let last = state
        .iter()
        .filter(|(name, _)| name.ends_with("weight"))
        .last()
        .unwrap()
        .0;
    let row = |length: &f64| {
        let features = state.get(last).unwrap().size()[1];
        let row = Tensor::randn([features], (Kind::Double, device()));
        &row / row.norm() * *length
    };
    let rows = Tensor::stack(&lengths.iter().map(row).collect::<Vec<_>>(), 0);
    let set = |(name, tensor): (&str, &Tensor)| match name == last {
        true => (name.to_owned(), rows.to_kind(Kind::Float)),
        false => (name.to_owned(), tensor.shallow_clone()),
    };
    let state = StateDict::new(state.iter().map(set).collect());
    Model::from_state(&spec, &state, device()).unwrap()
}

/// In networks of all kinds of layers, however many come before.
#[test]
fn shares_are_the_sixth_powers_of_the_lengths() {
    for kind in [ModelKind::Linear, ModelKind::Lenet5, ModelKind::Wrn16_1] {
        let found = estimate_class_shares(&teacher(kind, &[2.0, 1.0, 0.5, 1.5])).unwrap();
        let powers = [64.0, 1.0, 0.015625, 11.390625];
        for (found, power) in found.iter().zip(powers) {
            let expected = power / 76.40625;
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}

#[test]
fn rows_of_zeros_are_alike() {
    let found = estimate_class_shares(&teacher(ModelKind::Linear, &[0.0; 4])).unwrap();
    assert!(
        found.iter().all(|share| (share - 0.25).abs() < 1e-9),
        "{found:?}"
    );
}
