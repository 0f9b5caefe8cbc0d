//! Checks that a state dict fits a network, for [`Model::load_state`](super::Model::load_state),
//! and reports why not. Everything is checked before anything is copied.

use super::StateDict;
use super::builder::Entry;
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use tch::{Kind, Tensor};

/// The number of names or tensors that an error lists at most.
const LISTED: usize = 5;

/// Returns the tensors of `state` in the order of `entries`, converted to their types.
///
/// # Errors
/// Fails when names, shapes or types differ, or values are not finite, or a variance is negative.
pub(super) fn matching_tensors(entries: &[Entry], state: &StateDict) -> Result<Vec<Tensor>> {
    let found = check_shapes(entries, state)?;
    let pairs = || entries.iter().zip(&found);
    let fitted = tch::no_grad(|| {
        let convert = |(entry, tensor): (&Entry, &Tensor)| tensor.f_to_kind(entry.tensor.kind());
        pairs().map(convert).collect::<Result<Vec<_>, _>>()
    })?;
    let values = entries
        .iter()
        .zip(&fitted)
        .map(|(entry, tensor)| value_problem(entry, tensor));
    let values = values
        .filter_map(Result::transpose)
        .collect::<Result<Vec<_>>>()?;
    report_problems("cannot be right", values)?;
    Ok(fitted)
}

/// Returns the tensors of `state` in the order of `entries`, as they are.
///
/// # Errors
/// Fails when names, shapes or types differ.
pub(super) fn check_shapes(entries: &[Entry], state: &StateDict) -> Result<Vec<Tensor>> {
    let found = named_tensors(entries, state)?;
    let pairs = entries.iter().zip(&found);
    report_problems(
        "cannot be loaded into the model",
        pairs
            .filter_map(|(entry, tensor)| shape_problem(entry, tensor))
            .collect(),
    )?;
    Ok(found)
}

/// Returns one tensor of `state` for every entry. The names of torchvision and timm are known, and
/// a missing `num_batches_tracked`, which files from before PyTorch 0.4.1 lack, is zero.
///
/// # Errors
/// Fails when the names differ, and lists those that are missing or unexpected.
fn named_tensors(entries: &[Entry], state: &StateDict) -> Result<Vec<Tensor>> {
    let wanted: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let (mut there, mut unexpected) = (HashMap::new(), Vec::new());
    for (name, tensor) in state.iter() {
        let ours = match wanted.get(name) {
            Some(name) => Some(*name),
            None => wanted.get(renamed(name).as_str()).copied(),
        };
        match ours {
            Some(ours) if !there.contains_key(ours) => {
                there.insert(ours, tensor);
            }
            _ => unexpected.push(name),
        }
    }
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for entry in entries {
        match there.get(entry.name.as_str()) {
            Some(tensor) => found.push(tensor.shallow_clone()),
            None if entry.name.ends_with(".num_batches_tracked") => {
                found.push(entry.tensor.f_zeros_like()?);
            }
            None => missing.push(entry.name.as_str()),
        }
    }
    if missing.is_empty() && unexpected.is_empty() {
        return Ok(found);
    }
    let mut error = Error::failed("the weights are not those of this model: tensor names differ")
        .note("expected", format!("{} tensors", entries.len()))
        .note("found", format!("{} tensors", state.len()));
    for (label, names) in [("missing", &missing), ("unexpected", &unexpected)] {
        if !names.is_empty() {
            error = error.note(label, first_names(names));
        }
    }
    Err(match nearest(&missing, &unexpected) {
        Some((name, other)) => error.hint(format!(
            "is `{other}` of the file `{name}` of the model? rename it"
        )),
        None => error.hint("check the model's kind, width and blocks"),
    })
}

/// Returns the name that torchvision's or timm's `name` of a residual network has here.
fn renamed(name: &str) -> String {
    match name.strip_prefix("fc.") {
        Some(rest) => format!("linear.{rest}"),
        None => name.replace(".downsample.", ".shortcut."),
    }
}

/// Returns the most similar pair of a missing and an unexpected name, among the first of each.
fn nearest<'a>(missing: &[&'a str], unexpected: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let few = |names: &[&'a str]| names.iter().take(100).copied().collect::<Vec<_>>();
    let others = few(unexpected);
    let pairs = few(missing).into_iter().flat_map(|name| {
        others
            .iter()
            .map(move |&other| (strsim::jaro_winkler(name, other), name, other))
    });
    let best = pairs.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.8).then_some((best.1, best.2))
}

/// Lists the first names in code quotes.
fn first_names(names: &[&str]) -> String {
    let quoted: Vec<_> = names
        .iter()
        .take(LISTED)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = match names.len().saturating_sub(LISTED) {
        0 => String::new(),
        rest => format!(" and {rest} more"),
    };
    quoted.join(", ") + &more
}

/// Fails with an error that lists the first of `problems`, if there are any.
fn report_problems(what: &str, problems: Vec<String>) -> Result<()> {
    let count = match problems.len() {
        0 => return Ok(()),
        1 => "one tensor".to_string(),
        count => format!("{count} tensors"),
    };
    let error = Error::failed(format!("{count} of the weights {what}"));
    let listed = problems.into_iter().take(LISTED);
    Err(listed.fold(error, |error, problem| error.note("tensor", problem)))
}

/// Returns how shape or type of `tensor` differ from those of `entry`, if they do.
fn shape_problem(entry: &Entry, tensor: &Tensor) -> Option<String> {
    let floats = [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16];
    let kind_fits = match entry.tensor.kind() {
        Kind::Float => floats.contains(&tensor.kind()),
        kind => tensor.kind() == kind,
    };
    if kind_fits && tensor.size() == entry.tensor.size() {
        return None;
    }
    let text = |t: &Tensor| format!("{:?} of {:?}", t.size(), t.kind());
    Some(format!(
        "`{}`: expected {}, found {}",
        entry.name,
        text(&entry.tensor),
        text(tensor)
    ))
}

/// Returns how many values of `tensor` no training can produce, if there are any.
fn value_problem(entry: &Entry, tensor: &Tensor) -> Result<Option<String>> {
    let count = |mask: Tensor| -> Result<i64> { Ok(mask.f_sum(Kind::Int64)?.f_int64_value(&[])?) };
    let bad = count(tensor.f_isfinite()?.f_logical_not()?)?;
    if bad > 0 {
        return Ok(Some(format!(
            "`{}`: {bad} of {} values are not finite",
            entry.name,
            tensor.numel()
        )));
    }
    let cannot_be_negative =
        entry.name.ends_with(".running_var") || entry.name.ends_with(".num_batches_tracked");
    if !cannot_be_negative {
        return Ok(None);
    }
    let negative = count(tensor.f_lt(0)?)?;
    Ok((negative > 0).then(|| {
        format!(
            "`{}`: {negative} of {} values are negative",
            entry.name,
            tensor.numel()
        )
    }))
}
