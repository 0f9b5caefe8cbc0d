//! What surrounds a run and knows nothing of learning: device, threads, seeds, interrupts, progress, logs.

pub mod seed;
