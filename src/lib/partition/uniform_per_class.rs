//! Gives all nodes the same number of images of each class: the first of four modes of course
//! exercises.

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result, Text, parameter};
use crate::runtime::seed::Rng;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Deals `per_class` images of each class to every node and leaves the rest out; or, without that
/// number, deals each class evenly and completely, so that nodes differ by one image of a class at
/// most. Classes without training images are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct UniformPerClass {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Number of images of each class for each node; `None`: all there are, dealt evenly.
    #[serde(rename = "images_per_class")]
    #[schemars(range(min = 1))]
    pub per_class: Option<usize>,
}

impl Default for UniformPerClass {
    fn default() -> Self {
        Self {
            nodes: 1,
            per_class: None,
        }
    }
}

impl Partitioner for UniformPerClass {
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::enough(labels.len(), self.nodes, 1)?;
        let mut counts = vec![vec![0; classes]; self.nodes];
        // The longer runs of a class go to the nodes next in turn, so that sizes differ by one at
        // most.
        let mut turns: Vec<usize> = (0..self.nodes).collect();
        turns.shuffle(rng);
        for (class, images) in draw::by_class(labels, classes).iter().enumerate() {
            let each = match self.per_class {
                Some(_) if images.is_empty() => 0,
                Some(each) => self.check(class, images.len(), each)?,
                None => images.len() / self.nodes,
            };
            counts.iter_mut().for_each(|node| node[class] = each);
            if self.per_class.is_none() {
                let over = images.len() % self.nodes;
                turns[..over]
                    .iter()
                    .for_each(|&node| counts[node][class] += 1);
                turns.rotate_left(over);
            }
        }
        Ok(draw::deal_counts(labels, &counts, classes, rng))
    }
}

impl UniformPerClass {
    fn check(&self, class: usize, images: usize, each: usize) -> Result<usize> {
        if each == 0 {
            return Err(Error::usage(parameter("images_per_class") + " is 0")
                .hint("`null` deals all images"));
        }
        if each
            .checked_mul(self.nodes)
            .is_some_and(|needed| needed <= images)
        {
            return Ok(each);
        }
        let error = Error::usage(format!(
            "class {class} has {images} training images, too few for {} nodes with {each} each",
            self.nodes
        ));
        let fewer = [
            ("images_per_class", images / self.nodes),
            ("num_nodes", images / each),
        ];
        let fewer = fewer.iter().filter(|(_, most)| *most > 0);
        Err(fewer.fold(error, |error, (key, most)| {
            let most = format!(" is at most {most}");
            error.hint(Text::from("for this class ") + parameter(key) + most)
        }))
    }
}
