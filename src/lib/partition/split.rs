//! Holds what each node has, and reads and writes the split's JSON form
//! `{"teacher0": {"train": […], "test": […]}, …}`, that of the public Python project.

use super::{Partitioner, draw};
use crate::error::{Error, Result, Text, parameter};
use crate::runtime::seed::Rng;
use crate::words::counted;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Holds a node's indices into the training and the test images, ascending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a node's indices: {\"train\": […], \"test\": […]}"
)]
pub struct Part {
    /// Indices of training images.
    pub train: Vec<usize>,
    /// Indices of test images.
    pub test: Vec<usize>,
}

/// Holds the parts of all nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Part of each node.
    pub nodes: Vec<Part>,
}

impl Split {
    /// Deals the training labels with `partitioner`, and each class of the test labels in the
    /// proportions in which nodes hold that class for training; evenly, if no node holds it. The
    /// `split_data` stage draws from `Seeds::new(seed).stream("split", 0)`.
    ///
    /// # Errors
    /// Fails when the partitioner does.
    pub fn new(
        partitioner: &dyn Partitioner,
        train: &[i64],
        test: &[i64],
        classes: usize,
        rng: &mut Rng,
    ) -> Result<Self> {
        let dealt = partitioner.deal(train, classes, rng)?;
        let held: Vec<Vec<u64>> = dealt
            .iter()
            .map(|part| label_counts(part, train, classes))
            .collect();
        let tests = deal_alike(test, &held, classes, rng);
        let nodes = dealt
            .into_iter()
            .zip(tests)
            .map(|(train, test)| Part { train, test });
        Ok(Self {
            nodes: nodes.collect(),
        })
    }

    /// Returns the JSON form. Nodes are named `teacher0`, `teacher1`, … as the public project names
    /// them, whoever they are.
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let entry =
            |(node, part): (usize, &Part)| (format!("teacher{node}"), serde_json::json!(part));
        self.nodes.iter().enumerate().map(entry).collect()
    }

    /// Reads the JSON form of [`Self::to_json`].
    ///
    /// # Errors
    /// Fails at a node that is missing or misnamed.
    pub fn from_json(mut parts: BTreeMap<String, Part>) -> Result<Self> {
        let total = parts.len();
        let take = |node| {
            let name = format!("teacher{node}");
            parts.remove(&name).ok_or_else(|| {
                Error::failed(format!(
                    "the split names {}, but not `{name}`",
                    counted(total, "node")
                ))
                .note(
                    "expected",
                    format!("`teacher0` … `teacher{}`", total.saturating_sub(1)),
                )
            })
        };
        let nodes = (0..total).map(take).collect::<Result<Vec<_>>>()?;
        if nodes.is_empty() {
            return Err(Error::failed("the split has no nodes"));
        }
        Ok(Self { nodes })
    }

    /// Checks that the split fits a dataset with these numbers of images, and that no image is in
    /// it twice.
    ///
    /// # Errors
    /// Fails at the first index that is out of range or given twice, and at a node without training
    /// images.
    pub fn check(&self, train: usize, test: usize) -> Result<()> {
        let lists = |of: fn(&Part) -> &Vec<usize>| self.nodes.iter().map(of).collect::<Vec<_>>();
        check_lists("train", &lists(|part| &part.train), train)?;
        check_lists("test", &lists(|part| &part.test), test)?;
        match self.nodes.iter().position(|part| part.train.is_empty()) {
            Some(node) => Err(Error::failed(format!(
                "`teacher{node}` of the split has no training images"
            ))),
            None => Ok(()),
        }
    }
}

fn check_lists(name: &str, lists: &[&Vec<usize>], images: usize) -> Result<()> {
    let mut owners = vec![None; images];
    for (node, list) in lists.iter().enumerate() {
        for &index in *list {
            let Some(owner) = owners.get_mut(index) else {
                return Err(Error::failed(format!(
                    "`teacher{node}.{name}` of the split holds index {index}, but the dataset has \
                     {images} {name} images"
                ))
                .hint(
                    Text::from("the split belongs to another dataset, or to other ")
                        + parameter("max_train")
                        + "/`max_test` limits",
                ));
            };
            if let Some(other) = owner.replace(node) {
                return Err(Error::failed(format!(
                    "{name} image {index} is in the split twice: in `teacher{other}` and in \
                     `teacher{node}`"
                )));
            }
        }
    }
    Ok(())
}

/// Counts the images of each class among those of `part` (indices into `labels`).
pub fn label_counts(part: &[usize], labels: &[i64], classes: usize) -> Vec<u64> {
    let mut counts = vec![0; classes];
    for &image in part {
        counts[labels[image] as usize] += 1;
    }
    counts
}

/// Deals the images of each class in proportion to `held[node][class]`; a class that no node holds
/// is dealt evenly. Where a class does not divide, other nodes have one more in another class.
fn deal_alike(labels: &[i64], held: &[Vec<u64>], classes: usize, rng: &mut Rng) -> Vec<Vec<usize>> {
    // Multiples of the golden ratio, modulo 1, are spread as evenly as can be, however many there
    // are.
    let lift = |class: usize| (0.5 + class as f64 * 0.618_033_988_749_894_9).fract();
    let mut parts = vec![Vec::new(); held.len()];
    for (class, mut images) in draw::by_class(labels, classes).into_iter().enumerate() {
        images.shuffle(rng);
        let weights: Vec<f64> = match held.iter().map(|node| node[class]).sum::<u64>() {
            0 => vec![1.0; held.len()],
            _ => held.iter().map(|node| node[class] as f64).collect(),
        };
        let mut rest = images.as_slice();
        for (part, count) in
            parts
                .iter_mut()
                .zip(draw::cut_lifted(images.len(), &weights, lift(class)))
        {
            let (own, others) = rest.split_at(count);
            part.extend_from_slice(own);
            rest = others;
        }
    }
    for part in &mut parts {
        part.sort_unstable();
    }
    parts
}
