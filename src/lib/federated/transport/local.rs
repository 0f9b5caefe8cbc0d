//! Ranks as threads of one process, with a channel into each.

use super::member::Parting;
use super::{Member, Wires};
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A rank that waits looks after other things this often.
const WHILE: Duration = Duration::from_millis(10);

/// One thread's end of the channels.
struct Channels {
    rank: usize,
    /// Into each rank, with the sender's number.
    outgoing: Vec<Sender<(usize, Vec<u8>)>>,
    incoming: Receiver<(usize, Vec<u8>)>,
    /// What came while this rank rested.
    woken_by: Option<(usize, Vec<u8>)>,
}

impl Channels {
    /// Ranks 0..`size`, each connected to each.
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

impl Wires for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.outgoing.len()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) {
        // Who is gone has said so, or is found silent.
        let _ = self.outgoing[to].send((self.rank, bytes));
    }

    fn poll(&mut self) -> Option<(usize, Vec<u8>)> {
        self.woken_by
            .take()
            .or_else(|| self.incoming.try_recv().ok())
    }

    fn rest(&mut self, _: Duration) {
        self.woken_by = self.incoming.recv_timeout(WHILE).ok();
    }
}

/// Runs `first` as rank 0 on this thread, and `others` as a rank on a thread of its own for each of
/// `views`: what each works on.
///
/// # Errors
/// The error that ended the first rank; those of ranks that only heard of it do not count. A panic
/// of a rank is an error as well. `timeout` is how long a rank may be silent while another waits
/// for it.
pub fn lead<V: Send, T>(
    timeout: Duration,
    views: Vec<V>,
    first: impl FnOnce(&mut Member) -> Result<T>,
    others: impl Fn(V, &mut Member) -> Result<()> + Sync,
) -> Result<T> {
    let mut ends = Channels::connect(views.len() + 1).into_iter();
    let member = |end: Channels| {
        let mut member = Member::new(Box::new(end));
        member.set_timeout(timeout);
        member
    };
    let (mine, others) = std::thread::scope(|scope| {
        let own = ends.next();
        let others = &others;
        let work = |(end, view)| {
            scope.spawn(move || {
                let mut rank = member(end);
                let outcome = others(view, &mut rank);
                rank.part(outcome, false)
            })
        };
        let threads: Vec<_> = ends.zip(views).map(work).collect();
        let mut rank = own.map_or_else(Member::alone, member);
        let outcome = first(&mut rank);
        let mine = rank.part(outcome, false);
        let panicked = |_| Parting {
            outcome: Err(Error::failed("a rank panicked")),
            passed_on: false,
        };
        let join = |thread: std::thread::ScopedJoinHandle<'_, Parting<()>>| {
            thread.join().unwrap_or_else(panicked)
        };
        (mine, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    let failed = others.into_iter().filter(|other| other.outcome.is_err());
    match (mine.outcome, failed.min_by_key(|other| other.passed_on)) {
        (Err(error), Some(other)) if mine.passed_on && !other.passed_on => {
            Err(other.outcome.err().unwrap_or(error))
        }
        (
            Ok(_),
            Some(Parting {
                outcome: Err(error),
                ..
            }),
        ) => Err(error),
        (mine, _) => mine,
    }
}

/// Runs `work` on `ranks` ranks and returns their results in order.
///
/// # Errors
/// As [`lead`].
pub fn run<T: Send>(
    ranks: usize,
    work: impl Fn(&mut Member) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let results: Vec<Mutex<Option<T>>> = (0..ranks.max(1)).map(|_| Mutex::new(None)).collect();
    let keep = |rank: usize, result| {
        *results[rank].lock().unwrap_or_else(PoisonError::into_inner) = Some(result)
    };
    lead(
        super::TIMEOUT,
        (1..ranks).collect(),
        |member| work(member).map(|result| keep(0, result)),
        |rank, member| work(member).map(|result| keep(rank, result)),
    )?;
    let taken = results
        .into_iter()
        .map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
    taken
        .map(|result| result.ok_or_else(|| Error::failed("a rank has no result")))
        .collect()
}
