//! Draws the parts of a plot around its data: title, value axes, names of nodes and classes below
//! an axis. Sizes are in pixels.

use super::axis::Scale;
use crate::report::canvas::{Align, Canvas};
use crate::report::colours::{FAINT, INK, RULE, SOFT};
use crate::report::text::Face;

pub const TITLE: Face = Face {
    em: 16.0,
    bold: true,
    colour: INK,
};
pub const AXIS: Face = Face {
    em: 13.0,
    bold: false,
    colour: INK,
};
pub const TICK: Face = Face {
    em: 12.0,
    bold: false,
    colour: SOFT,
};
pub const NAME: Face = Face {
    em: 12.0,
    bold: false,
    colour: INK,
};
/// White border of the whole picture.
pub const MARGIN: f64 = 16.0;
/// Space between neighbouring labels on one line.
const APART: f64 = 10.0;
const TITLE_LINE: f64 = 22.0;
/// Longest name along or below an axis.
pub const NAME_LIMIT: f64 = 130.0;

/// Bounds the rectangle that holds the data.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Frame {
    /// Returns the x of a share of the width, from the left.
    pub fn x(&self, share: f64) -> f64 {
        self.left + share * (self.right - self.left)
    }

    /// Returns the y of a share of the height, from the bottom.
    pub fn y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - self.top)
    }
}

/// Holds a title of up to two lines.
pub struct Title(Vec<String>);

impl Title {
    /// Breaks the text between words so that it fits `width`; what does not fit two lines ends in
    /// an ellipsis.
    pub fn new(text: &str, width: f64) -> Self {
        let mut first = String::new();
        let mut words = text.split_whitespace().peekable();
        while let Some(word) = words.peek() {
            let longer = if first.is_empty() {
                (*word).to_owned()
            } else {
                format!("{first} {word}")
            };
            if !first.is_empty() && TITLE.width(&longer) > width {
                break;
            }
            first = longer;
            words.next();
        }
        let second = words.collect::<Vec<_>>().join(" ");
        let lines = [first, second].into_iter().filter(|line| !line.is_empty());
        Self(lines.map(|line| TITLE.cut(&line, width)).collect())
    }

    /// Returns the height with the space below.
    pub fn height(&self) -> f64 {
        if self.0.is_empty() {
            0.0
        } else {
            self.0.len() as f64 * TITLE_LINE + 14.0
        }
    }

    /// Draws from the top margin down.
    pub fn draw(&self, canvas: &mut Canvas) {
        self.0.iter().enumerate().for_each(|(i, line)| {
            let y = MARGIN + 8.0 + i as f64 * TITLE_LINE;
            canvas.text(line, (MARGIN, y), TITLE, Align::Start)
        })
    }
}

/// Returns the space at the left of a frame for the labels and the title of its value axis.
pub fn gutter(scale: &Scale, ticks: usize) -> f64 {
    let widest = TICK.widest(scale.ticks(ticks).iter().map(|tick| &tick.label));
    (MARGIN + AXIS.em + 10.0 + widest + 8.0).ceil()
}

/// Draws grid lines and labels of the vertical axis, and its title.
pub fn value_axis(canvas: &mut Canvas, frame: &Frame, scale: &Scale, ticks: usize, title: &str) {
    for tick in scale.ticks(ticks) {
        let y = (frame.y(tick.at) - 0.5).round();
        canvas.rect((frame.left, y), (frame.right, y + 1.0), FAINT);
        canvas.text(&tick.label, (frame.left - 8.0, y + 0.5), TICK, Align::End);
    }
    vertical_title(canvas, frame, MARGIN + AXIS.em / 2.0, title)
}

/// Draws ticks, labels and the title of the horizontal axis.
pub fn horizontal_axis(
    canvas: &mut Canvas,
    frame: &Frame,
    scale: &Scale,
    ticks: usize,
    title: &str,
) {
    for tick in scale.ticks(ticks) {
        let x = (frame.x(tick.at) - 0.5).round();
        canvas.rect((x, frame.bottom), (x + 1.0, frame.bottom + 5.0), RULE);
        let below = (x + 0.5, frame.bottom + 9.0 + TICK.em / 2.0);
        canvas.text(&tick.label, below, TICK, Align::Middle);
    }
    let y = frame.bottom + TICK.em + 20.0 + AXIS.em / 2.0;
    horizontal_title(canvas, frame, y, title)
}

