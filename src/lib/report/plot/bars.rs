//! Draws the split plot: one bar a node, its images stacked by class.

use super::axis::{Scale, thousands};
use super::layout::{self, AXIS, Frame, MARGIN, NAME, Names, TICK, Title};
use super::legend::Legend;
use crate::report::canvas::{Align, Canvas};
use crate::report::colours::{Colour, WHITE, fills};
use crate::{Error, Result};
use std::path::Path;

const TICKS: usize = 6;
const HEIGHT: f64 = 340.0;
/// Width the bars share, unless they are few or thousands.
const WIDTH: f64 = 900.0;
const NARROWEST: f64 = 260.0;
/// White between segments.
const SEAM: f64 = 0.75;

/// Most nodes that are drawn: of more the bars cannot be told apart.
pub const MOST_BARS: usize = 5000;

/// Draws one bar a node with its images stacked by class, `counts[node][class]`, as SVG or PNG by
/// the path's extension.
///
/// # Errors
/// Fails when there are no nodes, no classes, or counts of another shape; a file that cannot be
/// written.
pub fn stacked_bars(
    path: &Path,
    title: &str,
    nodes: &[String],
    classes: &[String],
    counts: &[Vec<u64>],
) -> Result<()> {
    draw(title, nodes, classes, counts)?.save(path)
}

/// Returns what [`stacked_bars`] draws as SVG.
///
/// # Errors
/// Fails as [`stacked_bars`] does, but writes no file.
pub fn stacked_bars_svg(
    title: &str,
    nodes: &[String],
    classes: &[String],
    counts: &[Vec<u64>],
) -> Result<String> {
    Ok(draw(title, nodes, classes, counts)?.svg())
}

fn draw(title: &str, nodes: &[String], classes: &[String], counts: &[Vec<u64>]) -> Result<Canvas> {
    check(title, nodes, classes, counts)?;
    let totals: Vec<u128> = counts
        .iter()
        .map(|row| row.iter().map(|&count| u128::from(count)).sum())
        .collect();
    let scale = Scale::counts(totals.iter().max().map_or(0.0, |&total| total as f64));
    let colours = fills(classes.len());
    let legend = Legend {
        heading: "class",
        names: classes,
        colours: &colours,
    };

    let slot = slot_width(nodes);
    let names = Names::new(nodes, slot);
    let left = layout::gutter(&scale, TICKS);
    let right = left + slot * nodes.len() as f64;
    let width = right + 24.0 + legend.width() + MARGIN;
    let heading = Title::new(title, width - 2.0 * MARGIN);
    let top = MARGIN + heading.height();
    let frame = Frame {
        left,
        top,
        right,
        bottom: top + HEIGHT,
    };
    let foot = frame.bottom + names.height() + 14.0;
    let height = (foot + AXIS.em).max(top + legend.height()) + MARGIN;

    Canvas::drawn(title, (width, height), |canvas| {
        heading.draw(canvas);
        layout::value_axis(canvas, &frame, &scale, TICKS, "images");
        for (i, (row, &total)) in counts.iter().zip(&totals).enumerate() {
            let middle = frame.left + (i as f64 + 0.5) * slot;
            bar(
                canvas,
                &frame,
                &scale,
                (middle, bar_width(slot)),
                row,
                &colours,
            );
            let text = thousands(total);
            if nodes.len() <= 20 && TICK.width(&text) + 4.0 <= slot {
                let top = frame.y(scale.at(total as f64));
                number(canvas, &text, (middle, top - 9.0));
            }
        }
        layout::floor(canvas, &frame);
        names.draw(canvas, &frame);
        layout::horizontal_title(canvas, &frame, foot + AXIS.em / 2.0 - 4.0, "node");
        legend.draw(canvas, (frame.right + 24.0, frame.top), HEIGHT)
    })
}

/// Refuses no nodes, no classes, and counts of another shape.
fn check(title: &str, nodes: &[String], classes: &[String], counts: &[Vec<u64>]) -> Result<()> {
    let fits = counts.len() == nodes.len() && counts.iter().all(|row| row.len() == classes.len());
    if !nodes.is_empty() && !classes.is_empty() && fits {
        return Ok(());
    }
    let lengths = counts.iter().map(Vec::len);
    let found = format!(
        "{} rows of {} to {} counts",
        counts.len(),
        lengths.clone().min().unwrap_or(0),
        lengths.max().unwrap_or(0)
    );
    Err(
        Error::failed(format!("cannot draw the split plot `{title}`"))
            .note(
                "expected",
                format!(
                    "counts of {} nodes × {} classes, at least one of each",
                    nodes.len(),
                    classes.len()
                ),
            )
            .note("found", found),
    )
}

/// Returns the width of a bar and the space beside it: wide enough for level names while that fits
/// the usual width.
fn slot_width(nodes: &[String]) -> f64 {
    let count = nodes.len() as f64;
    let wanted = (NAME.widest(nodes) + 10.0)
        .clamp(44.0, 72.0)
        .max(NARROWEST / count);
    if wanted * count <= WIDTH {
        wanted
    } else {
        (WIDTH / count).max(2.0)
    }
}

/// Writes the number of a bar's images, on white where it covers a grid line.
fn number(canvas: &mut Canvas, text: &str, (x, y): (f64, f64)) {
    let half = TICK.width(text) / 2.0 + 2.0;
    canvas.rect((x - half, y - 7.0), (x + half, y + 7.0), WHITE);
    canvas.text(text, (x, y), TICK, Align::Middle);
}

fn bar_width(slot: f64) -> f64 {
    if slot < 4.0 {
        slot
    } else {
        (slot * 0.8).min(64.0)
    }
}

/// Draws one bar from the bottom up.
fn bar(
    canvas: &mut Canvas,
    frame: &Frame,
    scale: &Scale,
    (middle, width): (f64, f64),
    row: &[u64],
    colours: &[Colour],
) {
    // On whole pixels, unless bars are so narrow that their widths would differ visibly.
    let snap = |x: f64| if width < 12.0 { x } else { x.round() };
    let (from, to) = (snap(middle - width / 2.0), snap(middle + width / 2.0));
    let mut upto: u128 = row.iter().map(|&count| u128::from(count)).sum();
    // From the top down, each to the floor: the next one covers what is not its own, and viewers
    // show no gaps between them.
    for (&count, &colour) in row.iter().zip(colours).rev() {
        let top = frame.y(scale.at(upto as f64));
        upto -= u128::from(count);
        let own = frame.y(scale.at(upto as f64)) - top;
        if count > 0 {
            canvas.rect((from, top), (to, frame.bottom), colour);
        }
        // A seam would hide a thin segment.
        if own > 6.0 * SEAM {
            canvas.rect((from, top), (to, top + SEAM), WHITE);
        }
    }
}
