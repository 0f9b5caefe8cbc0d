//! `train_teachers` trains a teacher for every node on the node's own images. A teacher's file is
//! all that a node uploads.

mod chosen;
mod recorder;
mod training;

pub(super) use chosen::{named, teacher_count};

use crate::artifact::json;
use crate::config::Composed;
use crate::error::Error;
use crate::federated::transport::Rank;
use crate::report::Table;
use crate::run::metrics::TeacherMetrics;
use crate::run::{StageContext, open_for, ranks, required};
use crate::runtime::output;
use crate::words::percent;
use anyhow::Result;
use std::path::{Path, PathBuf};
use training::teacher;

/// Runs the stage.
///
/// # Errors
/// Fails when the split is of another dataset, when `teacher.only` names an unknown teacher, when
/// the training diverges, and when a file cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let context = open_for(composed, ranks::processes())?;
    let folder = required(
        &context.config.teacher.save_folder,
        "teacher.save_folder",
        "outputs/teachers",
    )?;
    let rows = ranks::together(&context, |rank| {
        let rows = train_own(&context, folder, rank)?;
        collect(rows, rank)
    })?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        "teacher",
        "images",
        "own test",
        "whole test",
        "best on test",
        "bytes uploaded",
        "weights",
    ]);
    for (_, row) in rows {
        table.row(row);
    }
    output::print(&table)?;
    Ok(())
}

/// Holds a teacher's index among those to be trained, and its line of the table on stdout.
type Row = (usize, Vec<String>);

/// Trains this rank's teachers: of those to be trained, number i is trained by rank i mod ranks.
/// Each is a run of its own, and its rank writes all of its files. Returns the lines of those that
/// were not there already.
fn train_own(context: &StageContext, folder: &Path, rank: &Rank) -> Result<Vec<Row>> {
    let settings = &context.config.teacher;
    let party = chosen::party(context)?;
    let dataset = context.dataset()?;
    context.refuse_large_crop("teacher", &settings.augment, dataset.size())?;
    let split = context.split(&dataset)?;
    let nodes = match party {
        Some(number) => vec![(number, &split.nodes[0])],
        None => {
            let nodes = chosen::of_split(context, split.nodes.len())?;
            let part = |node| (node, &split.nodes[node]);
            nodes.into_iter().map(part).collect()
        }
    };
    let own = nodes.into_iter().enumerate();
    let mut rows = Vec::new();
    for (index, (node, part)) in own.skip(rank.number()).step_by(rank.ranks()) {
        if let Some(metrics) = teacher(context, &dataset, part, node, folder)? {
            rows.push((index, row(&metrics, &weights_path(folder, node))));
        }
    }
    Ok(rows)
}

/// Returns the lines of all ranks on rank 0, in order; none on the others.
fn collect(mut rows: Vec<Row>, rank: &mut Rank) -> Result<Vec<Row>> {
    if rank.number() > 0 {
        rank.send(0, json::value(&rows)?.to_string().into_bytes());
        return Ok(Vec::new());
    }
    for other in 1..rank.ranks() {
        let theirs: Vec<Row> = serde_json::from_slice(&rank.receive(other)?).map_err(|error| {
            let text = format!("what rank {other} trained cannot be read: {error}");
            Error::failed(text).caused_by(error)
        })?;
        rows.extend(theirs);
    }
    rows.sort();
    Ok(rows)
}

/// Returns a teacher's line of the table.
fn row(metrics: &TeacherMetrics, weights: &Path) -> Vec<String> {
    let saved = metrics
        .epochs
        .iter()
        .find(|epoch| epoch.fit.epoch == metrics.saved_epoch);
    vec![
        metrics.teacher.to_string(),
        metrics.train_images.to_string(),
        percent(saved.and_then(|epoch| epoch.own_test_accuracy)),
        percent(metrics.saved_test_accuracy),
        percent(metrics.best_test_accuracy),
        metrics.upload_bytes.to_string(),
        weights.display().to_string(),
    ]
}

/// Returns the path of teacher `node`'s weights.
pub(crate) fn weights_path(folder: &Path, node: usize) -> PathBuf {
    folder.join(format!("model_teacher{node}.safetensors"))
}
