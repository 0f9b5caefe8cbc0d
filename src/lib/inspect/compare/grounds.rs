//! Whether methods are on the same dataset and split: on others their accuracies say nothing of
//! each other.

use super::methods::Method;
use std::collections::BTreeSet;

/// What the methods were measured on.
pub struct Grounds {
    datasets: usize,
    /// Of the methods that train on nodes' images; to have none, or one that is not known, is
    /// another than any that is.
    splits: usize,
    /// Some share all images in each batch, whoever has them.
    some_unsplit: bool,
}

impl Grounds {
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

    /// All are on one dataset, dealt in one way.
    pub fn agree(&self) -> bool {
        self.contradiction().is_none() && !(self.some_unsplit && self.splits > 0)
    }

    /// Why the accuracies cannot be compared, if they cannot.
    pub fn contradiction(&self) -> Option<String> {
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
