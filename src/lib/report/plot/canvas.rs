//! One drawing surface for SVG and PNG, in pixels of the finished SVG. All plots draw through it;
//! only `save` writes a file.
//!
//! plotters' coordinates are whole numbers: a unit is a quarter of a pixel here. An SVG maps units
//! to pixels by its `viewBox`; a PNG is drawn in units and averaged over 2×2 of them, which smooths
//! edges and gives two PNG pixels for one of the SVG.

use crate::report::colours::{Colour, WHITE};
use crate::report::text::{CAPITAL, FAMILIES, Face};
use crate::{Error, Result};
use image::{Rgb, RgbImage};
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle};
use std::fmt::Display;
use std::path::Path;

/// Units in a pixel.
const UNIT: f64 = 4.0;
/// Largest picture in square pixels.
const AREA_LIMIT: f64 = 16e6;

/// Where text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Start,
    Middle,
    End,
}

/// Shapes that tell lines apart where colours do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Circle,
    Square,
    Triangle,
    Diamond,
    /// A triangle that stands on its tip.
    Wedge,
}

enum Surface<'a> {
    Svg(SVGBackend<'a>),
    Png(RgbImage),
}

/// What plots draw on: x to the right, y down, both in pixels.
pub struct Canvas<'a>(Surface<'a>);

/// Draws a picture of `size` pixels and writes it; the path's extension decides between SVG and
/// PNG.
pub fn save(
    path: &Path,
    size: (f64, f64),
    draw: impl FnOnce(&mut Canvas) -> Result<()>,
) -> Result<()> {
    let size = (size.0.ceil(), size.1.ceil());
    if size.0 * size.1 > AREA_LIMIT {
        return Err(
            Error::failed(format!("the plot would be {}×{} pixels", size.0, size.1))
                .note("file", path.display().to_string())
                .note(
                    "expected",
                    format!("at most {AREA_LIMIT} pixels: draw fewer things"),
                ),
        );
    }
    let extension = path
        .extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    let bytes = match extension.as_str() {
        "svg" => svg(size, draw)?.into_bytes(),
        "png" => png(size, draw)?,
        _ => {
            return Err(Error::usage(format!(
                "cannot tell the format of the plot `{}`",
                path.display()
            ))
            .note("available", "a file name ending in .svg or .png"));
        }
    };
    crate::artifact::atomic::write(path, &bytes)
}

fn svg(size: (f64, f64), draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<String> {
    let (width, height) = (units(size.0), units(size.1));
    let mut text = String::new();
    {
        let mut canvas = Canvas(Surface::Svg(SVGBackend::with_string(
            &mut text,
            (width as u32, height as u32),
        )));
        canvas.rect((0.0, 0.0), size, WHITE)?;
        draw(&mut canvas)?;
    }
    // plotters writes its units as the picture's size.
    Ok(text.replacen(
        &format!("<svg width=\"{width}\" height=\"{height}\""),
        &format!(
            "<svg width=\"{}\" height=\"{}\" stroke-linejoin=\"round\" stroke-linecap=\"round\"",
            size.0, size.1
        ),
        1,
    ))
}

fn png(size: (f64, f64), draw: impl FnOnce(&mut Canvas) -> Result<()>) -> Result<Vec<u8>> {
    let mut canvas = Canvas(Surface::Png(RgbImage::from_pixel(
        units(size.0) as u32,
        units(size.1) as u32,
        WHITE,
    )));
    draw(&mut canvas)?;
    let Canvas(Surface::Png(fine)) = canvas else {
        return Err(Error::failed("the canvas of a PNG is not pixels"));
    };
    super::super::png(&halve(&fine))
}

/// Averages 2×2 pixels.
fn halve(fine: &RgbImage) -> RgbImage {
    RgbImage::from_fn(fine.width() / 2, fine.height() / 2, |x, y| {
        let around = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .map(|(dx, dy)| fine.get_pixel(2 * x + dx, 2 * y + dy).0);
        Rgb([0, 1, 2].map(|channel| {
            (around
                .iter()
                .map(|pixel| u32::from(pixel[channel]))
                .sum::<u32>()
                / 4) as u8
        }))
    })
}

fn units(pixels: f64) -> i32 {
    (pixels * UNIT).round() as i32
}

fn point((x, y): (f64, f64)) -> (i32, i32) {
    (units(x), units(y))
}

fn style(colour: Colour, width: f64) -> ShapeStyle {
    let [r, g, b] = colour.0;
    ShapeStyle {
        color: RGBColor(r, g, b).into(),
        filled: true,
        stroke_width: units(width).max(1) as u32,
    }
}

fn failed(error: impl Display) -> Error {
    Error::failed(format!("cannot draw: {error}"))
}

/// A bitmap backend on the picture's own bytes.
fn bitmap(picture: &mut RgbImage) -> BitMapBackend<'_> {
    let size = picture.dimensions();
    BitMapBackend::with_buffer(picture, size)
}

