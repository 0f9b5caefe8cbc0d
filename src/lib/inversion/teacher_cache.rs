//! Keeps as many teachers in memory as there is room for, and reads the others from their files
//! when they are used again. Called by the stages and by [`Teacher`](super::Teacher).

use super::fused::Frozen;
use crate::error::Result;
use crate::model::{FrozenStack, Model};
use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;
use tch::{Tensor, no_grad};

/// Holds a frozen network in memory.
#[derive(Debug)]
pub struct Loaded {
    /// The network, without gradients of weights.
    pub model: Model,
    frozen: OnceCell<Option<Frozen>>,
    stack: OnceCell<Option<Rc<FrozenStack>>>,
}

impl Loaded {
    /// Freezes `model`, so that no gradient of a weight is ever computed.
    pub fn new(mut model: Model) -> Self {
        model.freeze();
        Self {
            model,
            frozen: OnceCell::new(),
            stack: OnceCell::new(),
        }
    }

    /// Returns the network for the fused passes, which is made at the first call; `None` if there
    /// are none for it.
    pub fn frozen(&self) -> Option<Frozen> {
        self.frozen.get_or_init(|| Frozen::of(&self.model)).clone()
    }

    /// Returns the network as a stack of convolutions, which is made at the first call; `None` if
    /// it is none that passes of our own compute, even in part.
    pub fn stack(&self) -> Option<Rc<FrozenStack>> {
        let make = || FrozenStack::of(&self.model).map(Rc::new);
        self.stack.get_or_init(make).clone()
    }

    /// Returns the logits f32 `[N,classes]` of images `[N,C,H,W]`, normalised, without a graph, by
    /// the passes of our own if the network has them.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        if let Some(frozen) = self.frozen() {
            return frozen.predict(images);
        }
        match self.stack() {
            Some(stack) => stack.predict(images),
            None => no_grad(|| self.model.eval(images)),
        }
    }
}

/// Reads the model of the teacher of an index.
type Read = dyn Fn(usize) -> Result<Model>;

/// Holds as many teachers as there is room for.
pub struct TeacherCache {
    capacity: usize,
    read: Box<Read>,
    /// Index and network of each teacher in memory; the one used last is at the back.
    loaded: RefCell<Vec<(usize, Rc<Loaded>)>>,
}

impl TeacherCache {
    /// Returns a cache of at most `capacity` teachers (at least one); `read` reads the model of the
    /// teacher of an index.
    pub fn new(capacity: usize, read: impl Fn(usize) -> Result<Model> + 'static) -> Rc<Self> {
        Rc::new(Self {
            capacity: capacity.max(1),
            read: Box::new(read),
            loaded: RefCell::default(),
        })
    }

    /// Returns teacher `index`. One that has to be read takes the place of the one used last: where
    /// all are used in turn, that one is needed latest. A teacher that a caller still holds stays
    /// in memory, whatever the capacity.
    ///
    /// # Errors
    /// Fails when the teacher cannot be read.
    pub fn get(&self, index: usize) -> Result<Rc<Loaded>> {
        let mut all = self.loaded.borrow_mut();
        let loaded = match all.iter().position(|(teacher, _)| *teacher == index) {
            Some(position) => all.remove(position).1,
            None => {
                all.truncate(self.capacity - 1);
                Rc::new(Loaded::new((self.read)(index)?))
            }
        };
        all.push((index, Rc::clone(&loaded)));
        Ok(loaded)
    }
}

impl fmt::Debug for TeacherCache {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TeacherCache")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
