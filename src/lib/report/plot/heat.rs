//! Draws shares over time as a heat map, a row a name and a column an epoch, for what would be too
//! many curves; and what heat maps share with the confusion matrix.

use super::layout::{self, AXIS, Frame, MARGIN, NAME, NAME_LIMIT, Names, TICK, Title};
use super::lines::Series;
use crate::report::canvas::{Align, Canvas};
use crate::report::colours::{FAINT, RULE, WHITE, heat};
use crate::{Error, Result};
use std::path::Path;

/// Width that the columns share, and the least and greatest width of one.
const WIDTH: f64 = 620.0;
const COLUMN: (f64, f64) = (4.0, 60.0);
/// The same for rows.
const HEIGHT: f64 = 340.0;
const ROW: (f64, f64) = (5.0, 26.0);
/// Width of the bar that explains the colours.
pub const BAR: f64 = 16.0;

/// Holds shares 0..1 over a common x. `x` and `y` are the axes' titles.
#[derive(Clone, Debug, PartialEq)]
pub struct HeatMap<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    /// The rows from the top down, each with its points in the order of x.
    pub rows: Vec<Series>,
}

impl HeatMap<'_> {
    /// Draws the map as SVG or PNG by the path's extension. Where there are more x than columns, a
    /// column is the mean of neighbours. A cell without a value is grey.
    ///
    /// # Errors
    /// Fails when there are no rows, or no points in any; a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut all: Vec<f64> = self
            .rows
            .iter()
            .flat_map(|row| row.points.iter().map(|at| at.0))
            .collect();
        all.sort_by(f64::total_cmp);
        all.dedup();
        if all.is_empty() {
            return Err(
                Error::failed(format!("the plot `{}` has nothing to draw", self.title))
                    .note("expected", "at least one row with a value"),
            );
        }
        let together = all.len().div_ceil((WIDTH / COLUMN.0) as usize);
        let columns: Vec<&[f64]> = all.chunks(together).collect();
        let wide = (WIDTH / columns.len() as f64).clamp(COLUMN.0, COLUMN.1);
        let tall = (HEIGHT / self.rows.len() as f64).clamp(ROW.0, ROW.1);
        let below: Vec<String> = columns.iter().map(|column| column[0].to_string()).collect();
        let below = Names::new(&below, wide);
        let names: Vec<&str> = self.rows.iter().map(|row| row.name.as_str()).collect();
        let names_wide = NAME.widest(&names).min(NAME_LIMIT);
        let left = (MARGIN + AXIS.em + 10.0 + names_wide + 8.0).ceil();
        let right = left + wide * columns.len() as f64;
        let width = (right + 24.0 + BAR + 50.0 + MARGIN).max(360.0);
        let title = Title::new(self.title, width - 2.0 * MARGIN);
        let top = MARGIN + title.height();
        let frame = Frame {
            left,
            top,
            right,
            bottom: top + tall * self.rows.len() as f64,
        };
        let foot = frame.bottom + below.height() + 14.0;
        let x = match together {
            1 => self.x.to_owned(),
            _ => format!("{} (means of {together})", self.x),
        };
        let height = (foot + AXIS.em).max(top + 110.0) + MARGIN;
        let canvas = Canvas::drawn(self.title, (width, height), |canvas| {
            title.draw(canvas);
            self.cells(canvas, &frame, (wide, tall), &columns);
            layout::row_names(canvas, &frame, &names, tall);
            below.draw(canvas, &frame);
            layout::vertical_title(canvas, &frame, MARGIN + AXIS.em / 2.0, self.y);
            layout::horizontal_title(canvas, &frame, foot + AXIS.em / 2.0 - 4.0, &x);
            colour_bar(canvas, &frame)
        });
        canvas?.save(path)
    }

    /// Draws the cells; `columns` are the x of each column.
    fn cells(
        &self,
        canvas: &mut Canvas,
        frame: &Frame,
        (wide, tall): (f64, f64),
        columns: &[&[f64]],
    ) {
        canvas.rect((frame.left, frame.top), (frame.right, frame.bottom), FAINT);
        for (row, series) in self.rows.iter().enumerate() {
            let top = frame.top + row as f64 * tall;
            let bottom = top + tall;
            let mut rest = series.points.as_slice();
            for (column, x) in columns.iter().enumerate() {
                let here = rest.iter().take_while(|at| x.contains(&at.0)).count();
                let (points, others) = rest.split_at(here);
                rest = others;
                if points.is_empty() {
                    continue;
                }
                let mean = points.iter().map(|at| at.1).sum::<f64>() / here as f64;
                let side = frame.left + column as f64 * wide;
                canvas.rect((side, top), (side + wide, bottom), heat(mean));
            }
            if row > 0 && tall >= 10.0 {
                canvas.rect((frame.left, top - 0.5), (frame.right, top + 0.5), WHITE);
            }
        }
        border(canvas, frame)
    }
}

/// Draws the bar that explains the colours.
pub fn colour_bar(canvas: &mut Canvas, matrix: &Frame) {
    const STEPS: usize = 50;
    let height = (matrix.bottom - matrix.top).min(240.0);
    let left = matrix.right + 24.0;
    let frame = Frame {
        left,
        top: matrix.top,
        right: left + BAR,
        bottom: matrix.top + height,
    };
    // Each step reaches down to the bottom and the next covers it: viewers would show the
    // background through exact seams.
    for step in (0..STEPS).rev() {
        let colour = heat((step as f64 + 0.5) / STEPS as f64);
        let top = frame.y((step + 1) as f64 / STEPS as f64);
        canvas.rect((frame.left, top), (frame.right, frame.bottom), colour);
    }
    border(canvas, &frame);
    for (share, label) in [(0.0, "0%"), (0.5, "50%"), (1.0, "100%")] {
        canvas.text(
            label,
            (frame.right + 6.0, frame.y(share)),
            TICK,
            Align::Start,
        );
    }
}

/// Draws a thin line around a frame.
pub fn border(canvas: &mut Canvas, frame: &Frame) {
    let corners = [
        (frame.left, frame.top),
        (frame.right, frame.top),
        (frame.right, frame.bottom),
        (frame.left, frame.bottom),
        (frame.left, frame.top),
    ];
    canvas.line(&corners, 1.0, RULE)
}
