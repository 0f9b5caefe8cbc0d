//! Bytes, ranks, interruptions.

use super::support::*;
use fed_distill::federated::fed_avg::{FedAvgSettings, Statistics};
use fed_distill::federated::{Direction, Kind};
use fed_distill::model::ModelKind;
use fed_distill::train::OptimizerSettings;
use tch::Tensor;

#[test]
fn every_byte_is_in_the_ledger() {
    let sizes = [4, 5, 6, 7];
    for (statistics, rounds) in [(Statistics::Average, 3), (Statistics::Local, 2)] {
        let settings = FedAvgSettings {
            rounds,
            fraction: 0.5,
            statistics,
            ..plain()
        };
        let (state, log) = run(&settings, ModelKind::Resnet18, &sizes, 1, None).unwrap();
        let buffer =
            |name: &str| name.contains("running_") || name.ends_with("num_batches_tracked");
        let travels = |name: &str| statistics == Statistics::Average || !buffer(name);
        let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        let model: u64 = state
            .iter()
            .filter(|(name, _)| travels(name))
            .map(|(_, tensor)| size(tensor))
            .sum();
        for (round, (ledger, nodes)) in log.ledgers.iter().zip(&log.nodes).enumerate() {
            assert_eq!(nodes.len(), 2);
            for direction in [Direction::Upload, Direction::Download] {
                for node in 0..sizes.len() {
                    let mine = ledger.sum(|e| {
                        e.round == round
                            && e.node == node
                            && e.kind == Kind::Model
                            && e.direction == direction
                    });
                    let wanted = if nodes.contains(&node) { model } else { 0 };
                    assert_eq!(mine.values, wanted);
                    // Names, shapes and the envelope: about a hundred bytes a tensor.
                    let framing = mine.bytes - mine.values;
                    assert!(
                        framing == 0 && wanted == 0
                            || (100..150 * state.len() as u64).contains(&framing),
                        "{framing}"
                    );
                }
            }
            // 2·P·N a round, and 32 bytes of report from each node.
            assert_eq!(ledger.sum(|e| e.kind == Kind::Model).values, 2 * 2 * model);
            assert_eq!(ledger.sum(|e| e.kind == Kind::Report).values, 2 * 32);
        }
        assert_eq!(log.ledgers.len(), rounds);
    }
}

/// Two tests in one, since both need the run of one rank: the number of ranks, and resuming from a
/// saved round.
#[test]
fn ranks_and_interruptions_change_no_bit() {
    let sizes = [4, 9, 5, 6, 3];
    for statistics in [Statistics::Average, Statistics::Local] {
        let settings = FedAvgSettings {
            rounds: 4,
            fraction: 0.6,
            batch_size: Some(4),
            optimizer: sgd(0.05, 0.9),
            server: OptimizerSettings::adam(0.01),
            statistics,
            ..plain()
        };
        let (state, log) = run(&settings, ModelKind::Resnet18, &sizes, 1, None).unwrap();
        for ranks in [2, 3, 7] {
            let (other, others) = run(&settings, ModelKind::Resnet18, &sizes, ranks, None).unwrap();
            assert_eq!(
                difference(&state, &other),
                0.0,
                "{ranks} ranks, {statistics:?}"
            );
            assert_eq!(log.ledgers, others.ledgers);
        }
        let half = FedAvgSettings {
            rounds: 2,
            ..settings.clone()
        };
        for (before, after) in [(1, 1), (3, 2), (2, 1)] {
            let (_, first) = run(&half, ModelKind::Resnet18, &sizes, before, None).unwrap();
            let (resumed, rest) =
                run(&settings, ModelKind::Resnet18, &sizes, after, first.saved).unwrap();
            let case = format!("resumed on {after} ranks after {before}, {statistics:?}");
            assert_eq!(difference(&state, &resumed), 0.0, "{case}");
            assert_eq!(log.nodes[2..], rest.nodes, "{case}");
            assert_eq!(log.ledgers[2..], rest.ledgers, "{case}");
        }
    }
}
