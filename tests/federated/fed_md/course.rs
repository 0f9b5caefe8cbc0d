//! Bytes, ranks, interruptions, evaluations, errors.

use super::support::*;
use crate::machine::device;
use fed_distill::federated::fed_md::{FedMdSettings, NodeReport};
use fed_distill::federated::{Direction, Kind, Link};
use fed_distill::model::{Model, ModelKind, StateDict};
use fed_distill::train::{AugmentSettings, FitState};
use std::time::Duration;
use tch::{Device, Kind as Type, Tensor};

/// Three architectures, one with batch norm; some public images a round, batches that do not
/// divide.
pub fn motley() -> (FedMdSettings, Cast) {
    let settings = FedMdSettings {
        rounds: 3,
        public_samples: Some(6),
        batch_size: 4,
        digest_batch_size: Some(3),
        optimizer: sgd(0.05, 0.9),
        augment: AugmentSettings {
            crop: 1,
            flip: true,
        },
        ..plain()
    };
    let clients = [
        (ModelKind::Resnet18, (0, 9)),
        (ModelKind::Linear, (9, 4)),
        (ModelKind::Lenet5, (13, 6)),
        (ModelKind::Resnet18, (19, 5)),
    ];
    (settings, cast(&clients, (40, 13)))
}

#[test]
fn every_byte_is_in_the_ledger() {
    let (settings, cast) = motley();
    let (_, log) = run(&settings, &cast, 1, None).unwrap();
    assert_eq!(log.ledgers.len(), 4);
    for (round, ledger) in log.ledgers.iter().enumerate() {
        for index in 0..cast.clients.len() {
            for (kind, direction) in [
                (Kind::Scores, Direction::Upload),
                (Kind::Consensus, Direction::Download),
            ] {
                let mine = ledger.sum(|e| {
                    e.round == round
                        && e.node == node(index)
                        && e.kind == kind
                        && e.direction == direction
                });
                // Six images, a score of four bytes for each of three classes; nothing in transfer
                // learning.
                let wanted = if round == 0 { 0 } else { 6 * 3 * 4 };
                assert_eq!(mine.values, wanted, "round {round}, {kind:?}");
                let framing = mine.bytes - mine.values;
                assert!(
                    round == 0 && framing == 0 || (50..300).contains(&framing),
                    "{framing}"
                );
            }
        }
        // 2·S·K·4 for each client, and 64 bytes of report; no weights, nothing else.
        let all = ledger.sum(|_| true).values;
        assert_eq!(all, 4 * 64 + if round == 0 { 0 } else { 2 * 6 * 3 * 4 * 4 });
        assert_eq!(ledger.sum(|e| e.kind == Kind::Report).values, 4 * 64);
    }
}

#[test]
fn ranks_and_interruptions_change_no_bit() {
    let (settings, cast) = motley();
    let (states, log) = run(&settings, &cast, 1, None).unwrap();
    for (before, after) in [(1, 1), (1, 3), (2, 1), (3, 7), (7, 2)] {
        let (others, other) = run(&settings, &cast, before, None).unwrap();
        assert_eq!(differences(&states, &others), [0.0; 4], "{before} ranks");
        assert_eq!(
            (&log.ledgers, &log.reports),
            (&other.ledgers, &other.reports),
            "{before} ranks"
        );
        // Every state that was saved: between clients of transfer learning, after it, after rounds,
        // at the end.
        let rounds: Vec<usize> = other
            .saved
            .iter()
            .map(|state| state.position.epoch)
            .collect();
        assert_eq!(rounds, [0, 0, 0, 0, 1, 2, 3, 4, 4], "{before} ranks");
        for state in &other.saved {
            let round = state.position.epoch;
            let case = format!("from round {round} of {before} ranks on {after}");
            let (others, rest) = run(&settings, &cast, after, Some(state.copy())).unwrap();
            assert_eq!(differences(&states, &others), [0.0; 4], "{case}");
            assert_eq!(
                (&log.ledgers[round..], &log.reports[round..]),
                (&rest.ledgers[..], &rest.reports[..]),
                "{case}"
            );
        }
    }
}

/// Rank 0 has three of these clients and is told of two on each of the others, in whatever order
/// they come.
#[test]
fn several_clients_of_other_ranks_are_told_apart() {
    let (settings, cast) = motley();
    let clients: Vec<_> = (0..7)
        .map(|i| (ModelKind::Linear, (4 * i, 3 + i % 2)))
        .collect();
    let cast = Cast { clients, ..cast };
    let settings = FedMdSettings {
        rounds: 1,
        ..settings
    };
    let (states, log) = run(&settings, &cast, 1, None).unwrap();
    for _ in 0..20 {
        let (others, other) = run(&settings, &cast, 3, None).unwrap();
        assert_eq!(differences(&states, &others), [0.0; 7]);
        assert_eq!(log.reports, other.reports);
    }
}

