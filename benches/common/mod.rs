//! What is timed on the Rust side, for the criterion bench and for the worker that is driven in
//! alternation with Python.

// The criterion bench only runs steps; the worker saves and checks them as well.
#![allow(dead_code)]

/// The binaries' allocator.
#[path = "../../src/bin/allocator/mod.rs"]
mod allocator;
pub mod cases;
pub mod inversion;
pub mod training;
