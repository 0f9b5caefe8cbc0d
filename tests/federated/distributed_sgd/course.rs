//! Resuming where a run was stopped, bytes, and ranks that leave.

use super::support::*;
use crate::machine::device;
use crate::support::difference;
use fed_distill::federated::distributed_sgd::{LossAt, Method, SgdSettings, Task, run};
use fed_distill::federated::transport;
use fed_distill::federated::{Direction, Kind};
use fed_distill::model::{ModelKind, ModelSettings, ModelSpec, Precision};
use fed_distill::train::{Callback, FitState};
use fed_distill::{Error, Result};
use std::sync::Mutex;

#[test]
fn resumed_run_ends_the_same() {
    let settings = settings(25, 3);
    for (method, ranks) in [
        (Method::Centralised, 1),
        (Method::AllReduce, 3),
        (Method::ParameterServer, 3),
    ] {
        // 100 images are four batches an epoch: in the middle of the second epoch, and of a mean of
        // three losses.
        let ((losses, weights, ledger), kept) =
            saved(&spec(), method, ranks, &settings, 100, None, 5);
        assert!(kept.is_some());
        let ((others, other, bytes), _) =
            saved(&spec(), method, ranks, &settings, 100, kept, usize::MAX);
        // One mean was there before step 5.
        assert_eq!(losses[1..], others, "{method:?}");
        assert_eq!(difference(&weights, &other), 0.0, "{method:?}");
        assert_eq!(ledger, bytes, "{method:?}");
    }
}

/// Rank 1 ends after an epoch of three steps, while rank 0 is at the next: its forward pass has
/// moved batch norm's statistics when the step is broken off.
#[test]
fn a_step_that_is_broken_off_leaves_no_trace() {
    for method in [Method::AllReduce, Method::ParameterServer] {
        let finish = |start: Option<FitState>, epochs_of_rank_1: usize| {
            let saved = Mutex::new(None);
            let (start, last) = (Mutex::new(start), &saved);
            let outcome = on_ranks(2, |rank| {
                tch::set_num_threads(1);
                let first = rank.number() == 0;
                let settings = SgdSettings {
                    epochs: if first { 3 } else { epochs_of_rank_1 },
                    ..settings(20, 1)
                };
                let start = start.lock().unwrap().take_if(|_| first);
                normed(method, &settings, rank, start, &mut Last(last))
            });
            (outcome.is_ok(), saved.into_inner().unwrap().unwrap())
        };
        let (whole, calm) = finish(None, 3);
        let (broken, stopped) = finish(None, 1);
        assert!(whole && !broken, "{method:?}");
        assert_eq!(stopped.position.optimizer_steps, 3, "{method:?}");
        let (whole, resumed) = finish(Some(stopped), 3);
        assert!(whole, "{method:?}");
        assert_eq!(calm.position, resumed.position);
        assert!(
            calm.tensors
                .iter()
                .any(|(name, _)| name.ends_with("running_var"))
        );
        for ((name, a), (_, b)) in calm.tensors.iter().zip(&resumed.tensors) {
            assert!(a.equal(b), "{method:?}: {name} differs");
        }
    }
}

/// Keeps what was saved last; rank 0 alone saves.
struct Last<'a>(&'a Mutex<Option<FitState>>);

impl Callback<LossAt> for Last<'_> {
    fn save(&mut self, state: &FitState) -> Result<()> {
        *self.0.lock().unwrap() = Some(state.copy());
        Ok(())
    }
}

/// A rank's part with a net that has batch norm.
fn normed(
    method: Method,
    settings: &SgdSettings,
    rank: &mut transport::Rank,
    start: Option<FitState>,
    callback: &mut dyn Callback<LossAt>,
) -> Result<()> {
    let model = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(4),
        blocks: Some(vec![1]),
    };
    let (set, normalisation) = (images(60), normalisation());
    let task = Task {
        spec: ModelSpec::new(&model, 1, SIZE, 5)?,
        device: device(),
        precision: Precision::F32,
        train: &set,
        normalisation: &normalisation,
        seeds: seeds(),
    };
    run(method, settings, &task, rank, start.as_ref(), callback).map(drop)
}

/// Twice the parameters, times ranks, times steps.
#[test]
fn bytes_by_formula() {
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
    assert_eq!(
        ledger.sum(|entry| entry.node == 2).values,
        2 * (model + losses) / 3
    );
}

#[test]
fn a_rank_that_leaves_is_an_error() {
    for method in [Method::AllReduce, Method::ParameterServer] {
        let error: Error = on_ranks(3, |rank| {
            if rank.number() == 2 {
                return Ok(());
            }
            part(&spec(), method, &settings(10, 5), 50, rank, None, &mut ()).map(drop)
        })
        .unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}
