//! A ledger as the metrics of a round show it.

use crate::federated::{Direction, Kind, Ledger};
use serde::{Deserialize, Serialize};

/// Bytes of one kind in one direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Traffic {
    pub kind: Kind,
    pub direction: Direction,
    /// Of the tensors' values alone.
    pub values: u64,
    /// As serialised.
    pub bytes: u64,
}

/// What `node` sent and received.
pub fn of(ledger: &Ledger, node: usize) -> Vec<Traffic> {
    let mine = ledger.iter().filter(|(entry, _)| entry.node == node);
    let traffic = mine.map(|(entry, amount)| Traffic {
        kind: entry.kind,
        direction: entry.direction,
        values: amount.values,
        bytes: amount.bytes,
    });
    traffic.collect()
}
