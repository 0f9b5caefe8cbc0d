//! Draws curves over steps, epochs or bytes: losses, accuracies. Each line is named at its end,
//! outside of the frame.

use super::axis::{Scale, is_drawable};
use super::curve::{Curve, below, rims};
use super::layout::{self, AXIS, Frame, MARGIN, NAME, TICK, Title};
use super::legend::{LINE, LIST_LIMIT, Legend};
use crate::report::canvas::{Align, Canvas};
use crate::report::colours::{Colour, SOFT, lines};
use crate::report::text::Face;
use crate::{Error, Result};
use std::path::Path;

const X_TICKS: usize = 8;
const Y_TICKS: usize = 6;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 340.0;
/// The name of a series without values.
const MISSING: Face = Face {
    colour: SOFT,
    ..NAME
};

/// Holds a named curve of (x, y).
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Holds lines over a common x. `x` and `y` are the axes' titles, with units.
#[derive(Clone, Debug, PartialEq)]
pub struct LinePlot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub log_x: bool,
    pub log_y: bool,
    pub series: Vec<Series>,
}

impl LinePlot<'_> {
    /// Draws the plot as SVG or PNG by the path's extension.
    ///
    /// Points that are not finite (or not positive on a logarithmic axis) are skipped; a series
    /// without any other is listed as "no values".
    ///
    /// # Errors
    /// Fails for a plot without any point; a file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.draw()?.save(path)
    }

    /// Returns the plot as SVG.
    ///
    /// # Errors
    /// Fails for a plot without any point.
    pub fn svg(&self) -> Result<String> {
        Ok(self.draw()?.svg())
    }

    fn draw(&self) -> Result<Canvas> {
        let curves = self.curves();
        let points = || curves.iter().flat_map(|curve| curve.points.iter());
        let scales = Scale::fit(points().map(|at| at.0), self.log_x, 0.015).zip(
            Scale::between_ticks(points().map(|at| at.1), self.log_y, Y_TICKS),
        );
        let (x, y) = scales.ok_or_else(|| self.nothing_to_draw())?;
        let left = layout::gutter(&y, Y_TICKS);
        let width = left + WIDTH + 14.0 + names_width(&curves) + MARGIN;
        let title = Title::new(self.title, width - 2.0 * MARGIN);
        let top = MARGIN + title.height();
        let tall = HEIGHT.max(curves.len().min(LIST_LIMIT) as f64 * LINE);
        let frame = Frame {
            left,
            top,
            right: left + WIDTH,
            bottom: top + tall,
        };
        let height = frame.bottom + TICK.em + AXIS.em + 24.0 + MARGIN;

        Canvas::drawn(self.title, (width, height), |canvas| {
            title.draw(canvas);
            layout::value_axis(canvas, &frame, &y, Y_TICKS, self.y);
            layout::floor(canvas, &frame);
            layout::horizontal_axis(canvas, &frame, &x, X_TICKS, self.x);
            let pixels = curves.iter().map(|curve| curve.pixels(&frame, &x, &y));
            let pixels: Vec<Vec<(f64, f64)>> = pixels.collect();
            let below = below(&pixels).into_iter();
            for ((curve, pixels), (rims, below)) in curves
                .iter()
                .zip(&pixels)
                .zip(rims(&pixels).into_iter().zip(below))
            {
                curve.draw(canvas, pixels, &rims, below);
            }
            draw_names(canvas, &frame, &y, &curves)
        })
    }

    /// Reports that no point can be drawn.
    fn nothing_to_draw(&self) -> Error {
        let kind = match self.log_x || self.log_y {
            true => "finite and positive",
            false => "finite",
        };
        let points: usize = self.series.iter().map(|series| series.points.len()).sum();
        Error::failed(format!("the plot `{}` has nothing to draw", self.title))
            .note(
                "expected",
                format!("at least one series with a {kind} value"),
            )
            .note(
                "found",
                format!("{} series, {points} points", self.series.len()),
            )
    }

    /// Returns the drawable part of each series.
    fn curves(&self) -> Vec<Curve> {
        let colours = lines(self.series.len());
        let drawable =
            |&&(x, y): &&(f64, f64)| is_drawable(x, self.log_x) && is_drawable(y, self.log_y);
        let curves = self.series.iter().zip(colours).enumerate();
        curves
            .map(|(order, (series, colour))| Curve {
                name: series.name.clone(),
                points: series.points.iter().filter(drawable).copied().collect(),
                colour,
                order: (self.series.len() > 1).then_some(order),
            })
            .collect()
    }
}

/// Returns the width of the widest name with its sample of the line.
fn names_width(curves: &[Curve]) -> f64 {
    26.0 + NAME.widest(curves.iter().map(Curve::label))
}

/// Writes the names at the right, each as near to the end of its line as the others allow; draws a
/// strip of colours when there are many.
fn draw_names(canvas: &mut Canvas, frame: &Frame, y: &Scale, curves: &[Curve]) {
    let left = frame.right + 14.0;
    if curves.len() > LIST_LIMIT {
        let names: Vec<String> = curves.iter().map(Curve::label).collect();
        let colours: Vec<Colour> = curves.iter().map(|curve| curve.colour).collect();
        let legend = Legend {
            heading: "series",
            names: &names,
            colours: &colours,
        };
        return legend.draw(canvas, (left, frame.top), frame.bottom - frame.top);
    }
    let end = |curve: &Curve| {
        curve
            .points
            .last()
            .map_or(frame.bottom, |at| frame.y(y.at(at.1)))
    };
    let mut order: Vec<(f64, &Curve)> = curves.iter().map(|curve| (end(curve), curve)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut heights: Vec<f64> = order.iter().map(|entry| entry.0).collect();
    spread(&mut heights, frame.top, frame.bottom);
    for ((_, curve), at) in order.into_iter().zip(heights) {
        match curve.points.len() {
            0 => {}
            1 => curve.mark(canvas, (left + 8.0, at), 4.0),
            _ => {
                canvas.line(&[(left, at), (left + 16.0, at)], 2.0, curve.colour);
                if curve.order.is_some() {
                    curve.mark(canvas, (left + 8.0, at), 3.4);
                }
            }
        }
        let face = if curve.points.is_empty() {
            MISSING
        } else {
            NAME
        };
        canvas.text(&curve.label(), (left + 22.0, at), face, Align::Start);
    }
}

/// Moves sorted positions apart to at least a line's height, between two bounds that are far enough
/// apart.
fn spread(heights: &mut [f64], top: f64, bottom: f64) {
    let mut free = top + LINE / 2.0;
    for height in heights.iter_mut() {
        *height = height.max(free);
        free = *height + LINE;
    }
    let mut free = bottom - LINE / 2.0;
    for height in heights.iter_mut().rev() {
        *height = height.min(free);
        free = *height - LINE;
    }
}
