//! What a rank knows of the others, and what it tells them: messages that have come,
//! signs of life, last words, and who is to blame once the run has failed.
//! [`Member`](super::Member) has it looked after while the rank works, and says what its end means.

use super::Wires;
use super::frame::{Failure, Frame};
use crate::error::{Error, Result};
use crate::runtime::interrupt;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a rank may be silent while another waits for it, unless
/// [`Member::set_timeout`](super::Member::set_timeout) says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Looks at the wires no more often than this while there is other work.
const GLANCE: Duration = Duration::from_millis(10);
/// The longest sleep of a rank that waits.
const NAP: Duration = Duration::from_millis(1);
/// After a signal, a launcher may kill in a second.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// One rank's view of all.
pub(super) struct Company {
    wires: Box<dyn Wires>,
    /// How long a rank may be silent while this one waits for it.
    pub timeout: Duration,
    /// Messages not yet asked for, by sender.
    inbox: Vec<VecDeque<Vec<u8>>>,
    /// Ranks that have said their last word.
    parted: Vec<bool>,
    /// When each was last heard.
    heard: Vec<Instant>,
    failure: Option<Failure>,
    /// When this rank last gave a sign of life, and looked for others'.
    beaten: Instant,
    looked: Instant,
    /// Whether this rank has said its own last word.
    pub said: bool,
}

impl Company {
    /// At the end of these wires; nobody has said anything yet.
    pub fn new(wires: Box<dyn Wires>) -> Self {
        let (size, now) = (wires.size(), Instant::now());
        Self {
            wires,
            timeout: TIMEOUT,
            inbox: (0..size).map(|_| VecDeque::new()).collect(),
            parted: vec![false; size],
            heard: vec![now; size],
            failure: None,
            beaten: now,
            looked: now,
            said: false,
        }
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.wires.rank()
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.wires.size()
    }

    /// Another rank's failure, if that is what the run ends with.
    pub fn others_failure(&self) -> Option<&Failure> {
        self.failure
            .as_ref()
            .filter(|failure| failure.rank != self.rank())
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.rank();
        (0..self.size()).filter(move |&rank| rank != me)
    }

    /// Those that have said their last word wait for this rank's.
    fn tell_others(&mut self, frame: impl Fn() -> Frame) {
        for rank in self.others() {
            self.wires.send(rank, frame().encode());
        }
    }

    /// Gives a sign of life if it is time.
    fn beat(&mut self) {
        let pause = (self.timeout / 10).clamp(GLANCE, Duration::from_secs(2));
        if self.beaten.elapsed() >= pause {
            self.beaten = Instant::now();
            self.tell_others(|| Frame::Alive);
        }
    }

    /// Takes what has arrived; whether there was anything.
    fn listen(&mut self) -> bool {
        let mut any = false;
        while let Some((from, bytes)) = self.wires.poll() {
            any = true;
            self.heard[from] = Instant::now();
            let size = bytes.len();
            match Frame::decode(bytes) {
                Some(Frame::Message(bytes)) => self.inbox[from].push_back(bytes),
                Some(Frame::Alive) => {}
                Some(Frame::Done) => self.parted[from] = true,
                Some(Frame::Failed(failure)) => {
                    self.parted[from] = true;
                    if let Some(lost) = failure.lost.filter(|&lost| lost < self.parted.len()) {
                        self.parted[lost] = true;
                    }
                    self.failure.get_or_insert(failure);
                }
                None => self.give_up_on(
                    from,
                    &format!("sent {size} bytes that are no message of this program"),
                ),
            }
        }
        any
    }

    /// From now on the run has failed, because of `rank`.
    fn give_up_on(&mut self, rank: usize, why: &str) {
        let me = self.rank();
        self.parted[rank] = true;
        let error = Error::failed(format!("rank {rank} {why}"));
        self.failure
            .get_or_insert(Failure::new(me, Some(rank), &error));
    }

