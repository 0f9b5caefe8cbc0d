//! Computes the hash that identifies a dataset by its contents, after limits and resizing. Called
//! by `load`.

use super::raw::RawSplit;
use sha2::{Digest, Sha256};

/// Returns the SHA-256, in hexadecimal, over the shapes, labels and pixels of both splits.
///
/// Where images are files of their own, the hashes of the files are hashed instead of the pixels,
/// because JPEG decoders differ in rounding, and from version to version. File names, class names,
/// the normalisation and the device are not hashed.
pub(super) fn fingerprint(train: &RawSplit, test: &RawSplit) -> String {
    let mut hash = Sha256::new();
    hash.update(b"fed-distill dataset 1\n");
    for split in [train, test] {
        for length in [split.len(), split.channels, split.height, split.width] {
            hash.update((length as u64).to_le_bytes());
        }
        let labels: Vec<u8> = split
            .labels
            .iter()
            .flat_map(|label| label.to_le_bytes())
            .collect();
        hash.update(labels);
        match split.files.is_empty() {
            true => hash.update(&split.pixels),
            false => hash.update(split.files.concat()),
        }
    }
    format!("{:x}", hash.finalize())
}
