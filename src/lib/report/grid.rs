//! Draws rows of images in one PNG: synthetic batches by class or by epoch. Stages pass u8 pixels;
//! nothing is normalised here.

use super::canvas::{Align, Canvas};
use super::colours::{INK, SOFT};
use super::text::Face;
use crate::{Error, Result};
use image::{Rgb, RgbImage};
use std::path::Path;
use tch::{Device, Kind, Tensor};

const TITLE: Face = Face {
    em: 17.0,
    bold: true,
    colour: INK,
};
const LABEL: Face = Face {
    em: 14.0,
    bold: false,
    colour: SOFT,
};
/// A cell is the largest whole multiple of an image that stays within this, in pixels.
const CELL: i64 = 64;
const MARGIN: u32 = 16;
const GAP: u32 = 3;
/// Images on a line; longer rows continue below.
const LINE: usize = 20;
/// Longest label, in pixels.
const LABEL_LIMIT: f64 = 180.0;
/// Largest picture, in pixels.
const AREA_LIMIT: u64 = 120_000_000;

/// Holds one row of images with an optional label at the left; `pixels` is u8 `[N,C,H,W]` (C 1 or
/// 3).
#[derive(Debug)]
pub struct GridRow {
    pub label: String,
    pub pixels: Tensor,
}

/// Holds rows of images under a title (none when it is empty). Rows may differ in length and in
/// image size.
#[derive(Debug)]
pub struct Grid {
    pub title: String,
    pub rows: Vec<GridRow>,
}

/// Holds a row's images on the host, and the size of its cells.
struct Images {
    label: String,
    bytes: Vec<u8>,
    count: usize,
    channels: usize,
    height: usize,
    width: usize,
    factor: usize,
}

impl Images {
    /// Copies the images of a row to the host.
    fn new(row: &GridRow) -> Result<Self> {
        let wrong = |expected: &str| {
            Error::failed(format!("cannot draw row `{}` of an image grid", row.label))
                .note("expected", expected)
                .note(
                    "found",
                    format!("{:?} {:?}", row.pixels.kind(), row.pixels.size()),
                )
        };
        let [count, channels, height, width] = row.pixels.size()[..] else {
            return Err(wrong("pixels of shape [N,C,H,W]"));
        };
        if row.pixels.kind() != Kind::Uint8 || !matches!(channels, 1 | 3) || height < 1 || width < 1
        {
            return Err(wrong("u8 pixels of shape [N,C,H,W] with 1 or 3 channels"));
        }
        let flat = row
            .pixels
            .detach()
            .f_to_device(Device::Cpu)?
            .f_contiguous()?
            .f_view(-1)?;
        Ok(Self {
            label: LABEL.cut(&row.label, LABEL_LIMIT),
            bytes: Vec::<u8>::try_from(flat)?,
            count: count as usize,
            channels: channels as usize,
            height: height as usize,
            width: width as usize,
            factor: (CELL / height.max(width)).max(1) as usize,
        })
    }

    /// Returns the width and height of a cell.
    fn cell(&self) -> (u32, u32) {
        (
            (self.width * self.factor) as u32,
            (self.height * self.factor) as u32,
        )
    }

    /// Returns the width and height of all its lines; a row without images keeps the height of its
    /// label.
    fn extent(&self) -> (u64, u64) {
        let (width, height) = self.cell();
        let columns = self.count.min(LINE) as u64;
        let lines = self.count.div_ceil(LINE) as u64;
        let wide = columns * u64::from(width + GAP);
        let high = lines * u64::from(height + GAP);
        (
            wide.saturating_sub(u64::from(GAP)),
            high.saturating_sub(u64::from(GAP)).max(LABEL.em as u64),
        )
    }

    /// Returns the colour of a pixel of an image.
    fn colour(&self, image: usize, y: usize, x: usize) -> Rgb<u8> {
        let plane = self.height * self.width;
        let first = image * self.channels * plane + y * self.width + x;
        Rgb([0, 1, 2].map(|channel| self.bytes[first + channel.min(self.channels - 1) * plane]))
    }

    /// Copies all images into the picture, each pixel as a square, from a corner on.
    fn draw(&self, picture: &mut RgbImage, (left, top): (u32, u32)) {
        let (width, height) = self.cell();
        for image in 0..self.count {
            let x0 = left + (image % LINE) as u32 * (width + GAP);
            let y0 = top + (image / LINE) as u32 * (height + GAP);
            for (x, y) in (0..height).flat_map(|y| (0..width).map(move |x| (x, y))) {
                let colour = self.colour(image, y as usize / self.factor, x as usize / self.factor);
                picture.put_pixel(x0 + x, y0 + y, colour);
            }
        }
    }
}

impl Grid {
    /// Draws the grid.
    ///
    /// # Errors
    /// Fails for a grid without a single image, a tensor of another kind or shape, and a picture
    /// that is too large.
    pub fn render(&self) -> Result<RgbImage> {
        let rows = self
            .rows
            .iter()
            .map(Images::new)
            .collect::<Result<Vec<_>>>()?;
        if rows.iter().all(|row| row.count == 0) {
            return Err(Error::failed(format!(
                "the image grid `{}` has no images",
                self.title
            )));
        }
        let widest = LABEL.widest(rows.iter().map(|row| &row.label));
        let indent = MARGIN
            + if widest > 0.0 {
                widest.ceil() as u32 + 12
            } else {
                0
            };
        let head = MARGIN + if self.title.is_empty() { 0 } else { 30 };
        let title = TITLE.cut(&self.title, 1400.0);

        let (width, height) = self.size(&rows, TITLE.width(&title), (indent, head))?;
        let left = f64::from(MARGIN);
        let mut canvas = Canvas::new((width as f64, height as f64));
        canvas.text(&title, (left, left + 8.0), TITLE, Align::Start);
        let mut tops = Vec::new();
        let mut top = head;
        for row in &rows {
            let first = match row.count {
                0 => LABEL.em,
                _ => f64::from(row.cell().1),
            };
            let middle = f64::from(top) + first / 2.0;
            canvas.text(&row.label, (left, middle), LABEL, Align::Start);
            tops.push(top);
            top += row.extent().1 as u32 + 2 * GAP;
        }
        let mut picture = canvas.raster(1)?;
        for (row, top) in rows.iter().zip(tops) {
            row.draw(&mut picture, (indent, top));
        }
        Ok(picture)
    }

    /// Returns the width and height of the picture; the rows begin at `indent` and `head`.
    fn size(&self, rows: &[Images], title: f64, (indent, head): (u32, u32)) -> Result<(u64, u64)> {
        let (margin, gap) = (u64::from(MARGIN), u64::from(2 * GAP));
        let body = rows.iter().map(|row| row.extent().0).max().unwrap_or(0);
        let width = (u64::from(indent) + body).max(margin + title.ceil() as u64) + margin;
        let lines: u64 = rows.iter().map(|row| row.extent().1 + gap).sum();
        let height = u64::from(head) + lines - gap + margin;
        if width * height <= AREA_LIMIT {
            return Ok((width, height));
        }
        Err(Error::failed(format!(
            "the image grid `{}` would be {width}×{height} pixels",
            self.title
        ))
        .note(
            "expected",
            format!("at most {AREA_LIMIT} pixels: show fewer images"),
        ))
    }

    /// Returns the grid as PNG.
    pub fn png(&self) -> Result<Vec<u8>> {
        super::png(&self.render()?)
    }

    /// Writes the grid as PNG, whatever the path's extension.
    pub fn save(&self, path: &Path) -> Result<()> {
        crate::artifact::atomic::write(path, &self.png()?)
    }
}
