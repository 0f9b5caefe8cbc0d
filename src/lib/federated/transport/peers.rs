//! Holds what a rank knows of the others: their messages, whether they are at work, and why the run
//! has failed, if it has.

use super::frame::{Failure, Frame};
use super::{Timeout, Transport};
use crate::error::{Error, Result};
use crate::runtime::interrupt;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a rank may be silent before others give up on it, unless
/// [`Rank::set_timeout`](super::Rank::set_timeout) changes it.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Least time between two looks at the transport while there is other work.
const POLL: Duration = Duration::from_millis(10);
/// Longest sleep of a rank that waits.
const NAP: Duration = Duration::from_millis(1);
/// How much of a pause between two looks counts as the others' silence: a rank that was stopped or
/// busy itself has not listened.
const MOST_SILENCE: Duration = Duration::from_secs(1);
/// How long a rank that was told to stop waits for the others: a launcher may kill it after a
/// second.
const LAST_WAIT: Duration = Duration::from_millis(300);

/// Holds one rank's view of the others.
pub(super) struct Peers {
    transport: Box<dyn Transport>,
    pub timeout: Timeout,
    others: Vec<Peer>,
    failure: Option<Failure>,
    /// Times at which this rank last looked at the transport, and last told that it works.
    looked: Instant,
    told: Instant,
    /// True once this rank has told the others how it ended.
    pub finished: bool,
}

/// Holds what is known of one rank; of this one too, for messages to itself.
#[derive(Default)]
struct Peer {
    /// Messages that have arrived and were not received yet.
    inbox: VecDeque<Vec<u8>>,
    /// Time spent listening since it was last heard.
    silent: Duration,
    /// True if it has ended or is lost.
    ended: bool,
}

impl Peers {
    pub fn new(transport: Box<dyn Transport>) -> Self {
        Self {
            others: (0..transport.size()).map(|_| Peer::default()).collect(),
            transport,
            timeout: TIMEOUT.into(),
            failure: None,
            looked: Instant::now(),
            told: Instant::now(),
            finished: false,
        }
    }

    pub fn rank(&self) -> usize {
        self.transport.rank()
    }

    pub fn size(&self) -> usize {
        self.others.len()
    }

    /// Returns the failure of another rank, if that is what the run ends with.
    pub fn others_failure(&self) -> Option<&Failure> {
        let own = self.rank();
        self.failure.as_ref().filter(|failure| failure.rank != own)
    }

    /// Returns true if this rank hears `other`: rank 0 hears all, the others hear rank 0.
    fn hears(&self, other: usize) -> bool {
        other != self.rank() && (other == 0 || self.rank() == 0)
    }

    /// Sends to all others, or to those alone that hear this rank. Ranks that have ended are told
    /// too: they wait for the last word of all.
    fn tell(&mut self, all: bool, frame: &dyn Fn() -> Frame) {
        for other in 0..self.size() {
            if self.hears(other) || all && other != self.rank() {
                self.transport.send(other, frame().encode());
            }
        }
    }

    /// Tells those that may wait for this rank that it works, if it is time.
    fn tell_working(&mut self) {
        let pause = (self.timeout.after / 10).clamp(POLL, Duration::from_secs(2));
        if self.told.elapsed() >= pause {
            self.told = Instant::now();
            self.tell(false, &|| Frame::Working);
        }
    }

    /// Takes what has arrived; returns true if there was anything.
    fn read_arrived(&mut self) -> bool {
        let pause = self.looked.elapsed().min(MOST_SILENCE);
        self.looked = Instant::now();
        self.others.iter_mut().for_each(|peer| peer.silent += pause);
        let mut any = false;
        while let Some((from, bytes)) = self.transport.poll() {
            any = true;
            let (peer, size) = (&mut self.others[from], bytes.len());
            peer.silent = Duration::ZERO;
            match Frame::decode(bytes) {
                Some(Frame::Message(bytes)) => peer.inbox.push_back(bytes),
                Some(Frame::Working) => {}
                Some(Frame::Done) => peer.ended = true,
                Some(Frame::Failed(failure)) => {
                    peer.ended = true;
                    if let Some(lost) = failure.lost.and_then(|lost| self.others.get_mut(lost)) {
                        lost.ended = true;
                    }
                    self.failure.get_or_insert(failure);
                }
                None => {
                    let what = format!("sent {size} bytes that are no message of this program");
                    self.give_up_on(from, &what);
                }
            }
        }
        any
    }

    /// Fails the run because of `rank`.
    fn give_up_on(&mut self, rank: usize, why: &str) {
        self.others[rank].ended = true;
        let error = Error::failed(format!("rank {rank} {why}"));
        let failure = Failure::new(self.rank(), Some(rank), &error);
        self.failure.get_or_insert(failure);
    }

