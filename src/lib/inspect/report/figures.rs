//! Plots and pictures of a run as HTML: those that the stage left, or drawn again from its metrics.

use super::Entry;
use crate::error::Result;
use crate::report::{LinePlot, Series, html};
use std::path::Path;

/// What `save` draws to a path that ends in .svg, as HTML. A plot without anything to draw is left
/// out.
pub fn drawn(name: &str, save: impl FnOnce(&Path) -> Result<()>) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("plot.svg");
    match save(&path) {
        Ok(()) => html::plot(name, &fs_err::read_to_string(&path)?),
        Err(error) => {
            tracing::warn!("left out of the report: {error}");
            Ok(String::new())
        }
    }
}

/// A plot that a stage left beside `path`: the SVG if there is one, else the PNG; nothing if there
/// is neither.
pub fn left(name: &str, path: &Path) -> String {
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

/// A PNG that a stage left; nothing if it is gone.
pub fn picture(name: &str, path: &Path) -> String {
    match fs_err::read(path) {
        // Whatever else may lie there under that name is no picture.
        Ok(bytes) if bytes.starts_with(b"\x89PNG\r\n") => html::picture(name, &bytes),
        _ => String::new(),
    }
}

/// A line a run over its epochs.
pub fn over_epochs(
    title: &str,
    y: &str,
    log_y: bool,
    entries: &[(String, &Entry)],
    of: fn(&super::super::run::Epoch) -> Option<f64>,
) -> Result<String> {
    let series = |(name, entry): &(String, &Entry)| Series {
        name: name.clone(),
        points: entry
            .metrics
            .epochs
            .iter()
            .filter_map(|epoch| Some((epoch.epoch as f64, of(epoch)?)))
            .collect(),
    };
    let plot = LinePlot {
        title,
        x: "epoch",
        y,
        log_x: false,
        log_y,
        series: entries.iter().map(series).collect(),
    };
    lines(&plot)
}

/// A plot of lines under its own title; nothing if none has a point.
pub fn lines(plot: &LinePlot) -> Result<String> {
    if plot.series.iter().all(|series| series.points.is_empty()) {
        return Ok(String::new());
    }
    drawn(plot.title, |path| plot.save(path))
}
