//! What people look at: text tables, image grids, plots (SVG or PNG by the path's extension),
//! TensorBoard events. Stages call it with names and numbers; it knows nothing of configs or of
//! learning, and writes only the path it is given.

mod colours;
mod grid;
pub mod html;
mod plot;
mod table;
mod tensorboard;
mod text;

pub use grid::{Grid, GridRow};
pub use plot::{HeatMap, LinePlot, Series, confusion, stacked_bars};
pub use table::Table;
pub use tensorboard::EventWriter;

use crate::{Error, Result};

/// PNG bytes of a picture.
fn png(picture: &image::RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|error| Error::failed(format!("cannot encode a PNG: {error}")))?;
    Ok(bytes.into_inner())
}
