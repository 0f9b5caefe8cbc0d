//! Defines what makes synthetic batches from teachers. [`Inverter`](super::Inverter) is one such
//! thing, and a generator another; both serve `generate_initial` and
//! [`AdaptiveSource`](crate::distill::AdaptiveSource).

use super::engine::TermsAt;
use super::inverter::SyntheticBatch;
use super::store::BatchStore;
use super::teacher::Teacher;
use crate::error::Result;
use crate::model::Model;
use crate::train::Callback;

/// Describes a term of a synthesiser's loss.
#[derive(Clone, Copy, Debug)]
pub struct LossTerm {
    /// Its name.
    pub name: &'static str,
    /// Its factor in the total; a term without one is not in use.
    pub scale: f64,
    /// Reads it, before scaling.
    pub of: fn(&TermsAt) -> f64,
}

/// Makes synthetic batches from teachers. All that is drawn for batch `index` follows from its
/// index, and the same student and the same weights of the teachers give the same batch, unless it
/// depends on earlier ones ([`is_independent`](Self::is_independent)).
pub trait Synthesizer {
    /// Returns the number of gradient steps of one batch, made against a student or not.
    fn steps(&self, student: bool) -> usize;

    /// Returns true if a batch follows from its index alone, so that batches can be made in any
    /// order and by several ranks. Otherwise they are made in order, and each depends on earlier
    /// ones.
    fn is_independent(&self) -> bool;

    /// Returns the terms of the loss of a batch that is made without a student, in the order in
    /// which they are shown.
    fn terms(&self) -> Vec<LossTerm>;

    /// Returns the teachers that `batch` was made from.
    fn teachers_of(&self, batch: &SyntheticBatch) -> Vec<&Teacher>;

    /// Makes batch `index`, against `student` if there is one; tells `callback` of each step.
    ///
    /// # Errors
    /// Fails when the loss becomes NaN or infinite, on Ctrl-C, and when a teacher cannot be read or
    /// libtorch fails.
    fn make(
        &mut self,
        index: usize,
        student: Option<&Model>,
        callback: &mut dyn Callback,
    ) -> Result<SyntheticBatch>;

    /// Gets batch `index` from the store, so that the next one is made as if this one had been made
    /// here; returns `None` if it is not there.
    ///
    /// # Errors
    /// Fails when [`BatchStore::get`] does.
    fn load(&mut self, index: usize, store: &dyn BatchStore) -> Result<Option<SyntheticBatch>>;

    /// Brings the synthesiser into the state after the batch that was loaded last, before the next
    /// one is made.
    ///
    /// # Errors
    /// Fails when the state is not in the store.
    fn restore(&mut self, store: &dyn BatchStore) -> Result<()> {
        let _ = store;
        Ok(())
    }

    /// Stores batch `index`, which was made last, and what the next one needs of it.
    ///
    /// # Errors
    /// Fails when [`BatchStore::put`] does.
    fn store(&self, index: usize, batch: &SyntheticBatch, store: &dyn BatchStore) -> Result<()>;

    /// Gets batch `index` from the store, or makes it as [`make`](Self::make) does and stores it.
    ///
    /// # Errors
    /// Fails when the batch cannot be made, read or stored.
    fn make_or_load(
        &mut self,
        index: usize,
        student: Option<&Model>,
        store: &dyn BatchStore,
        callback: &mut dyn Callback,
    ) -> Result<SyntheticBatch> {
        if let Some(batch) = self.load(index, store)? {
            return Ok(batch);
        }
        self.restore(store)?;
        let batch = self.make(index, student, callback)?;
        self.store(index, &batch, store)?;
        Ok(batch)
    }
}
