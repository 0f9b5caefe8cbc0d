//! Declares each stage once: what it does, which keys of the config it reads, and on which of them
//! its result depends. Composition, help, admission, checkpoints and `inspect` all follow these
//! declarations.

use crate::config::Config;
use crate::config::schema::{TeacherConfig, recorded};
use crate::config::shape::{self, Shape, Takes};
use crate::inversion::InversionSettings;
use serde_json::{Map, Value};

/// Declares a stage of the pipeline.
#[derive(Debug)]
pub struct Stage {
    /// Name of the binary.
    pub name: &'static str,
    /// What it does, in a sentence or two.
    pub about: &'static str,
    /// The files it reads.
    pub reads: &'static str,
    /// The files it writes.
    pub writes: &'static str,
    /// The files that it writes beside its main result and its manifest, by their names beside
    /// `manifest.json`; `{i}` stands for a number.
    pub files: &'static [&'static str],
    /// The key of the path that it writes to.
    pub output: &'static str,
    /// The keys at the top of the config that it reads, its own group last.
    pub keys: &'static [Key],
}

/// Declares a key at the top of the config that a stage reads.
#[derive(Debug)]
pub struct Key {
    name: &'static str,
    result: Depends,
}

/// Tells which part of a key a stage's result depends on.
#[derive(Debug)]
enum Depends {
    All,
    /// These keys of the group.
    On(&'static [&'static str]),
    Nothing,
}

/// Declares a key on which the result depends, with all that is below it.
macro_rules! all {
    ($key:ident) => {{
        const _: fn(&Config) = |config| {
            let _ = &config.$key;
        };
        Key {
            name: stringify!($key),
            result: Depends::All,
        }
    }};
}

/// Declares a key that is read and does not change the result.
macro_rules! unused {
    ($key:ident) => {{
        const _: fn(&Config) = |config| {
            let _ = &config.$key;
        };
        Key {
            name: stringify!($key),
            result: Depends::Nothing,
        }
    }};
}

/// Declares a group of whose keys the result depends on some. The others have to be named as well:
/// a new key does not compile until it is in one list or the other.
macro_rules! part {
    ($key:ident: $type:ident { $($on:ident),* $(,)? } without { $($other:ident),* $(,)? }) => {{
        const _: fn(&Config) = |config| {
            let $type { $($on: _,)* $($other: _,)* } = &config.$key;
        };
        Key { name: stringify!($key), result: Depends::On(&[$(stringify!($on)),*]) }
    }};
}

/// Lists all stages in the order in which they are run.
pub static ALL: [&Stage; 7] = [
    &SPLIT_DATA,
    &TRAIN_TEACHERS,
    &GENERATE_INITIAL,
    &TRAIN_STUDENT,
    &FED_AVG,
    &FED_MD,
    &DISTRIBUTED_SGD,
];

/// Declares `split_data`.
pub static SPLIT_DATA: Stage = Stage {
    name: "split_data",
    about: "Deals a dataset's training and test images to nodes.",
    reads: "the dataset",
    writes: "split.save_path: the split as JSON, a stacked-bar plot beside it; a table of counts \
        on stdout",
    files: &["svg", "png"],
    output: "split.save_path",
    keys: &[all!(seed), all!(dataset), all!(split)],
};

/// Declares `train_teachers`.
pub static TRAIN_TEACHERS: Stage = Stage {
    name: "train_teachers",
    about: "Trains one teacher a node on the node's own images (one on everything when there is no \
        split).",
    reads: "the dataset; split.save_path, if set",
    writes: "teacher.save_folder: model_teacher{i}.safetensors (all that a node uploads), \
        metrics_teacher{i}.json",
    files: METRICS,
    output: "teacher.save_folder",
    keys: &[
        all!(seed),
        all!(precision),
        all!(dataset),
        all!(model),
        all!(split),
        // A teacher does not depend on how many others there are.
        part!(teacher: TeacherConfig {
            shared_initialisation, index, epochs, batch_size, eval_every, optimizer, schedule,
            augment, selection, validation_share, label_counts, count_step,
        } without {
            num_teachers, only, save_folder, in_memory, eval_batch_size, counts_from,
        }),
    ],
};

