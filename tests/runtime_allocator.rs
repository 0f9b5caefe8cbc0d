//! The tuned allocator reuses memory: blocks that are freed and asked for again cause no new page faults.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use fed_distill::runtime::allocator;

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

/// Page faults of a few rounds that each fill blocks as large as an activation and free them, after two rounds of warm-up.
fn faults_of_rounds() -> i64 {
    let round = || {
        let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; BYTES]).collect();
        assert_eq!(std::hint::black_box(blocks).len(), BLOCKS);
    };
    round();
    round();
    let before = page_faults();
    (0..ROUNDS).for_each(|_| round());
    page_faults() - before
}

#[test]
fn freed_blocks_are_reused_without_page_faults() {
    let untuned = faults_of_rounds();
    assert!(allocator::tune(), "glibc accepts all three settings");
    let tuned = faults_of_rounds();
    println!("page faults in {ROUNDS} rounds: {untuned} before, {tuned} after");
    // At least one a block, however large the pages.
    assert!(
        untuned >= (BLOCKS * ROUNDS) as i64,
        "nothing to gain: {untuned} page faults untuned"
    );
    assert!(tuned < untuned / 10, "{tuned} page faults, {untuned} untuned");
}
