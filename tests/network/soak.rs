//! Many rounds: what the server and its clients take does not grow with them. `make soak` runs more
//! of them than the suite does.

use super::rounds::{AVERAGE, Federation};
use std::time::Duration;

/// Rounds of the suite; `FED_DISTILL_SOAK_ROUNDS` sets another number.
const ROUNDS: usize = 30;
/// MiB by which a process may grow between the second and the last fifth of the rounds: pages that
/// the allocator has not given back.
const GROWTH: f64 = 8.0;
/// MiB more for each round: a line of some kilobytes is kept of each, and copied for a checkpoint.
const METRICS: f64 = 0.005;
/// Open files by which it may: a file that is being written and the connection of each client come
/// and go. One that stays open every round would be 18 more in the suite's rounds.
const OPEN: usize = 4;

/// What a process takes.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// MiB in memory.
    memory: f64,
    /// Open files and sockets.
    descriptors: usize,
}

impl Taken {
    /// Of a process that runs; `None` where it has ended.
    fn by(process: u32) -> Option<Self> {
        let pages = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
        let pages: f64 = pages.split(' ').nth(1)?.parse().ok()?;
        let descriptors = std::fs::read_dir(format!("/proc/{process}/fd")).ok()?;
        Some(Self {
            memory: pages * 4096.0 / f64::from(1 << 20),
            descriptors: descriptors.count(),
        })
    }

    fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

#[test]
fn rounds_take_no_more_and_more() {
    let rounds = std::env::var("FED_DISTILL_SOAK_ROUNDS")
        .map_or(ROUNDS, |rounds| rounds.parse().expect("a number of rounds"));
    let mut settings = AVERAGE.to_vec();
    let text: &'static str = format!("fed_avg.rounds={rounds}").leak();
    settings[2] = text;
    let federation = Federation::new("fed_avg", &settings, &[]);
    let host = federation.serve("127.0.0.1:0");
    let clients = [0, 1, 2].map(|index| federation.join(&host, index));
    let processes = [&host.child, &clients[0], &clients[1], &clients[2]].map(|child| child.id());
    // The most that each took in each fifth of the rounds.
    let mut fifths = [[Taken::default(); 5]; 4];
    let metrics = federation.folder.path("fed_avg/metrics.jsonl");
    while !federation.is_done(&host) {
        let done = std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count());
        for (process, fifths) in processes.iter().zip(&mut fifths) {
            // At the end the server writes the metrics of all rounds, which takes its own memory.
            if let Some(taken) = Taken::by(*process).filter(|_| done < rounds) {
                let fifth = done * 5 / rounds;
                fifths[fifth] = fifths[fifth].max(taken);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    federation.joined(clients.into());
    let growth = GROWTH + METRICS * rounds as f64;
    for (name, fifths) in ["server", "client 0", "client 1", "client 2"]
        .iter()
        .zip(&fifths)
    {
        eprintln!("{name}, {rounds} rounds: {fifths:?}");
        let (early, late) = (fifths[1], fifths[4]);
        assert!(
            early.memory > 0.0 && late.memory > 0.0,
            "{name} was not seen"
        );
        assert!(late.memory <= early.memory + growth, "{name}: {fifths:?}");
        assert!(
            late.descriptors <= early.descriptors + OPEN,
            "{name}: {fifths:?}"
        );
    }
}