/// Declares `generate_initial`.
pub static GENERATE_INITIAL: Stage = Stage {
    name: "generate_initial",
    about: "Inverts the teachers into the synthetic batches that the student starts with. Sees no \
        image of any node.",
    reads: "teacher.save_folder: the teachers' weights; split.save_path (if set), to see that they \
        belong to it; dataset and model for teachers without a card (PyTorch's .pt)",
    writes: "initial.save_path: images and labels as safetensors; a grid (PNG), loss terms (JSON, \
        PNG) beside it",
    files: &[
        "metrics.json",
        "metrics.jsonl",
        "png",
        "loss.svg",
        "loss.png",
    ],
    output: "initial.save_path",
    keys: &[
        all!(seed),
        all!(precision),
        all!(dataset),
        // The teachers bring their architecture.
        unused!(model),
        all!(split),
        UPLOADED,
        // Nothing of the student, so that several students can start from the same batches.
        part!(deep_inv: InversionSettings {
            batch_size, start, candidates, di, optimizer, keep_moments, keep, engine, teachers,
            ensemble, labels, label_weights,
        } without { adi }),
        all!(generator),
        all!(initial),
    ],
};

/// Declares `train_student`.
pub static TRAIN_STUDENT: Stage = Stage {
    name: "train_student",
    about: "Trains one student on the synthetic batches, making fresh ones against it as it \
        learns.",
    reads: "teacher.save_folder, initial.save_path, split.save_path (if set), the dataset's test \
        images",
    writes: "student.save_folder: student.safetensors, dataset.safetensors, metrics.json, \
        di_metrics_teacher{i}.json, pictures; a table on stdout",
    files: &[
        "dataset.safetensors",
        "metrics.json",
        "metrics.jsonl",
        "di_metrics_teacher{i}.json",
        "dataset.png",
        "fresh_first.png",
        "fresh_last.png",
        "curves.svg",
        "curves.png",
        "per_class.svg",
        "per_class.png",
        "confusion.png",
    ],
    output: "student.save_folder",
    keys: &[
        all!(seed),
        all!(precision),
        all!(dataset),
        unused!(model),
        all!(split),
        UPLOADED,
        all!(deep_inv),
        all!(generator),
        all!(initial),
        all!(student),
    ],
};

/// Declares `fed_avg`.
pub static FED_AVG: Stage = Stage {
    name: "fed_avg",
    about: "Trains one model over the nodes of a split in many rounds of federated averaging, and \
        counts every byte (a baseline).",
    reads: "split.save_path, the dataset",
    writes: "fed_avg.save_folder: global.safetensors, metrics.jsonl (a line a round), \
        metrics.json; a table on stdout",
    files: METRICS,
    output: "fed_avg.save_folder",
    keys: &[
        all!(seed),
        all!(precision),
        all!(dataset),
        all!(model),
        all!(split),
        CLIENTS,
        all!(fed_avg),
    ],
};

/// Declares `fed_md`.
pub static FED_MD: Stage = Stage {
    name: "fed_md",
    about: "Trains a model of its own architecture at each node of a split: in many rounds they \
        learn from each other's scores of public images (FedMD), and every byte is counted (a \
        baseline).",
    reads: "split.save_path, the dataset, the public dataset where it is another",
    writes: "fed_md.save_folder: model_node{i}.safetensors, metrics.jsonl (a line a round), \
        metrics.json; tables on stdout",
    files: &["model_node{i}.safetensors", "metrics.jsonl"],
    output: "fed_md.save_folder",
    keys: &[
        all!(seed),
        all!(precision),
        all!(dataset),
        all!(model),
        all!(split),
        CLIENTS,
        all!(fed_md),
    ],
};

/// Declares `distributed_sgd`.
pub static DISTRIBUTED_SGD: Stage = Stage {
    name: "distributed_sgd",
    about: "Trains one model by SGD over several ranks (centralised, all_reduce or \
        parameter_server), and counts every byte (a baseline).",
    reads: "the dataset",
    writes: "distributed_sgd.save_folder: model.safetensors, metrics.jsonl (a line a mean loss), \
        metrics.json; a table on stdout",
    files: METRICS,
    output: "distributed_sgd.save_folder",
    keys: &[
        all!(seed),
        all!(precision),
        all!(dataset),
        all!(model),
        all!(distributed_sgd),
    ],
};

/// The metrics of a run, after each epoch or round and at its end.
const METRICS: &[&str] = &["metrics.json", "metrics.jsonl"];

/// Declares the teachers as the server has them: how they were trained is in their files.
const UPLOADED: Key = part!(teacher: TeacherConfig {
    num_teachers, only, save_folder, counts_from,
} without {
    shared_initialisation, index, in_memory, epochs, batch_size, eval_batch_size, eval_every,
    optimizer, schedule, augment, selection, validation_share, label_counts, count_step,
});

