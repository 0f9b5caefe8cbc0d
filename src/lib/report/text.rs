//! Measures the text of pictures: the embedded font, widths, cutting to a width. Grids and plots
//! use it.

use super::colours::Colour;
use resvg::usvg::fontdb;
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, GlyphId, MetadataProvider};
use std::sync::{Arc, LazyLock};

/// The embedded family, and those that an SVG viewer without it tries in turn. Widths are measured
/// with the first.
pub const FAMILIES: &str = "Inter, Helvetica, Arial, sans-serif";
/// Height of capitals and digits in ems, for centring.
pub const CAPITAL: f64 = 0.7275;

static REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Inter-Regular-subset.ttf");
static BOLD: &[u8] = include_bytes!("../../../assets/fonts/Inter-SemiBold-subset.ttf");

/// The embedded fonts and no others, so that a text looks the same on every machine.
pub static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    for font in [REGULAR, BOLD] {
        fonts.load_font_source(fontdb::Source::Binary(Arc::new(font)));
    }
    Arc::new(fonts)
});

/// Holds size, weight and colour of a piece of text. `em` is the font size in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Face {
    pub em: f64,
    pub bold: bool,
    pub colour: Colour,
}

impl Face {
    /// Returns the width of a line of text in pixels.
    pub fn width(&self, text: &str) -> f64 {
        let bytes = if self.bold { BOLD } else { REGULAR };
        let font = FontRef::new(bytes).expect("the embedded font is a TrueType file");
        let metrics = font.glyph_metrics(Size::new(self.em as f32), LocationRef::default());
        let letters = font.charmap();
        let advance = |letter: char| {
            let glyph = letters.map(letter).unwrap_or(GlyphId::NOTDEF);
            f64::from(metrics.advance_width(glyph).unwrap_or(0.0))
        };
        text.chars().map(advance).sum()
    }

    /// Returns the width of the widest of some lines in pixels; 0 for none.
    pub fn widest(&self, lines: impl IntoIterator<Item: AsRef<str>>) -> f64 {
        let widths = lines.into_iter().map(|line| self.width(line.as_ref()));
        widths.fold(0.0, f64::max)
    }

    /// Returns the text itself if it is at most `limit` pixels wide, else its beginning and an
    /// ellipsis.
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
}
