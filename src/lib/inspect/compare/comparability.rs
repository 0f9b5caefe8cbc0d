//! Checks that methods are on the same dataset and split: on different ones their accuracies cannot
//! be compared.

use super::methods::Method;
use std::collections::BTreeSet;

/// Counts the datasets and splits that the methods were measured on.
pub struct Comparability {
    /// How many datasets there are.
    datasets: usize,
    /// How many splits there are among the methods that train on nodes' images; an unknown split
    /// counts as one more.
    splits: usize,
    /// Some methods draw each batch from the images of all nodes.
    some_unsplit: bool,
}

impl Comparability {
    /// Counts the datasets and splits of the methods.
    pub fn of(methods: &[Method]) -> Self {
        let datasets: BTreeSet<_> = methods
            .iter()
            .filter_map(|method| method.dataset.as_ref())
            .collect();
        let on_nodes = methods.iter().filter(|method| !method.unsplit);
        let splits: BTreeSet<_> = on_nodes.map(|method| &method.split).collect();
        Self {
            datasets: datasets.len(),
            splits: splits.len(),
            some_unsplit: methods.iter().any(|method| method.unsplit),
        }
    }

    /// Reports whether all are on one split of one dataset.
    pub fn is_one_split(&self) -> bool {
        self.mismatch().is_none() && !(self.some_unsplit && self.splits > 0)
    }

    /// Returns why the accuracies do not compare, if they do not.
    pub fn mismatch(&self) -> Option<String> {
        match (self.datasets, self.splits) {
            (2.., _) => Some(format!("the runs are on {} datasets", self.datasets)),
            (_, 2..) => Some(format!(
                "the runs are on {} splits of the dataset",
                self.splits
            )),
            _ => None,
        }
    }
}
