//! Returns plots and pictures of a run as HTML: those that the stage wrote, or drawn from its
//! metrics.

use super::super::run::{Entry, Epoch};
use crate::error::Error;
use crate::report::{LinePlot, Series, html};
use anyhow::Result;
use maud::{Markup, html};
use std::path::Path;

/// Returns what `save` draws to a path that ends in .svg. A plot without anything to draw is left
/// out.
pub fn drawn(name: &str, save: impl FnOnce(&Path) -> Result<(), Error>) -> Result<Markup> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("plot.svg");
    match save(&path) {
        Ok(()) => Ok(html::plot(name, &fs_err::read_to_string(&path)?)?),
        Err(error) => {
            tracing::warn!("left out of the report: {error}");
            Ok(html! {})
        }
    }
}

/// Returns the plot that a stage wrote at `path` with any extension: the SVG if there is one, else
/// the PNG; nothing if there is neither.
pub fn saved(name: &str, path: &Path) -> Markup {
    let svg = fs_err::read_to_string(path.with_extension("svg")).ok();
    match svg.map(|svg| html::plot(name, &svg)) {
        Some(Ok(figure)) => figure,
        Some(Err(error)) => {
            tracing::warn!("left out of the report: {error}");
            picture(name, path)
        }
        None => picture(name, path),
    }
}

/// Returns the PNG that a stage wrote; nothing if it is gone.
pub fn picture(name: &str, path: &Path) -> Markup {
    match fs_err::read(path) {
        // Another file under that name is left out.
        Ok(bytes) if bytes.starts_with(b"\x89PNG\r\n") => html::picture(name, &bytes),
        _ => html! {},
    }
}

/// Returns a plot of the test accuracy over the epochs, a line for each run.
pub fn accuracy(title: &str, entries: &[(String, &Entry)]) -> Result<Markup> {
    let percent = |epoch: &Epoch| Some(100.0 * epoch.test_accuracy?);
    over_epochs(title, "accuracy (%)", false, entries, percent)
}

/// Returns a plot of the training loss over the epochs, a line for each run.
pub fn training_loss(title: &str, entries: &[(String, &Entry)]) -> Result<Markup> {
    over_epochs(title, "loss", true, entries, |epoch| epoch.train_loss)
}

fn over_epochs(
    title: &str,
    y: &str,
    log_y: bool,
    entries: &[(String, &Entry)],
    of: fn(&Epoch) -> Option<f64>,
) -> Result<Markup> {
    let series = |(name, entry): &(String, &Entry)| Series {
        name: name.clone(),
        points: entry
            .metrics
            .epochs
            .iter()
            // From 1, as people count; files count from 0.
            .filter_map(|epoch| Some((epoch.epoch as f64 + 1.0, of(epoch)?)))
            .collect(),
    };
    lines(&LinePlot {
        title,
        x: "epoch",
        y,
        log_x: false,
        log_y,
        series: entries.iter().map(series).collect(),
    })
}

/// Returns a plot of lines under its own title; nothing if none has a point.
pub fn lines(plot: &LinePlot) -> Result<Markup> {
    if plot.series.iter().all(|series| series.points.is_empty()) {
        return Ok(html! {});
    }
    drawn(plot.title, |path| plot.save(path))
}
