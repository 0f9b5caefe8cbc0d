//! What `serve` and `join` share in rounds: the config with the task's settings, images of the
//! task, and the public set.

use super::fed_md::Public;
use crate::artifact::{hash, json};
use crate::config::{self, Chosen, Composed, Origin};
use crate::data::{Dataset, DatasetKind};
use crate::error::Error;
use crate::model::ModelSettings;
use crate::network::rounds::plan::{self, Algorithm, Plan};
use crate::network::task::Task;
use crate::partition::Part;
use crate::run::StageContext;
use crate::run::agreement;
use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// Composes the config of a party of the task: `overrides` say what is its own, and the task what
/// all have in common.
///
/// # Errors
/// Fails for a wrong override, and for one that contradicts the task (usage).
pub fn composed(task: &Task, plan: &Plan, overrides: Vec<String>) -> Result<Composed> {
    let mut composed = config::compose(&config::Request {
        overrides,
        ..config::Request::default()
    })?;
    refuse_other_settings(&composed, task, plan)?;
    let config = &mut composed.config;
    (config.seed, config.precision) = (plan.seed, plan.precision);
    if let Some(model) = task.models.first() {
        config.model = model.clone();
    }
    // What a party leaves open of its images is the task's.
    let images = &mut config.dataset;
    images.channels.get_or_insert(task.channels);
    images.size.get_or_insert(task.size);
    if images.kind == DatasetKind::ImageFolder {
        images.classes.get_or_insert_with(|| task.classes.clone());
    }
    match &plan.algorithm {
        Algorithm::FedAvg { settings } => config.fed_avg.settings = settings.clone(),
        Algorithm::FedMd { settings, .. } => {
            config.fed_md.settings = settings.clone();
            config.fed_md.models = Some(task.models.clone());
        }
    }
    Ok(composed)
}

/// Warns of overrides that rounds do not read.
///
/// # Errors
/// Fails as [`unread`] does.
pub fn warn_of_unread(composed: &Composed, plan: &Plan) -> Result<()> {
    let group = plan.algorithm.to_string();
    let read = ["dataset", "split", "model", &group, "seed", "precision"];
    let unread = unread(composed, |group, _| read.contains(&group))?;
    if !unread.is_empty() {
        tracing::warn!("rounds do not read {}", unread.join(", "));
    }
    Ok(())
}

/// Limits the overrides that a warning names: more than this are one set for all stages.
const FEW: usize = 3;

/// Reports whether the command line names images, or a file that it chooses (`+experiment=…`).
/// Without, the built-in digits are meant, which are nobody's own.
pub fn names_images(composed: &Composed) -> bool {
    let is_chosen = |choice: &Chosen| match &choice.origin {
        // The primary file chooses the digits.
        Origin::File { file, .. } => !file.ends_with("config.yaml"),
        Origin::Argument(_) => true,
        Origin::BuiltIn => false,
    };
    let is_key = |typed: &String| {
        let key = typed.trim_start_matches('+').split('=').next();
        key.is_some_and(|key| ["dataset.kind", "dataset.root"].contains(&key))
    };
    let mut choices = composed.choices.iter();
    choices.any(|choice| choice.group == "dataset" && is_chosen(choice))
        || composed.overrides.iter().any(is_key)
}

/// Returns the overrides that set something and that nobody `reads`, a function of group and key;
/// none if there are many.
///
/// # Errors
/// Fails for a number that JSON cannot hold.
pub fn unread(composed: &Composed, reads: impl Fn(&str, &str) -> bool) -> Result<Vec<String>> {
    // A choice such as `+experiment=demo` is no key: it sets keys of many groups. What changes no
    // result, such as `threads`, is read by everybody.
    let keys = json::value(&composed.config)?;
    let is_unread = |typed: &&String| {
        let key = typed.trim_start_matches(['+', '~']);
        let key = key.split('=').next().unwrap_or(key);
        let group = key.split('.').next().unwrap_or(key);
        let free = config::shape::config().get(&[group]);
        let free = free.is_some_and(|shape| shape.free);
        keys.get(group).is_some() && !free && !reads(group, key)
    };
    let unread = composed.overrides.iter().filter(is_unread);
    let mut unread: Vec<String> = unread.map(|typed| format!("`{typed}`")).collect();
    if unread.len() > FEW {
        unread.clear();
    }
    Ok(unread)
}

