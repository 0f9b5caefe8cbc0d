//! What surrounds a run and knows nothing of learning: device, threads, seeds, interrupts,
//! progress, logs, memory.

mod allocator;
mod cuda;
pub mod device;
pub mod interrupt;
pub mod launcher;
pub mod logging;
pub mod output;
pub mod progress;
pub mod seed;
pub mod threads;

pub use progress::Progress;
