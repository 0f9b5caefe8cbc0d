//! The binaries' allocator: libtorch's tensors come from jemalloc, which keeps freed memory, so
//! that allocating it again causes no page faults.

/// The module that gives each binary its allocator.
#[path = "../../../src/bin/allocator/mod.rs"]
mod of_the_binaries;

use crate::common::child;
use tch::{Device, Kind, Tensor};
use tikv_jemalloc_ctl::{epoch, stats};

const BLOCKS: usize = 5;
const BYTES: usize = 8 << 20;
const ROUNDS: usize = 10;

fn page_faults() -> i64 {
    // SAFETY: `getrusage` fills in the struct, which is plain data.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage.ru_minflt
    }
}

fn tensors() -> Vec<Tensor> {
    let filled = |_| Tensor::ones([BYTES as i64 / 4], (Kind::Float, Device::Cpu));
    (0..BLOCKS).map(filled).collect()
}

fn allocated() -> usize {
    epoch::advance().unwrap();
    stats::allocated::read().unwrap()
}

#[test]
fn tensors_reuse_memory() {
    if !child::alone(tensors_reuse_memory) {
        return;
    }
    let before = allocated();
    let held = tensors();
    let grown = allocated() - before;
    assert!(grown >= BLOCKS * BYTES, "jemalloc knows of {grown} bytes");
    drop(held);
    drop(tensors());
    let before = page_faults();
    (0..ROUNDS).for_each(|_| drop(tensors()));
    let faults = page_faults() - before;
    // Less than one for two blocks, however large the pages.
    assert!(
        faults < (BLOCKS * ROUNDS / 2) as i64,
        "{faults} page faults"
    );
}
