//! Rank 0's office: deals out the teachers to the ranks that train them, each to the next rank that
//! is free, and writes all manifests. Other ranks turn to it by orders, which rank 0 sees to
//! between the steps of its own teacher.

use crate::artifact::json;
use crate::error::{Error, Result};
use crate::federated::transport::{Desk, Member, Transport};
use crate::run::manifest::{Manifest, Status, Writer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;

/// A teacher's place among those to be trained, and its node.
pub type Turn = (usize, usize);

/// The office as a rank sees it.
pub enum Office {
    /// On rank 0: the teachers that are left.
    Here(Rc<RefCell<VecDeque<Turn>>>),
    /// On any other.
    Away(Desk),
}

/// What another rank wants of the office.
#[derive(Serialize, Deserialize)]
enum Order {
    /// A teacher to train; the answer is an `Option<Turn>`.
    Next,
    /// A manifest to be written; answered by `null`, once it is, unless the run has failed or was
    /// stopped: then nobody waits.
    Write {
        path: PathBuf,
        manifest: Box<Manifest>,
    },
}

impl Office {
    /// Opens on rank 0, with the teachers of `nodes` to be trained; on other ranks finds it.
    pub fn open(nodes: Vec<usize>, member: &mut Member) -> Self {
        if member.rank() > 0 {
            return Self::Away(member.desk());
        }
        let left = Rc::new(RefCell::new(
            nodes.into_iter().enumerate().collect::<VecDeque<_>>(),
        ));
        let own = Rc::clone(&left);
        member.employ(Box::new(move |order| match parse(order)? {
            Order::Next => encode(&own.borrow_mut().pop_front()).map(Some),
            Order::Write { path, manifest } => {
                json::write(&path, &manifest)?;
                match waits(&manifest) {
                    true => encode(&()).map(Some),
                    false => Ok(None),
                }
            }
        }));
        Self::Here(left)
    }

    /// The next teacher for this rank; `None` when there are no more.
    ///
    /// # Errors
    /// A rank 0 that is gone, or that has failed.
    pub fn next(&self) -> Result<Option<Turn>> {
        match self {
            Self::Here(left) => Ok(left.borrow_mut().pop_front()),
            Self::Away(desk) => parse(&desk.ask(0, encode(&Order::Next)?)?),
        }
    }

    /// Who writes this rank's manifests. A run waits until it is recorded: as begun before it
    /// leaves anything else, as done before its checkpoints go.
    pub fn writer(&self) -> Writer {
        let Self::Away(desk) = self else {
            return Box::new(json::write);
        };
        let desk = desk.clone();
        Box::new(move |path, manifest| {
            let order = encode(&Order::Write {
                path: path.to_path_buf(),
                manifest: Box::new(manifest.clone()),
            })?;
            match waits(manifest) {
                true => desk.ask(0, order).and_then(|answer| parse(&answer)),
                false => {
                    desk.order(0, order);
                    Ok(())
                }
            }
        })
    }
}

/// Whether the run that a manifest is of goes on when it is written.
fn waits(manifest: &Manifest) -> bool {
    matches!(manifest.status, Status::Running | Status::Done)
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(json::value(value)?.to_string().into_bytes())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::failed(format!(
            "what another rank sent about its teachers cannot be read: {error}"
        ))
    })
}
