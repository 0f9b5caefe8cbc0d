//! Defines what listens to a run, and how listeners are put together.

use super::fit::EpochReport;
use super::state::FitState;
use crate::error::Result;
use crate::model::Model;
use crate::runtime::Progress;

/// Listens to a run: shows progress, evaluates, writes metrics, saves. Every method does nothing
/// unless it is implemented; an error ends the run. `R` is what a run reports beside its epochs.
pub trait Callback<R = ()> {
    /// Is called after each step of an optimiser, of a model's weights or of a synthetic batch.
    fn step(&mut self) {}

    /// Is called after each epoch of [`fit`](super::fit).
    ///
    /// # Errors
    /// Fails when the implementation does.
    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<()> {
        let _ = (model, report);
        Ok(())
    }

    /// Is called after each round of a federated run, with the global model if there is one; after
    /// each mean loss of distributed SGD; and with each fresh batch, before the student trains on
    /// it.
    ///
    /// # Errors
    /// Fails when the implementation does.
    fn report(&mut self, model: Option<&Model>, report: &R) -> Result<()> {
        let _ = (model, report);
        Ok(())
    }

    /// Returns true if the run should be saved now. A run asks where it can be saved.
    fn due(&self) -> bool {
        false
    }

    /// Saves the run: when it is [`due`](Self::due), when it is stopped, and when it is done. The
    /// state's tensors are views: they are copied or written before this returns.
    ///
    /// # Errors
    /// Fails when the implementation does.
    fn save(&mut self, state: &FitState) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// Does nothing.
impl<R> Callback<R> for () {}

/// Tells both, the first one first. The run is saved when either finds it due.
impl<R, A: Callback<R>, B: Callback<R>> Callback<R> for (A, B) {
    fn step(&mut self) {
        self.0.step();
        self.1.step();
    }

    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<()> {
        self.0.epoch(model, report)?;
        self.1.epoch(model, report)
    }

    fn report(&mut self, model: Option<&Model>, report: &R) -> Result<()> {
        self.0.report(model, report)?;
        self.1.report(model, report)
    }

    fn due(&self) -> bool {
        self.0.due() || self.1.due()
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        self.0.save(state)?;
        self.1.save(state)
    }
}

/// Shows progress.
impl<R> Callback<R> for &Progress {
    fn step(&mut self) {
        Progress::step(self);
    }
}

/// Tells a callback of the steps of a part of its run, and of nothing else.
pub struct Steps<'a, R>(pub &'a mut dyn Callback<R>);

impl<R> Callback for Steps<'_, R> {
    fn step(&mut self) {
        self.0.step();
    }
}
