//! What was communicated: bytes by round, node, kind and direction.

use super::link::Kind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Seen from the node.
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

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Of the tensors' values: what formulas speak of.
    pub values: u64,
    /// As it was serialised, names and shapes included.
    pub bytes: u64,
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.values += other.values;
        self.bytes += other.bytes;
    }
}

/// One line of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    pub round: usize,
    pub node: usize,
    pub kind: Kind,
    pub direction: Direction,
}

/// Everything that a server sent and received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Entry, Amount)>", into = "Vec<(Entry, Amount)>")]
pub struct Ledger(BTreeMap<Entry, Amount>);

/// Bytes of one kind in one direction, as metrics show them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Traffic {
    pub kind: Kind,
    pub direction: Direction,
    /// Of the tensors' values alone.
    pub values: u64,
    /// As serialised.
    pub bytes: u64,
}

impl From<Vec<(Entry, Amount)>> for Ledger {
    fn from(entries: Vec<(Entry, Amount)>) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl From<Ledger> for Vec<(Entry, Amount)> {
    fn from(ledger: Ledger) -> Self {
        ledger.0.into_iter().collect()
    }
}

impl Ledger {
    /// Adds a message.
    pub fn record(&mut self, entry: Entry, amount: Amount) {
        *self.0.entry(entry).or_default() += amount;
    }

    /// In order of round, node, kind and direction.
    pub fn iter(&self) -> impl Iterator<Item = (&Entry, &Amount)> {
        self.0.iter()
    }

    /// The sum over the entries that `wanted` holds of.
    pub fn sum(&self, wanted: impl Fn(&Entry) -> bool) -> Amount {
        let mut sum = Amount::default();
        for (_, amount) in self.iter().filter(|(entry, _)| wanted(entry)) {
            sum += *amount;
        }
        sum
    }

    /// Adds another, all of its rounds as round 0: so that it does not grow with them.
    pub fn fold(&mut self, other: &Self) {
        for (entry, amount) in other.iter() {
            self.record(Entry { round: 0, ..*entry }, *amount);
        }
    }

    /// Sums by kind and direction over the entries that `wanted` holds of; what is zero is left
    /// out.
    pub fn traffic(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<Traffic> {
        let mut sums = BTreeMap::<(Kind, Direction), Amount>::new();
        for (entry, amount) in self.iter().filter(|(entry, _)| wanted(entry)) {
            *sums.entry((entry.kind, entry.direction)).or_default() += *amount;
        }
        let line = |((kind, direction), Amount { values, bytes })| Traffic {
            kind,
            direction,
            values,
            bytes,
        };
        sums.into_iter().map(line).collect()
    }
}
