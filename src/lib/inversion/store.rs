//! Defines stores of finished batches: a [`Synthesizer`](super::Synthesizer) puts each batch into a
//! store, and gets those that are there instead of making them again. Called by `generate_initial`
//! and [`AdaptiveSource`](crate::distill::AdaptiveSource); the stages' store consists of files.

use super::inverter::SyntheticBatch;
use crate::error::Result;
use crate::train::FitState;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::Tensor;

/// Holds Adam's moments f32 `[N,C,H,W]` after a batch, for the next one of its teacher
/// (`keep_moments`).
#[derive(Debug)]
pub struct Moments {
    /// First moment.
    pub first: Tensor,
    /// Second moment.
    pub second: Tensor,
    /// Number of steps so far.
    pub steps: i32,
}

/// Holds a batch, and what the next one needs of it.
#[derive(Debug)]
pub struct StoredBatch {
    /// The batch.
    pub batch: SyntheticBatch,
    /// Moments after the batch, if the next one continues from them.
    pub moments: Option<Moments>,
}

/// Stores finished batches by index. `()` stores nothing.
pub trait BatchStore {
    /// Returns the batch, or `None` if it is not there.
    ///
    /// # Errors
    /// Fails when it is damaged or of another run.
    fn get(&self, index: usize) -> Result<Option<StoredBatch>>;

    /// Stores a batch. When this returns, the batch survives the process.
    ///
    /// # Errors
    /// Fails when it cannot be stored.
    fn put(&self, index: usize, stored: &StoredBatch) -> Result<()>;

    /// Returns the state of a synthesiser after batch `index`, or `None` if it is not there. Only
    /// the states after the last two batches need be.
    ///
    /// # Errors
    /// Fails when it is damaged or of another run.
    fn get_state(&self, index: usize) -> Result<Option<FitState>> {
        let _ = index;
        Ok(None)
    }

    /// Stores the state of a synthesiser after batch `index`.
    ///
    /// # Errors
    /// Fails when it cannot be stored.
    fn put_state(&self, index: usize, state: &FitState) -> Result<()> {
        let _ = (index, state);
        Ok(())
    }

    /// Returns what the user can do when a batch that a resumed run needs is not there.
    fn hint_if_missing(&self) -> Option<&'static str> {
        None
    }
}

/// Stores nothing.
impl BatchStore for () {
    fn get(&self, _: usize) -> Result<Option<StoredBatch>> {
        Ok(None)
    }

    fn put(&self, _: usize, _: &StoredBatch) -> Result<()> {
        Ok(())
    }
}

/// Stores finished batches in memory, for as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryStore {
    batches: RefCell<BTreeMap<usize, StoredBatch>>,
    states: RefCell<BTreeMap<usize, FitState>>,
}

impl BatchStore for MemoryStore {
    fn get(&self, index: usize) -> Result<Option<StoredBatch>> {
        Ok(self.batches.borrow().get(&index).map(StoredBatch::share))
    }

    fn put(&self, index: usize, stored: &StoredBatch) -> Result<()> {
        self.batches.borrow_mut().insert(index, stored.share());
        Ok(())
    }

    fn get_state(&self, index: usize) -> Result<Option<FitState>> {
        Ok(self.states.borrow().get(&index).map(FitState::share))
    }

    fn put_state(&self, index: usize, state: &FitState) -> Result<()> {
        let mut states = self.states.borrow_mut();
        states.insert(index, state.copy());
        states.retain(|&earlier, _| earlier + 1 >= index);
        Ok(())
    }
}

impl StoredBatch {
    /// Returns the same batch. Its images are views; its moments, which the next batch changes in
    /// place, are copies.
    fn share(&self) -> Self {
        Self {
            batch: self.batch.share(),
            moments: self.moments.as_ref().map(|moments| Moments {
                first: moments.first.copy(),
                second: moments.second.copy(),
                steps: moments.steps,
            }),
        }
    }
}