impl Canvas<'_> {
    /// A filled rectangle; without width or height nothing.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour) -> Result<()> {
        let (from, to) = (point(from), point(to));
        if from.0 >= to.0 || from.1 >= to.1 {
            return Ok(());
        }
        let style = style(colour, 1.0);
        match &mut self.0 {
            Surface::Svg(svg) => svg.draw_rect(from, to, &style, true).map_err(failed),
            Surface::Png(picture) => bitmap(picture)
                .draw_rect(from, to, &style, true)
                .map_err(failed),
        }
    }

    /// A line through points with round joints.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) -> Result<()> {
        if let Surface::Svg(svg) = &mut self.0 {
            let path: Vec<_> = points.iter().map(|&at| point(at)).collect();
            return svg.draw_path(path, &style(colour, width)).map_err(failed);
        }
        for pair in points.windows(2) {
            self.stroke(pair[0], pair[1], width, colour)?;
        }
        points
            .iter()
            .try_for_each(|&at| self.dot(at, width / 2.0, colour))
    }

    /// One piece of a line in a PNG.
    fn stroke(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        width: f64,
        colour: Colour,
    ) -> Result<()> {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        let Surface::Png(picture) = &mut self.0 else {
            return Ok(());
        };
        if length == 0.0 {
            return Ok(());
        }
        let (across, along) = (-dy / length * width / 2.0, dx / length * width / 2.0);
        let corners = [
            (from.0 + across, from.1 + along),
            (to.0 + across, to.1 + along),
            (to.0 - across, to.1 - along),
            (from.0 - across, from.1 - along),
        ];
        bitmap(picture)
            .fill_polygon(corners.map(point), &style(colour, 1.0))
            .map_err(failed)
    }

    /// A filled circle.
    pub fn dot(&mut self, at: (f64, f64), radius: f64, colour: Colour) -> Result<()> {
        let (at, radius) = (point(at), units(radius).max(1) as u32);
        let style = style(colour, 1.0);
        match &mut self.0 {
            Surface::Svg(svg) => svg.draw_circle(at, radius, &style, true).map_err(failed),
            Surface::Png(picture) => bitmap(picture)
                .draw_circle(at, radius, &style, true)
                .map_err(failed),
        }
    }

    /// A filled shape, about as large as a circle of that radius.
    pub fn mark(&mut self, shape: Mark, at: (f64, f64), radius: f64, colour: Colour) -> Result<()> {
        let corners: &[(f64, f64)] = match shape {
            Mark::Circle => return self.dot(at, radius, colour),
            Mark::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            Mark::Triangle => &[(0.0, -1.3), (1.2, 0.8), (-1.2, 0.8)],
            Mark::Diamond => &[(0.0, -1.35), (1.35, 0.0), (0.0, 1.35), (-1.35, 0.0)],
            Mark::Wedge => &[(0.0, 1.3), (1.2, -0.8), (-1.2, -0.8)],
        };
        let corners = corners
            .iter()
            .map(|(x, y)| point((at.0 + radius * x, at.1 + radius * y)));
        let style = style(colour, 1.0);
        match &mut self.0 {
            Surface::Svg(svg) => svg.fill_polygon(corners, &style).map_err(failed),
            Surface::Png(picture) => bitmap(picture)
                .fill_polygon(corners, &style)
                .map_err(failed),
        }
    }

    /// A line of text, its capitals centred on `at.1` (for `turned` text, which reads upwards, on
    /// `at.0`).
    pub fn text(
        &mut self,
        text: &str,
        at: (f64, f64),
        face: Face,
        align: Align,
        turned: bool,
    ) -> Result<()> {
        // Control characters have no place in XML.
        let text: String = text
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let drop = CAPITAL * face.em / 2.0;
        let baseline = if turned {
            (at.0 + drop, at.1)
        } else {
            (at.0, at.1 + drop)
        };
        match &mut self.0 {
            Surface::Svg(svg) => write(svg, &text, baseline, face, align, turned),
            Surface::Png(picture) => {
                let back = match align {
                    Align::Start => 0.0,
                    Align::Middle => face.width(&text) / 2.0,
                    Align::End => face.width(&text),
                };
                let (x, y) = if turned {
                    (baseline.0, baseline.1 + back)
                } else {
                    (baseline.0 - back, baseline.1)
                };
                face.draw(picture, &text, (x * UNIT, y * UNIT), UNIT, turned);
                Ok(())
            }
        }
    }
}

/// Text in an SVG. plotters puts the baseline of "top" text 0.76 em below its point, and takes 1.24
/// em for the size.
fn write(
    svg: &mut SVGBackend,
    text: &str,
    baseline: (f64, f64),
    face: Face,
    align: Align,
    turned: bool,
) -> Result<()> {
    let rise = 0.76 * face.em;
    let at = if turned {
        (baseline.0 - rise, baseline.1)
    } else {
        (baseline.0, baseline.1 - rise)
    };
    let side = match align {
        Align::Start => HPos::Left,
        Align::Middle => HPos::Center,
        Align::End => HPos::Right,
    };
    let font = (FAMILIES, face.em * UNIT * 1.24).into_font();
    let font = font.style(if face.bold {
        FontStyle::Bold
    } else {
        FontStyle::Normal
    });
    let font = font.transform(if turned {
        FontTransform::Rotate270
    } else {
        FontTransform::None
    });
    let [r, g, b] = face.colour.0;
    let colour = RGBColor(r, g, b);
    let style = TextStyle::from(font)
        .color(&colour)
        .pos(Pos::new(side, VPos::Top));
    svg.draw_text(text, &style, point(at)).map_err(failed)
}
