//! Draws a curve of a line plot: its line, its marks, its name.

use super::axis::Scale;
use super::layout::{Frame, NAME};
use crate::report::canvas::{Canvas, Mark};
use crate::report::colours::{Colour, WHITE};

/// Longest name beside the frame.
const NAMES: f64 = 240.0;
/// Up to this many points each is marked; of more points, about [`MARKS`] of a line, at
/// other x than its neighbours'.
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
/// Radius of the mark of a single point, and how much larger it is for each that lies on it: all
/// can be seen, as rings.
const SINGLE: f64 = 4.0;
const RING: f64 = 2.5;

/// Holds the part of a series that can be drawn.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub colour: Colour,
    /// Its index among the series, which decides the shape of its marks; `None` for the only one.
    pub order: Option<usize>,
}

impl Curve {
    /// Returns its points in pixels.
    pub fn pixels(&self, frame: &Frame, x: &Scale, y: &Scale) -> Vec<(f64, f64)> {
        let pixel = |at: &(f64, f64)| (frame.x(x.at(at.0)), frame.y(y.at(at.1)));
        self.points.iter().map(pixel).collect()
    }

    /// Draws the line, each piece wider by its rim; a single point is `below` others.
    pub fn draw(&self, canvas: &mut Canvas, points: &[(f64, f64)], rims: &[f64], below: usize) {
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
        let radius = match points.len() {
            1 => SINGLE + RING * below as f64,
            _ => 2.8,
        };
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
    pub fn mark(&self, canvas: &mut Canvas, at: (f64, f64), radius: f64) {
        let order = self.order.unwrap_or(0);
        let shape = SHAPES[order % SHAPES.len()];
        canvas.mark(shape, at, radius, self.colour);
        match order / SHAPES.len() % 2 {
            0 => {}
            _ => canvas.mark(shape, at, radius * 0.5, WHITE),
        }
    }

    /// Returns the name as it is listed.
    pub fn label(&self) -> String {
        let name = NAME.cut(&self.name, NAMES);
        if self.points.is_empty() {
            format!("{name} (no values)")
        } else {
            name
        }
    }
}

/// Returns for each curve, whose points are in pixels, how many single points that are drawn after
/// it lie on its own; 0 for lines.
pub fn below(curves: &[Vec<(f64, f64)>]) -> Vec<usize> {
    let single = |curve: &[(f64, f64)]| match curve {
        [point] => Some(*point),
        _ => None,
    };
    let hides = |own: (f64, f64), other: (f64, f64)| {
        (own.0 - other.0).hypot(own.1 - other.1) < SINGLE / 2.0
    };
    (0..curves.len())
        .map(|index| {
            let Some(own) = single(&curves[index]) else {
                return 0;
            };
            let later = curves[index + 1..].iter().filter_map(|curve| single(curve));
            later.filter(|&other| hides(own, other)).count()
        })
        .collect()
}

/// Returns for each curve, whose points are in pixels, the rim of every piece between two points:
/// pieces that look the same are drawn one on another, each wider than those drawn after it, so
/// that all can be seen.
pub fn rims(curves: &[Vec<(f64, f64)>]) -> Vec<Vec<f64>> {
    let near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs() < SAME && (a.1 - b.1).abs() < SAME;
    let piece = |curve: &[(f64, f64)], at: usize| Some((*curve.get(at)?, *curve.get(at + 1)?));
    let above = |curve: usize, at: usize| {
        let own = piece(&curves[curve], at);
        let others = curves[curve + 1..].iter();
        let same = others.filter(|other| {
            own.zip(piece(other, at))
                .is_some_and(|(own, other)| near(own.0, other.0) && near(own.1, other.1))
        });
        same.count() as f64
    };
    let pieces = |curve: usize| curves[curve].len().saturating_sub(1);
    let counts: Vec<Vec<f64>> = (0..curves.len())
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