/// Declares how many of the split's nodes take part in a baseline.
const CLIENTS: Key = part!(teacher: TeacherConfig { num_teachers } without {
    shared_initialisation, only, index, save_folder, in_memory, epochs, batch_size,
    eval_batch_size, eval_every, optimizer, schedule, augment, selection, validation_share,
    label_counts, count_step, counts_from,
});

/// Returns the stage of this name.
pub fn named(name: &str) -> Option<&'static Stage> {
    ALL.into_iter().find(|stage| stage.name == name)
}

/// Returns true for the key of a path, such as `split.save_path`: what lies there counts, not
/// where.
pub fn is_path(key: &str) -> bool {
    let names: Vec<&str> = key.split('.').collect();
    let shape = shape::config().get(&names);
    shape.is_some_and(|shape| matches!(shape.takes, Takes::Path))
}

/// Returns a config without the paths in it.
pub fn without_paths(mut config: Value) -> Value {
    fn remove(value: &mut Value, prefix: &str) {
        if let Value::Object(map) = value {
            map.retain(|key, _| !is_path(&format!("{prefix}{key}")));
            for (key, value) in map {
                remove(value, &format!("{prefix}{key}."));
            }
        }
    }
    remove(&mut config, "");
    config
}

impl Stage {
    /// Returns the groups whose options the stage takes: `experiment`, `method` and `protocol`,
    /// which set keys of any group, and those that it reads.
    pub fn groups(&self) -> impl Iterator<Item = &'static str> {
        let keys = self.keys.iter().map(|key| key.name);
        let group = |key: &&str| {
            shape::config()
                .get(&[key])
                .is_some_and(|key| key.keys().is_some())
        };
        ["experiment", "method", "protocol", "scale"]
            .into_iter()
            .chain(keys.filter(group))
    }

    /// Returns true if the stage reads a key at the top of the config. Every stage reads the keys
    /// that change no result.
    pub fn reads(&self, key: &str) -> bool {
        let free = || shape::config().get(&[key]).is_some_and(|shape| shape.free);
        self.keys.iter().any(|known| known.name == key) || free()
    }

    /// Returns the keys of the paths that other stages write to and this one reads.
    pub fn inputs(&self) -> impl Iterator<Item = &'static str> {
        let outputs = ALL.into_iter().map(|stage| stage.output);
        outputs.filter(|output| *output != self.output && self.depends_on(output))
    }

    /// Returns true if the result depends on a key of a group, by its dotted name.
    pub fn depends_on(&self, key: &str) -> bool {
        let (group, name) = key.split_once('.').unwrap_or((key, ""));
        let name = name.split('.').next().unwrap_or_default();
        let mut keys = self.keys.iter().filter(|key| key.name == group);
        keys.any(|key| match key.result {
            Depends::All => true,
            Depends::On(names) => names.contains(&name),
            Depends::Nothing => false,
        })
    }

    /// Returns the keys of a config that the stage reads.
    pub fn part(&self, mut config: Value) -> Value {
        if let Some(keys) = config.as_object_mut() {
            keys.retain(|key, _| self.reads(key));
        }
        config
    }

    /// Returns the part of a config that the stage's result depends on. Two runs that differ only
    /// in the rest are the same, so experiments share splits, teachers and initial batches. Keys
    /// that this version does not know count. The config may be that of an earlier version.
    pub fn identity(&self, config: &Value) -> Value {
        let (config, mut chosen) = (recorded(config), Map::new());
        for key in self.keys {
            let value = &config[key.name];
            let value = match key.result {
                Depends::Nothing => continue,
                Depends::All => value.clone(),
                Depends::On(names) => names
                    .iter()
                    .map(|&name| (name.to_owned(), value[name].clone()))
                    .collect(),
            };
            chosen.insert(key.name.into(), value);
        }
        let mut identity = Value::Object(chosen);
        remove_free(&mut identity, shape::config());
        if let Some((group, name)) = self.output.split_once('.')
            && let Some(group) = identity[group].as_object_mut()
        {
            group.shift_remove(name);
        }
        identity
    }
}

/// Removes the keys that change no result.
fn remove_free(value: &mut Value, shape: &Shape) {
    if let (Value::Object(map), Takes::Keys(keys)) = (value, &shape.takes) {
        let keys = &keys.all;
        map.retain(|key, _| keys.get(key).is_none_or(|shape| !shape.free));
        for (key, value) in map {
            if let Some(shape) = keys.get(key) {
                remove_free(value, shape);
            }
        }
    }
}