    /// Gives up on a rank that has been silent for too long.
    fn check_silence(&mut self) {
        let is_lost = |&other: &usize| {
            let peer = &self.others[other];
            self.hears(other) && !peer.ended && peer.silent > self.timeout.after
        };
        if let Some(lost) = (0..self.size()).find(is_lost) {
            let (seconds, name) = (self.timeout.after.as_secs_f64(), self.timeout.name);
            let why = format!("has given no sign of life for {seconds} s (`{name}`)");
            self.give_up_on(lost, &why);
        }
    }

    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.error().of_another_rank()),
            None => Ok(()),
        }
    }

    /// Looks for messages of the others at a safe point of this rank's work.
    ///
    /// # Errors
    /// Fails with another rank's failure, and when one has been silent for too long.
    pub fn poll(&mut self) -> Result<()> {
        if self.looked.elapsed() < POLL || self.finished {
            return Ok(());
        }
        self.tell_working();
        self.read_arrived();
        self.check_silence();
        self.check()
    }

    /// Sends `bytes` to rank `to`, which may be this one.
    pub fn send(&mut self, to: usize, bytes: Vec<u8>) {
        match to == self.rank() {
            true => self.others[to].inbox.push_back(bytes),
            false => self.transport.send(to, Frame::Message(bytes).encode()),
        }
    }

    /// Returns true if a message of rank `from` has arrived.
    pub fn has_message(&mut self, from: usize) -> bool {
        self.read_arrived();
        !self.others[from].inbox.is_empty()
    }

    /// Returns the next message of rank `from` if it has arrived.
    pub fn arrived(&mut self, from: usize) -> Option<Vec<u8>> {
        self.read_arrived();
        self.others[from].inbox.pop_front()
    }

    /// Waits for the next message of rank `from`.
    pub fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        if !self.hears(from) {
            let own = self.others[from].inbox.pop_front();
            return own.ok_or_else(|| {
                Error::failed(format!("no message of rank {from} can arrive here"))
            });
        }
        let mut idle = 0;
        loop {
            idle = if self.read_arrived() { 0 } else { idle + 1 };
            self.check()?;
            if let Some(message) = self.others[from].inbox.pop_front() {
                return Ok(message);
            }
            if self.others[from].ended {
                self.give_up_on(from, "has ended");
            }
            if interrupt::requested() {
                return Err(interrupt::stopped());
            }
            self.tell_working();
            self.check_silence();
            self.transport.rest(nap(idle));
        }
    }

    /// Tells the others how this rank ended. It passes another's failure on as it is.
    pub fn finish(&mut self, error: Option<&Error>) {
        self.finished = true;
        let Some(error) = error else {
            return self.tell(true, &|| Frame::Done);
        };
        let failure = match self.failure.take() {
            Some(failure) if failure.rank != self.rank() => failure,
            own => Failure::new(self.rank(), own.and_then(|own| own.lost), error),
        };
        self.tell(true, &|| Frame::Failed(failure.clone()));
        self.failure = Some(failure);
    }

    /// Waits until all others have told how they ended; returns those that have not in time.
    pub fn wait_for_others(&mut self) -> Vec<usize> {
        for peer in &mut self.others {
            peer.silent = Duration::ZERO;
        }
        let (begun, mut idle, mut stopped) = (Instant::now(), 0, None);
        loop {
            idle = if self.read_arrived() { 0 } else { idle + 1 };
            if interrupt::requested() {
                stopped.get_or_insert_with(Instant::now);
            }
            let left = |&other: &usize| other != self.rank() && !self.others[other].ended;
            let left: Vec<usize> = (0..self.size()).filter(left).collect();
            let is_silent = |&other: &usize| self.others[other].silent > self.timeout.after;
            let in_vain = match stopped {
                Some(since) => since.elapsed() > LAST_WAIT,
                None => begun.elapsed() > self.timeout.after && left.iter().all(is_silent),
            };
            if in_vain || left.is_empty() && self.transport.is_flushed() {
                return left;
            }
            self.tell_working();
            self.transport.rest(nap(idle));
        }
    }

    /// Ends the connection; `complete` if all others were waited for and have told how they ended.
    pub fn close(&mut self, complete: bool) {
        let lost = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.lost.is_some());
        let clean = complete && !lost && self.transport.is_flushed();
        self.transport.close(clean);
    }
}

/// Returns how long to sleep after `idle` looks in vain: not at all for the first, then ever
/// longer.
fn nap(idle: u32) -> Duration {
    (Duration::from_micros(2) * idle.saturating_sub(50)).min(NAP)
}
