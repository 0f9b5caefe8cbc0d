//! Orders: what a rank wants of another that is at work. The other's *clerk* sees to them at the
//! safe points of its work and while it waits, so neither need know when the other has time.

use super::Member;
use super::company::Company;
use crate::error::Result;
use std::cell::RefCell;
use std::rc::Rc;

/// Sees to an order, and may answer it. Its error is one of the rank that it works for, and ends
/// the run.
pub type Clerk = Box<dyn FnMut(&[u8]) -> Result<Option<Vec<u8>>>>;

/// Where a rank leaves its orders for others.
#[derive(Clone)]
pub struct Desk(Rc<RefCell<Company>>);

impl Desk {
    /// Leaves an order for rank `to`, which is another one, and goes on.
    pub fn order(&self, to: usize, bytes: Vec<u8>) {
        self.0.borrow_mut().order(to, bytes);
    }

    /// Leaves an order, and waits for its answer, which must be the next message of `to`.
    ///
    /// # Errors
    /// Those of [`Transport::receive`](super::Transport::receive).
    pub fn ask(&self, to: usize, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut company = self.0.borrow_mut();
        company.order(to, bytes);
        company.receive(to)
    }
}

impl Member {
    /// For this rank's orders.
    pub fn desk(&self) -> Desk {
        Desk(Rc::clone(&self.company))
    }

    /// Has `clerk` see to the orders of other ranks, those that have come already first.
    pub fn employ(&mut self, clerk: Clerk) {
        self.company.borrow_mut().employ(clerk);
    }
}
