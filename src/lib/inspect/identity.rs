//! What the result of a run depends on beside seeds: its settings, and those of the runs that made
//! what it read.

use super::run::Run;
use super::settings::flat;
use crate::artifact::hash;
use crate::run::job::selected;
use crate::run::manifest::TEACHERS_MODEL;
use crate::run::manifest::{self, FileRecord, Manifest};
use crate::stage::{
    distributed_sgd, fed_avg, fed_md, generate_initial, split_data, train_student, train_teachers,
};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Keys that say where files lie or how to run, not what is computed.
const PLACES: [&str; 12] = [
    "split.save_path",
    "teacher.save_folder",
    "teacher.only",
    "initial.save_path",
    "student.save_folder",
    "fed_avg.save_folder",
    "fed_md.save_folder",
    "distributed_sgd.save_folder",
    "dataset.root",
    "dataset.download",
    "resume",
    "overwrite",
];
/// Keys that make one of several repetitions.
const SEEDS: [&str; 2] = ["seed", "student.seed"];

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

    fn identity(&mut self, place: &Path, manifest: &Manifest) -> Identity {
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
        leaves.extend(self.of_split(place, split));
        let of_teachers = self.of_teachers(place, manifest);
        // They were trained on the split that the run itself was given.
        leaves.extend(
            of_teachers
                .into_iter()
                .filter(|(key, _)| split.is_none() || !is_split(key)),
        );
        if let Some(record) = initial {
            self.put_initial(place, record, &mut leaves);
        }
        // The server's stages work with what the teachers are, whatever `model` says.
        if let Some(teachers) = manifest.facts.get(TEACHERS_MODEL) {
            leaves.push(("model".into(), teachers.clone()));
        }
        leaves
    }

    /// Whether there is a split, and how it was dealt.
    fn of_split(&mut self, place: &Path, split: Option<&FileRecord>) -> Identity {
        let Some(record) = split else {
            return vec![("split".into(), false.into())];
        };
        match self.maker(place, record) {
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
    fn of_teachers(&mut self, place: &Path, manifest: &Manifest) -> Identity {
        let (mut made, mut foreign) = (Vec::new(), String::new());
        for record in manifest
            .inputs
            .iter()
            .filter(|record| record.role.starts_with("teacher"))
        {
            match self.maker(place, record) {
                Some(identity) => made.push(identity),
                None => foreign += &record.sha256,
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
        if !foreign.is_empty() {
            leaves.push(("teachers".into(), unknown(&hash::bytes(foreign.as_bytes()))));
        }
        leaves
    }

    /// Puts how the initial batches were made in place of what the run's own config says of them.
    fn put_initial(&mut self, place: &Path, record: &FileRecord, leaves: &mut Identity) {
        let Some(made) = self.maker(place, record) else {
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

    /// The identity of the run that wrote an input of the run at `place`.
    fn maker(&mut self, place: &Path, record: &FileRecord) -> Option<Identity> {
        let key = (record.place(place), record.sha256.clone());
        if let Some(known) = self.followed.get(&key) {
            return known.clone();
        }
        // Until it is known, so that manifests that name each other end it.
        self.followed.insert(key.clone(), None);
        let made = manifest::made_as(&key.0, &key.1)
            .map(|(place, manifest)| self.identity(&place, &manifest));
        self.followed.insert(key, made.clone());
        made
    }
}

/// The run's own settings.
fn own(manifest: &Manifest) -> Identity {
    let depends: &[&str] = match manifest.stage.as_str() {
        "split_data" => &split_data::DEPENDS,
        "train_teachers" => &train_teachers::DEPENDS,
        "generate_initial" => &generate_initial::DEPENDS,
        "fed_avg" => &fed_avg::DEPENDS,
        "fed_md" => &fed_md::DEPENDS,
        "distributed_sgd" => &distributed_sgd::DEPENDS,
        _ => &train_student::DEPENDS,
    };
    let mut leaves = flat(&selected(&manifest.config, depends));
    leaves.retain(|(key, _)| !PLACES.contains(&key.as_str()) && !SEEDS.contains(&key.as_str()));
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
