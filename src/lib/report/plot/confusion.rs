//! Draws the confusion matrix, with the teachers that own the classes.

use super::axis::thousands;
use super::heat::{BAR, border, colour_bar};
use super::layout::{self, AXIS, Frame, MARGIN, NAME, NAME_LIMIT, Names, TICK, Title};
use crate::report::canvas::{Align, Canvas};
use crate::report::colours::{FAINT, RULE, WHITE, heat, ink_on};
use crate::report::text::Face;
use crate::{Error, Result};
use std::path::Path;

/// Side of the whole matrix that cells share.
const SIDE: f64 = 600.0;
const CELL: (f64, f64) = (2.0, 68.0);
/// Longest owner text.
const OWNER_LIMIT: f64 = 110.0;

/// Holds the counts and the sizes at which they are drawn.
struct Matrix<'a> {
    counts: &'a [Vec<u64>],
    cell: f64,
    frame: Frame,
    writing: Writing,
}

/// Selects the text that fits into every cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writing {
    Nothing,
    /// Percentages without the sign, which the remark below the title gives instead.
    Bare,
    Percent,
    PercentAndCount,
}

impl Writing {
    /// Returns the most that fits into a cell of that width.
    fn that_fits(cell: f64, counts: &[Vec<u64>]) -> Self {
        let fits = |text: &str| NAME.width(text) + 4.0 <= cell;
        let largest = counts.iter().flatten().max().copied().unwrap_or(0);
        match () {
            () if cell >= 34.0 && fits("100%") && fits(&thousands(largest.into())) => {
                Self::PercentAndCount
            }
            () if fits("100%") => Self::Percent,
            () if fits("100") => Self::Bare,
            () => Self::Nothing,
        }
    }
}

/// Draws `counts[truth][prediction]` as SVG or PNG by the path's extension: rows are true
/// classes, colours are shares of a row, and percentages and counts are written where they fit.
/// `owners[class]` is shown beside the true class (who was trained on it).
///
/// A class without images has a grey row.
///
/// # Errors
/// Fails when there are no classes, or counts or owners of another length; a file that cannot be
/// written.
pub fn confusion(
    path: &Path,
    title: &str,
    classes: &[String],
    counts: &[Vec<u64>],
    owners: Option<&[String]>,
) -> Result<()> {
    draw(title, classes, counts, owners)?.save(path)
}

/// Returns what [`confusion`] draws as SVG.
///
/// # Errors
/// Fails as [`confusion`] does, but writes no file.
pub fn confusion_svg(
    title: &str,
    classes: &[String],
    counts: &[Vec<u64>],
    owners: Option<&[String]>,
) -> Result<String> {
    Ok(draw(title, classes, counts, owners)?.svg())
}

fn draw(
    title: &str,
    classes: &[String],
    counts: &[Vec<u64>],
    owners: Option<&[String]>,
) -> Result<Canvas> {
    check(title, classes, counts, owners)?;
    let n = classes.len();
    let cell = (SIDE / n as f64).clamp(CELL.0, CELL.1).floor();
    let columns = Names::new(classes, cell);
    let names_wide = NAME.widest(classes).min(NAME_LIMIT) + 8.0;
    let owners_wide = owners.map_or(0.0, |owners| TICK.widest(owners).min(OWNER_LIMIT) + 20.0);
    let left = (MARGIN + AXIS.em + 10.0 + owners_wide + names_wide).ceil();
    let right = left + cell * n as f64;
    let width = (right + 24.0 + BAR + 50.0 + MARGIN).max(300.0);
    let heading = Title::new(title, width - 2.0 * MARGIN);
    let top = MARGIN + heading.height() + 14.0;
    let frame = Frame {
        left,
        top,
        right,
        bottom: top + cell * n as f64,
    };
    let foot = frame.bottom + columns.height() + 14.0;
    let writing = Writing::that_fits(cell, counts);
    let matrix = Matrix {
        counts,
        cell,
        frame,
        writing,
    };

    let height = foot + AXIS.em + MARGIN;
    Canvas::drawn(title, (width, height), |canvas| {
        heading.draw(canvas);
        canvas.text(
            &summary(counts, writing),
            (MARGIN, top - 18.0),
            TICK,
            Align::Start,
        );
        matrix.draw(canvas);
        let names: Vec<&str> = classes.iter().map(String::as_str).collect();
        layout::row_names(canvas, &frame, &names, cell);
        if let Some(owners) = owners {
            matrix.owners(canvas, owners, frame.left - names_wide - 8.0);
        }
        columns.draw(canvas, &frame);
        layout::vertical_title(canvas, &frame, MARGIN + AXIS.em / 2.0, "true class");
        layout::horizontal_title(
            canvas,
            &frame,
            foot + AXIS.em / 2.0 - 4.0,
            "predicted class",
        );
        colour_bar(canvas, &frame)
    })
}

