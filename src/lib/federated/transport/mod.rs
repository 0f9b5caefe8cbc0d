//! Ranks that share a run: threads of one process, or processes of an MPI job.
//!
//! A [`Rank`] exchanges messages with the others, over a [`Transport`] that carries its bytes and
//! knows nothing of what they mean: channels between threads ([`lead`]), or MPI between
//! processes (`mpi`, with the feature of that name).
//!
//! No rank waits for ever. Rank 0 receives from all others, and they from rank 0 alone. A rank
//! tells those that may wait for it that it works, at the safe points of its work
//! ([`interrupt::check`](crate::runtime::interrupt::check)) and while it waits itself, so that long
//! work is not mistaken for a crash. There it also gives up once a rank that it hears has been
//! silent for its time-out; rank 0 hears all of them, whichever it waits for. A rank that gives up,
//! fails, or is stopped tells all others why; they end with the same error at their next safe point
//! or receive, and can save their work. So a rank that sends nonsense or fails ends all ranks at
//! once, and one that dies or hangs ends them within the time-out.

mod frame;
mod local;
#[cfg(feature = "mpi")]
pub mod mpi;
mod peers;
mod rank;

pub use local::lead;
pub use peers::TIMEOUT;
pub use rank::{Outcome, Rank};

use std::time::Duration;

/// Limits how long a rank may be silent.
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    /// The time after which others give up on it.
    pub after: Duration,
    /// Name of this setting in errors.
    pub name: &'static str,
}

impl From<Duration> for Timeout {
    fn from(after: Duration) -> Self {
        let name = "timeout";
        Self { after, name }
    }
}

/// Carries the bytes of one rank, and keeps their order between two ranks.
pub trait Transport {
    /// Returns this rank's number, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of ranks.
    fn size(&self) -> usize;

    /// Begins to send `bytes` to rank `to`, which may have ended.
    fn send(&mut self, to: usize, bytes: Vec<u8>);

    /// Returns the next bytes that have arrived and their sender, without waiting.
    fn poll(&mut self) -> Option<(usize, Vec<u8>)>;

    /// Waits for bytes to arrive, for about `nap` at most.
    fn rest(&mut self, nap: Duration) {
        match nap.is_zero() {
            true => std::thread::yield_now(),
            false => std::thread::sleep(nap),
        }
    }

    /// Returns true once all that was to be sent is on its way.
    fn is_flushed(&mut self) -> bool {
        true
    }

    /// Ends the connection; `clean` if every rank has said that it ends.
    fn close(&mut self, clean: bool) {
        let _ = clean;
    }
}
