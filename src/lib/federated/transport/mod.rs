//! How bytes travel between ranks. A transport knows nothing of what they mean.

mod local;

pub use local::{LocalRank, run};

use crate::error::Result;

/// One rank's connection to all ranks, itself included. Messages between two ranks arrive in the order in which they were sent.
pub trait Transport {
    /// From 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// Hands `bytes` to rank `to`; does not wait until they are received when `to` is this rank.
    ///
    /// # Errors
    /// A rank that is gone.
    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()>;

    /// Waits for the next message of rank `from`.
    ///
    /// # Errors
    /// A rank that is gone: an error, not a hang.
    fn receive(&mut self, from: usize) -> Result<Vec<u8>>;
}
