//! Connects ranks that are threads of one process, with a channel into each.

use super::{Outcome, Rank, Timeout, Transport};
use crate::error::{Error, Result};
use crate::runtime::threads::cannot_start;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// A rank that waits looks for Ctrl-C and silent ranks this often.
const WAIT: Duration = Duration::from_millis(10);

/// Holds one thread's end of the channels.
pub(super) struct Channels {
    rank: usize,
    /// Into each rank, with the sender's number.
    outgoing: Vec<Sender<(usize, Vec<u8>)>>,
    incoming: Receiver<(usize, Vec<u8>)>,
    /// The message that ended the last rest.
    woken_by: Option<(usize, Vec<u8>)>,
}

impl Channels {
    /// Connects a rank that is alone.
    pub fn alone() -> Self {
        Self::connect(1).remove(0)
    }

    /// Connects each of ranks 0..`size` with each; there is at least one.
    fn connect(size: usize) -> Vec<Self> {
        let (outgoing, incoming): (Vec<_>, Vec<_>) = (0..size).map(|_| channel()).unzip();
        let rank = |(rank, incoming)| Self {
            rank,
            outgoing: outgoing.clone(),
            incoming,
            woken_by: None,
        };
        incoming.into_iter().enumerate().map(rank).collect()
    }
}

impl Transport for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.outgoing.len()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) {
        // A rank that has ended has told so.
        let _ = self.outgoing[to].send((self.rank, bytes));
    }

    fn poll(&mut self) -> Option<(usize, Vec<u8>)> {
        self.woken_by
            .take()
            .or_else(|| self.incoming.try_recv().ok())
    }

    fn rest(&mut self, _: Duration) {
        self.woken_by = self.incoming.recv_timeout(WAIT).ok();
    }
}

/// Runs `first` as rank 0 on this thread, and `others` for each of `views`, on which it works, as a
/// rank on a thread of its own. `timeout` is how long a rank may be silent.
///
/// # Errors
/// Fails with the error of the rank that failed first, not with the one that others passed on. A
/// panic of a rank is an error as well.
pub fn lead<V: Send, T>(
    timeout: impl Into<Timeout>,
    views: Vec<V>,
    first: impl FnOnce(&mut Rank) -> Result<T>,
    others: impl Fn(V, &mut Rank) -> Result<()> + Sync,
) -> Result<T> {
    let mut ends = Channels::connect(views.len() + 1);
    let (own, others, timeout) = (ends.remove(0), &others, timeout.into());
    let rank = |end: Channels| {
        let mut rank = Rank::new(Box::new(end));
        rank.set_timeout(timeout);
        rank
    };
    let count = views.len();
    let (first, others) = std::thread::scope(|scope| {
        let work = |(end, view)| {
            std::thread::Builder::new().spawn_scoped(scope, move || {
                let mut rank = rank(end);
                let result = others(view, &mut rank);
                rank.finish(result, false)
            })
        };
        let threads: std::io::Result<Vec<_>> = ends.into_iter().zip(views).map(work).collect();
        let mut rank = rank(own);
        let threads = match threads {
            Ok(threads) => threads,
            // The others, which wait for their peers, hear of it.
            Err(error) => {
                let result = Err(cannot_start(count, error));
                return (rank.finish(result, false), Vec::new());
            }
        };
        let result = first(&mut rank);
        let first = rank.finish(result, false);
        let others = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Outcome {
                result: Err(Error::failed("a rank panicked")),
                passed_on: false,
            })
        });
        (first, others.collect::<Vec<_>>())
    });
    let failed = others.into_iter().filter(|other| other.result.is_err());
    match failed.min_by_key(|other| other.passed_on) {
        Some(other) if first.result.is_ok() || first.passed_on && !other.passed_on => {
            other.result.and(first.result)
        }
        _ => first.result,
    }
}
