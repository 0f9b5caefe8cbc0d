//! Finds what the result of a run depends on beside seeds: its settings, and those of the runs that
//! made what it read.

use super::run::{Run, teachers};
use crate::artifact::{hash, json};
use crate::run::manifest::TEACHERS_MODEL;
use crate::run::manifest::{self, FileRecord, Manifest};
use crate::run::stages;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Settings by their dotted keys. Runs of equal identity are repetitions of each other.
pub type Identity = Map<String, Value>;

/// Finds identities, through the manifests of what the runs read. A stage's own config does not
/// tell how its split was made or its teachers were trained.
#[derive(Default)]
pub struct Lineage {
    /// By path and hash: runs share inputs.
    followed: HashMap<(PathBuf, String), Option<Identity>>,
}

impl Lineage {
    /// Returns what the run's result depends on beside seeds and paths.
    pub fn of(&mut self, run: &Run) -> Identity {
        self.identity(&run.path, &run.manifest)
    }

    /// Returns the number of files that were read and that no manifest describes.
    pub fn unknown(&self) -> usize {
        self.followed.values().filter(|made| made.is_none()).count()
    }

    fn identity(&mut self, path: &Path, manifest: &Manifest) -> Identity {
        let mut settings = own(manifest);
        // The dataset itself stands for its folder.
        settings.insert("dataset".into(), manifest.fingerprint().into());
        if manifest.stage == "split_data" {
            return settings;
        }
        let (split, initial) = (manifest.input("split"), manifest.input("initial"));
        settings.retain(|key, _| !key.starts_with("split."));
        settings.extend(self.of_split(path, split));
        let of_teachers = self.of_teachers(path, manifest);
        // They were trained on the split that the run itself was given.
        settings.extend(
            of_teachers
                .into_iter()
                .filter(|(key, _)| split.is_none() || !is_split(key)),
        );
        if let Some(record) = initial {
            self.put_initial(path, record, &mut settings);
        }
        // The server's stages work with what the teachers are, whatever `model` is set to.
        if let Some(teachers) = manifest.facts.get(TEACHERS_MODEL) {
            settings.insert("model".into(), teachers.clone());
        }
        settings
    }

    /// Returns whether there is a split, and how it was made.
    fn of_split(&mut self, path: &Path, split: Option<&FileRecord>) -> Identity {
        let Some(record) = split else {
            return Map::from_iter([("split".into(), false.into())]);
        };
        match self.maker(path, record) {
            None => Map::from_iter([("split".into(), unknown(&record.sha256))]),
            Some(mut made) => {
                made.retain(|key, _| key.starts_with("split."));
                made.shift_insert(0, "split".into(), true.into());
                made
            }
        }
    }

    /// Returns how the teachers were trained, and on what: a list where they were not trained
    /// alike.
    fn of_teachers(&mut self, path: &Path, manifest: &Manifest) -> Identity {
        let (mut made, mut unknown_files) = (Vec::new(), String::new());
        for record in teachers(manifest) {
            match self.maker(path, record) {
                Some(identity) => made.push(identity),
                None => unknown_files += &record.sha256,
            }
        }
        let mut values = BTreeMap::<String, Vec<Value>>::new();
        for (key, value) in made.into_iter().flatten() {
            match key.as_str() {
                "split" => values
                    .entry("teacher.split".into())
                    .or_default()
                    .push(value),
                key if key.starts_with("teacher.") || is_split(key) => {
                    values.entry(key.to_owned()).or_default().push(value);
                }
                _ => {}
            }
        }
        let values = values.into_iter();
        let mut settings: Identity = values.map(|(key, values)| (key, alike(values))).collect();
        if !unknown_files.is_empty() {
            let content = hash::bytes(unknown_files.as_bytes());
            settings.insert("teachers".into(), unknown(&content));
        }
        settings
    }

    /// Replaces the run's own settings of the initial batches by those that they were made with.
    fn put_initial(&mut self, path: &Path, record: &FileRecord, settings: &mut Identity) {
        let Some(made) = self.maker(path, record) else {
            settings.insert("initial".into(), unknown(&record.sha256));
            return;
        };
        settings.retain(|key, _| !key.starts_with("initial."));
        for (key, value) in made {
            if key.starts_with("initial.") {
                settings.insert(key, value);
            } else if is_of_batches(&key) {
                // The student's own are those of its fresh batches.
                settings.insert(format!("generate_initial:{key}"), value);
            }
        }
    }

    /// Returns the identity of the run that wrote an input of the run at `path`.
    fn maker(&mut self, path: &Path, record: &FileRecord) -> Option<Identity> {
        let key = (record.current_path(path), record.sha256.clone());
        if let Some(known) = self.followed.get(&key) {
            return known.clone();
        }
        // Until it is known, so that manifests that name each other end it.
        self.followed.insert(key.clone(), None);
        let made = manifest::made_as(&key.0, &key.1)
            .map(|(path, manifest)| self.identity(&path, &manifest));
        self.followed.insert(key, made.clone());
        made
    }
}

/// Returns the run's own settings. What it read counts by its content, whatever its path.
fn own(manifest: &Manifest) -> Identity {
    let stage = stages::named(&manifest.stage).unwrap_or(&stages::TRAIN_STUDENT);
    json::leaves(&stage.identity(&manifest.config))
        .into_iter()
        .filter(|(key, _)| !stages::is_path(key) && !manifest.seeds.contains_key(key))
        .map(|(key, value)| (key, value.clone()))
        .collect()
}

/// Returns true for a key that tells how a split was made.
fn is_split(key: &str) -> bool {
    key.starts_with("split.") || key == "teacher.split"
}

/// Returns true for a key that tells how synthetic batches were made, and of what.
fn is_of_batches(key: &str) -> bool {
    ["deep_inv.", "generator"]
        .iter()
        .any(|group| key.starts_with(group))
        || ["precision", "teacher.counts_from"].contains(&key)
}

/// Returns the value that all have, or the list of all.
fn alike(mut values: Vec<Value>) -> Value {
    match values.iter().all(|value| *value == values[0]) {
        true => values.swap_remove(0),
        false => Value::Array(values),
    }
}

/// Returns what stands for a file that no manifest describes: its hash, since another file may
/// differ in more than a seed.
fn unknown(sha256: &str) -> Value {
    format!("{}(unknown)", sha256.get(..8).unwrap_or(sha256)).into()
}
