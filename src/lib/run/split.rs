//! Reads the split that a stage works on, and refuses one that is not what the config says of it.

use super::StageContext;
use crate::artifact::json;
use crate::config::Composed;
use crate::config::schema::SplitConfig;
use crate::data::{Dataset, DatasetSettings};
use crate::error::Error;
use crate::partition::{Part, Split};
use crate::run::{manifest, of_sweep};
use anyhow::{Result, bail};
use serde_json::{Map, Value};
use std::path::Path;

impl StageContext<'_> {
    /// Returns the split of `dataset`; without `split.save_path`, a single node that holds
    /// everything.
    ///
    /// # Errors
    /// Fails when the file is missing, damaged, of another dataset, or made with other settings.
    pub fn split(&self, dataset: &Dataset) -> Result<Split> {
        let Some(path) = &self.config.split.save_path else {
            let all = |count| (0..count).collect();
            return Ok(Split {
                nodes: vec![Part {
                    train: all(dataset.train.len()),
                    test: all(dataset.test.len()),
                }],
            });
        };
        if !path.exists() {
            let error = Error::failed("the split does not exist yet")
                .note("file", path.display().to_string())
                .hint("make it with `split_data` and the same overrides");
            bail!(of_sweep::named(error, "split.save_path", path));
        }
        refuse_other_dataset(path, dataset, &self.config.dataset)?;
        let split = read(path)?;
        split
            .check(dataset.train.len(), dataset.test.len())
            .map_err(|error| {
                error
                    .within("dataset")
                    .note("file", path.display().to_string())
            })?;
        refuse_other_settings(self.composed, path, &split)?;
        Ok(split)
    }
}

/// Reads the split at `path`.
///
/// # Errors
/// Fails when the file is missing, damaged, or no split.
pub fn read(path: &Path) -> Result<Split> {
    let named = |error: Error| error.note("file", path.display().to_string());
    let split = json::read(path).and_then(|parts| Split::from_json(parts).map_err(named));
    Ok(split.map_err(|error| {
        error.hint(
            "a split is {\"teacher0\": {\"train\": [0, 2, …], \"test\": [1, …]}, \"teacher1\": …}: \
             `split_data` makes one",
        )
    })?)
}

/// Refuses a file whose manifest names another dataset than the one that `settings` make.
fn refuse_other_dataset(path: &Path, dataset: &Dataset, settings: &DatasetSettings) -> Result<()> {
    let Some((record, made)) = manifest::made(path) else {
        return Ok(());
    };
    let Some(found) = made
        .fingerprint()
        .filter(|found| *found != dataset.fingerprint)
    else {
        return Ok(());
    };
    let error = Error::failed(format!("{} belongs to another dataset", path.display()))
        .note(
            "expected",
            format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
        )
        .note(
            "found",
            format!("fingerprint {found}, as {} says", record.display()),
        );
    let error = made.name_dataset(error, settings);
    bail!(error.hint("use the `dataset` overrides it was made with, or make it again"));
}

/// Refuses a split that was made with other settings than a file or the command line sets. A
/// built-in default does not count: who names the file alone means what is in it.
///
/// # Errors
/// Fails with the first setting that differs (usage).
pub fn refuse_other_settings(composed: &Composed, path: &Path, split: &Split) -> Result<()> {
    let (asked, nodes) = (composed.config.split.partition.nodes(), split.nodes.len());
    if composed.is_set("split.num_nodes") && asked != nodes {
        let (asked, found) = (Value::from(asked), Value::from(nodes));
        bail!(differs(composed, "split.num_nodes", &asked, &found, path));
    }
    let Some((record, made)) = manifest::made(path) else {
        return Ok(());
    };
    let (Value::Object(made), Ok(Value::Object(asked))) =
        (&made.config["split"], json::value(&composed.config.split))
    else {
        return Ok(());
    };
    for (key, asked) in &asked {
        let dotted = format!("split.{key}");
        if key != "save_path" && composed.is_set(&dotted) && matters(made, key, asked) {
            let found = made.get(key).unwrap_or(&Value::Null);
            bail!(differs(composed, &dotted, asked, found, &record));
        }
    }
    Ok(())
}

/// Returns true if a split with the settings `made` would be dealt otherwise with another value of
/// `key`: not if its kind does not read the key, or if the value is what `null` stands for.
fn matters(made: &Map<String, Value>, key: &str, value: &Value) -> bool {
    let mut other = made.clone();
    other.insert(key.to_owned(), value.clone());
    let partitioner = |settings: &Map<String, Value>| {
        let config = SplitConfig::recorded(&Value::Object(settings.clone()))?;
        Some(format!("{:?}", config.partition.partitioner()))
    };
    // Another version's settings cannot be told.
    matches!((partitioner(made), partitioner(&other)), (Some(made), Some(other)) if made != other)
}

fn differs(composed: &Composed, key: &str, asked: &Value, found: &Value, source: &Path) -> Error {
    let typed = |value: &Value| format!("{key}={}", value.to_string().trim_matches('"'));
    Error::usage(format!("the split was made with another `{key}`"))
        .note(
            "expected",
            format!("{}, set by {}", typed(asked), composed.set_by(key)),
        )
        .note(
            "found",
            format!("{}, as {} says", typed(found), source.display()),
        )
        .hint(format!("to work on this split: {}", typed(found)))
        .hint(
            "to make the other: `split_data` with the same overrides, and `overwrite=true` or \
            another `split.save_path`",
        )
}
