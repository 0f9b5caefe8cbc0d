//! `split_data` deals the dataset to nodes. It writes the split's JSON and a stacked-bar plot
//! beside it, and prints a table of counts.

use crate::artifact::json;
use crate::config::Composed;
use crate::data::Dataset;
use crate::error::During;
use crate::partition::{Part, Split, label_counts};
use crate::report::{MOST_BARS, Table, stacked_bars};
use crate::run::job::Job;
use crate::run::manifest;
use crate::run::stages;
use crate::run::{StageContext, open, required};
use crate::runtime::output;
use crate::runtime::seed::Seeds;
use crate::words::first_of;
use anyhow::Result;
use std::path::Path;

/// Runs the stage.
///
/// # Errors
/// Fails when the split is impossible, when the dataset cannot be read, and when a file cannot be
/// written.
pub fn run(composed: &Composed) -> Result<()> {
    let context = open(composed)?;
    let path = required(
        &context.config.split.save_path,
        "split.save_path",
        "outputs/split.json",
    )?;
    let job = Job {
        stage: &stages::SPLIT_DATA,
        manifest: manifest::beside(path),
        output: path.to_path_buf(),
        log: path.with_extension("log"),
    };
    let inputs = |run: &mut manifest::Run| {
        let dataset = context.dataset()?;
        run.dataset(&dataset)?;
        let split = dealt(&context, &dataset)?;
        Ok((dataset, split))
    };
    let done = context.perform(&job, inputs, |(dataset, split), session| {
        json::write(path, &split.to_json())?;
        session.run.fact("nodes", split.nodes.len())?;
        session.run.output("split", path)?;
        show(&dataset, &split, session.run, path)
    })?;
    if done.is_none() {
        tracing::info!("{} is there already", path.display());
    }
    Ok(())
}

/// Returns the split; an impossible one is refused before an earlier one is replaced.
fn dealt(context: &StageContext, dataset: &Dataset) -> Result<Split> {
    let partitioner = context.config.split.partition.partitioner();
    let mut rng = Seeds::new(context.config.seed).stream("split", 0);
    let (train, test) = (&dataset.train.label_list, &dataset.test.label_list);
    let split = Split::new(&*partitioner, train, test, dataset.classes.len(), &mut rng);
    Ok(split.within("split")?)
}

/// Prints the table and draws the plot beside the split.
fn show(dataset: &Dataset, split: &Split, run: &mut manifest::Run, path: &Path) -> Result<()> {
    let counts: Vec<Vec<u64>> = split
        .nodes
        .iter()
        .map(|part| {
            label_counts(
                &part.train,
                &dataset.train.label_list,
                dataset.classes.len(),
            )
        })
        .collect();
    let names: Vec<String> = (0..counts.len()).map(|node| node.to_string()).collect();
    let mut headers = vec!["node", "train", "test"];
    // A table of a hundred classes is unreadable; the plot and the JSON have them.
    let listed = if dataset.classes.len() <= 20 {
        &dataset.classes[..]
    } else {
        &[]
    };
    headers.extend(listed.iter().map(String::as_str));
    let mut table = Table::new(&headers);
    for (node, (part, counts)) in split.nodes.iter().zip(&counts).enumerate() {
        let mut cells = vec![
            node.to_string(),
            part.train.len().to_string(),
            part.test.len().to_string(),
        ];
        cells.extend(counts.iter().take(listed.len()).map(u64::to_string));
        table.row(cells);
    }
    output::print(&table)?;
    warn_about_untested(&split.nodes);
    let dealt: usize = split.nodes.iter().map(|part| part.train.len()).sum();
    let all = dataset.train.len();
    if dealt < all {
        output::print(format!(
            "left out: {} of {all} training images",
            all - dealt
        ))?;
    }
    output::print(format!("split: {}", path.display()))?;
    if counts.len() > MOST_BARS {
        tracing::warn!("no plot: of more than {MOST_BARS} nodes the bars cannot be told apart");
        return Ok(());
    }
    for extension in ["svg", "png"] {
        let plot = path.with_extension(extension);
        stacked_bars(
            &plot,
            "Training images of each node",
            &names,
            &dataset.classes,
            &counts,
        )?;
        run.output("plot", &plot)?;
    }
    output::print(format!("plot:  {}", path.with_extension("png").display()))?;
    Ok(())
}

/// Warns of nodes without test images, all in one line: there may be thousands.
fn warn_about_untested(nodes: &[Part]) {
    let untested = nodes.iter().enumerate();
    let untested = untested.filter(|(_, part)| part.test.is_empty());
    let untested: Vec<usize> = untested.map(|(node, _)| node).collect();
    match untested.as_slice() {
        [] => {}
        [node] => tracing::warn!("node {node} has no test images of its own"),
        several => tracing::warn!(
            "{} of {} nodes have no test images of their own: {}",
            several.len(),
            nodes.len(),
            first_of(several)
        ),
    }
}
