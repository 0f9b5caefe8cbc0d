//! Draws the images that an inversion starts from: noise, or pictures of shapes that cover each
//! other. Called by [`Inverter`](super::Inverter).
//!
//! The pictures are the dead leaves of Lee, Mumford and Huang (2001), with which Baradad et al.
//! (2021, arXiv:2106.05963) train networks without any photograph: they have edges, corners and
//! flat and textured parts, as photographs and drawings have. Networks without batch norm are told
//! by nothing else what images look like.

use crate::runtime::seed::Rng;
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::f32::consts::TAU;
use std::ops::Range;

/// Selects what an inversion starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// Standard normal noise, after normalisation.
    Noise,
    /// Pictures of ellipses, rectangles and triangles that cover each other, on black, one tone or
    /// texture.
    Shapes,
}

/// Share of the pictures whose background is black.
const BLACK: f64 = 0.6;
/// Share of the pictures whose right half mirrors the left.
const MIRRORED: f64 = 0.5;
/// Most shapes of a picture.
const SHAPES: usize = 12;
/// Smallest and largest radius of a shape, as shares of the side.
const RADIUS: [f32; 2] = [0.05, 0.6];
/// Smallest ratio of a shape's two radii.
const FLATTEST: f32 = 0.15;
/// Most that a texture changes a level by, as a standard deviation.
const TEXTURE: f32 = 0.25;
/// Cells of a texture's layers along a side.
const CELLS: [usize; 4] = [2, 4, 8, 16];

/// Returns standard normal noise.
pub fn noise(count: usize, rng: &mut Rng) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(count).collect()
}

/// Returns `count` pictures `[count,channels,side,side]` with values of 0..1.
pub fn shapes(count: usize, channels: usize, side: usize, rng: &mut Rng) -> Vec<f32> {
    let mut pictures = vec![0.0; count * channels * side * side];
    for picture in pictures.chunks_mut(channels * side * side) {
        if !rng.random_bool(BLACK) {
            paint(picture, channels, side, &Form::Everywhere, rng);
        }
        for _ in 0..rng.random_range(1..=SHAPES) {
            let form = Form::draw(rng);
            paint(picture, channels, side, &form, rng);
        }
        if rng.random_bool(MIRRORED) {
            for row in picture.chunks_mut(side) {
                (0..side / 2).for_each(|column| row[side - 1 - column] = row[column]);
            }
        }
    }
    pictures
}

/// Returns the index of a candidate for each image, none twice: for every other image the one that
/// scores highest for it of those that are left, then for the others the first that are left.
/// `scores` holds a row of all candidates for each image; there are at least as many as images.
///
/// The chosen ones show the student what the teachers tell their classes by; the others, what they
/// say of everything else.
pub fn choose(scores: &[Vec<f32>]) -> Vec<i64> {
    let mut left: Vec<usize> = (0..scores.first().map_or(0, Vec::len)).collect();
    let mut chosen = vec![0; scores.len()];
    for (image, row) in scores.iter().enumerate().step_by(2) {
        // Of equal scores the first.
        let better = |best, at| {
            if row[left[at]] > row[left[best]] {
                at
            } else {
                best
            }
        };
        if let Some(best) = (0..left.len()).reduce(better) {
            chosen[image] = left.remove(best) as i64;
        }
    }
    for (image, candidate) in chosen.iter_mut().skip(1).step_by(2).zip(left) {
        *image = candidate as i64;
    }
    chosen
}

/// Fills a form with a level of each channel and a texture that all channels share.
fn paint(picture: &mut [f32], channels: usize, side: usize, form: &Form, rng: &mut Rng) {
    let levels: Vec<f32> = (0..channels).map(|_| rng.random()).collect();
    let texture = Texture::draw(rng);
    let place = |index: usize| (index as f32 + 0.5) / side as f32;
    let mut inside = Vec::with_capacity(side);
    let mut change = vec![0.0; side];
    let [columns, rows] = form.bounds(side);
    for row in rows {
        inside.clear();
        let is_inside = |&column: &usize| form.contains(place(column), place(row));
        inside.extend(columns.clone().filter(is_inside));
        if inside.is_empty() {
            continue;
        }
        texture.along(place(row), &mut change);
        for (plane, level) in picture.chunks_mut(side * side).zip(&levels) {
            let pixels = &mut plane[row * side..][..side];
            for &column in &inside {
                pixels[column] = (level + change[column]).clamp(0.0, 1.0);
            }
        }
    }
}

