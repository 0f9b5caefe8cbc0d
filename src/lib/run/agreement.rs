//! Compares what parties must agree on, the task: the shape of the images, the names and the order
//! of the classes, and the normalisation. Under another normalisation, or with the classes in
//! another order, every accuracy and every picture would be wrong without a word. Which images a
//! party has is nobody else's concern.

use super::weights::Card;
use crate::config::typed_list;
use crate::data::{Dataset, DatasetKind, DatasetSettings, Normalisation, check_class_names};
use crate::error::{During, Error, Result};
use std::path::Path;
use tch::Device;

/// Limits the relative difference of constants that count as the same: those that a client computes
/// and those that it types agree to about this.
const SAME: f64 = 1e-6;

/// Limits the classes that a message lists.
const LISTED: usize = 20;

/// Tells what two cards say differently of the task.
pub struct Difference {
    /// Names the part of the task.
    pub what: &'static str,
    /// What each of the two has.
    pub said: [String; 2],
    /// What the parties type to agree.
    pub hint: String,
}

/// Holds what images and labels mean, without any image.
pub struct Task {
    pub channels: i64,
    pub size: i64,
    /// Class names in label order.
    pub classes: Vec<String>,
    pub normalisation: Normalisation,
}

/// Returns the first part of the task in which two cards differ; `None` where they agree.
pub fn difference(one: &Card, other: &Card) -> Option<Difference> {
    Task::of(one).difference(&Task::of(other))
}

/// Returns the well-known set that a model was trained on, by its card.
fn set_of(card: &Card) -> Option<DatasetKind> {
    let kind: DatasetKind = serde_json::from_value(card.dataset.clone().into()).ok()?;
    let is_known = !matches!(kind, DatasetKind::ImageFolder | DatasetKind::None);
    is_known.then_some(kind)
}

