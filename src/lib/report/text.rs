//! Text in pictures: the embedded font, widths, cutting to a width, and drawing onto pixels. Used
//! by grids and plots.

use super::colours::Colour;
use ab_glyph::{Font, FontRef, Glyph, ScaleFont, point};
use image::{Pixel, RgbImage};
use std::sync::LazyLock;

/// Families an SVG viewer tries in turn; widths are measured with the first.
pub const FAMILIES: &str = "Inter, Helvetica, Arial, sans-serif";
/// Height of capitals and digits in ems, for centring.
pub const CAPITAL: f64 = 0.7275;

static REGULAR: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    embedded(include_bytes!(
        "../../../assets/fonts/Inter-Regular-subset.ttf"
    ))
});
static BOLD: LazyLock<FontRef<'static>> = LazyLock::new(|| {
    embedded(include_bytes!(
        "../../../assets/fonts/Inter-SemiBold-subset.ttf"
    ))
});

fn embedded(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the embedded font is a TrueType file")
}

/// Size, weight and colour of a piece of text. `em` is the font size in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Face {
    pub em: f64,
    pub bold: bool,
    pub colour: Colour,
}

impl Face {
    fn font(&self) -> &'static FontRef<'static> {
        if self.bold { &BOLD } else { &REGULAR }
    }

    /// Glyphs on a baseline from the origin, in pixels at `zoom` times the size, and the pen's
    /// final x.
    fn layout(&self, text: &str, zoom: f64) -> (Vec<Glyph>, f32) {
        let font = self.font();
        // ab_glyph scales by ascent − descent, not by the em.
        let height_per_em = font.height_unscaled() / font.units_per_em().unwrap_or(1.0);
        let scale = (self.em * zoom) as f32 * height_per_em;
        let scaled = font.as_scaled(scale);
        let mut pen = 0.0;
        let mut glyphs = Vec::new();
        for letter in text.chars() {
            let id = font.glyph_id(letter);
            glyphs.push(id.with_scale_and_position(scale, point(pen, 0.0)));
            pen += scaled.h_advance(id);
        }
        (glyphs, pen)
    }

    /// Width of a line of text in pixels.
    pub fn width(&self, text: &str) -> f64 {
        f64::from(self.layout(text, 1.0).1)
    }

    /// The text itself if it is at most `limit` pixels wide, else its beginning and an ellipsis.
    pub fn cut(&self, text: &str, limit: f64) -> String {
        if self.width(text) <= limit {
            return text.to_owned();
        }
        let mut kept = String::new();
        for letter in text.chars() {
            kept.push(letter);
            if self.width(&format!("{}…", kept.trim_end())) > limit {
                kept.pop();
                break;
            }
        }
        format!("{}…", kept.trim_end())
    }

    /// Draws a line of text whose baseline starts at `at` (pixels of the picture), `zoom` times its
    /// size; `turned` reads upwards.
    pub fn draw(
        &self,
        picture: &mut RgbImage,
        text: &str,
        at: (f64, f64),
        zoom: f64,
        turned: bool,
    ) {
        let font = self.font();
        let (glyphs, _) = self.layout(text, zoom);
        for glyph in glyphs
            .into_iter()
            .filter_map(|glyph| font.outline_glyph(glyph))
        {
            let corner = glyph.px_bounds().min;
            glyph.draw(|x, y, cover| {
                let along = f64::from(corner.x) + f64::from(x);
                let down = f64::from(corner.y) + f64::from(y);
                let (x, y) = if turned {
                    (at.0 + down, at.1 - along)
                } else {
                    (at.0 + along, at.1 + down)
                };
                blend(picture, (x.round(), y.round()), self.colour, cover);
            });
        }
    }
}

/// Mixes a colour into one pixel; outside of the picture nothing happens.
fn blend(picture: &mut RgbImage, (x, y): (f64, f64), colour: Colour, cover: f32) {
    if x < 0.0 || y < 0.0 {
        return;
    }
    if let Some(pixel) = picture.get_pixel_mut_checked(x as u32, y as u32) {
        *pixel = pixel.map2(&colour, |old, new| {
            (f32::from(old) + (f32::from(new) - f32::from(old)) * cover.clamp(0.0, 1.0)).round()
                as u8
        });
    }
}
