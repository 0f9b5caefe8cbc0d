//! Draws pictures: as SVG in pixels, x to the right and y down, rasterised for PNG files.

use super::beyond_xml;
use super::colours::{Colour, WHITE};
use super::text::{CAPITAL, FAMILIES, FONTS, Face};
use crate::{Error, Result};
use image::RgbImage;
use maud::{Markup, PreEscaped, html};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::path::Path;

/// Pixels of a PNG in a pixel of the SVG.
const ZOOM: u32 = 2;
/// Largest drawing in square pixels.
const AREA_LIMIT: f64 = 16e6;

/// Selects where text stands relative to its point; the names are SVG's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Start,
    Middle,
    End,
}

/// Names the shapes that tell lines apart where colours do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Circle,
    Square,
    Triangle,
    Diamond,
    /// A triangle that stands on its tip.
    Wedge,
}

/// Holds a picture that is being drawn: its size in pixels and the SVG elements drawn so far.
#[derive(Debug)]
pub struct Canvas {
    size: (f64, f64),
    elements: String,
}

impl Canvas {
    /// Draws the plot that has this title on a picture of so many pixels.
    ///
    /// # Errors
    /// Fails for a picture that is too large.
    pub fn drawn(
        title: &str,
        (width, height): (f64, f64),
        draw: impl FnOnce(&mut Self),
    ) -> Result<Self> {
        let (width, height) = (width.ceil(), height.ceil());
        if width * height > AREA_LIMIT {
            return Err(Error::failed(format!(
                "the plot `{title}` would be {width}×{height} pixels"
            ))
            .note(
                "expected",
                format!("at most {AREA_LIMIT} pixels: draw fewer things"),
            ));
        }
        let mut canvas = Self::new((width, height));
        draw(&mut canvas);
        Ok(canvas)
    }

    /// Writes the picture; the path's extension decides between SVG and PNG.
    ///
    /// # Errors
    /// Fails for another extension, and for a file that cannot be written.
    pub fn save(self, path: &Path) -> Result<()> {
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        let bytes = match extension.to_lowercase().as_str() {
            "svg" => self.svg().into_bytes(),
            "png" => super::png(&self.raster(ZOOM)?)?,
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

    /// Starts a white picture of so many pixels.
    pub fn new(size: (f64, f64)) -> Self {
        let mut canvas = Self {
            size,
            elements: String::new(),
        };
        canvas.rect((0.0, 0.0), size, WHITE);
        canvas
    }

    /// Returns the finished SVG document.
    pub fn svg(self) -> String {
        let (width, height) = self.size;
        let document = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height)
                viewBox={ "0 0 " (width) " " (height) } font-family=(FAMILIES)
                stroke-linejoin="round" stroke-linecap="round" {
                "\n" (PreEscaped(self.elements))
            }
        };
        // Names may hold control characters, which XML does not allow.
        document.into_string().replace(beyond_xml, " ")
    }