/// Refuses a key that was given another value than the task has.
fn refuse_other_settings(composed: &Composed, task: &Task, plan: &Plan) -> Result<()> {
    let ours = json::value(&composed.config)?;
    let group = plan.algorithm.to_string();
    let settings = match &plan.algorithm {
        Algorithm::FedAvg { settings } => json::value(settings)?,
        Algorithm::FedMd { settings, .. } => json::value(settings)?,
    };
    let settings = settings.as_object().into_iter().flatten();
    let mut agreed: Vec<(String, Value)> = settings
        .map(|(key, value)| (format!("{group}.{key}"), value.clone()))
        .collect();
    match &plan.algorithm {
        Algorithm::FedAvg { .. } => agreed.push(("model".into(), json::value(&task.models[0])?)),
        Algorithm::FedMd { .. } => {
            agreed.push(("fed_md.models".into(), json::value(&task.models)?));
        }
    }
    // The primary file sets these for everybody.
    let typed = |key: &str| composed.set_by(key).starts_with("command line");
    for (key, value) in [
        ("seed", json::value(&plan.seed)?),
        ("precision", json::value(&plan.precision)?),
    ] {
        if typed(key) {
            agreed.push((key.to_owned(), value));
        }
    }
    for (key, value) in agreed {
        let found = ours.pointer(&format!("/{}", key.replace('.', "/")));
        let Some(found) = found.filter(|found| **found != value) else {
            continue;
        };
        if !composed.is_set(&key) {
            continue;
        }
        // The choice of a file, `model=resnet34`, says more than a line of it.
        let choice = format!("{key}=");
        let mut typed = composed.overrides.iter();
        let chosen = typed.rfind(|typed| typed.starts_with(&choice));
        bail!(
            Error::usage(format!("`{key}` is another than the task's"))
                .note("expected", shown(&value))
                .note("found", shown(found))
                .note(
                    "from",
                    chosen.map_or_else(
                        || composed.set_by(&key),
                        |typed| format!("command line `{typed}`"),
                    ),
                )
                .hint("leave it out: all train with the settings of the task")
        );
    }
    Ok(())
}

/// Returns a value for people: an architecture by its name.
fn shown(value: &Value) -> String {
    let model = ModelSettings::deserialize(value);
    model.map_or_else(|_| value.to_string(), |model| model.to_string())
}

/// Returns the images that the config names, normalised as the task has it; none with
/// `dataset=none`.
///
/// # Errors
/// Fails for images of another task, and says in what they differ.
pub fn dataset(context: &StageContext, task: &Task) -> Result<Dataset> {
    let (settings, agreed) = (&context.config.dataset, task.agreed());
    if settings.kind == DatasetKind::None {
        return Ok(agreed.without_images(context.device)?);
    }
    let dataset = context.dataset()?;
    let is_open = settings.mean.is_none() && settings.std.is_none();
    let own = agreement::Task {
        channels: dataset.channels(),
        size: dataset.size(),
        classes: dataset.classes.clone(),
        normalisation: match is_open {
            true => task.normalisation.clone(),
            false => dataset.normalisation.clone(),
        },
    };
    if let Some(difference) = agreed.difference_of_party(&own) {
        let [ours, theirs] = difference.said;
        bail!(
            Error::failed(format!(
                "the images are of another task: they differ in {}",
                difference.what
            ))
            .note("expected", ours)
            .note("found", theirs)
            .hint(difference.hint)
        );
    }
    Ok(Dataset {
        // Up to rounding they are the same, and then to the bit.
        normalisation: task.normalisation.clone(),
        ..dataset
    })
}

/// Returns a client's own part of the images: of a split the part of its `number`, all without one.
///
/// # Errors
/// Fails for a split that has no such part, and for a part of one image.
pub fn part(context: &StageContext, dataset: &Dataset, number: usize) -> Result<Part> {
    let split = context.split(dataset)?;
    let count = split.nodes.len();
    let index = match context.config.split.save_path {
        Some(_) => number,
        None => 0,
    };
    let part = split.nodes.into_iter().nth(index).ok_or_else(|| {
        Error::usage(format!("the split has no part {number}"))
            .note("expected", format!("0 to {}", count - 1))
            .hint("`--part N` names this client's part")
    })?;
    match part.train.len() {
        0 | 1 => Err(Error::failed(format!(
            "there are {} training images; batch norm needs at least 2",
            part.train.len()
        ))
        .hint("`dataset.root` names the folder of this client's images")
        .into()),
        _ => Ok(part),
    }
}

/// Returns what identifies the public images of FedMD.
///
/// # Errors
/// Fails as libtorch does.
pub fn public(images: &Public, dataset: &Dataset) -> Result<plan::Public> {
    let (set, normalisation) = images.images(dataset);
    let pixels = crate::artifact::tensors::encode(
        &[("images", &set.images), ("labels", &set.labels)],
        &[(
            "normalisation".to_owned(),
            json::value(normalisation)?.to_string(),
        )]
        .into(),
    )?;
    Ok(plan::Public {
        images: set.len(),
        sha256: hash::bytes(&pixels),
    })
}

/// Loads the public images of FedMD, and refuses others than the task's. Returns also which part of
/// the split they are, if they are one.
///
/// # Errors
/// Fails for other images, and as [`Public::load`] does.
pub fn agreed_public(
    context: &StageContext,
    dataset: &Dataset,
    expected: &plan::Public,
) -> Result<(Public, Option<usize>)> {
    let (images, part) = Public::load(context, dataset, &context.split(dataset)?)?;
    let found = public(&images, dataset)?;
    match found == *expected {
        true => Ok((images, part)),
        false => {
            let shown = |set: &plan::Public| format!("{} images, {}", set.images, set.sha256);
            Err(Error::failed("the public images are not the task's")
                .note("expected", shown(expected))
                .note("found", shown(&found))
                .hint(
                    "all parties hold the same ones: `fed_md.public.kind=…` with the settings of \
                     the host, or the same `split.save_path` and `fed_md.public_node`",
                )
                .into())
        }
    }
}
