//! Counts what was communicated: bytes by round, node, kind and direction.

use super::link::Kind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Direction of a message, as the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Upload,
    Download,
}

/// Writes the name that serde writes.
impl fmt::Display for Direction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(out)
    }
}

/// Holds a number of bytes, in two counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Bytes of the tensors' values, which formulas count.
    pub values: u64,
    /// Bytes as serialised, names and shapes included.
    pub bytes: u64,
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.values += other.values;
        self.bytes += other.bytes;
    }
}

/// Tells the lines of a ledger apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// Number of complete rounds when the message was sent.
    pub round: usize,
    /// The node that sent or received it.
    pub node: usize,
    /// What it holds.
    pub kind: Kind,
    /// Who sent it.
    pub direction: Direction,
}

/// Holds the bytes of all that a server sent and received, in order of round, node, kind and
/// direction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger(Vec<(Entry, Amount)>);

/// Holds the bytes of one kind in one direction, as metrics show them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Traffic {
    /// What the messages hold.
    pub kind: Kind,
    /// Who sent them.
    pub direction: Direction,
    /// Bytes of the tensors' values alone.
    pub values: u64,
    /// Bytes as serialised.
    pub bytes: u64,
}

impl Ledger {
    /// Adds a message.
    pub fn record(&mut self, entry: Entry, amount: Amount) {
        match self.0.binary_search_by_key(&entry, |(entry, _)| *entry) {
            Ok(index) => self.0[index].1 += amount,
            Err(index) => self.0.insert(index, (entry, amount)),
        }
    }

    /// Iterates over the lines in their order.
    pub fn iter(&self) -> impl Iterator<Item = &(Entry, Amount)> {
        self.0.iter()
    }

    /// Returns the sum over the lines that are `wanted`.
    pub fn sum(&self, wanted: impl Fn(&Entry) -> bool) -> Amount {
        let mut sum = Amount::default();
        for (_, amount) in self.iter().filter(|(entry, _)| wanted(entry)) {
            sum += *amount;
        }
        sum
    }

    /// Adds another ledger with all of its rounds as round 0, so that this one does not grow with
    /// them.
    pub fn fold(&mut self, other: &Self) {
        for (entry, amount) in other.iter() {
            self.record(Entry { round: 0, ..*entry }, *amount);
        }
    }

    /// Returns sums by kind and direction over the lines that are `wanted`; those that are zero are
    /// left out.
    pub fn traffic(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Traffic> {
        let mut sums = Self::default();
        for (entry, amount) in self.iter().filter(|(entry, _)| wanted(entry)) {
            let (round, node) = (0, 0);
            sums.record(
                Entry {
                    round,
                    node,
                    ..*entry
                },
                *amount,
            );
        }
        let line = |(entry, amount): (Entry, Amount)| Traffic {
            kind: entry.kind,
            direction: entry.direction,
            values: amount.values,
            bytes: amount.bytes,
        };
        sums.0.into_iter().map(line).collect()
    }
}
