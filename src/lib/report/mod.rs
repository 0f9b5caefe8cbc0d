//! What people look at: text tables, image grids, plots (SVG or PNG by the path's extension), TensorBoard events.
//! Stages call it with names and numbers; it knows nothing of configs or of learning, and writes only the path it is given.

mod colours;
mod grid;
mod plot;
mod table;
mod tensorboard;
mod text;

pub use grid::{Grid, GridRow};
pub use plot::{LinePlot, Series, confusion, stacked_bars};
pub use table::Table;
pub use tensorboard::EventWriter;

use crate::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Writes a whole file: beside its place first, then renamed, so that a reader never sees half of it.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| Error::from(error.error))?;
    Ok(())
}

/// PNG bytes of a picture.
fn png(picture: &image::RgbImage) -> Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, image::ImageFormat::Png)
        .map_err(|error| Error::failed(format!("cannot encode a PNG: {error}")))?;
    Ok(bytes.into_inner())
}
