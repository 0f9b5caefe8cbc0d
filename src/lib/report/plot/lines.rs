//! Curves over steps, epochs or bytes: losses, accuracies. Each line is named at its end, outside
//! of the frame.

use super::axis::{Scale, is_drawable};
use super::layout::{self, AXIS, Frame, MARGIN, NAME, TICK, Title};
use super::legend::{LINE, LIST_LIMIT, Legend};
use crate::report::canvas::{Align, Canvas, Mark, save};
use crate::report::colours::{Colour, RULE, SOFT, WHITE, lines};
use crate::report::text::Face;
use crate::{Error, Result};
use std::path::Path;

const X_TICKS: usize = 8;
const Y_TICKS: usize = 6;
const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 340.0;
/// Longest name beside the frame.
const NAMES: f64 = 240.0;
/// Up to this many points each is marked; of more points, about [`MARKS`] of a line, at other
/// places than its neighbours'.
const MARKED: usize = 40;
const MARKS: usize = 8;
const SHAPES: [Mark; 5] = [
    Mark::Circle,
    Mark::Square,
    Mark::Triangle,
    Mark::Diamond,
    Mark::Wedge,
];
/// From here on lines are thin, or noise would fill the frame.
const DENSE: usize = 300;
/// Width of a line.
const WIDE: f64 = 2.0;
const THIN: f64 = 1.25;
/// How much wider a piece of a line is than one that lies on it, and the most that this adds up to.
const RIM: f64 = 2.0;
const WIDEST: f64 = 9.0;
/// Pixels between points that look like one.
const SAME: f64 = 1.0;
const MISSING: Face = Face {
    colour: SOFT,
    ..NAME
};

/// A named curve of (x, y).
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// Lines over a common x. `x` and `y` are the axes' titles, with units.
#[derive(Clone, Debug, PartialEq)]
pub struct LinePlot<'a> {
    pub title: &'a str,
    pub x: &'a str,
    pub y: &'a str,
    pub log_x: bool,
    pub log_y: bool,
    pub series: Vec<Series>,
}

/// The part of a series that can be drawn.
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
    colour: Colour,
    /// Its index among the series, which decides the shape of its marks; `None` for the only one.
    order: Option<usize>,
}

impl LinePlot<'_> {
    /// Draws the plot as SVG or PNG by the path's extension.
    ///
    /// Points that are not finite (or not positive on a logarithmic axis) are skipped; a series
    /// without any other is listed as "no values"; a plot without any is an error.
    pub fn save(&self, path: &Path) -> Result<()> {
        let curves = self.curves();
        let points = || curves.iter().flat_map(|curve| curve.points.iter());
        let scales = Scale::fit(points().map(|at| at.0), self.log_x, 0.015).zip(
            Scale::between_ticks(points().map(|at| at.1), self.log_y, Y_TICKS),
        );
        let Some((x, y)) = scales else {
            let kind = if self.log_x || self.log_y {
                "finite and positive"
            } else {
                "finite"
            };
            return Err(
                Error::failed(format!("the plot `{}` has nothing to draw", self.title))
                    .note(
                        "expected",
                        format!("at least one series with a {kind} value"),
                    )
                    .note(
                        "found",
                        format!(
                            "{} series, {} points",
                            self.series.len(),
                            self.series.iter().map(|s| s.points.len()).sum::<usize>()
                        ),
                    ),
            );
        };

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

        save(path, (width, height), |canvas| {
            title.draw(canvas);
            layout::value_axis(canvas, &frame, &y, Y_TICKS, self.y);
            layout::floor(canvas, &frame);
            for tick in x.ticks(X_TICKS) {
                let at = (frame.x(tick.at) - 0.5).round();
                canvas.rect((at, frame.bottom), (at + 1.0, frame.bottom + 5.0), RULE);
                canvas.text(
                    &tick.label,
                    (at + 0.5, frame.bottom + 9.0 + TICK.em / 2.0),
                    TICK,
                    Align::Middle,
                    false,
                );
            }
            layout::horizontal_title(
                canvas,
                &frame,
                frame.bottom + TICK.em + 20.0 + AXIS.em / 2.0,
                self.x,
            );
            let places: Vec<Vec<(f64, f64)>> = curves
                .iter()
                .map(|curve| curve.places(&frame, &x, &y))
                .collect();
            for ((curve, places), rims) in curves.iter().zip(&places).zip(rims(&places)) {
                curve.draw(canvas, places, &rims);
            }
            draw_names(canvas, &frame, &y, &curves)
        })
    }

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

