//! Finished batches outlive the process that made them: an [`Inverter`] puts each into a store, and
//! takes what is there instead of making it again. Called by the sources of batches; what a store
//! is made of is the stages' business.

use super::inverter::{Inverter, SyntheticBatch};
use super::pixels::PixelAdam;
use crate::error::Result;
use crate::model::Model;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::Tensor;

/// Adam's moments [N,C,H,W] after a batch, for the next one (`keep_moments`).
#[derive(Debug)]
pub struct Moments {
    pub first: Tensor,
    pub second: Tensor,
    pub steps: i32,
}

/// A batch, and what making the next one needs of it.
#[derive(Debug)]
pub struct Stored {
    pub batch: SyntheticBatch,
    pub moments: Option<Moments>,
}

/// Where finished batches are kept, by index.
pub trait BatchStore {
    /// The batch, if it is there.
    ///
    /// # Errors
    /// One that is damaged, or of another run.
    fn take(&self, index: usize) -> Result<Option<Stored>>;

    /// Keeps a batch. When this returns, it survives the process.
    ///
    /// # Errors
    /// The store's own.
    fn put(&self, index: usize, stored: &Stored) -> Result<()>;
}

/// Keeps nothing.
impl BatchStore for () {
    fn take(&self, _: usize) -> Result<Option<Stored>> {
        Ok(None)
    }

    fn put(&self, _: usize, _: &Stored) -> Result<()> {
        Ok(())
    }
}

/// Keeps finished batches in memory, for as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryStore(RefCell<BTreeMap<usize, Stored>>);

impl BatchStore for MemoryStore {
    fn take(&self, index: usize) -> Result<Option<Stored>> {
        Ok(self.0.borrow().get(&index).map(Stored::share))
    }

    fn put(&self, index: usize, stored: &Stored) -> Result<()> {
        self.0.borrow_mut().insert(index, stored.share());
        Ok(())
    }
}

impl Stored {
    /// Returns the same batch; its images are views, and its moments, which the next batch changes
    /// in place, are copies.
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

impl Inverter<'_> {
    /// Batch `index` from the store, and the moments that belong to it; `None` when it is not
    /// there.
    ///
    /// # Errors
    /// The store's.
    pub fn recall(
        &mut self,
        index: usize,
        store: &dyn BatchStore,
    ) -> Result<Option<SyntheticBatch>> {
        let Some(Stored { batch, moments }) = store.take(index)? else {
            return Ok(None);
        };
        let settings = &self.settings.optimizer;
        self.moments = moments
            .map(|kept| PixelAdam::with_moments(settings, [kept.first, kept.second], kept.steps));
        Ok(Some(batch))
    }

    /// As [`Inverter::make`], but once for all processes that share the store.
    ///
    /// # Errors
    /// Those of making and of the store.
    pub fn make_once(
        &mut self,
        index: usize,
        student: Option<&Model>,
        store: &dyn BatchStore,
        tick: &dyn Fn(),
    ) -> Result<SyntheticBatch> {
        if let Some(batch) = self.recall(index, store)? {
            return Ok(batch);
        }
        let batch = self.make(index, student, tick)?;
        let moments = self.moments.as_ref().and_then(PixelAdam::moments);
        let moments = moments.map(|([first, second], steps)| Moments {
            first: first.shallow_clone(),
            second: second.shallow_clone(),
            steps,
        });
        let stored = Stored { batch, moments };
        store.put(index, &stored)?;
        Ok(stored.batch)
    }
}
