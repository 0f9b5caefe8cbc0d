//! A rank that hears of the others' fate. Who fails tells all the others why before it leaves; who
//! works gives a sign of life now and then, at the safe points of [`interrupt::check`] and while it
//! waits; who gives none for [`TIMEOUT`](super::TIMEOUT) is taken for dead by whoever waits for a
//! message. So every rank ends with an error that names the rank it began with, within that time of
//! the first wait.
//!
//! Here is what algorithms and stages hold: messages, and the rank's end with what it means for the
//! user. Listening to the others and telling them is the business of [`Company`].

use super::company::Company;
use super::{Transport, Wires};
use crate::error::{Class, Error, Result};
use crate::runtime::interrupt;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// One rank.
pub struct Member {
    pub(super) company: Rc<RefCell<Company>>,
    _watch: interrupt::Watch,
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
        let company = Rc::new(RefCell::new(Company::new(wires)));
        let watched = Rc::downgrade(&company);
        let look = move || match watched.upgrade() {
            // Somebody who waits is looking already.
            Some(company) => company
                .try_borrow_mut()
                .map_or(Ok(()), |mut company| company.glance()),
            None => Ok(()),
        };
        Self {
            company,
            _watch: interrupt::watch(look),
        }
    }

    /// The only rank there is.
    pub fn alone() -> Self {
        Self::new(Box::new(Nobody))
    }

    /// Sets how long a rank may be silent while this one waits for it.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.company.borrow_mut().timeout = timeout;
    }

    /// Ends this rank's part: tells the others how it went, and if `wait` stays until all of them
    /// have done the same, so that nobody is killed by a launcher for another's exit before it has
    /// saved its work.
    pub fn part<T>(self, outcome: Result<T>, wait: bool) -> Parting<T> {
        let mut company = self.company.borrow_mut();
        let me = company.rank();
        let passed_on = company.others_failure().is_some();
        company.say_goodbye(outcome.as_ref().err());
        let silent = if wait {
            company.hear_goodbyes()
        } else {
            Vec::new()
        };
        company.close(wait && silent.is_empty());
        let later = company.others_failure();
        let missed = |error: Error| {
            match silent.is_empty() {
            true => error,
            false => error
                .note(
                    "found",
                    format!("no word of {}: dead, or still at work", ranks(&silent)),
                )
                .hint("when a rank dies, `mpirun` stops the others; its own message says which it was"),
        }
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
        if let Ok(mut company) = self.company.try_borrow_mut()
            && !company.said
        {
            company.say_goodbye(Some(&Error::failed("it ended without a word: it panicked")));
        }
    }
}

impl Transport for Member {
    fn rank(&self) -> usize {
        self.company.borrow().rank()
    }

    fn size(&self) -> usize {
        self.company.borrow().size()
    }

    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()> {
        self.company.borrow_mut().send(to, bytes);
        Ok(())
    }

    fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        self.company.borrow_mut().receive(from)
    }

    fn has_arrived(&mut self, from: usize) -> bool {
        self.company.borrow_mut().has_arrived(from)
    }
}

/// `rank 2`, `ranks 1, 3`.
fn ranks(list: &[usize]) -> String {
    let numbers: Vec<String> = list.iter().map(usize::to_string).collect();
    format!(
        "rank{} {}",
        if list.len() == 1 { "" } else { "s" },
        numbers.join(", ")
    )
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
