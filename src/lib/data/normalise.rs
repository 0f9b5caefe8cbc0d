//! Returns the constants that normalise a set: checks given ones, and computes missing ones from
//! the training split, or from the test split where there is nothing for training. Called by
//! `load`.

use super::dataset::Normalisation;
use super::raw::RawSplit;
use super::settings::DatasetSettings;
use crate::error::{Error, Result, assignment, parameter};

/// Returns `settings.mean` and `settings.std` where given, else those of `train`.
///
/// # Errors
/// Fails (usage) for a wrong number of values, a value that is not finite, or a standard deviation
/// that is not positive.
pub(super) fn normalisation(settings: &DatasetSettings, train: &RawSplit) -> Result<Normalisation> {
    let (mut mean, mut std) = statistics(train);
    if let Some(given) = &settings.mean {
        check(
            "mean",
            given,
            train.channels,
            |value| value.is_finite(),
            "finite",
        )?;
        mean.clone_from(given);
    }
    if let Some(given) = &settings.std {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        check("std", given, train.channels, positive, "positive")?;
        std.clone_from(given);
    }
    for (channel, std) in std.iter_mut().enumerate().filter(|(_, std)| **std == 0.0) {
        tracing::warn!(
            "channel {channel} is the same in all images: its standard deviation is taken as 1"
        );
        *std = 1.0;
    }
    Ok(Normalisation { mean, std })
}

fn check(
    name: &str,
    given: &[f64],
    channels: usize,
    good: impl Fn(f64) -> bool,
    what: &str,
) -> Result<()> {
    if given.len() != channels {
        return Err(
            Error::usage(parameter(name) + " must have one value for each channel")
                .note("expected", format!("{channels} values"))
                .note("found", format!("{given:?}"))
                .hint(assignment(name, "null") + " computes it from the training images"),
        );
    }
    match given.iter().find(|value| !good(**value)) {
        Some(value) => Err(Error::usage(parameter(name) + format!(" must be {what}"))
            .note("found", value.to_string())),
        None => Ok(()),
    }
}

/// Returns the mean and (biased) standard deviation of each channel, of pixels scaled to 0..1. Sums
/// are exact integers.
fn statistics(split: &RawSplit) -> (Vec<f64>, Vec<f64>) {
    let plane = (split.height * split.width).max(1);
    let mut histograms = vec![[0_u64; 256]; split.channels];
    for image in split.images() {
        for (histogram, plane) in histograms.iter_mut().zip(image.chunks_exact(plane)) {
            for &pixel in plane {
                histogram[usize::from(pixel)] += 1;
            }
        }
    }
    histograms.iter().map(moments).unzip()
}

fn moments(histogram: &[u64; 256]) -> (f64, f64) {
    let sum = |power: u32| -> u128 {
        let values = (0_u128..).zip(histogram);
        values
            .map(|(value, &count)| value.pow(power) * u128::from(count))
            .sum()
    };
    let (count, first, second) = (sum(0).max(1), sum(1), sum(2));
    let variance = (count * second - first * first) as f64 / (count as f64 * count as f64);
    (first as f64 / count as f64 / 255.0, variance.sqrt() / 255.0)
}
