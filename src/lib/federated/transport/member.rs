//! A rank that hears of the others' fate. Who fails tells all the others why before it leaves; who works gives a sign of life now and then, at
//! the safe points of [`interrupt::check`] and while it waits; who gives none for [`TIMEOUT`] is taken for dead. So every rank ends with an error that
//! names the rank it began with, within that time.

use super::frame::{Failure, Frame};
use super::{Transport, Wires};
use crate::error::{Class, Error, Result};
use crate::runtime::interrupt;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a rank may be silent while another waits for it, unless [`Member::set_timeout`] says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Looks at the wires no more often than this while there is other work.
const GLANCE: Duration = Duration::from_millis(10);
/// The longest sleep of a rank that waits.
const NAP: Duration = Duration::from_millis(1);
/// After a signal, a launcher may kill in a second.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// One rank.
pub struct Member {
    state: Rc<RefCell<State>>,
    _watch: interrupt::Watch,
}

struct State {
    wires: Box<dyn Wires>,
    timeout: Duration,
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
    said: bool,
}

/// How a rank's part in a run ended.
pub struct Parting<T> {
    pub outcome: Result<T>,
    /// Whether the error is another rank's.
    pub passed_on: bool,
}

impl Member {
    /// A rank at the end of these wires.
    pub fn new(wires: Box<dyn Wires>) -> Self {
        let (size, now) = (wires.size(), Instant::now());
        let state = Rc::new(RefCell::new(State {
            wires,
            timeout: TIMEOUT,
            inbox: (0..size).map(|_| VecDeque::new()).collect(),
            parted: vec![false; size],
            heard: vec![now; size],
            failure: None,
            beaten: now,
            looked: now,
            said: false,
        }));
        let watched = Rc::downgrade(&state);
        let look = move || match watched.upgrade() {
            // Somebody who waits is looking already.
            Some(state) => state.try_borrow_mut().map_or(Ok(()), |mut state| state.glance()),
            None => Ok(()),
        };
        Self {
            state,
            _watch: interrupt::watch(look),
        }
    }

    /// The only rank there is.
    pub fn alone() -> Self {
        Self::new(Box::new(Nobody))
    }

    /// Sets how long a rank may be silent while this one waits for it.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.state.borrow_mut().timeout = timeout;
    }

    /// Ends this rank's part: tells the others how it went, and if `wait` stays until all of them have done the same, so that nobody is killed by
    /// a launcher for another's exit before it has saved its work.
    pub fn part<T>(self, outcome: Result<T>, wait: bool) -> Parting<T> {
        let mut state = self.state.borrow_mut();
        let me = state.wires.rank();
        let passed_on = state.failure.as_ref().is_some_and(|failure| failure.rank != me);
        state.say_goodbye(outcome.as_ref().err());
        let silent = if wait { state.hear_goodbyes() } else { Vec::new() };
        let lost = state.failure.as_ref().is_some_and(|failure| failure.lost.is_some());
        let clean = wait && silent.is_empty() && !lost && state.wires.sent();
        state.wires.close(clean);
        let later = state.failure.as_ref().filter(|failure| failure.rank != me);
        let missed = |error: Error| match silent.is_empty() {
            true => error,
            false => error
                .note(
                    "found",
                    format!("no word of {}: dead, or still at work", ranks(&silent)),
                )
                .hint("when a rank dies, `mpirun` stops the others; its own message says which it was"),
        };
        let outcome = match (outcome, later) {
            // Rank 0 has all that there is; another's part may be done, but not the run.
            (Ok(_), Some(failure)) if me > 0 => Err(failure.error()),
            (Ok(_), None) if me > 0 && interrupt::requested() && !silent.is_empty() => {
                Err(missed(interrupt::stopped()))
            }
            (Ok(_), None) if me > 0 && !silent.is_empty() => {
                Err(missed(Error::failed("the run did not come to its end")))
            }
            (Err(error), _) if error.class() == Class::Interrupted => Err(missed(error)),
            (outcome, _) => outcome,
        };
        Parting { outcome, passed_on }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state.try_borrow_mut()
            && !state.said
        {
            state.say_goodbye(Some(&Error::failed("it ended without a word: it panicked")));
        }
    }
}

