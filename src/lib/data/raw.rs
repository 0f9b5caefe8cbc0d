//! A split as the readers return it: pixels and labels in vectors on the host. Used inside `data`
//! only; `load` turns it into tensors.

/// Most bytes of pixels that a split may hold, in memory and on the device.
pub(super) const MAX_PIXELS: u64 = 8 << 30;

/// Largest height or width of an image in pixels.
pub(super) const MAX_SIDE: usize = 4096;

/// Holds one split on the host.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawSplit {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Row-major [M,C,H,W].
    pub pixels: Vec<u8>,
    /// One label an image, [M].
    pub labels: Vec<i64>,
    /// SHA-256 of each image's file, for sets whose images are files of their own; else empty.
    pub files: Vec<[u8; 32]>,
}

/// Holds both splits and the class names in label order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawSet {
    pub classes: Vec<String>,
    pub train: RawSplit,
    pub test: RawSplit,
    /// Paths of the images that were left out because they are broken.
    pub broken: Vec<String>,
}

impl RawSplit {
    /// Makes a split without images, for images of this shape.
    pub fn empty(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            pixels: Vec::new(),
            labels: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Returns the number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Returns the pixels of one image after the other, each [C,H,W].
    pub fn images(&self) -> std::slice::ChunksExact<'_, u8> {
        self.pixels
            .chunks_exact((self.channels * self.height * self.width).max(1))
    }

    /// Returns the images for which `keep`, one value an image, is true, in the same order.
    pub fn filter(&self, keep: &[bool]) -> Self {
        let mut kept = Self {
            pixels: Vec::new(),
            labels: Vec::new(),
            files: self
                .files
                .iter()
                .zip(keep)
                .filter(|(_, keep)| **keep)
                .map(|(file, _)| *file)
                .collect(),
            ..*self
        };
        for ((image, label), _) in self
            .images()
            .zip(&self.labels)
            .zip(keep)
            .filter(|(_, keep)| **keep)
        {
            kept.pixels.extend_from_slice(image);
            kept.labels.push(*label);
        }
        kept
    }
}
