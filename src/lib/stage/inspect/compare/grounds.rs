//! Whether methods are on the same dataset and split: on others their accuracies say nothing of each other.

use super::methods::Method;
use std::collections::BTreeSet;

/// What the methods were measured on.
pub struct Grounds {
    datasets: usize,
    splits: usize,
    /// Some read no split: distributed SGD shares all images.
    without_split: bool,
}

impl Grounds {
    pub fn of(methods: &[Method]) -> Self {
        let datasets: BTreeSet<_> = methods.iter().map(|method| &method.dataset).collect();
        let splits: BTreeSet<_> = methods.iter().filter_map(|method| method.split.as_ref()).collect();
        Self {
            datasets: datasets.len(),
            splits: splits.len(),
            without_split: methods.iter().any(|method| method.split.is_none()),
        }
    }

    /// All are on one dataset, dealt in one way.
    pub fn agree(&self) -> bool {
        self.contradiction().is_none() && !(self.without_split && self.splits > 0)
    }

    /// Why the accuracies cannot be compared, if they cannot.
    pub fn contradiction(&self) -> Option<String> {
        match (self.datasets, self.splits) {
            (2.., _) => Some(format!("the runs are on {} datasets", self.datasets)),
            (_, 2..) => Some(format!("the runs are on {} splits of the dataset", self.splits)),
            _ => None,
        }
    }
}