/// Nodes 0, 2 and 4 are on rank 0, node 3 is on rank 1, which is done long before rank 0 comes to
/// node 4.
#[test]
fn other_ranks_clients_are_saved() {
    let (settings, cast) = motley();
    let settings = FedMdSettings {
        rounds: 1,
        ..settings
    };
    let saved = |pace: u64| {
        let logs = on_ranks(2, |rank| {
            let mut log = Log {
                eager: true,
                pace: Duration::from_millis(if rank.number() == 0 { pace } else { 0 }),
                ..Log::default()
            };
            part(&settings, &cast, rank, None, &mut log)?;
            Ok(log)
        });
        logs.unwrap().swap_remove(0).saved
    };
    let has = |state: &FitState, node: usize| {
        let prefix = format!("model.{node}.");
        state
            .tensors
            .iter()
            .any(|(name, _)| name.starts_with(&prefix))
    };
    let between = |saved: &Vec<FitState>| saved.iter().any(|state| has(state, 3) && !has(state, 4));
    // A busy machine may keep rank 1 from its client: then rank 0 takes its time.
    let saved = [60, 600, 6000].into_iter().map(saved).find(between);
    assert!(saved.unwrap().iter().all(|state| has(state, 0)));
}

#[test]
fn accuracies_are_measured_when_they_are_due() {
    let (settings, cast) = motley();
    let settings = FedMdSettings {
        rounds: 5,
        eval_every: 2,
        ..settings
    };
    let (states, log) = run(&settings, &cast, 1, None).unwrap();
    let has = |report: &NodeReport| {
        let all = [
            report.local_accuracy,
            report.public_accuracy,
            report.own_test_accuracy,
            report.test_accuracy,
        ];
        assert!(
            all.iter()
                .all(|accuracy| accuracy.is_some() == all[0].is_some())
        );
        all[0].is_some()
    };
    let measured: Vec<bool> = log
        .reports
        .iter()
        .map(|reports| reports.iter().all(has))
        .collect();
    assert_eq!(measured, [true, false, true, false, true, true]);
    let model = Model::from_state(&spec(ModelKind::Linear), &states[1], device()).unwrap();
    for (set, accuracy) in [
        (images(9, 4), log.reports[5][1].local_accuracy),
        (images(40, 13), log.reports[5][1].public_accuracy),
        (images(100, 5), log.reports[5][1].own_test_accuracy),
        (images(200, 11), log.reports[5][1].test_accuracy),
    ] {
        let said = model
            .eval(&normalisation().apply(&set.images))
            .argmax(1, false);
        let right = f64::try_from(
            said.eq_tensor(&set.labels)
                .to_kind(Type::Double)
                .mean(Type::Double),
        )
        .unwrap();
        assert!((right - accuracy.unwrap()).abs() < 1e-12);
    }
}

#[test]
fn a_training_that_diverges_names_node_and_round() {
    let cast = cast(&[(ModelKind::Lenet5, (0, 5))], (20, 7));
    let error = |settings: &FedMdSettings| {
        run(settings, &cast, 1, None)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let settings = FedMdSettings {
        optimizer: sgd(1e30, 0.0),
        ..plain()
    };
    let before = error(&settings);
    assert!(
        before.contains("training node 0 before round 1"),
        "{before}"
    );
    let within = error(&FedMdSettings {
        public_epochs: 0,
        private_epochs: 0,
        revisit_epochs: 2,
        ..settings
    });
    assert!(within.contains("training node 0 in round 1"), "{within}");
}

#[test]
fn scores_that_cannot_be_meant_are_refused_by_name() {
    let settings = plain();
    let cast = cast(
        &[
            (ModelKind::Linear, (0, 3)),
            (ModelKind::Linear, (3, 3)),
            (ModelKind::Linear, (6, 3)),
        ],
        (20, 7),
    );
    let says = |scores: &(dyn Fn() -> Tensor + Sync)| {
        let error = on_ranks(2, |rank| {
            if rank.number() == 0 {
                return part(&settings, &cast, rank, None, &mut Log::default()).map(drop);
            }
            // Rank 1 hosts node 3 alone.
            let mut link = Link::new(rank);
            let message = |name: &str, tensor| StateDict::new(vec![(name.to_owned(), tensor)]);
            let report = |name| message(name, Tensor::from_slice(&[3.0; 8]));
            link.upload(3, Kind::Kept, &report("report.3"))?;
            link.upload(3, Kind::Report, &report("report"))?;
            link.complete = 1;
            link.upload(3, Kind::Scores, &message("scores", scores()))
        });
        error.unwrap_err().to_string()
    };
    let float = (Type::Float, Device::Cpu);
    let error = says(&|| Tensor::zeros([7, 4], float));
    assert!(
        error.contains("scores of node 3 do not fit") && error.contains("[7, 3]"),
        "{error}"
    );
    let error = says(&|| Tensor::zeros([7, 3], (Type::Double, Device::Cpu)));
    assert!(error.contains("scores of node 3 do not fit"), "{error}");
    let error = says(&|| Tensor::full([7, 3], f64::NAN, float));
    assert!(
        error.contains("scores of node 3 are not finite") && error.contains("round 1"),
        "{error}"
    );
    let error = says(&|| Tensor::zeros([7, 3], float));
    assert!(error.contains("rank 1 has ended"), "{error}");
}
