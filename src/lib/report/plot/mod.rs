//! Draws plots of splits, training curves and confusion, as SVG or PNG.

mod axis;
mod bars;
mod confusion;
mod curve;
mod heat;
mod layout;
mod legend;
mod lines;

pub use bars::{MOST_BARS, stacked_bars, stacked_bars_svg};
pub use confusion::{confusion, confusion_svg};
pub use heat::HeatMap;
pub use lines::{LinePlot, Series};
