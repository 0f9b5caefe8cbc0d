//! Makes text tables, image grids, plots (SVG or PNG by the path's extension), HTML pages and
//! TensorBoard events. Everything is made from names and numbers, without configs or models, and
//! returned as text or written to the given path alone.

mod canvas;
mod colours;
mod grid;
pub mod html;
mod plot;
mod table;
mod tensorboard;
mod text;

pub use grid::{Grid, GridRow};
pub use plot::{
    HeatMap, LinePlot, MOST_BARS, Series, confusion, confusion_svg, stacked_bars, stacked_bars_svg,
};
pub use table::Table;
pub use tensorboard::{EventWriter, PREFIX as EVENTS, is_event_file};

use crate::{Error, Result};

/// Returns true for a letter that XML does not allow and a name may hold: a control character, or
/// one of the two that Unicode has none for.
fn beyond_xml(letter: char) -> bool {
    letter.is_control() && letter != '\n' || matches!(letter, '\u{fffe}' | '\u{ffff}')
}

/// Encodes a picture as PNG.
fn png(picture: &image::RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|error| Error::failed(format!("cannot encode a PNG: {error}")).caused_by(error))?;
    Ok(bytes.into_inner())
}
