//! Cases whose outcome is known.

use super::support::*;
use crate::machine::device;
use fed_distill::data::ImageSet;
use fed_distill::federated::fed_avg::{FedAvgSettings, selected};
use fed_distill::model::{Model, ModelKind, weighted_mean};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::OptimizerSettings;
use proptest::prelude::*;

/// The training loop itself, on some images at once.
fn trained(
    model: &mut Model,
    set: &ImageSet,
    batch_size: usize,
    purpose: &str,
    optimizer: &OptimizerSettings,
) {
    let passes = Passes {
        epochs: 1,
        batch_size,
        optimizer,
        augment: &plain().augment,
        normalisation: &normalisation(),
        seeds: Seeds::new(5),
        purpose,
    };
    passes.over(set, model);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// One epoch of one batch each, everybody, plain SGD: a gradient step on the union.
    #[test]
    fn one_step_of_everybody_is_a_central_step(
        sizes in prop::collection::vec(1usize..9, 1..5),
        rounds in 1usize..4,
    ) {
        let settings = FedAvgSettings { rounds, ..plain() };
        let (state, _) = run(&settings, ModelKind::Lenet5, &sizes, 1, None).unwrap();
        let mut central = initial(ModelKind::Lenet5, 0);
        let union = images(0, sizes.iter().sum());
        for _ in 0..rounds {
            trained(&mut central, &union, union.len(), "any order", &settings.optimizer);
        }
        let start = initial(ModelKind::Lenet5, 0);
        let apart = difference(&state, &central.state());
        let moved = difference(&start.state(), &central.state());
        prop_assert!(apart < 1e-6 && moved > 1e-3, "{} after moving {}", apart, moved);
    }
}

/// Without a proximal term and with a server rate of one, the global weights are the clients' mean,
/// weighted by images.
#[test]
fn plain_fed_avg_is_the_weighted_mean() {
    let settings = FedAvgSettings {
        rounds: 2,
        batch_size: Some(4),
        optimizer: sgd(0.05, 0.9),
        ..plain()
    };
    for kind in [ModelKind::Lenet5, ModelKind::Resnet18] {
        let sizes = [7, 12];
        let (state, _) = run(&settings, kind, &sizes, 1, None).unwrap();
        let mut global = initial(kind, 0);
        for round in 0..2 {
            let part = |node: usize, set: &ImageSet| {
                let mut model = Model::from_state(&spec(kind), &global.state(), device()).unwrap();
                let purpose = format!("fed_avg/{node}/{round}/batches");
                trained(&mut model, set, 4, &purpose, &settings.optimizer);
                model.state().deep_clone()
            };
            let parts = [part(0, &images(0, 7)), part(1, &images(7, 12))];
            global
                .load_state(&weighted_mean(&[&parts[0], &parts[1]], &[7.0, 12.0]).unwrap())
                .unwrap();
        }
        assert!(difference(&state, &global.state()) < 1e-6, "{kind:?}");
        let other = FedAvgSettings {
            proximal: 1.0,
            ..settings.clone()
        };
        let (other, _) = run(&other, kind, &sizes, 1, None).unwrap();
        assert!(difference(&other, &global.state()) > 1e-5, "{kind:?}");
    }
}

/// Each round draws anew.
#[test]
fn rounds_draw_nodes_by_the_seed() {
    let draw = |seed, round| selected(&Seeds::new(seed), round, 100, 0.1);
    let mut seen = vec![0; 100];
    for round in 1..=200 {
        let nodes = draw(1, round);
        assert!(
            nodes.len() == 10 && nodes.is_sorted_by(|a, b| a < b),
            "{nodes:?}"
        );
        nodes.iter().for_each(|&node| seen[node] += 1);
    }
    // 20 expected, standard deviation 4.2.
    assert!(
        seen.iter().all(|&count| (3..40).contains(&count)),
        "{seen:?}"
    );
    assert_eq!(draw(1, 7), draw(1, 7));
    assert_ne!(draw(1, 7), draw(2, 7));
    assert_eq!(selected(&Seeds::new(1), 1, 3, 0.01).len(), 1);
    assert_eq!(selected(&Seeds::new(1), 1, 3, 1.0), [0, 1, 2]);
}