    /// The error of a run that has failed.
    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(failure) if failure.rank == self.rank() => {
                Err(Error::failed(failure.text.clone()).elsewhere())
            }
            Some(failure) => Err(failure.error().elsewhere()),
            None => Ok(()),
        }
    }

    /// At a safe point of some work.
    pub fn glance(&mut self) -> Result<()> {
        if self.looked.elapsed() < GLANCE || self.said {
            return Ok(());
        }
        self.looked = Instant::now();
        self.beat();
        self.listen();
        self.check()
    }

    /// Hands `bytes` to rank `to`, which may be this one.
    pub fn send(&mut self, to: usize, bytes: Vec<u8>) {
        match to == self.rank() {
            true => self.inbox[to].push_back(bytes),
            false => self.wires.send(to, Frame::Message(bytes).encode()),
        }
    }

    /// Whether a message of rank `from` has come.
    pub fn has_arrived(&mut self, from: usize) -> bool {
        self.listen();
        !self.inbox[from].is_empty()
    }

    /// Waits for the next message of rank `from`.
    pub fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        if from == self.rank() {
            let own = self.inbox[from].pop_front();
            return own.ok_or_else(|| {
                Error::failed(format!("rank {from} waits for a message of its own"))
            });
        }
        let (mut begun, mut wait) = (Instant::now(), Wait::default());
        let mut last = begun;
        loop {
            if self.listen() {
                wait = Wait::default();
            }
            self.check()?;
            if let Some(message) = self.inbox[from].pop_front() {
                return Ok(message);
            }
            if self.parted[from] {
                self.give_up_on(from, "has ended");
            }
            if interrupt::requested() {
                return Err(interrupt::stopped());
            }
            self.beat();
            // Who has been stopped itself (a machine put to sleep) has not listened to the others
            // in that time.
            if last.elapsed() > Duration::from_secs(1) {
                begun = Instant::now();
            }
            last = Instant::now();
            // Whoever it is: this rank may wait for one that will wait for another.
            let silent = |rank: &usize| {
                !self.parted[*rank] && self.heard[*rank].max(begun).elapsed() > self.timeout
            };
            if let Some(rank) = self.others().find(silent) {
                let seconds = self.timeout.as_secs_f64();
                self.give_up_on(
                    rank,
                    &format!("has given no sign of life for {seconds} s (`ranks.timeout`)"),
                );
            }
            self.wires.rest(wait.next());
        }
    }

    /// Tells the others how this rank's part ended.
    pub fn say_goodbye(&mut self, error: Option<&Error>) {
        self.said = true;
        let me = self.rank();
        match error {
            None => self.tell_others(|| Frame::Done),
            Some(error) => {
                let failure = match self.failure.take() {
                    Some(failure) if failure.rank != me => failure,
                    own => Failure::new(me, own.and_then(|own| own.lost), error),
                };
                self.tell_others(|| Frame::Failed(failure.clone()));
                self.failure = Some(failure);
            }
        }
    }

    /// Waits for all others to do the same; those that did not.
    pub fn hear_goodbyes(&mut self) -> Vec<usize> {
        let (begun, mut wait) = (Instant::now(), Wait::default());
        let mut asked_to_stop = None;
        loop {
            if self.listen() {
                wait = Wait::default();
            }
            if interrupt::requested() {
                asked_to_stop.get_or_insert_with(Instant::now);
            }
            let left: Vec<usize> = self.others().filter(|&rank| !self.parted[rank]).collect();
            let silent = |rank: &usize| self.heard[*rank].max(begun).elapsed() > self.timeout;
            let in_vain = match asked_to_stop {
                Some(since) => since.elapsed() > LAST_WORDS,
                None => begun.elapsed() > self.timeout && left.iter().all(silent),
            };
            if in_vain || left.is_empty() && self.wires.sent() {
                return left;
            }
            self.beat();
            self.wires.rest(wait.next());
        }
    }

    /// No more is sent or heard; `complete` if all others were waited for and have said their last
    /// word.
    pub fn close(&mut self, complete: bool) {
        let lost = self
            .failure
            .as_ref()
            .is_some_and(|failure| failure.lost.is_some());
        let clean = complete && !lost && self.wires.sent();
        self.wires.close(clean);
    }
}

/// Ever longer naps of somebody who waits.
#[derive(Default)]
struct Wait(u32);

impl Wait {
    fn next(&mut self) -> Duration {
        self.0 += 1;
        match self.0 {
            0..50 => Duration::ZERO,
            turn => Duration::from_micros(10 << ((turn - 50) / 8).min(7)).min(NAP),
        }
    }
}
