//! Draws test images out of the images of each class (`test_share`). Used by the reader of image
//! folders.

use crate::runtime::seed::Seeds;
use rand::seq::SliceRandom;

/// Returns for each image whether it is a test image: of each class the share of its images,
/// rounded, but at least one, and not all. `labels` are the images' labels in 0..`classes`.
///
/// The draw of a class depends on the seed, the class's number and how many images it has.
pub(super) fn divide(labels: &[usize], classes: usize, share: f64, seed: u64) -> Vec<bool> {
    let mut members = vec![Vec::new(); classes];
    for (image, &label) in labels.iter().enumerate() {
        members[label].push(image);
    }
    let mut is_test = vec![false; labels.len()];
    for (class, mut members) in members.into_iter().enumerate() {
        let most = members.len().saturating_sub(1);
        let count = ((members.len() as f64 * share).round() as usize)
            .max(1)
            .min(most);
        members.shuffle(&mut Seeds::new(seed).stream("dataset/test", class as u64));
        for &image in &members[..count] {
            is_test[image] = true;
        }
    }
    is_test
}
