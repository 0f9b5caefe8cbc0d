//! One file a binary. Stages are the only place that knows both config and artifacts: typed config in, files and a table out.
//!
//! `open` is the common start of all stages; `weights` is the form in which teachers and students travel; `teachers` is what the server
//! stages load first.

pub mod generate_initial;
pub mod inspect;
mod kept;
mod pictures;
pub mod split_data;
mod summary;
mod teachers;
pub mod train_student;
pub mod train_teachers;
mod weights;

use crate::artifact::{atomic, json, manifest};
use crate::config::{Composed, Config};
use crate::data::{self, Dataset};
use crate::error::{During, Error, Result};
use crate::partition::{Part, Split};
use crate::runtime::{allocator, device, interrupt, logging, threads};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::Device;

/// What every stage has once it has started.
struct Workplace<'a> {
    composed: &'a Composed,
    config: &'a Config,
    device: Device,
    threads: usize,
}

/// Logs, Ctrl-C, threads and device.
fn open(composed: &Composed) -> Result<Workplace<'_>> {
    allocator::tune();
    logging::init()?;
    interrupt::install()?;
    let config = &composed.config;
    Ok(Workplace {
        composed,
        config,
        threads: threads::set(config.threads)?,
        device: device::choose(&config.device)?,
    })
}

impl Workplace<'_> {
    /// Does `work` under a manifest at `manifest_path`, which afterwards says how it ended.
    fn carry_out<T>(
        &self,
        stage: &str,
        manifest_path: &Path,
        work: impl FnOnce(&mut manifest::Run) -> Result<T>,
    ) -> Result<T> {
        let seeds = BTreeMap::from([
            ("seed".to_owned(), self.config.seed),
            ("student.seed".to_owned(), self.config.student.seed),
        ]);
        let start = manifest::Start {
            stage: stage.into(),
            overrides: self.composed.overrides.clone(),
            config: self.settings()?,
            seeds,
            device: format!("{:?}", self.device).to_lowercase(),
            threads: self.threads,
        };
        let mut run = manifest::Run::begin(manifest_path, start)?;
        match self.snapshot(manifest_path).and_then(|()| work(&mut run)) {
            Ok(value) => run.finish().map(|()| value),
            Err(error) => {
                // What went wrong first is what the user must see, even if the manifest cannot be written either.
                let _ = run.end_with(&error);
                Err(error)
            }
        }
    }

    /// Leaves `config.yaml` (every key, references resolved: `--config-dir FOLDER` gives the same run) and `overrides.yaml` (the command
    /// line's) beside a manifest, as Hydra does: `.hydra/` in a run's own folder, `.hydra_teacher0/` for one of several runs in a folder,
    /// `STEM.hydra/` for a single file's run.
    fn snapshot(&self, manifest_path: &Path) -> Result<()> {
        let name = manifest_path.file_name().unwrap_or_default().to_string_lossy();
        let folder = match name.strip_suffix(".manifest.json") {
            Some(stem) => format!("{stem}.hydra"),
            None => format!(
                ".hydra{}",
                name.trim_start_matches("manifest").trim_end_matches(".json")
            ),
        };
        let folder = manifest_path.with_file_name(folder);
        atomic::write(&folder.join("config.yaml"), self.composed.to_yaml().as_bytes())?;
        // JSON's strings are YAML's, whatever is in them.
        let lines = self.composed.overrides.iter();
        let list: String = lines
            .map(|line| format!("- {}\n", serde_json::Value::from(line.as_str())))
            .collect();
        let list = if list.is_empty() { "[]\n".into() } else { list };
        atomic::write(&folder.join("overrides.yaml"), list.as_bytes())
    }

    fn settings(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self.config).map_err(|error| Error::failed(format!("cannot record the config: {error}")))
    }

    /// Whether to start, or that a finished run is already there and was asked to be kept. `depends` are the config's dotted keys that
    /// the result depends on: a run that differs elsewhere is the same run, so experiments share splits, teachers and initial batches.
    fn admit(&self, stage: &str, manifest_path: &Path, output: &Path, depends: &[&str]) -> Result<manifest::Admission> {
        if let Some(there) = manifest::existing(manifest_path)?.filter(|there| there.stage != stage) {
            return Err(Error::usage(format!(
                "`{}` would share its manifest with what `{}` wrote there",
                output.display(),
                there.stage
            ))
            .note("file", manifest_path.display().to_string())
            .hint("give it another name"));
        }
        let admission = manifest::admit(
            manifest_path,
            self.config.resume,
            self.config.overwrite,
            output,
            &selected(&self.settings()?, depends),
        )?;
        if admission == manifest::Admission::Done
            && let Some(finding) = manifest::verify(manifest_path)?.into_iter().next()
        {
            return Err(
                Error::failed(format!("`{}` is finished, but not as it was left", output.display()))
                    .note("file", finding.to_string())
                    .hint("`overwrite=true` makes it again from what is there now"),
            );
        }
        Ok(admission)
    }

    fn dataset(&self) -> Result<Dataset> {
        let dataset = data::load(&self.config.dataset, self.device).during(|| "loading the dataset")?;
        tracing::info!(
            "{}: {} training and {} test images of {}×{}×{}, {} classes",
            dataset.name,
            dataset.train.len(),
            dataset.test.len(),
            dataset.channels(),
            dataset.size(),
            dataset.size(),
            dataset.classes.len()
        );
        let untested = dataset.test.counts(dataset.classes.len());
        let untested: Vec<&str> = dataset
            .classes
            .iter()
            .zip(untested)
            .filter(|(_, count)| *count == 0)
            .map(|(class, _)| class.as_str())
            .collect();
        if !untested.is_empty() {
            tracing::warn!(
                "no test images of {}: accuracies say nothing about {}",
                untested.join(", "),
                if untested.len() == 1 { "it" } else { "them" }
            );
        }
        Ok(dataset)
    }

    /// The split of `dataset`; without one, a single node that holds everything.
    fn split(&self, dataset: &Dataset) -> Result<Split> {
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
            return Err(Error::failed("the split does not exist yet")
                .note("file", path.display().to_string())
                .hint("make it with `split_data` and the same overrides, or set `split.save_path=null` for one teacher on everything"));
        }
        refuse_other_dataset(path, dataset)?;
        let here = |error: Error| error.note("file", path.display().to_string());
        let split = Split::from_json(json::read(path)?).map_err(here)?;
        split.check(dataset.train.len(), dataset.test.len()).map_err(here)?;
        Ok(split)
    }
}