impl State {
    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.wires.rank();
        (0..self.wires.size()).filter(move |&rank| rank != me)
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
                None => self.give_up_on(from, &format!("sent {size} bytes that are no message of this program")),
            }
        }
        any
    }

    /// From now on the run has failed, because of `rank`.
    fn give_up_on(&mut self, rank: usize, why: &str) {
        let me = self.wires.rank();
        self.parted[rank] = true;
        let error = Error::failed(format!("rank {rank} {why}"));
        self.failure.get_or_insert(Failure::new(me, Some(rank), &error));
    }

    /// The error of a run that has failed.
    fn check(&self) -> Result<()> {
        match &self.failure {
            Some(failure) if failure.rank == self.wires.rank() => Err(Error::failed(failure.text.clone())),
            Some(failure) => Err(failure.error()),
            None => Ok(()),
        }
    }

    /// At a safe point of some work.
    fn glance(&mut self) -> Result<()> {
        if self.looked.elapsed() < GLANCE || self.said {
            return Ok(());
        }
        self.looked = Instant::now();
        self.beat();
        self.listen();
        self.check()
    }

    fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        if from == self.wires.rank() {
            let own = self.inbox[from].pop_front();
            return own.ok_or_else(|| Error::failed(format!("rank {from} waits for a message of its own")));
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
            // Who has been stopped itself (a machine put to sleep) has not listened to the others in that time.
            if last.elapsed() > Duration::from_secs(1) {
                begun = Instant::now();
            }
            last = Instant::now();
            if self.heard[from].max(begun).elapsed() > self.timeout {
                let seconds = self.timeout.as_secs_f64();
                self.give_up_on(
                    from,
                    &format!("has given no sign of life for {seconds} s (`ranks.timeout`)"),
                );
            }
            self.wires.rest(wait.next());
        }
    }

    /// Tells the others how this rank's part ended.
    fn say_goodbye(&mut self, error: Option<&Error>) {
        self.said = true;
        let me = self.wires.rank();
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
    fn hear_goodbyes(&mut self) -> Vec<usize> {
        let (begun, mut wait) = (Instant::now(), Wait::default());
        loop {
            if self.listen() {
                wait = Wait::default();
            }
            let left: Vec<usize> = self.others().filter(|&rank| !self.parted[rank]).collect();
            let silent = |rank: &usize| self.heard[*rank].max(begun).elapsed() > self.timeout;
            let in_vain = match interrupt::requested() {
                true => begun.elapsed() > LAST_WORDS,
                false => begun.elapsed() > self.timeout && left.iter().all(silent),
            };
            if in_vain || left.is_empty() && self.wires.sent() {
                return left;
            }
            self.beat();
            self.wires.rest(wait.next());
        }
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

impl Transport for Member {
    fn rank(&self) -> usize {
        self.state.borrow().wires.rank()
    }

    fn size(&self) -> usize {
        self.state.borrow().wires.size()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()> {
        let mut state = self.state.borrow_mut();
        match to == state.wires.rank() {
            true => state.inbox[to].push_back(bytes),
            false => state.wires.send(to, Frame::Message(bytes).encode()),
        }
        Ok(())
    }

    fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        self.state.borrow_mut().receive(from)
    }
}

/// `rank 2`, `ranks 1, 3`.
fn ranks(list: &[usize]) -> String {
    let numbers: Vec<String> = list.iter().map(usize::to_string).collect();
    format!("rank{} {}", if list.len() == 1 { "" } else { "s" }, numbers.join(", "))
}

/// The wires of a rank that is alone.
struct Nobody;

impl Wires for Nobody {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn send(&mut self, _: usize, _: Vec<u8>) {}

    fn poll(&mut self) -> Option<(usize, Vec<u8>)> {
        None
    }
}