    /// Returns the picture with `zoom` pixels for each of its own.
    ///
    /// # Errors
    /// Fails for a picture without any pixel.
    pub fn raster(self, zoom: u32) -> Result<RgbImage> {
        let options = Options {
            fontdb: FONTS.clone(),
            ..Options::default()
        };
        let tree = Tree::from_str(&self.svg(), &options).map_err(|error| {
            Error::failed(format!("cannot draw a picture: {error}")).caused_by(error)
        })?;
        let size = tree.size().to_int_size();
        let mut pixels = Pixmap::new(size.width() * zoom, size.height() * zoom)
            .ok_or_else(|| Error::failed("cannot draw a picture without pixels"))?;
        pixels.fill(Color::WHITE);
        let zoomed = Transform::from_scale(zoom as f32, zoom as f32);
        resvg::render(&tree, zoomed, &mut pixels.as_mut());
        // On white nothing is transparent.
        let colours = pixels.pixels().iter();
        let bytes = colours.flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]);
        RgbImage::from_raw(pixels.width(), pixels.height(), bytes.collect())
            .ok_or_else(|| Error::failed("cannot draw a picture: its pixels are incomplete"))
    }

    fn add(&mut self, element: Markup) {
        self.elements.push_str(&element.0);
        self.elements.push('\n');
    }

    /// Draws a filled rectangle, and nothing if it has no width or height.
    pub fn rect(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour) {
        let (width, height) = (rounded(to.0 - from.0), rounded(to.1 - from.1));
        if width > 0.0 && height > 0.0 {
            self.add(html! {
                rect x=(rounded(from.0)) y=(rounded(from.1)) width=(width) height=(height)
                    fill=(hex(colour)) {}
            });
        }
    }

    /// Draws a line through points with round joints.
    pub fn line(&mut self, points: &[(f64, f64)], width: f64, colour: Colour) {
        self.add(html! {
            polyline points=(joined(points)) fill="none" stroke=(hex(colour))
                stroke-width=(rounded(width)) {}
        });
    }

    /// Draws a filled shape, about as large as a circle of that radius.
    pub fn mark(&mut self, shape: Mark, at: (f64, f64), radius: f64, colour: Colour) {
        let corners: &[(f64, f64)] = match shape {
            Mark::Circle => {
                return self.add(html! {
                    circle cx=(rounded(at.0)) cy=(rounded(at.1)) r=(rounded(radius))
                        fill=(hex(colour)) {}
                });
            }
            Mark::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            Mark::Triangle => &[(0.0, -1.3), (1.2, 0.8), (-1.2, 0.8)],
            Mark::Diamond => &[(0.0, -1.35), (1.35, 0.0), (0.0, 1.35), (-1.35, 0.0)],
            Mark::Wedge => &[(0.0, 1.3), (1.2, -0.8), (-1.2, -0.8)],
        };
        let moved = |&(x, y): &(f64, f64)| (at.0 + radius * x, at.1 + radius * y);
        let corners: Vec<_> = corners.iter().map(moved).collect();
        self.add(html! { polygon points=(joined(&corners)) fill=(hex(colour)) {} });
    }

    /// Draws a line of text, its capitals centred on `at.1`.
    pub fn text(&mut self, text: &str, at: (f64, f64), face: Face, align: Align) {
        self.write(text, at, face, align, None);
    }

    /// Draws a line of text that reads upwards, its capitals centred on `at.0`.
    pub fn text_upwards(&mut self, text: &str, at: (f64, f64), face: Face, align: Align) {
        let turn = format!("rotate(-90 {} {})", rounded(at.0), rounded(at.1));
        self.write(text, at, face, align, Some(turn));
    }

    fn write(
        &mut self,
        text: &str,
        at: (f64, f64),
        face: Face,
        align: Align,
        transform: Option<String>,
    ) {
        let anchor = match align {
            Align::Start => "start",
            Align::Middle => "middle",
            Align::End => "end",
        };
        self.add(html! {
            text x=(rounded(at.0)) y=(rounded(at.1)) dy=(rounded(CAPITAL * face.em / 2.0))
                text-anchor=(anchor) font-size=(face.em)
                font-weight=[face.bold.then_some("600")] fill=(hex(face.colour))
                transform=[transform] { (text) }
        });
    }
}

/// Rounds a length to two decimals; adding zero turns −0 into 0.
fn rounded(pixels: f64) -> f64 {
    (pixels * 100.0).round() / 100.0 + 0.0
}

fn hex(colour: Colour) -> String {
    let [red, green, blue] = colour.0;
    format!("#{red:02X}{green:02X}{blue:02X}")
}

fn joined(points: &[(f64, f64)]) -> String {
    let pairs = points
        .iter()
        .map(|&(x, y)| format!("{},{}", rounded(x), rounded(y)));
    pairs.collect::<Vec<_>>().join(" ")
}
