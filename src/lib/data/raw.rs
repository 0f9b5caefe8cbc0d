//! A split as the readers deliver it: pixels and labels on the host, before anything of libtorch.
//! Used inside `data` only.

/// Most bytes of pixels a whole set may hold, in memory and on the device.
pub(super) const MAX_PIXELS: u64 = 8 << 30;

/// Largest height or width of an image.
pub(super) const MAX_SIDE: usize = 4096;

/// One split on the host. `pixels` is row-major [M,C,H,W]; there is one label an image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawSplit {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub pixels: Vec<u8>,
    pub labels: Vec<i64>,
    /// SHA-256 of each image's file, for sets whose images are files of their own; else empty.
    pub files: Vec<[u8; 32]>,
}

/// Both splits and the class names in label order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RawSet {
    pub classes: Vec<String>,
    pub train: RawSplit,
    pub test: RawSplit,
}

impl RawSplit {
    /// No image yet, of this shape.
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

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The images one by one, each [C,H,W].
    pub fn images(&self) -> std::slice::ChunksExact<'_, u8> {
        self.pixels
            .chunks_exact((self.channels * self.height * self.width).max(1))
    }

    /// The images for which `keep` says so, in the same order.
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
