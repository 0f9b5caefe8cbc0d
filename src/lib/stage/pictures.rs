//! Draws the pictures of the server's stages: grids of synthetic images and curves of loss terms.

use crate::data::Normalisation;
use crate::error::Result;
use crate::inversion::{LossTerm, TermsAt};
use crate::report::{Grid, GridRow, LinePlot, Series};
use std::path::Path;
use tch::Tensor;

/// Limits the images of a row.
const COLUMNS: i64 = 12;
/// Limits the rows of a grid: more classes than this are shown in part.
const ROWS: usize = 20;

/// Writes a PNG grid of normalised `images` [M,C,H,W] with a row a class.
pub fn grid_by_class(
    path: &Path,
    title: &str,
    images: &Tensor,
    labels: &Tensor,
    classes: &[String],
    normalisation: &Normalisation,
) -> Result<()> {
    grid(title, images, labels, classes, normalisation).save(path)
}

/// Returns a grid of normalised `images` [M,C,H,W] with a row for each value of `groups` (i64 [M],
/// an index into `names`).
pub fn grid(
    title: &str,
    images: &Tensor,
    groups: &Tensor,
    names: &[String],
    normalisation: &Normalisation,
) -> Grid {
    let mut rows = Vec::new();
    for (group, name) in names.iter().enumerate() {
        let members = groups.eq(group as i64).nonzero().flatten(0, -1);
        if members.numel() == 0 || rows.len() == ROWS {
            continue;
        }
        let shown = members.narrow(0, 0, COLUMNS.min(members.numel() as i64));
        rows.push(GridRow {
            label: name.clone(),
            pixels: normalisation.to_pixels(&images.index_select(0, &shown)),
        });
    }
    Grid {
        title: title.into(),
        rows,
    }
}

/// Writes a PNG grid with a row a teacher; `teachers` is i64 [M].
pub fn grid_by_teacher(
    path: &Path,
    images: &Tensor,
    teachers: &Tensor,
    count: usize,
    normalisation: &Normalisation,
) -> Result<()> {
    let names: Vec<String> = (0..count)
        .map(|teacher| format!("teacher {teacher}"))
        .collect();
    grid(
        "Synthetic images by teacher",
        images,
        teachers,
        &names,
        normalisation,
    )
    .save(path)
}

/// Plots the terms of `loss` that are in use over the gradient steps, each a mean over `batches`
/// (which took the same steps), as SVG and PNG.
pub fn loss_curves(
    stem: &Path,
    loss: &str,
    batches: &[&[TermsAt]],
    terms: &[LossTerm],
) -> Result<()> {
    let curve = |term: &LossTerm| {
        let steps = batches.first().map_or(0, |batch| batch.len());
        let mean = |at: usize| {
            let values: Vec<f64> = batches
                .iter()
                .filter_map(|batch| batch.get(at).map(term.of))
                .collect();
            values.iter().sum::<f64>() / values.len() as f64
        };
        Series {
            name: term.name.into(),
            points: (0..steps)
                .map(|at| (batches[0][at].step as f64, mean(at)))
                .collect(),
        }
    };
    // Networks without batch norm have no such term.
    let in_use = |term: &LossTerm| {
        let series = curve(term);
        let some = series.points.iter().any(|at| at.1 != 0.0);
        (term.scale != 0.0 && some).then_some(series)
    };
    let mut series: Vec<Series> = terms.iter().filter_map(in_use).collect();
    if series.is_empty() {
        series.extend(terms.first().map(curve));
    }
    let values = series.iter().flat_map(|series| &series.points);
    let (lowest, highest) = values.fold((0.0_f64, 0.0_f64), |(lowest, highest), at| {
        (lowest.min(at.1), highest.max(at.1))
    });
    let plot = LinePlot {
        title: &format!("{loss} and its terms before scaling, mean over batches"),
        x: "gradient step",
        y: "loss",
        log_x: false,
        // A generator's loss may be negative: it subtracts terms.
        log_y: lowest == 0.0 && highest > 0.0,
        series,
    };
    save_both(&plot, stem)
}

/// Saves a plot as `stem.svg` and `stem.png`.
pub fn save_both(plot: &LinePlot, stem: &Path) -> Result<()> {
    plot.save(&stem.with_extension("svg"))?;
    plot.save(&stem.with_extension("png"))
}
