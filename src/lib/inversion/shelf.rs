//! Many teachers in little memory: those used last are held, the others are read again when they
//! are needed.

use super::fused::Frozen;
use crate::error::Result;
use crate::model::Model;
use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use tch::{Tensor, no_grad};

/// A frozen network in memory.
#[derive(Debug)]
pub struct Loaded {
    pub model: Model,
    frozen: OnceCell<Option<Frozen>>,
}

impl Loaded {
    /// Freezes `model`: no gradient of a weight is ever computed.
    pub fn new(mut model: Model) -> Self {
        model.freeze();
        Self {
            model,
            frozen: OnceCell::new(),
        }
    }

    /// The network for the fused passes, made when first asked for; `None` where there is no fused
    /// path.
    pub fn frozen(&self) -> Option<Frozen> {
        self.frozen.get_or_init(|| Frozen::of(&self.model)).clone()
    }
}

impl Loaded {
    /// Logits [N, classes] of normalised images [N,C,H,W], without a graph, the fast way where
    /// there is one.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        match self.frozen() {
            Some(frozen) => frozen.predict(images),
            None => no_grad(|| self.model.eval(images)),
        }
    }
}

type Read = dyn Fn(usize) -> Result<Model>;

/// Holds the teachers that were used last.
pub struct Shelf {
    room: usize,
    read: Box<Read>,
    /// The one used last is at the back.
    held: RefCell<VecDeque<(usize, Rc<Loaded>)>>,
}

impl Shelf {
    /// Room for `room` teachers (at least one); `read` gets teacher `index` from where it lies.
    pub fn new(room: usize, read: impl Fn(usize) -> Result<Model> + 'static) -> Rc<Self> {
        Rc::new(Self {
            room: room.max(1),
            read: Box::new(read),
            held: RefCell::default(),
        })
    }

    /// Teacher `index`. What a caller still holds stays in memory, whatever the room.
    ///
    /// # Errors
    /// Those of reading.
    pub fn get(&self, index: usize) -> Result<Rc<Loaded>> {
        let mut held = self.held.borrow_mut();
        let place = held.iter().position(|(teacher, _)| *teacher == index);
        let loaded = match place.and_then(|place| held.remove(place)) {
            Some((_, loaded)) => loaded,
            None => {
                let surplus = (held.len() + 1).saturating_sub(self.room);
                held.drain(..surplus);
                Rc::new(Loaded::new((self.read)(index)?))
            }
        };
        held.push_back((index, Rc::clone(&loaded)));
        Ok(loaded)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Shelf")
            .field("room", &self.room)
            .finish_non_exhaustive()
    }
}
