//! Limits a split to a number of images (`max_train`, `max_test`) and keeps the proportions of its
//! classes. Called by `load`.

use super::raw::RawSplit;
use crate::error::{Error, Result, assignment, parameter};

/// Keeps `max` images of the split: the first of each class in file order, in proportion to the
/// class's size and at least one. Their order is unchanged.
///
/// # Errors
/// Fails (usage) when `max` is smaller than the number of classes; the error calls it `name`.
pub(super) fn limit(split: RawSplit, max: usize, classes: usize, name: &str) -> Result<RawSplit> {
    if max < classes {
        let what = parameter(name) + format!(" must be at least the number of classes, {classes}");
        return Err(Error::usage(what)
            .note("found", max.to_string())
            .hint(assignment(name, classes)));
    }
    if max >= split.len() {
        return Ok(split);
    }
    let mut counts = vec![0_usize; classes];
    for &label in &split.labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    let mut left = apportion(&counts, max);
    let keep: Vec<bool> = split
        .labels
        .iter()
        .map(|&label| match left.get_mut(label as usize) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        })
        .collect();
    Ok(split.filter(&keep))
}

/// Divides `max` in proportion to `counts` by the largest-remainder method; a class that has images
/// gets at least one.
fn apportion(counts: &[usize], max: usize) -> Vec<usize> {
    let total: usize = counts.iter().sum();
    let exact = |count: usize| (count as u128 * max as u128, total.max(1) as u128);
    let mut shares: Vec<usize> = counts
        .iter()
        .map(|&count| (exact(count).0 / exact(count).1) as usize)
        .collect();
    let mut by_remainder: Vec<usize> = (0..counts.len()).collect();
    by_remainder
        .sort_by_key(|&class| std::cmp::Reverse(exact(counts[class]).0 % exact(counts[class]).1));
    let missing = max - shares.iter().sum::<usize>();
    for &class in by_remainder.iter().take(missing) {
        shares[class] += 1;
    }
    while let Some(empty) = (0..counts.len()).find(|&class| shares[class] == 0 && counts[class] > 0)
    {
        // `max` is at least the number of classes, so while one has nothing another has two or
        // more.
        let Some(largest) = (0..counts.len()).rev().max_by_key(|&class| shares[class]) else {
            break;
        };
        shares[largest] -= 1;
        shares[empty] += 1;
    }
    shares
}
