//! Going on where a run was stopped, bytes, and ranks that leave.

use super::support::*;
use crate::machine::device;
use crate::support::difference;
use fed_distill::federated::distributed_sgd::{Method, Notes, Outcome, Steps, Task, run};
use fed_distill::federated::transport::{self, Member, Transport};
use fed_distill::federated::{Direction, Kind};
use fed_distill::model::{ModelKind, ModelSettings, ModelSpec};
use fed_distill::train::FitState;
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
        let ((losses, weights, ledger), kept) = saved(method, ranks, &settings, 100, None, 5);
        let kept = kept.unwrap();
        // As it is in a file.
        let notes = serde_json::to_string(&kept.1).unwrap();
        let kept = (kept.0, serde_json::from_str(&notes).unwrap());
        let ((others, other, bytes), _) =
            saved(method, ranks, &settings, 100, Some(kept), usize::MAX);
        assert_eq!(losses, others, "{method:?}");
        assert_eq!(difference(&weights, &other), 0.0, "{method:?}");
        assert_eq!(ledger, bytes, "{method:?}");
    }
}

/// Hears nothing more from the others after so many messages.
struct Deaf<'a>(&'a mut Member, usize);

impl Transport for Deaf<'_> {
    fn rank(&self) -> usize {
        self.0.rank()
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()> {
        self.0.send(to, bytes)
    }

    fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        if from != self.rank() {
            self.1 = self
                .1
                .checked_sub(1)
                .ok_or_else(|| Error::interrupted("enough"))?;
        }
        self.0.receive(from)
    }

    fn has_arrived(&mut self, from: usize) -> bool {
        self.0.has_arrived(from)
    }
}

/// Its forward pass has moved batch norm's statistics when a step is broken off.
#[test]
fn a_step_that_is_broken_off_leaves_no_trace() {
    for method in [Method::AllReduce, Method::ParameterServer] {
        let finish = |start: Option<Saved>, messages: usize| {
            let (start, saved) = (Mutex::new(start), Mutex::new(None));
            let outcome = transport::run(2, |rank| {
                tch::set_num_threads(1);
                let start = start.lock().unwrap().take_if(|_| rank.rank() == 0);
                let mut last = Last(None);
                let leads = rank.rank() == 0;
                let outcome = normed(
                    method,
                    &mut Deaf(rank, if leads { messages } else { usize::MAX }),
                    start,
                    &mut last,
                );
                if leads {
                    *saved.lock().unwrap() = last.0;
                }
                outcome.map(drop)
            });
            (outcome.is_ok(), saved.into_inner().unwrap().unwrap())
        };
        let (whole, (calm, _)) = finish(None, usize::MAX);
        let (broken, stopped) = finish(None, 3);
        assert!(whole && !broken, "{method:?}");
        assert!(stopped.0.position.optimizer_steps > 0, "{method:?}");
        let (whole, (resumed, _)) = finish(Some(stopped), usize::MAX);
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

/// What was saved last.
struct Last(Option<Saved>);

impl Steps for Last {
    fn save(&mut self, state: &FitState, notes: &Notes) -> Result<()> {
        self.0 = Some((state.copy(), notes.clone()));
        Ok(())
    }
}

/// A rank's part with a net that has batch norm.
fn normed(
    method: Method,
    rank: &mut dyn Transport,
    start: Option<Saved>,
    observer: &mut dyn Steps,
) -> Result<Option<Outcome>> {
    let model = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(4),
        blocks: Some(vec![1]),
    };
    let (set, normalisation) = (images(60), normalisation());
    let task = Task {
        spec: ModelSpec::new(&model, 1, SIZE, 5)?,
        device: device(),
        train: &set,
        normalisation: &normalisation,
        seeds: seeds(),
    };
    run(method, &settings(20, 1), &task, rank, start, observer)
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
