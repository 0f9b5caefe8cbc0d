//! Shows the nearest of the synthetic images that were drawn, as a table and as a picture.

use super::views::View;
use crate::data::Dataset;
use crate::report::{Grid, GridRow, Table};
use tch::Tensor;

/// Holds the synthetic images that were compared.
pub struct Sampled<'a> {
    /// Their indices in the file.
    pub drawn: &'a [i64],
    /// Of all in the file.
    pub labels: &'a [i64],
    pub dataset: &'a Dataset,
    pub owners: Option<Vec<Option<usize>>>,
    pub views: &'a [View],
}

impl Sampled<'_> {
    /// Returns the indices of the nearest by pixels among the sampled, the nearest first.
    pub fn nearest_first(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.drawn.len()).collect();
        order.sort_by(|&a, &b| self.views[0].synthetic[a].total_cmp(&self.views[0].synthetic[b]));
        order.truncate(count);
        order
    }

    /// Returns the name of a class, empty for one that does not exist.
    fn class(&self, label: i64) -> String {
        usize::try_from(label)
            .ok()
            .and_then(|label| self.dataset.classes.get(label))
            .cloned()
            .unwrap_or_default()
    }

    /// Returns a table with a line for each image shown.
    pub fn table(&self, shown: &[usize]) -> Table {
        let mut headers = vec!["synthetic", "class"];
        for view in self.views {
            let word = view.name.split(' ').next().unwrap_or_default();
            headers.extend([word, "training image", "class"]);
            headers.extend(self.owners.as_ref().map(|_| "node"));
        }
        let mut table = Table::new(&headers);
        for &at in shown {
            let mut cells = vec![
                self.drawn[at].to_string(),
                self.class(self.labels[self.drawn[at] as usize]),
            ];
            for view in self.views {
                let index = view.nearest[at] as usize;
                cells.extend([
                    format!("{:.4}", view.synthetic[at]),
                    index.to_string(),
                    self.class(self.dataset.train.label_list[index]),
                ]);
                let node = |owners: &Vec<Option<usize>>| {
                    owners[index].map_or("–".into(), |node: usize| node.to_string())
                };
                cells.extend(self.owners.as_ref().map(node));
            }
            table.row(cells);
        }
        table
    }

    /// Returns a grid with a column for each synthetic image and its nearest training images.
    pub fn picture(&self, pixels: &Tensor, shown: &[usize]) -> Grid {
        let indices: Vec<i64> = shown.iter().map(|&at| at as i64).collect();
        let select = |images: &Tensor, indices: &[i64]| {
            images.index_select(0, &Tensor::from_slice(indices).to_device(images.device()))
        };
        let mut rows = vec![GridRow {
            label: "synthetic".into(),
            pixels: select(pixels, &indices),
        }];
        for view in self.views {
            let nearest: Vec<i64> = shown.iter().map(|&at| view.nearest[at]).collect();
            rows.push(GridRow {
                label: format!(
                    "nearest by {}",
                    view.name.split(' ').next().unwrap_or_default()
                ),
                pixels: select(&self.dataset.train.images, &nearest),
            });
        }
        Grid {
            title: "Synthetic images and the training images nearest to them".into(),
            rows,
        }
    }
}
