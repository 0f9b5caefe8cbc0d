//! Returns plots and pictures of a run as HTML: those that the stage wrote, or drawn from its
//! metrics.

use super::super::run::{Entry, Epoch};
use crate::artifact::fault::refuse_special;
use crate::error::Error;
use crate::report::{LinePlot, Series, html};
use anyhow::Result;
use maud::{Markup, html};
use std::path::Path;

/// Returns the plot `svg`. One that cannot be drawn is left out.
pub fn drawn(name: &str, svg: Result<String, Error>) -> Result<Markup> {
    match svg {
        Ok(svg) => Ok(html::plot(name, &svg)?),
        Err(error) => {
            tracing::warn!("left out of the report: {error}");
            Ok(html! {})
        }
    }
}

/// Returns the plot that a stage wrote at `path` with any extension: the SVG if there is one, else
/// the PNG; nothing if there is neither.
pub fn saved(name: &str, path: &Path) -> Markup {
    let svg = read(&path.with_extension("svg"));
    let svg = svg.and_then(|bytes| String::from_utf8(bytes).ok());
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
    match read(path) {
        // Another file under that name is left out.
        Some(bytes) if bytes.starts_with(b"\x89PNG\r\n") => html::picture(name, &bytes),
        _ => html! {},
    }
}

/// Returns what a file holds; nothing if it is gone, or a pipe or the like, which may never end.
fn read(path: &Path) -> Option<Vec<u8>> {
    refuse_special(path).ok()?;
    fs_err::read(path).ok()
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
    drawn(plot.title, plot.svg())
}