/// A part of a picture whose sides are 1.
enum Form {
    Everywhere,
    Turned {
        kind: Kind,
        centre: [f32; 2],
        /// Cosine and sine of the angle by which it is turned.
        turn: [f32; 2],
        radii: [f32; 2],
    },
}

enum Kind {
    Ellipse,
    Rectangle,
    Triangle,
}

impl Form {
    /// Draws a shape; the logarithms of its radius and of the ratio of its radii are uniform.
    fn draw(rng: &mut Rng) -> Self {
        let centre = [rng.random(), rng.random()];
        // Half a turn is all that ellipses and rectangles have. Triangles point to the left half,
        // and to the right one in the mirrored half of a picture.
        let (sin, cos) = (rng.random::<f32>() * TAU / 2.0).sin_cos();
        let radius = rng.random_range(RADIUS[0].ln()..RADIUS[1].ln()).exp();
        let ratio = rng.random_range(FLATTEST.ln()..0.0).exp();
        Self::Turned {
            kind: match rng.random_range(0..3) {
                0 => Kind::Ellipse,
                1 => Kind::Rectangle,
                _ => Kind::Triangle,
            },
            centre,
            turn: [cos, sin],
            radii: [radius, radius * ratio],
        }
    }

    /// Returns columns and rows of a picture of `side` pixels beyond which there is nothing of it.
    fn bounds(&self, side: usize) -> [Range<usize>; 2] {
        let Self::Turned { centre, radii, .. } = self else {
            return [0..side, 0..side];
        };
        // A triangle's corners are the farthest, √5 radii; the first radius is the larger one.
        let reach = 2.25 * radii[0];
        centre.map(|at| {
            let pixel = |place: f32| (place * side as f32).max(0.0) as usize;
            pixel(at - reach)..(pixel(at + reach) + 1).min(side)
        })
    }

    fn contains(&self, x: f32, y: f32) -> bool {
        let Self::Turned {
            kind,
            centre,
            turn,
            radii,
        } = self
        else {
            return true;
        };
        let (x, y) = (x - centre[0], y - centre[1]);
        let u = (x * turn[0] + y * turn[1]) / radii[0];
        let v = (y * turn[0] - x * turn[1]) / radii[1];
        match kind {
            Kind::Ellipse => u * u + v * v < 1.0,
            Kind::Rectangle => u.abs().max(v.abs()) < 1.0,
            Kind::Triangle => (u.abs() + v).max(-v) < 1.0,
        }
    }
}

/// Smooth noise: the sum of layers of random values at the corners of squares, between which it is
/// interpolated; finer layers are weaker, the more so the smoother the texture is.
struct Texture {
    /// The values of each layer, `[cells + 1, cells + 1]`, times its weight.
    layers: Vec<Vec<f32>>,
}

impl Texture {
    fn draw(rng: &mut Rng) -> Self {
        let size = rng.random_range(0.0..TEXTURE);
        let smoothness = rng.random_range(0.0..2.0_f32);
        let weights = (0..CELLS.len()).map(|layer| (-smoothness * layer as f32).exp2());
        let weights: Vec<f32> = weights.collect();
        let norm = weights
            .iter()
            .map(|weight| weight * weight)
            .sum::<f32>()
            .sqrt();
        let mut layer = |(cells, weight): (&usize, &f32)| {
            let values = noise((cells + 1) * (cells + 1), rng).into_iter();
            values.map(|value| value * weight * size / norm).collect()
        };
        Self {
            layers: CELLS.iter().zip(&weights).map(&mut layer).collect(),
        }
    }

    /// Writes its values at the pixels of a row at height `y`.
    fn along(&self, y: f32, row: &mut [f32]) {
        row.fill(0.0);
        let between = |from: f32, to: f32, part: f32| from * (1.0 - part) + to * part;
        for (values, &cells) in self.layers.iter().zip(&CELLS) {
            let corners = cells + 1;
            let y = y * cells as f32;
            let above = y as usize;
            let down = y - above as f32;
            let lines = &values[above * corners..][..2 * corners];
            let mut line = [0.0; CELLS[CELLS.len() - 1] + 1];
            for (column, value) in line[..corners].iter_mut().enumerate() {
                *value = between(lines[column], lines[corners + column], down);
            }
            let step = cells as f32 / row.len() as f32;
            for (column, value) in row.iter_mut().enumerate() {
                let x = (column as f32 + 0.5) * step;
                let left = x as usize;
                *value += between(line[left], line[left + 1], x - left as f32);
            }
        }
    }
}