/// The dotted `keys` of a config, in their places.
fn selected(config: &serde_json::Value, keys: &[&str]) -> serde_json::Value {
    let mut chosen = serde_json::json!({});
    for key in keys {
        let (mut from, mut to) = (config, &mut chosen);
        for part in key.split('.') {
            (from, to) = (&from[part], &mut to[part]);
        }
        *to = from.clone();
    }
    chosen
}

/// Refuses a file whose manifest names another dataset.
fn refuse_other_dataset(path: &Path, dataset: &Dataset) -> Result<()> {
    let Some(producer) = manifest::producer_of(path) else {
        return Ok(());
    };
    let Some(made) = manifest::existing(&producer)? else {
        return Ok(());
    };
    match made.facts.get("dataset_fingerprint").and_then(|value| value.as_str()) {
        Some(found) if found != dataset.fingerprint => {
            Err(Error::failed(format!("{} belongs to another dataset", path.display()))
                .note(
                    "expected",
                    format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
                )
                .note("found", format!("fingerprint {found}, as {} says", producer.display()))
                .hint("use the `dataset` overrides it was made with, or make it again"))
        }
        _ => Ok(()),
    }
}

/// A path that this stage cannot do without.
fn required<'a>(path: &'a Option<PathBuf>, key: &str, example: &str) -> Result<&'a Path> {
    path.as_deref()
        .filter(|path| !path.as_os_str().is_empty())
        .ok_or_else(|| Error::usage(format!("`{key}` is not set")).hint(format!("say where: {key}={example}")))
}

/// An accuracy in percent for tables: `96.4 %`, or a dash.
fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
}
