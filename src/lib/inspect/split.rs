//! `inspect split` shows the images of each node, and measures of label skew.

use super::recognise::{self, Wanted};
use super::{Answer, dataset, out};
use crate::data::Dataset;
use crate::partition::{Part, Skew, Split, label_counts, skew};
use crate::report::{MOST_BARS, Table, stacked_bars};
use crate::run::split::read;
use anyhow::Result;
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// The split's JSON file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The dataset that it splits, where no manifest names it: `dataset=mnist dataset.root=FOLDER`;
    /// where the images are, if they have moved: `dataset.root=FOLDER`
    #[arg(value_name = "OVERRIDE")]
    overrides: Vec<String>,
    /// The plot to write, .png or .svg
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// Classes that a table lists, at most.
const LISTED: usize = 20;

/// Holds a split with the training images of its nodes.
pub struct SplitCounts {
    pub split: Split,
    pub classes: Vec<String>,
    /// `counts[node][class]`.
    pub counts: Vec<Vec<u64>>,
}

impl SplitCounts {
    /// Counts the training images of each node and class.
    ///
    /// # Errors
    /// Fails for a split of another dataset.
    pub fn new(split: Split, path: &Path, dataset: &Dataset) -> Result<Self> {
        split
            .check(dataset.train.len(), dataset.test.len())
            .map_err(|error| {
                let file = path.display().to_string();
                error.within("dataset").note("file", file)
            })?;
        let count = |part: &Part| {
            label_counts(
                &part.train,
                &dataset.train.label_list,
                dataset.classes.len(),
            )
        };
        Ok(Self {
            counts: split.nodes.iter().map(count).collect(),
            classes: dataset.classes.clone(),
            split,
        })
    }

    /// Returns the numbers of the nodes, as `split_data` writes them below the bars.
    pub fn nodes(&self) -> Vec<String> {
        (0..self.counts.len())
            .map(|node| node.to_string())
            .collect()
    }

    /// Returns a table with a line a node: its counts and its measures.
    pub fn table(&self, skew: &Skew) -> Table {
        let listed = match self.classes.len() {
            0..=LISTED => &self.classes[..],
            _ => &[],
        };
        let mut headers = vec!["node", "train", "test"];
        headers.extend(listed.iter().map(String::as_str));
        headers.extend(["classes", "effective", "JS", "TV"]);
        let mut table = Table::new(&headers);
        let nodes = self
            .split
            .nodes
            .iter()
            .zip(&self.counts)
            .zip(&skew.nodes)
            .enumerate();
        for (node, ((part, counts), measures)) in nodes {
            let mut cells = vec![
                node.to_string(),
                part.train.len().to_string(),
                part.test.len().to_string(),
            ];
            cells.extend(counts.iter().take(listed.len()).map(u64::to_string));
            cells.extend([
                measures.classes.to_string(),
                format!("{:.2}", measures.effective_classes),
                format!("{:.3}", measures.jensen_shannon),
                format!("{:.3}", measures.total_variation),
            ]);
            table.row(cells);
        }
        table
    }
}

/// Returns a table of the measures of a whole split.
pub fn measures(skew: &Skew) -> Table {
    let mut table = Table::new(&["label skew", "value", "meaning"]);
    let rows = [
        (
            "effective classes, mean",
            skew.effective_classes,
            "exp of a node's label entropy (Hill 1973)",
        ),
        (
            "Jensen-Shannon, mean",
            skew.jensen_shannon,
            "bits from the labels of all nodes: 0 IID, at most 1 (Lin 1991)",
        ),
        (
            "total variation, mean",
            skew.total_variation,
            "½ Σ|p − q| from them: 0 IID; half of the EMD of Zhao et al. 2018",
        ),
        (
            "Gini of sizes",
            skew.size_gini,
            "0 for nodes of one size, towards 1 when one holds all (Gini 1912)",
        ),
    ];
    for (name, value, meaning) in rows {
        table.row(vec![name.into(), format!("{value:.3}"), meaning.into()]);
    }
    table
}

impl Request {
    /// Returns counts and measures of each node, and draws the counts.
    ///
    /// # Errors
    /// Fails for a missing or damaged split or dataset; one that does not belong to the other; a
    /// plot that cannot be written.
    pub fn answer(&self) -> Result<Answer> {
        out::check(self.out.as_deref(), out::PLOT)?;
        let path = recognise::file(&self.file, Wanted::Split, "split")?;
        let split = read(path)?;
        let command = format!("inspect split {}", path.display());
        let chosen = dataset::choose(path, &self.overrides, dataset::KEYS, &command)?;
        let dataset = chosen.load(&command)?;
        let counted = SplitCounts::new(split, path, &dataset)?;
        let skew = skew(&counted.counts);
        let stem = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let out = out::picture(self.out.as_deref(), path, &format!("{stem}.png"));
        let plot = (counted.counts.len() <= MOST_BARS).then_some(out);
        let drawn = match &plot {
            Some(out) => {
                let (nodes, title) = (counted.nodes(), "Training images of each node");
                stacked_bars(out, title, &nodes, &counted.classes, &counted.counts)?;
                format!("plot: {}", out.display())
            }
            None => {
                format!("no plot: of more than {MOST_BARS} nodes the bars cannot be told apart")
            }
        };
        Answer::new(
            format!("{}\n\n{}\n\n{drawn}", counted.table(&skew), measures(&skew)),
            json!({"file": path, "dataset": dataset.name, "classes": counted.classes,
                "counts": counted.counts, "skew": skew, "plot": plot}),
        )
    }
}
