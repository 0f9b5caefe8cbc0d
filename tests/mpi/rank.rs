//! Ranks of the tests' own, which `mpirun` starts as this executable: one sends what it should not,
//! others try the transport itself.

use fed_distill::federated::transport::{Transport, mpi};
use std::time::{Duration, Instant};

fn join() -> mpi::Processes {
    mpi::join().expect("MPI starts")
}

/// Speaks no protocol, and stays.
pub fn nonsense() {
    let mut transport = join();
    transport.send(0, b"good morning".to_vec());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        transport.poll();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Every rank sends every other messages of many lengths at once, most of them longer than what
/// travels whole.
pub fn pieces() {
    let mut transport = join();
    transport.set_piece(1000);
    let (me, size) = (transport.rank(), transport.size());
    let lengths = [0, 1, 999, 1000, 1001, 5000, 3_000_000, 7];
    let message = |from: usize, turn: usize| -> Vec<u8> {
        (0..lengths[turn])
            .map(|i| (i * 7 + from * 31 + turn) as u8)
            .collect()
    };
    for turn in 0..lengths.len() {
        for rank in (0..size).filter(|&rank| rank != me) {
            transport.send(rank, message(me, turn));
        }
    }
    let mut turns = vec![0; size];
    turns[me] = lengths.len();
    while turns.iter().any(|&turn| turn < lengths.len()) || !transport.is_flushed() {
        if let Some((from, bytes)) = transport.poll() {
            assert!(
                bytes == message(from, turns[from]),
                "message {} of rank {from}",
                turns[from]
            );
            turns[from] += 1;
        }
    }
    println!("rank {me} has all");
    transport.close(true);
}
