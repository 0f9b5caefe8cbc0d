//! Compares what models were trained on with the data that they meet: under another normalisation,
//! or with the classes in another order, every accuracy and every picture would be wrong without a
//! word.

use super::weights::Card;
use crate::data::{Dataset, DatasetSettings, Normalisation};
use crate::error::{Error, Result};
use std::path::Path;

/// Limits the relative difference of constants that count as the same: those that a client computes
/// and those that it types agree to about this.
const SAME: f64 = 1e-6;

/// Returns what two cards say differently of the data, and what each says of it; `None` where they
/// agree.
pub fn difference(one: &Card, other: &Card) -> Option<(&'static str, [String; 2])> {
    let shape = |card: &Card| (card.model.channels, card.model.size, card.model.classes);
    let both = |of: &dyn Fn(&Card) -> String| [of(one), of(other)];
    if shape(one) != shape(other) {
        let text = both(&|card| format!("{:?}", shape(card)));
        return Some(("image or label shape", text));
    }
    if let Some(text) = classes(&one.classes, &other.classes) {
        return Some(("class names", text));
    }
    if one.dataset_fingerprint != other.dataset_fingerprint {
        return Some(("dataset", both(&|card| card.dataset_fingerprint.clone())));
    }
    let constants = |card: &Card| card.normalisation.clone();
    let same = agree(&one.normalisation.mean, &other.normalisation.mean)
        && agree(&one.normalisation.std, &other.normalisation.std);
    (!same).then(|| {
        (
            "normalisation",
            both(&|card| format!("{:?}", constants(card))),
        )
    })
}

/// Returns `dataset`, which `settings` describe, with the normalisation of the models whose `card`
/// is in the file at `path`, where `settings` leave it open.
///
/// # Errors
/// Fails when the models take other images, tell apart other classes, or were trained on another
/// dataset or with another normalisation than `settings` give.
pub fn fitted(
    dataset: Dataset,
    settings: &DatasetSettings,
    card: &Card,
    path: &Path,
) -> Result<Dataset> {
    let differs = |what: &str, [trained, here]: [String; 2]| {
        Error::failed(format!("the models were trained {what}"))
            .note("expected", format!("{trained}: {}", path.display()))
            .note("found", format!("{here}: `dataset`"))
    };
    let shape = |channels, size| format!("{channels}×{size}×{size}");
    let trained = shape(card.model.channels, card.model.size);
    let here = shape(dataset.channels(), dataset.size());
    if trained != here {
        return Err(
            differs("on images of another shape", [trained, here]).hint(format!(
                "`dataset.channels={} dataset.size={}` makes such images",
                card.model.channels, card.model.size
            )),
        );
    }
    if let Some(names) = classes(&card.classes, &dataset.classes) {
        return Err(differs("on other classes", names)
            .hint("labels are numbers, so that the classes must have the same names and order"));
    }
    if dataset.fingerprint != card.dataset_fingerprint {
        return Err(other_dataset(&dataset, card));
    }
    let Normalisation { mean, std } = &card.normalisation;
    let given = [(&settings.mean, mean), (&settings.std, std)];
    let other = |(given, trained): &(&Option<Vec<f64>>, &Vec<f64>)| {
        given.as_ref().is_some_and(|given| !agree(given, trained))
    };
    if given.iter().any(other) {
        let own = &dataset.normalisation;
        let both = [(mean, std), (&own.mean, &own.std)];
        let both = both.map(|(mean, std)| format!("mean {mean:?}, std {std:?}"));
        return Err(differs("with another normalisation", both).hint(
            "`dataset.mean=null dataset.std=null` takes theirs; or give models that were trained \
             with this one",
        ));
    }
    let own = &dataset.normalisation;
    if agree(&own.mean, mean) && agree(&own.std, std) {
        return Ok(dataset);
    }
    tracing::info!("normalising as the models were trained: mean {mean:?}, std {std:?}");
    Ok(Dataset {
        normalisation: card.normalisation.clone(),
        ..dataset
    })
}

/// Reports models that were trained on another dataset.
fn other_dataset(dataset: &Dataset, card: &Card) -> Error {
    Error::failed("the teachers were trained on another dataset")
        .note(
            "expected",
            format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
        )
        .note(
            "found",
            format!(
                "{} with fingerprint {}",
                card.dataset, card.dataset_fingerprint
            ),
        )
        .hint("use the `dataset` overrides the teachers were trained with")
}

/// Returns the first class that has two names, once with each.
fn classes(one: &[String], other: &[String]) -> Option<[String; 2]> {
    if one.len() != other.len() {
        return Some([one, other].map(|names| format!("{} classes", names.len())));
    }
    let class = (0..one.len()).find(|&class| one[class] != other[class])?;
    Some([one, other].map(|names| format!("class {class} is `{}`", names[class])))
}

/// Returns `true` for the same number of constants that are the same up to rounding.
fn agree(one: &[f64], other: &[f64]) -> bool {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= SAME * a.abs().max(b.abs()).max(SAME);
    one.len() == other.len() && one.iter().zip(other).all(near)
}