/// Refuses no classes, and counts or owners of another length.
fn check(
    title: &str,
    classes: &[String],
    counts: &[Vec<u64>],
    owners: Option<&[String]>,
) -> Result<()> {
    let n = classes.len();
    let square = counts.len() == n && counts.iter().all(|row| row.len() == n);
    if n > 0 && square && owners.is_none_or(|owners| owners.len() == n) {
        return Ok(());
    }
    Err(
        Error::failed(format!("cannot draw the confusion matrix `{title}`"))
            .note(
                "expected",
                format!("{n} × {n} counts and an owner a class, at least one class"),
            )
            .note(
                "found",
                format!(
                    "{} rows of counts, {} owners",
                    counts.len(),
                    owners.map_or(0, <[String]>::len)
                ),
            ),
    )
}

/// Returns the accuracy over all images, and the unit of the cells' numbers where they lack it.
fn summary(counts: &[Vec<u64>], writing: Writing) -> String {
    let all: u128 = counts
        .iter()
        .flatten()
        .map(|&count| u128::from(count))
        .sum();
    let right: u128 = counts
        .iter()
        .enumerate()
        .map(|(i, row)| u128::from(row[i]))
        .sum();
    match all {
        0 => "no images".into(),
        _ => {
            let remark = if writing == Writing::Bare {
                "; cells in % of a row"
            } else {
                ""
            };
            format!(
                "accuracy {:.1}% of {} images{remark}",
                100.0 * right as f64 / all as f64,
                thousands(all)
            )
        }
    }
}

impl Matrix<'_> {
    /// Draws the cells and the lines between them.
    fn draw(&self, canvas: &mut Canvas) {
        let frame = &self.frame;
        canvas.rect(
            (frame.left, frame.top),
            (frame.right, frame.bottom),
            heat(0.0),
        );
        for (row, counts) in self.counts.iter().enumerate() {
            let total: u128 = counts.iter().map(|&count| u128::from(count)).sum();
            let top = frame.top + row as f64 * self.cell;
            if total == 0 {
                canvas.rect((frame.left, top), (frame.right, top + self.cell), FAINT);
                continue;
            }
            for (column, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
                let corner = (frame.left + column as f64 * self.cell, top);
                let share = count as f64 / total as f64;
                canvas.rect(
                    corner,
                    (corner.0 + self.cell, corner.1 + self.cell),
                    heat(share),
                );
                self.numbers(canvas, corner, share, count);
            }
        }
        self.lines(canvas)
    }

    /// Writes the share of the row, and below it the count.
    fn numbers(&self, canvas: &mut Canvas, corner: (f64, f64), share: f64, count: u64) {
        let face = Face {
            colour: ink_on(heat(share)),
            ..NAME
        };
        let mut percent = match share {
            // Half a percent would round to 0.
            0.0..=0.005 => "<1".to_owned(),
            // 100 is for all of them.
            0.995..1.0 => ">99".to_owned(),
            _ => format!("{:.0}", 100.0 * share),
        };
        if self.writing != Writing::Bare {
            percent.push('%');
        }
        let (x, y) = (corner.0 + self.cell / 2.0, corner.1 + self.cell / 2.0);
        match self.writing {
            Writing::Nothing => {}
            Writing::Bare | Writing::Percent => canvas.text(&percent, (x, y), face, Align::Middle),
            Writing::PercentAndCount => {
                canvas.text(&percent, (x, y - 8.0), face, Align::Middle);
                canvas.text(&thousands(count.into()), (x, y + 8.0), face, Align::Middle)
            }
        }
    }

    /// Draws white lines between cells that are large enough, and a border.
    fn lines(&self, canvas: &mut Canvas) {
        let frame = &self.frame;
        if self.cell >= 10.0 {
            for i in 1..self.counts.len() {
                let (x, y) = (
                    frame.left + i as f64 * self.cell,
                    frame.top + i as f64 * self.cell,
                );
                canvas.rect((x - 0.5, frame.top), (x + 0.5, frame.bottom), WHITE);
                canvas.rect((frame.left, y - 0.5), (frame.right, y + 0.5), WHITE);
            }
        }
        border(canvas, frame)
    }

    /// Draws one bracket for each run of classes of the same owner; its text is left out where the
    /// one above is too near.
    fn owners(&self, canvas: &mut Canvas, owners: &[String], x: f64) {
        let mut row = 0;
        let mut free = f64::MIN;
        for run in owners.chunk_by(|a, b| a == b) {
            let from = self.frame.top + row as f64 * self.cell;
            row += run.len();
            let to = self.frame.top + row as f64 * self.cell;
            let gap = (self.cell * 0.12).min(2.0);
            canvas.rect((x, from + gap), (x + 2.0, to - gap), RULE);
            let middle = (from + to) / 2.0;
            if middle - TICK.em * 0.6 >= free {
                canvas.text(
                    &TICK.cut(&run[0], OWNER_LIMIT),
                    (x - 6.0, middle),
                    TICK,
                    Align::End,
                );
                free = middle + TICK.em * 0.6;
            }
        }
    }
}
