//! Gives each node many images of some classes and few of the others: the fourth of four modes of
//! course exercises.

use super::{Partitioner, demand, draw};
use crate::error::{Error, Result, parameter};
use crate::runtime::seed::Rng;
use crate::words::counted;
use rand::Rng as _;
use rand::seq::SliceRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Gives each node `major_classes` classes, spread evenly over nodes, of which it gets a uniformly
/// random number of images in `major`, and of every other class one in `minor` (bounds included).
/// The rest is left out.
///
/// Where a class is too rare for the upper bounds, nodes draw in random order, and each leaves
/// those after it their lower bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Skewed {
    /// Number of nodes to deal the images to.
    #[serde(rename = "num_nodes")]
    #[schemars(range(min = 1))]
    pub nodes: usize,
    /// Number of classes of which a node holds many images.
    #[serde(rename = "classes_per_node")]
    #[schemars(range(min = 1))]
    pub major_classes: usize,
    /// Smallest and largest number of images of each of those classes.
    #[serde(rename = "major_images")]
    #[schemars(inner(range(min = 1)))]
    pub major: [usize; 2],
    /// Smallest and largest number of images of each other class.
    #[serde(rename = "minor_images")]
    pub minor: [usize; 2],
}

impl Default for Skewed {
    fn default() -> Self {
        Self {
            nodes: 1,
            major_classes: 2,
            major: [60, 110],
            minor: [1, 10],
        }
    }
}

impl Partitioner for Skewed {
    fn deal(&self, labels: &[i64], classes: usize, rng: &mut Rng) -> Result<Vec<Vec<usize>>> {
        demand::enough(labels.len(), self.nodes, 1)?;
        self.check()?;
        let totals: Vec<usize> = draw::by_class(labels, classes)
            .iter()
            .map(Vec::len)
            .collect();
        let present: Vec<usize> = (0..classes).filter(|&class| totals[class] > 0).collect();
        demand::classes(self.major_classes, present.len())?;
        let held = draw::spread(self.nodes, self.major_classes, &present, rng);
        let mut counts = vec![vec![0; classes]; self.nodes];
        for &class in &present {
            let is_major: Vec<bool> = held.iter().map(|own| own.contains(&class)).collect();
            for (node, count) in self
                .draw(class, totals[class], &is_major, rng)?
                .into_iter()
                .enumerate()
            {
                counts[node][class] = count;
            }
        }
        Ok(draw::deal_counts(labels, &counts, classes, rng))
    }
}

impl Skewed {
    fn check(&self) -> Result<()> {
        for (key, [least, most], floor) in [
            ("major_images", self.major, 1),
            ("minor_images", self.minor, 0),
        ] {
            if least > most || least < floor {
                let found = format!(" is [{least}, {most}]");
                return Err(Error::usage(parameter(key) + found).note(
                    "expected",
                    format!("the smallest number of images, {floor} or more, and the largest"),
                ));
            }
        }
        Ok(())
    }

    /// Draws how many images of a class each node gets.
    fn draw(
        &self,
        class: usize,
        images: usize,
        is_major: &[bool],
        rng: &mut Rng,
    ) -> Result<Vec<usize>> {
        let bounds = |node: usize| {
            if is_major[node] {
                self.major
            } else {
                self.minor
            }
        };
        let least = (0..self.nodes).try_fold(0usize, |sum, node| sum.checked_add(bounds(node)[0]));
        let Some(mut spare) = least.and_then(|least| images.checked_sub(least)) else {
            return Err(self.too_rare(class, images, is_major));
        };
        let mut order: Vec<usize> = (0..self.nodes).collect();
        order.shuffle(rng);
        let mut counts = vec![0; self.nodes];
        for node in order {
            let [least, most] = bounds(node);
            let more = rng.random_range(0..=(most - least).min(spare));
            counts[node] = least + more;
            spare -= more;
        }
        Ok(counts)
    }

    fn too_rare(&self, class: usize, images: usize, is_major: &[bool]) -> Error {
        let major = is_major.iter().filter(|&&is_major| is_major).count();
        let needs = |nodes: usize, [least, most]: [usize; 2]| {
            (nodes > 0).then(|| format!("{} {least} to {most} each", counted(nodes, "node")))
        };
        let needs = [
            needs(major, self.major),
            needs(self.nodes - major, self.minor),
        ];
        Error::usage(format!(
            "class {class} has {}, too few for {}",
            counted(images, "training image"),
            counted(self.nodes, "node")
        ))
        .note(
            "expected",
            needs.into_iter().flatten().collect::<Vec<_>>().join(", "),
        )
        .hint(
            demand::fewer()
                + ", or lower "
                + parameter("major_images")
                + " or "
                + parameter("minor_images"),
        )
    }
}
