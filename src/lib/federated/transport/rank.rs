//! Defines a rank as algorithms and stages see it.

use super::frame::Failure;
use super::local::Channels;
use super::peers::Peers;
use super::{Timeout, Transport};
use crate::error::{Class, Error, Result};
use crate::runtime::interrupt;
use std::cell::RefCell;
use std::rc::Rc;

/// Connects one of the ranks that share a run to the others, on the thread that made it. While it
/// lives, the safe points of that thread ([`interrupt::check`]) look for messages of the others.
pub struct Rank {
    peers: Rc<RefCell<Peers>>,
    _watch: interrupt::Watch,
}

/// Reports how a rank's part in a run ended.
pub struct Outcome<T> {
    /// The rank's result, or the error it ended with.
    pub result: Result<T>,
    /// True if the error is another rank's.
    pub passed_on: bool,
}

impl Rank {
    /// Returns a rank that is connected by `transport`.
    pub fn new(transport: Box<dyn Transport>) -> Self {
        let peers = Rc::new(RefCell::new(Peers::new(transport)));
        let watched = Rc::downgrade(&peers);
        let poll = move || match watched.upgrade() {
            // A rank that waits looks already.
            Some(peers) => peers
                .try_borrow_mut()
                .map_or(Ok(()), |mut peers| peers.poll()),
            None => Ok(()),
        };
        Self {
            peers,
            _watch: interrupt::watch(poll),
        }
    }

    /// Returns a rank that is the only one.
    pub fn alone() -> Self {
        Self::new(Box::new(Channels::alone()))
    }

    /// Sets how long a rank that this one hears may be silent.
    pub fn set_timeout(&mut self, timeout: impl Into<Timeout>) {
        self.peers.borrow_mut().timeout = timeout.into();
    }

    /// Returns this rank's number, from 0.
    pub fn number(&self) -> usize {
        self.peers.borrow().rank()
    }

    /// Returns the number of ranks.
    pub fn ranks(&self) -> usize {
        self.peers.borrow().size()
    }

    /// Returns true if this rank hosts `node`: nodes are dealt to the ranks in turn.
    pub fn hosts(&self, node: usize) -> bool {
        node % self.ranks() == self.number()
    }

    /// Sends `bytes` to rank `to`, and neither waits until they arrive nor asks whether they can:
    /// who waits for an answer learns it.
    pub fn send(&mut self, to: usize, bytes: Vec<u8>) {
        self.peers.borrow_mut().send(to, bytes);
    }

    /// Waits for the next message of rank `from`, which is rank 0 on all ranks but 0. Messages to
    /// itself are there already.
    ///
    /// # Errors
    /// Fails with the failure of any rank, when `from` has ended, when a rank has been silent for
    /// too long, and on Ctrl-C.
    pub fn receive(&mut self, from: usize) -> Result<Vec<u8>> {
        self.peers.borrow_mut().receive(from)
    }

    /// Returns true if a message of rank `from` has arrived.
    pub fn has_message(&mut self, from: usize) -> bool {
        self.peers.borrow_mut().has_message(from)
    }

    /// Returns the next message of rank `from` if it has arrived, also after a rank has failed.
    pub fn arrived(&mut self, from: usize) -> Option<Vec<u8>> {
        self.peers.borrow_mut().arrived(from)
    }

    /// Ends this rank's part: tells the others how it ended, and with `wait` waits until all of
    /// them have ended too, so that no launcher kills a rank that has not saved its work yet.
    pub fn finish<T>(self, result: Result<T>, wait: bool) -> Outcome<T> {
        let mut peers = self.peers.borrow_mut();
        let passed_on = peers.others_failure().is_some();
        peers.finish(result.as_ref().err());
        let silent = match wait {
            true => peers.wait_for_others(),
            false => Vec::new(),
        };
        peers.close(wait && silent.is_empty());
        let (first, later) = (
            peers.rank() == 0,
            peers.others_failure().map(Failure::error),
        );
        // Rank 0 has the whole result; on another a part may be done, but not the run.
        let result = match (result, later) {
            (Ok(_), Some(failure)) if !first => Err(failure),
            (Ok(_), None) if !first && !silent.is_empty() => Err(missing(
                &silent,
                match interrupt::requested() {
                    true => interrupt::stopped(),
                    false => Error::failed("the run did not come to its end"),
                },
            )),
            (Err(error), _) if error.class() == Class::Interrupted => Err(missing(&silent, error)),
            (result, _) => result,
        };
        Outcome { result, passed_on }
    }
}

impl Drop for Rank {
    fn drop(&mut self) {
        if let Ok(mut peers) = self.peers.try_borrow_mut()
            && !peers.finished
        {
            peers.finish(Some(&Error::failed(
                "it ended without an error: it panicked",
            )));
        }
    }
}

/// Adds to `error` that some ranks did not tell how they ended.
fn missing(silent: &[usize], error: Error) -> Error {
    if silent.is_empty() {
        return error;
    }
    let numbers: Vec<String> = silent.iter().map(usize::to_string).collect();
    let plural = if silent.len() == 1 { "" } else { "s" };
    error
        .note(
            "found",
            format!(
                "nothing from rank{plural} {}: dead, or still at work",
                numbers.join(", ")
            ),
        )
        .hint("when a rank dies, `mpirun` stops the others; its own message says which it was")
}
