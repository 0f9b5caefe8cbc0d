//! Draws the names of colours beside the data: a list, or for many names a strip of all colours
//! with a few of them named.

use super::layout::{NAME, NAME_LIMIT, TICK, stride};
use crate::report::canvas::{Align, Canvas};
use crate::report::colours::{Colour, RULE};

/// Up to here every name is listed.
pub const LIST_LIMIT: usize = 20;
/// Height of a line of the list.
pub const LINE: f64 = 19.0;
const SWATCH: f64 = 12.0;
const STRIP: f64 = 16.0;
/// Space between a swatch and its name.
const SPACE: f64 = 8.0;

/// Holds names and their colours, from the bottom up, as they are stacked.
pub struct Legend<'a> {
    pub heading: &'a str,
    pub names: &'a [String],
    pub colours: &'a [Colour],
}

impl Legend<'_> {
    /// Returns the width that a list or a strip needs.
    pub fn width(&self) -> f64 {
        let names = NAME.widest(self.names).min(NAME_LIMIT);
        (STRIP + SPACE + 6.0 + names).max(TICK.width(self.heading))
    }

    /// Returns the height that a list needs; a strip takes the height of the data.
    pub fn height(&self) -> f64 {
        if self.names.len() > LIST_LIMIT {
            0.0
        } else {
            (self.names.len() + 1) as f64 * LINE
        }
    }

    /// Draws from a corner down; `height` is that of the data beside it.
    pub fn draw(&self, canvas: &mut Canvas, corner: (f64, f64), height: f64) {
        canvas.text(
            self.heading,
            (corner.0, corner.1 + LINE / 2.0),
            TICK,
            Align::Start,
        );
        let corner = (corner.0, corner.1 + LINE);
        if self.names.len() > LIST_LIMIT {
            self.strip(canvas, corner, height - LINE)
        } else {
            self.list(canvas, corner)
        }
    }

    fn list(&self, canvas: &mut Canvas, (left, top): (f64, f64)) {
        let entries = self.names.iter().zip(self.colours).rev().enumerate();
        for (i, (name, &colour)) in entries {
            let middle = top + (i as f64 + 0.5) * LINE;
            canvas.rect(
                (left, middle - SWATCH / 2.0),
                (left + SWATCH, middle + SWATCH / 2.0),
                colour,
            );
            let name = NAME.cut(name, NAME_LIMIT);
            canvas.text(&name, (left + SWATCH + SPACE, middle), NAME, Align::Start);
        }
    }

    fn strip(&self, canvas: &mut Canvas, (left, top): (f64, f64), height: f64) {
        let slot = height / self.names.len() as f64;
        let every = stride(slot, 2.0 * NAME.em);
        for (i, (name, &colour)) in self.names.iter().zip(self.colours).enumerate().rev() {
            let middle = top + height - (i as f64 + 0.5) * slot;
            // Down to the bottom, for the next to cover: no seams.
            canvas.rect(
                (left, middle - slot / 2.0),
                (left + STRIP, top + height),
                colour,
            );
            if i % every == 0 {
                canvas.rect(
                    (left + STRIP, middle - 0.5),
                    (left + STRIP + 4.0, middle + 0.5),
                    RULE,
                );
                let name = NAME.cut(name, NAME_LIMIT);
                canvas.text(&name, (left + STRIP + SPACE, middle), NAME, Align::Start);
            }
        }
    }
}
