//! A new partitioner: every client gets whole classes, and the classes are dealt by their size, the
//! largest first, each to the client that has the fewest images so far.
//!
//! A partitioner sees labels and nothing else; `Split::new` deals the test images in the same
//! proportions. `cargo run --release --example partitioner` prints who holds what.

use fed_distill::data::{DatasetSettings, load};
use fed_distill::partition::{Partitioner, Split, label_counts};
use fed_distill::runtime::seed::{Rng, Seeds};
use fed_distill::{Error, Result};
use tch::Device;

/// Deals whole classes to `nodes` clients, as evenly by images as whole classes can be.
#[derive(Debug)]
struct WholeClasses {
    nodes: usize,
}

impl Partitioner for WholeClasses {
    fn deal(&self, labels: &[i64], classes: usize, _: &mut Rng) -> Result<Vec<Vec<usize>>> {
        let everything: Vec<usize> = (0..labels.len()).collect();
        let counts = label_counts(&everything, labels, classes);
        let present = counts.iter().filter(|&&count| count > 0).count();
        if !(1..=present).contains(&self.nodes) {
            let what = format!(
                "{present} classes cannot be dealt to {} clients",
                self.nodes
            );
            return Err(Error::usage(what));
        }
        let mut by_size: Vec<usize> = (0..classes).collect();
        by_size.sort_by_key(|&class| std::cmp::Reverse(counts[class]));
        let (mut owner, mut sizes) = (vec![0; classes], vec![0; self.nodes]);
        for class in by_size {
            let smallest = (0..self.nodes).min_by_key(|&node| sizes[node]).unwrap_or(0);
            owner[class] = smallest;
            sizes[smallest] += counts[class];
        }
        let mut nodes = vec![Vec::new(); self.nodes];
        for (image, &label) in labels.iter().enumerate() {
            nodes[owner[label as usize]].push(image);
        }
        Ok(nodes)
    }
}

fn main() -> Result<()> {
    let digits = load(&DatasetSettings::default(), Device::Cpu)?;
    let classes = digits.classes.len();
    let split = Split::new(
        &WholeClasses { nodes: 3 },
        &digits.train.label_list,
        &digits.test.label_list,
        classes,
        &mut Seeds::new(42).stream("split", 0),
    )?;
    for (node, part) in split.nodes.iter().enumerate() {
        let train = label_counts(&part.train, &digits.train.label_list, classes);
        let test = label_counts(&part.test, &digits.test.label_list, classes);
        println!("client {node}: training images by class {train:?}, test images {test:?}");
    }
    Ok(())
}
