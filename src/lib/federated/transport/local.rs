//! Ranks as threads of one process, with a channel from each to each. A single rank runs on the caller's thread.

use super::Transport;
use crate::error::{Class, Error, Result};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A rank of [`run`]. When it is dropped, whoever waits for it gets an error.
#[derive(Debug)]
pub struct LocalRank {
    rank: usize,
    /// By receiving rank.
    outgoing: Vec<Sender<Vec<u8>>>,
    /// By sending rank.
    incoming: Vec<Receiver<Vec<u8>>>,
}

impl LocalRank {
    /// The only rank there is.
    pub fn alone() -> Self {
        let (sender, receiver) = channel();
        Self {
            rank: 0,
            outgoing: vec![sender],
            incoming: vec![receiver],
        }
    }
}

/// Runs `work` on `ranks` ranks and returns their results in order.
///
/// # Errors
/// The error that ended the first rank; ranks that only waited for it do not count. A panic of a rank is an error as well.
pub fn run<T: Send>(ranks: usize, work: impl Fn(LocalRank) -> Result<T> + Sync) -> Result<Vec<T>> {
    let mut ranks = connected(ranks.max(1));
    if ranks.len() == 1 {
        return ranks.drain(..).map(work).collect();
    }
    let outcomes: Vec<Result<T>> = std::thread::scope(|scope| {
        let threads: Vec<_> = ranks.drain(..).map(|rank| scope.spawn(|| work(rank))).collect();
        let panicked = |_| Err(Error::failed("a rank panicked"));
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<T>>| thread.join().unwrap_or_else(panicked);
        threads.into_iter().map(join).collect()
    });
    let mut results = Vec::new();
    let mut first: Option<Error> = None;
    for outcome in outcomes {
        match outcome {
            Ok(result) => results.push(result),
            Err(error)
                if first
                    .as_ref()
                    .is_none_or(|first| is_consequence(first) && !is_consequence(&error)) =>
            {
                first = Some(error);
            }
            Err(_) => {}
        }
    }
    first.map_or(Ok(results), Err)
}

/// The text of an error about a rank that ended.
const GONE: &str = "has ended";

fn is_consequence(error: &Error) -> bool {
    error.class() == Class::Failed && error.what().ends_with(GONE)
}

fn gone(rank: usize) -> Error {
    Error::failed(format!("rank {rank} {GONE}"))
}

/// Ranks 0..`size`, each connected to each.
fn connected(size: usize) -> Vec<LocalRank> {
    let mut outgoing: Vec<Vec<_>> = (0..size).map(|_| Vec::new()).collect();
    let mut ranks = Vec::new();
    for _ in 0..size {
        let (senders, incoming): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        for (from, sender) in outgoing.iter_mut().zip(senders) {
            from.push(sender);
        }
        ranks.push(incoming);
    }
    let parts = ranks.into_iter().zip(outgoing).enumerate();
    parts
        .map(|(rank, (incoming, outgoing))| LocalRank {
            rank,
            outgoing,
            incoming,
        })
        .collect()
}

impl Transport for LocalRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.outgoing.len()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()> {
        self.outgoing[to].send(bytes).map_err(|_| gone(to))
    }

    fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        self.incoming[from].recv().map_err(|_| gone(from))
    }
}
