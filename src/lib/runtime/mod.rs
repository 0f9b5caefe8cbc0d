//! Gives a run its device, threads, seeds, interrupts, progress and logs. Everything above uses it;
//! it knows nothing of learning.
//!
//! A program that uses the library changes nothing of its own process by linking it: the signal
//! handler, the log and the number of threads are set by the functions here, which only the stages
//! call.

mod cuda;
pub mod device;
pub mod interrupt;
pub mod launcher;
pub mod logging;
pub(crate) mod memory;
pub mod output;
pub mod progress;
pub mod read;
pub mod seed;
pub mod threads;

pub use progress::Progress;
pub use read::read;
