//! Cases whose outcome is known.

use super::support::*;
use fed_distill::data::ImageSet;
use fed_distill::federated::fed_md::{DigestLoss, FedMdSettings, drawn};
use fed_distill::model::{Model, ModelKind};
use fed_distill::runtime::seed::Seeds;

/// The training loop itself, on images with their labels.
fn trained(
    model: &mut Model,
    set: &ImageSet,
    settings: &FedMdSettings,
    epochs: usize,
    purpose: &str,
) {
    let passes = Passes {
        epochs,
        batch_size: settings.batch_size,
        optimizer: &settings.optimizer,
        augment: &settings.augment,
        normalisation: &normalisation(),
        seeds: Seeds::new(5),
        purpose,
    };
    passes.over(set, model);
}

/// On public images first, then on private ones.
#[test]
fn transfer_learning_is_the_training_loop() {
    let settings = FedMdSettings {
        rounds: 0,
        public_epochs: 3,
        private_epochs: 2,
        batch_size: 4,
        optimizer: sgd(0.05, 0.9),
        ..plain()
    };
    let cast = cast(
        &[(ModelKind::Resnet18, (0, 9)), (ModelKind::Lenet5, (9, 6))],
        (20, 7),
    );
    let (states, log) = run(&settings, &cast, 1, None).unwrap();
    for (index, (kind, (first, count))) in cast.clients.into_iter().enumerate() {
        let node = node(index);
        let mut model = initial(kind, node);
        trained(
            &mut model,
            &images(20, 7),
            &settings,
            3,
            &format!("fed_md/{node}/public"),
        );
        trained(
            &mut model,
            &images(first, count),
            &settings,
            2,
            &format!("fed_md/{node}/private"),
        );
        assert_eq!(difference(&states[index], &model.state()), 0.0, "{kind:?}");
    }
    assert_eq!(log.ledgers.len(), 1);
    assert!(
        log.reports[0]
            .iter()
            .all(|report| report.digest_loss.is_none() && report.test_accuracy.is_some())
    );
}

/// Clients that learn from the consensus alone, which no label can disturb.
fn listeners() -> FedMdSettings {
    FedMdSettings {
        revisit_epochs: 0,
        ..plain()
    }
}

/// What float rounding leaves of the difference has a gradient of full size under the absolute
/// loss, so weights are compared under the other.
#[test]
fn the_consensus_of_one_client_is_its_own_opinion() {
    for kind in [ModelKind::Linear, ModelKind::Lenet5] {
        let alone = cast(&[(kind, (0, 5))], (20, 7));
        for digest_loss in [DigestLoss::Absolute, DigestLoss::Squared] {
            let settings = FedMdSettings {
                digest_loss,
                ..listeners()
            };
            let (after, log) = run(&settings, &alone, 1, None).unwrap();
            assert!(
                log.reports[1][0].digest_loss.unwrap() < 1e-6,
                "{kind:?} {digest_loss:?}"
            );
            let before = FedMdSettings {
                rounds: 0,
                ..settings
            };
            let (before, _) = run(&before, &alone, 1, None).unwrap();
            let moved = differences(&before, &after)[0];
            assert!(
                digest_loss == DigestLoss::Absolute || moved < 1e-6,
                "{kind:?}: {moved}"
            );
        }
    }
}

#[test]
fn clients_that_are_the_same_stay_the_same() {
    let twins = cast(&[(ModelKind::Lenet5, (0, 5)); 3], (20, 7));
    let settings = FedMdSettings {
        rounds: 3,
        shared_initialisation: true,
        digest_loss: DigestLoss::Squared,
        ..plain()
    };
    let (states, log) = run(&settings, &twins, 1, None).unwrap();
    let moved = difference(&states[0], &initial(ModelKind::Lenet5, 0).state());
    assert!(moved > 1e-2, "{moved}");
    for other in &states[1..] {
        assert!(difference(&states[0], other) < 1e-5);
    }
    assert!(
        log.reports[3]
            .iter()
            .all(|report| report.digest_loss.unwrap() < 1e-6)
    );
    let apart = FedMdSettings {
        shared_initialisation: false,
        ..settings
    };
    let (states, _) = run(&apart, &twins, 1, None).unwrap();
    assert!(difference(&states[0], &states[1]) > 1e-2);
}

#[test]
fn a_learning_rate_of_zero_changes_nothing() {
    let cast = cast(&PAIR, (20, 7));
    let settings = FedMdSettings {
        rounds: 2,
        optimizer: sgd(0.0, 0.9),
        ..plain()
    };
    let (states, _) = run(&settings, &cast, 1, None).unwrap();
    for (index, (kind, _)) in cast.clients.iter().enumerate() {
        assert_eq!(
            difference(&states[index], &initial(*kind, node(index)).state()),
            0.0
        );
    }
}

#[test]
fn listeners_come_to_agree() {
    let settings = FedMdSettings {
        rounds: 30,
        digest_loss: DigestLoss::Squared,
        ..listeners()
    };
    let (_, log) = run(&settings, &cast(&PAIR, (20, 7)), 1, None).unwrap();
    let loss = |round: usize| log.reports[round][0].digest_loss.unwrap();
    assert!(loss(30) < 0.1 * loss(1), "{} after {}", loss(30), loss(1));
    // A client whose word alone counts hears nothing new: the other comes to it.
    let settings = FedMdSettings {
        weights: Some(vec![0.0, 1.0]),
        ..settings
    };
    let (_, log) = run(&settings, &cast(&PAIR, (20, 7)), 1, None).unwrap();
    let losses: Vec<f64> = log.reports[1]
        .iter()
        .map(|report| report.digest_loss.unwrap())
        .collect();
    assert!(losses[0] > 1e-2 && losses[1] < 1e-10, "{losses:?}");
}

/// And nowhere else.
#[test]
fn public_labels_count_in_transfer_learning() {
    let mut cast = cast(&PAIR, (20, 7));
    for (public_epochs, matters) in [(0, false), (1, true)] {
        let settings = FedMdSettings {
            rounds: 2,
            public_epochs,
            ..plain()
        };
        cast.shift = 0;
        let (states, log) = run(&settings, &cast, 1, None).unwrap();
        cast.shift = 1;
        let (others, other) = run(&settings, &cast, 1, None).unwrap();
        assert!(
            differences(&states, &others)
                .iter()
                .all(|apart| (*apart > 0.0) == matters)
        );
        let public = |log: &Log| {
            log.reports
                .iter()
                .flatten()
                .map(|report| report.public_accuracy)
                .collect::<Vec<_>>()
        };
        assert_ne!(public(&log), public(&other));
    }
}

/// Each round draws anew.
#[test]
fn rounds_draw_images_by_the_seed() {
    let draw = |seed, round| drawn(&Seeds::new(seed), round, 1000, 50);
    let mut seen = vec![0; 1000];
    for round in 1..=200 {
        let images = draw(1, round);
        assert!(
            images.len() == 50 && images.is_sorted_by(|a, b| a < b),
            "{images:?}"
        );
        images.iter().for_each(|&image| seen[image] += 1);
    }
    // 10 expected, standard deviation 3.1.
    assert!(
        seen.iter().all(|&count| (1..30).contains(&count)),
        "{seen:?}"
    );
    assert_eq!(draw(1, 7), draw(1, 7));
    assert_ne!(draw(1, 7), draw(2, 7));
    assert_eq!(drawn(&Seeds::new(1), 1, 5, 9), [0, 1, 2, 3, 4]);
}
