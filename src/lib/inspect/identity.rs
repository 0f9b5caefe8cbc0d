//! What the result of a run depends on beside seeds: its settings, and those of the runs that made
//! what it read.

use super::run::Run;
use super::settings::flat;
use crate::artifact::hash;
use crate::config::shape::{self, Takes};
use crate::run::manifest::TEACHERS_MODEL;
use crate::run::manifest::{self, FileRecord, Manifest};
use crate::run::stages;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Settings by their dotted keys. Two runs of equal identity are repetitions of each other.
pub type Identity = Vec<(String, Value)>;

/// Finds identities, through the manifests of what the runs read. A stage's own config does not say
/// how its split was dealt or its teachers were trained: it only needs to know where they are.
#[derive(Default)]
pub struct Lineage {
    /// By path and hash: runs share inputs.
    followed: HashMap<(PathBuf, String), Option<Identity>>,
}

impl Lineage {
    /// What the run's result depends on beside seeds and places.
    pub fn of(&mut self, run: &Run) -> Identity {
        self.identity(&run.place, &run.manifest)
    }

    /// How many files were read of which nothing says how they were made.
    pub fn unknown(&self) -> usize {
        self.followed.values().filter(|made| made.is_none()).count()
    }

    fn identity(&mut self, path: &Path, manifest: &Manifest) -> Identity {
        let mut leaves = own(manifest);
        // The dataset itself stands for its folder.
        let fingerprint = manifest.facts.get("dataset_fingerprint").cloned();
        leaves.push(("dataset".into(), fingerprint.unwrap_or_default()));
        if manifest.stage == "split_data" {
            return leaves;
        }
        let input = |role: &str| manifest.inputs.iter().find(|record| record.role == role);
        let (split, initial) = (input("split"), input("initial"));
        leaves.retain(|(key, _)| !key.starts_with("split."));
        leaves.extend(self.of_split(path, split));
        let of_teachers = self.of_teachers(path, manifest);
        // They were trained on the split that the run itself was given.
        leaves.extend(
            of_teachers
                .into_iter()
                .filter(|(key, _)| split.is_none() || !is_split(key)),
        );
        if let Some(record) = initial {
            self.put_initial(path, record, &mut leaves);
        }
        // The server's stages work with what the teachers are, whatever `model` says.
        if let Some(teachers) = manifest.facts.get(TEACHERS_MODEL) {
            leaves.push(("model".into(), teachers.clone()));
        }
        leaves
    }

    /// Whether there is a split, and how it was dealt.
    fn of_split(&mut self, path: &Path, split: Option<&FileRecord>) -> Identity {
        let Some(record) = split else {
            return vec![("split".into(), false.into())];
        };
        match self.maker(path, record) {
            None => vec![("split".into(), unknown(&record.sha256))],
            Some(made) => {
                let dealt = made
                    .into_iter()
                    .filter(|(key, _)| key.starts_with("split."));
                std::iter::once(("split".into(), true.into()))
                    .chain(dealt)
                    .collect()
            }
        }
    }

    /// How the teachers were trained, and on what; a list where they were not trained alike.
    fn of_teachers(&mut self, path: &Path, manifest: &Manifest) -> Identity {
        let (mut made, mut unvouched) = (Vec::new(), String::new());
        for record in manifest
            .inputs
            .iter()
            .filter(|record| record.role.starts_with("teacher"))
        {
            match self.maker(path, record) {
                Some(identity) => made.push(identity),
                None => unvouched += &record.sha256,
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
        let mut leaves: Identity = values
            .into_iter()
            .map(|(key, values)| (key, alike(values)))
            .collect();
        if !unvouched.is_empty() {
            leaves.push((
                "teachers".into(),
                unknown(&hash::bytes(unvouched.as_bytes())),
            ));
        }
        leaves
    }

    /// Replaces what the run's own config says of the initial batches by how they were made.
    fn put_initial(&mut self, path: &Path, record: &FileRecord, leaves: &mut Identity) {
        let Some(made) = self.maker(path, record) else {
            leaves.push(("initial".into(), unknown(&record.sha256)));
            return;
        };
        leaves.retain(|(key, _)| !key.starts_with("initial."));
        for (key, value) in made {
            if key.starts_with("initial.") {
                leaves.push((key, value));
            } else if key.starts_with("deep_inv.") {
                // The student's own are those of its fresh batches.
                leaves.push((format!("generate_initial:{key}"), value));
            }
        }
    }

    /// The identity of the run that wrote an input of the run at `path`.
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

/// Returns the run's own settings. What it read counts by its content, wherever that lies.
fn own(manifest: &Manifest) -> Identity {
    let stage = stages::named(&manifest.stage).unwrap_or(&stages::TRAIN_STUDENT);
    let path = |key: &str| {
        let names: Vec<&str> = key.split('.').collect();
        let shape = shape::config().get(&names);
        shape.is_some_and(|shape| matches!(shape.takes, Takes::Path))
    };
    let mut leaves = flat(&stage.identity(&manifest.config));
    leaves.retain(|(key, _)| !path(key) && !manifest.seeds.contains_key(key));
    leaves
}

fn is_split(key: &str) -> bool {
    key.starts_with("split.") || key == "teacher.split"
}

/// The value that all have, or all of them.
fn alike(mut values: Vec<Value>) -> Value {
    match values.iter().all(|value| *value == values[0]) {
        true => values.swap_remove(0),
        false => Value::Array(values),
    }
}

/// A file that only its content tells from others: whether another one differs in a seed alone,
/// nobody knows.
fn unknown(sha256: &str) -> Value {
    format!("{}(unknown)", sha256.get(..8).unwrap_or(sha256)).into()
}
