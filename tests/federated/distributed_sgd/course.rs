//! Going on where a run was stopped, bytes, and ranks that leave.

use super::support::*;
use crate::support::difference;
use fed_distill::Error;
use fed_distill::federated::distributed_sgd::Method;
use fed_distill::federated::transport::{self, Transport};
use fed_distill::federated::{Direction, Kind};

#[test]
fn a_run_that_goes_on_ends_as_one_that_was_not_stopped() {
    let settings = settings(25, 3);
    for (method, ranks) in [
        (Method::Centralised, 1),
        (Method::AllReduce, 3),
        (Method::ParameterServer, 3),
    ] {
        // 100 images are four batches an epoch: in the middle of the second epoch, and of a mean of three losses.
        let ((losses, weights, ledger), kept) = saved(method, ranks, &settings, 100, None, 5);
        let kept = kept.unwrap();
        // As it is in a file.
        let notes = serde_json::to_string(&kept.1).unwrap();
        let kept = (kept.0, serde_json::from_str(&notes).unwrap());
        let ((others, other, bytes), _) = saved(method, ranks, &settings, 100, Some(kept), usize::MAX);
        assert_eq!(losses, others, "{method:?}");
        assert_eq!(difference(&weights, &other), 0.0, "{method:?}");
        assert_eq!(ledger, bytes, "{method:?}");
    }
}

#[test]
fn bytes_are_twice_parameters_times_ranks_times_steps() {
    let settings = settings(20, 5);
    let parameters = initial().parameter_count();
    let (ranks, steps) = (3, 3 * 5);
    // Each gradient travels with its loss, a float.
    let model = 4 * parameters * ranks * steps;
    let losses = 4 * ranks * steps;
    let (_, _, ledger) = trained(Method::ParameterServer, 3, &settings, 100);
    let sum = |kind, direction| {
        ledger
            .sum(|entry| entry.kind == kind && entry.direction == direction)
            .values
    };
    assert_eq!(sum(Kind::Model, Direction::Download), model);
    assert_eq!(sum(Kind::Gradient, Direction::Upload), model + losses);
    let pixels = 3 * 100 * (SIZE * SIZE) as u64;
    // Images as floats; labels and the batch's size as i64.
    assert_eq!(
        sum(Kind::Batch, Direction::Download),
        4 * pixels + 8 * (3 * 100 + ranks * steps)
    );
    let (_, _, ledger) = trained(Method::AllReduce, 3, &settings, 100);
    assert_eq!(ledger.sum(|_| true).values, 2 * (model + losses));
    assert_eq!(ledger.sum(|entry| entry.node == 2).values, 2 * (model + losses) / 3);
}

#[test]
fn a_rank_that_leaves_is_an_error() {
    for method in [Method::AllReduce, Method::ParameterServer] {
        let error: Error = transport::run(3, |rank| {
            if rank.rank() == 2 {
                return Ok(());
            }
            part(method, &settings(10, 5), 50, rank, None, &mut ()).map(drop)
        })
        .unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}