/// Draws the title of a vertical axis, centred on its frame at `x`.
pub fn vertical_title(canvas: &mut Canvas, frame: &Frame, x: f64, title: &str) {
    let title = AXIS.cut(title, frame.bottom - frame.top + 40.0);
    canvas.text_upwards(
        &title,
        (x, (frame.top + frame.bottom) / 2.0),
        AXIS,
        Align::Middle,
    )
}

/// Draws the title of a horizontal axis, centred below its frame.
pub fn horizontal_title(canvas: &mut Canvas, frame: &Frame, y: f64, title: &str) {
    let title = AXIS.cut(title, frame.right - frame.left + 40.0);
    canvas.text(
        &title,
        ((frame.left + frame.right) / 2.0, y),
        AXIS,
        Align::Middle,
    )
}

/// Draws the line at the bottom of a frame.
pub fn floor(canvas: &mut Canvas, frame: &Frame) {
    canvas.rect(
        (frame.left, frame.bottom),
        (frame.right, frame.bottom + 1.0),
        RULE,
    )
}

/// Writes the names of equal slots along a horizontal axis: level if they fit, else upright if all
/// of them fit so, else every n-th (level, unless they are long).
pub struct Names {
    names: Vec<String>,
    slot: f64,
    upright: bool,
    every: usize,
}

impl Names {
    /// Chooses how to write the names of slots of that width.
    pub fn new(names: &[String], slot: f64) -> Self {
        let names: Vec<String> = names
            .iter()
            .map(|name| NAME.cut(name, NAME_LIMIT))
            .collect();
        let widest = NAME.widest(&names);
        let long = widest > 8.0 * NAME.em;
        let upright = widest + APART / 2.0 > slot && (long || slot >= 1.2 * NAME.em);
        let needed = if upright {
            1.2 * NAME.em
        } else {
            widest + APART / 2.0
        };
        Self {
            names,
            slot,
            upright,
            every: stride(slot, needed),
        }
    }

    /// Returns the height of the labels with the space above them.
    pub fn height(&self) -> f64 {
        8.0 + match self.upright {
            true => NAME.widest(&self.names),
            false => NAME.em,
        }
    }

    /// Draws below a frame whose first slot begins at its left side.
    pub fn draw(&self, canvas: &mut Canvas, frame: &Frame) {
        for (i, name) in self.names.iter().enumerate().step_by(self.every) {
            let x = frame.left + (i as f64 + 0.5) * self.slot;
            let y = frame.bottom + 8.0;
            if self.upright {
                canvas.text_upwards(name, (x, y), NAME, Align::End);
            } else {
                canvas.text(name, (x, y + NAME.em / 2.0), NAME, Align::Middle);
            }
        }
    }
}

/// Draws the names of rows of a height at the left of their frame: every n-th where the rows are
/// too low for all.
pub fn row_names(canvas: &mut Canvas, frame: &Frame, names: &[&str], height: f64) {
    let every = stride(height, 1.2 * NAME.em);
    for (row, name) in names.iter().enumerate().step_by(every) {
        let at = (frame.left - 8.0, frame.top + (row as f64 + 0.5) * height);
        canvas.text(&NAME.cut(name, NAME_LIMIT), at, NAME, Align::End);
    }
}

/// Returns how many slots share a label that is `needed` wide: 1, 2, 5, 10, 20, …
pub fn stride(slot: f64, needed: f64) -> usize {
    let mut power = 1usize;
    while power < 1_000_000 {
        if let Some(step) = [1, 2, 5]
            .into_iter()
            .find(|step| (step * power) as f64 * slot >= needed)
        {
            return step * power;
        }
        power *= 10;
    }
    power
}
