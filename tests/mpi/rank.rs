//! Ranks of the tests' own, which `mpirun` starts as this executable: one says what it should not,
//! others try the wires themselves.

use fed_distill::federated::transport::{Wires, mpi};
use std::time::{Duration, Instant};

fn join() -> mpi::Processes {
    mpi::join().expect("MPI starts")
}

/// Speaks no protocol, and stays.
pub fn nonsense() {
    let mut wires = join();
    wires.send(0, b"good morning".to_vec());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        wires.poll();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Everybody sends everybody else parcels of many lengths at once, most of them longer than what
/// travels whole.
pub fn pieces() {
    let mut wires = join();
    wires.set_piece(1000);
    let (me, size) = (wires.rank(), wires.size());
    let lengths = [0, 1, 999, 1000, 1001, 5000, 3_000_000, 7];
    let parcel = |from: usize, turn: usize| -> Vec<u8> {
        (0..lengths[turn])
            .map(|i| (i * 7 + from * 31 + turn) as u8)
            .collect()
    };
    for turn in 0..lengths.len() {
        for rank in (0..size).filter(|&rank| rank != me) {
            wires.send(rank, parcel(me, turn));
        }
    }
    let mut turns = vec![0; size];
    turns[me] = lengths.len();
    while turns.iter().any(|&turn| turn < lengths.len()) || !wires.sent() {
        if let Some((from, bytes)) = wires.poll() {
            assert!(
                bytes == parcel(from, turns[from]),
                "parcel {} of rank {from}",
                turns[from]
            );
            turns[from] += 1;
        }
    }
    println!("rank {me} has all");
    wires.close(true);
}