/// Returns `dataset`, which `settings` describe, with the normalisation of the models whose `card`
/// is in the file at `path`, where `settings` leave it open.
///
/// # Errors
/// Fails when the models take other images, tell apart other classes, or were trained with another
/// normalisation than `settings` give.
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
    let trained = shape(card.model.channels, card.model.size);
    let here = shape(dataset.channels(), dataset.size());
    if trained != here {
        let error = differs("on images of another shape", [trained, here]);
        let error = match set_of(card) {
            Some(kind) if kind != settings.kind => {
                error.hint(format!("they were trained on `{kind}`: `dataset={kind}`"))
            }
            _ => error,
        };
        return Err(error
            .hint(format!(
                "`dataset.channels={} dataset.size={}` makes such images",
                card.model.channels, card.model.size
            ))
            .hint("where there are no test images of this task: `dataset=none`"));
    }
    if let Some(names) = classes(&card.classes, &dataset.classes) {
        let error = differs("on other classes", names)
            .hint("labels are numbers, so that the classes must have the same names and order");
        let known = |name| card.classes.contains(name);
        return Err(match dataset.classes.iter().all(known) {
            false => error,
            true => error.hint(format!(
                "`dataset.classes={}` gives the images these labels",
                typed_list(&card.classes)
            )),
        });
    }
    let Normalisation { mean, std } = &card.normalisation;
    let given = [(&settings.mean, mean), (&settings.std, std)];
    let other = |(given, trained): &(&Option<Vec<f64>>, &Vec<f64>)| {
        given.as_ref().is_some_and(|given| !agree(given, trained))
    };
    if given.iter().any(other) {
        let both = [&card.normalisation, &dataset.normalisation].map(constants);
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

/// Refuses settings of `dataset` that say something else of the task than the `card` of the models
/// in the file at `path`. What they leave open is the models'.
///
/// # Errors
/// Fails (usage) where they differ, with both.
pub fn refuse_other(settings: &DatasetSettings, card: &Card, path: &Path) -> Result<()> {
    let described = Task::described(settings, Some(card))?;
    let Some(difference) = Task::of(card).difference(&described) else {
        return Ok(());
    };
    let [trained, here] = difference.said;
    Err(Error::usage(format!(
        "the models were trained for another task: {}",
        difference.what
    ))
    .note("expected", format!("{trained}: {}", path.display()))
    .note("found", format!("{here}: `dataset`"))
    .hint("leave out the settings of `dataset`: the teachers bring their task"))
}

impl Task {
    /// Returns the task that `settings` of the kind `none` describe; what they leave open is that
    /// of `card`, where there is one.
    ///
    /// # Errors
    /// Fails (usage) with all keys that are missing, and for values that do not fit together.
    pub fn described(settings: &DatasetSettings, card: Option<&Card>) -> Result<Self> {
        let constants = card.map(|card| &card.normalisation);
        let mean = settings.mean.clone();
        let mean = mean.or_else(|| Some(constants?.mean.clone()));
        let std = settings.std.clone();
        let std = std.or_else(|| Some(constants?.std.clone()));
        let counted = mean.as_ref().map(|mean| mean.len() as i64);
        let channels = settings.channels.or(counted);
        let size = settings.size.or_else(|| Some(card?.model.size));
        match (names(settings, card)?, channels, size, mean, std) {
            (Some(classes), Some(channels), Some(size), Some(mean), Some(std)) => Ok(Self {
                channels,
                size,
                classes,
                normalisation: Normalisation { mean, std },
            }),
            (classes, _, size, mean, std) => {
                let missing = [
                    ("dataset.num_classes", classes.is_none()),
                    ("dataset.size", size.is_none()),
                    ("dataset.mean", mean.is_none()),
                    ("dataset.std", std.is_none()),
                ];
                let missing = missing.iter().filter(|(_, is_missing)| *is_missing);
                let missing: Vec<String> = missing.map(|(key, _)| format!("`{key}`")).collect();
                Err(Error::usage(format!(
                    "without a dataset, {} must be given",
                    crate::config::list(&missing)
                ))
                .hint(
                    "for example: `dataset=none dataset.num_classes=10 dataset.channels=1 \
                     dataset.size=28 dataset.mean=[0.1307] dataset.std=[0.3081]`, with the values \
                     the model was trained with (`dataset.classes=[…]` names the classes)",
                ))
            }
        }
    }

    /// Returns the task that a model of this card was trained for.
    pub fn of(card: &Card) -> Self {
        Self {
            channels: card.model.channels,
            size: card.model.size,
            classes: card.classes.clone(),
            normalisation: card.normalisation.clone(),
        }
    }

    /// Returns the first part in which another task differs; `None` where they agree.
    pub fn difference(&self, other: &Self) -> Option<Difference> {
        let found = |what, said, hint: String| Some(Difference { what, said, hint });
        let shapes = [self, other].map(|task| shape(task.channels, task.size));
        if shapes[0] != shapes[1] {
            return found(
                "image shape",
                shapes.map(|shape| format!("images of {shape}")),
                format!(
                    "the parties agree on one, as `dataset.channels={} dataset.size={}`, and train \
                     again",
                    self.channels, self.size
                ),
            );
        }
        if let Some(said) = classes(&self.classes, &other.classes) {
            let more = other.classes.iter();
            let more = more.filter(|name| !self.classes.contains(name));
            let all: Vec<String> = self.classes.iter().chain(more).cloned().collect();
            return found(
                "class names",
                said,
                format!(
                    "all parties train with the same names in the same order: \
                     `dataset.classes={}`; a party without images of a class names it all the same",
                    typed_list(&all)
                ),
            );
        }
        let [first, second] = [self, other].map(|task| &task.normalisation);
        let same = agree(&first.mean, &second.mean) && agree(&first.std, &second.std);
        match same {
            true => None,
            false => found(
                "normalisation",
                [first, second].map(constants),
                format!(
                    "the parties agree on constants, as {}, and train again",
                    typed(first)
                ),
            ),
        }
    }

    /// Returns the same for a party of this task, which stands.
    pub fn difference_of_party(&self, party: &Self) -> Option<Difference> {
        let mut difference = self.difference(party)?;
        if self.classes != party.classes {
            difference.hint = format!(
                "the task has `dataset.classes={}`; a party without images of a class names it all \
                 the same",
                typed_list(&self.classes)
            );
        }
        Some(difference)
    }

    /// Returns a dataset of this task that has no images.
    ///
    /// # Errors
    /// Fails as libtorch does.
    pub fn without_images(self, device: Device) -> Result<Dataset> {
        let shape = (self.channels, self.size);
        Dataset::without_images(self.classes, shape, self.normalisation, device)
    }
}

/// Returns the class names that `settings` of the kind `none` give, or else those of `card`;
/// numbers where only their count is known.
fn names(settings: &DatasetSettings, card: Option<&Card>) -> Result<Option<Vec<String>>> {
    let of_card = card.map(|card| &card.classes);
    let named = match (&settings.classes, settings.num_classes) {
        (Some(names), Some(count)) if names.len() != count => {
            return Err(Error::usage(format!(
                "`dataset.num_classes` is {count}, but `dataset.classes` names {}",
                names.len()
            ))
            .hint("`dataset.classes` alone says both"));
        }
        (Some(names), _) => Some(names.clone()),
        (None, Some(count)) => Some(match of_card.filter(|names| names.len() == count) {
            Some(names) => names.clone(),
            None => (0..count).map(|class| class.to_string()).collect(),
        }),
        (None, None) => of_card.cloned(),
    };
    if let Some(names) = &named {
        check_class_names(names).within("dataset")?;
    }
    Ok(named)
}

fn shape(channels: i64, size: i64) -> String {
    format!("{channels}×{size}×{size}")
}

fn constants(of: &Normalisation) -> String {
    format!("mean {:?}, std {:?}", of.mean, of.std)
}

/// Returns constants as they are typed.
fn typed(of: &Normalisation) -> String {
    let list = |values: &[f64]| {
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        values.join(",")
    };
    let (mean, std) = (list(&of.mean), list(&of.std));
    format!("`dataset.mean=[{mean}] dataset.std=[{std}]`")
}

/// Returns how two lists of class names differ: each list, and the first class that has two names.
fn classes(one: &[String], other: &[String]) -> Option<[String; 2]> {
    let all = |names: &[String]| match names.len() > LISTED {
        true => format!("{}, …", names[..LISTED].join(", ")),
        false => names.join(", "),
    };
    if one.len() != other.len() {
        return Some([one, other].map(|names| format!("{} classes ({})", names.len(), all(names))));
    }
    let class = (0..one.len()).find(|&class| one[class] != other[class])?;
    let said = |names: &[String]| {
        let name = &names[class];
        format!("classes {}: class {class} is `{name}`", all(names))
    };
    Some([one, other].map(said))
}

/// Returns `true` for the same number of constants that are the same up to rounding.
fn agree(one: &[f64], other: &[f64]) -> bool {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= SAME * a.abs().max(b.abs()).max(SAME);
    one.len() == other.len() && one.iter().zip(other).all(near)
}
