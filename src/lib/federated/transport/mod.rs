//! How bytes travel between ranks. A transport knows nothing of what they mean.
//!
//! Algorithms see a [`Transport`]. There is one, [`Member`], which tells messages from signs of
//! life and of death, over [`Wires`], which only carry bytes: channels between threads ([`local`]),
//! or MPI between processes (`mpi`, with the feature of that name).

mod company;
mod frame;
mod local;
mod member;
#[cfg(feature = "mpi")]
pub mod mpi;

pub use company::TIMEOUT;
pub use local::{lead, run};
pub use member::Member;

use crate::error::Result;
use std::time::Duration;

/// One rank's connection to all ranks, itself included. Messages between two ranks arrive in the
/// order in which they were sent.
pub trait Transport {
    /// From 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// Hands `bytes` to rank `to`; does not wait until they are received, nor ask whether they can
    /// be: whoever waits for an answer learns it.
    ///
    /// # Errors
    /// None so far.
    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()>;

    /// Waits for the next message of rank `from`. Its own messages are here already, whatever has
    /// become of the others.
    ///
    /// # Errors
    /// A rank that has failed, whichever it is; `from` has ended, or gives no sign of life; Ctrl-C.
    /// Never a hang.
    fn receive(&mut self, from: usize) -> Result<Vec<u8>>;

    /// Whether a message of rank `from` is here, so that nobody need wait for it.
    fn has_arrived(&mut self, from: usize) -> bool;
}

impl<T: Transport + ?Sized> Transport for &mut T {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()> {
        (**self).send(to, bytes)
    }

    fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        (**self).receive(from)
    }

    fn has_arrived(&mut self, from: usize) -> bool {
        (**self).has_arrived(from)
    }
}

/// Carries bytes, and neither waits nor judges. Between two ranks the order is kept.
pub trait Wires {
    /// From 0.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// Hands `bytes` over for rank `to`, which may be gone.
    fn send(&mut self, to: usize, bytes: Vec<u8>);

    /// Something that has arrived, and from which rank.
    fn poll(&mut self) -> Option<(usize, Vec<u8>)>;

    /// Waits for something to arrive, no longer than `nap`, or for that long.
    fn rest(&mut self, nap: Duration) {
        match nap.is_zero() {
            true => std::thread::yield_now(),
            false => std::thread::sleep(nap),
        }
    }

    /// Whether all that was handed over is on its way.
    fn sent(&mut self) -> bool {
        true
    }

    /// No more will be sent or polled; `clean` if every rank said so.
    fn close(&mut self, clean: bool) {
        let _ = clean;
    }
}