impl Curve {
    /// Returns its points in pixels.
    fn places(&self, frame: &Frame, x: &Scale, y: &Scale) -> Vec<(f64, f64)> {
        let place = |at: &(f64, f64)| (frame.x(x.at(at.0)), frame.y(y.at(at.1)));
        self.points.iter().map(place).collect()
    }

    /// Draws the line, each piece wider by its rim.
    fn draw(&self, canvas: &mut Canvas, points: &[(f64, f64)], rims: &[f64]) {
        let width = if points.len() > DENSE { THIN } else { WIDE };
        let mut start = 0;
        for run in rims.chunk_by(|one, other| one == other) {
            canvas.line(
                &points[start..=start + run.len()],
                width + run[0],
                self.colour,
            );
            start += run.len();
        }
        let radius = if points.len() == 1 { 4.0 } else { 2.8 };
        let (start, every) = match (points.len(), self.order) {
            (0..=MARKED, _) => (0, 1),
            (_, None) => return,
            (count, Some(order)) => (count / MARKS * (2 * order % 5) / 5, count / MARKS),
        };
        points
            .iter()
            .skip(start)
            .step_by(every)
            .for_each(|&at| self.mark(canvas, at, radius))
    }

    /// Draws the curve's mark: a filled shape for the first series, a hollow one for later ones.
    fn mark(&self, canvas: &mut Canvas, at: (f64, f64), radius: f64) {
        let order = self.order.unwrap_or(0);
        let shape = SHAPES[order % SHAPES.len()];
        canvas.mark(shape, at, radius, self.colour);
        match order / SHAPES.len() % 2 {
            0 => {}
            _ => canvas.mark(shape, at, radius * 0.5, WHITE),
        }
    }

    /// Returns the name as it is listed.
    fn label(&self) -> String {
        let name = NAME.cut(&self.name, NAMES);
        if self.points.is_empty() {
            format!("{name} (no values)")
        } else {
            name
        }
    }
}

/// Returns for each curve the rim of every piece between two points: pieces that look the same are
/// drawn one on another, each wider than those drawn after it, so that all can be seen.
fn rims(places: &[Vec<(f64, f64)>]) -> Vec<Vec<f64>> {
    let near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs() < SAME && (a.1 - b.1).abs() < SAME;
    let piece = |curve: &[(f64, f64)], at: usize| Some((*curve.get(at)?, *curve.get(at + 1)?));
    let above = |curve: usize, at: usize| {
        let own = piece(&places[curve], at);
        let others = places[curve + 1..].iter();
        let same = others.filter(|other| {
            own.zip(piece(other, at))
                .is_some_and(|(own, other)| near(own.0, other.0) && near(own.1, other.1))
        });
        same.count() as f64
    };
    let pieces = |curve: usize| places[curve].len().saturating_sub(1);
    let counts: Vec<Vec<f64>> = (0..places.len())
        .map(|curve| (0..pieces(curve)).map(|at| above(curve, at)).collect())
        .collect();
    let most = counts
        .iter()
        .flatten()
        .fold(1.0, |most: f64, &count| most.max(count));
    let rim = (WIDEST / most).min(RIM);
    counts
        .into_iter()
        .map(|curve| curve.into_iter().map(|count| count * rim).collect())
        .collect()
}

fn names_width(curves: &[Curve]) -> f64 {
    26.0 + curves
        .iter()
        .map(|curve| NAME.width(&curve.label()))
        .fold(0.0, f64::max)
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
    let mut places: Vec<f64> = order.iter().map(|entry| entry.0).collect();
    spread(&mut places, frame.top, frame.bottom);
    for ((_, curve), at) in order.into_iter().zip(places) {
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
        canvas.text(&curve.label(), (left + 22.0, at), face, Align::Start, false);
    }
}

/// Moves sorted positions apart to at least a line's height, between two bounds that are far enough
/// apart.
fn spread(places: &mut [f64], top: f64, bottom: f64) {
    let mut free = top + LINE / 2.0;
    for place in places.iter_mut() {
        *place = place.max(free);
        free = *place + LINE;
    }
    let mut free = bottom - LINE / 2.0;
    for place in places.iter_mut().rev() {
        *place = place.min(free);
        free = *place - LINE;
    }
}
