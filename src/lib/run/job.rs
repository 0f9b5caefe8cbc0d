//! The course of one run of a stage: is it to be done at all, do its inputs belong together, is
//! nobody else at it; then the work under a manifest, with checkpoints and a log.

use super::StageContext;
use super::guard::guarded;
use super::stages::Stage;
use super::weights::{self, Card};
use crate::artifact::lock::{Attempt, Lock};
use crate::artifact::{atomic, json};
use crate::config::Config;
use crate::error::Error;
use crate::model::StateDict;
use crate::run::checkpoint::{self, Checkpoints, Identity};
use crate::run::manifest::{self, Admission};
use crate::runtime::logging;
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One run: what it leaves where.
pub struct Job {
    pub stage: &'static Stage,
    pub manifest: PathBuf,
    /// The main result.
    pub output: PathBuf,
    pub log: PathBuf,
}

impl Job {
    /// A run with a folder of its own, where `output` is its main result.
    pub fn in_folder(stage: &'static Stage, folder: &Path, output: &str) -> Self {
        Self {
            stage,
            manifest: folder.join("manifest.json"),
            output: folder.join(output),
            log: folder.join(stage.name).with_extension("log"),
        }
    }
}

/// A run at work.
pub struct Session<'a> {
    pub job: &'a Job,
    pub run: &'a mut manifest::Run,
    pub checkpoints: &'a Checkpoints,
}

impl Session<'_> {
    /// Writes a model's weights as the run's main result, and records them.
    ///
    /// # Errors
    /// Those of [`weights::save`].
    pub fn save_weights(&mut self, state: &StateDict, card: &Card) -> Result<()> {
        weights::save(&self.job.output, state, card)?;
        self.run.output("weights", &self.job.output)?;
        Ok(())
    }

    /// Writes `metrics.json`, and records it.
    ///
    /// # Errors
    /// A number that is not finite; a file that cannot be written.
    pub fn save_metrics(&mut self, metrics: &impl Serialize) -> Result<()> {
        let path = self.companion("metrics.json");
        json::write(&path, metrics)?;
        self.run.output("metrics", &path)?;
        Ok(())
    }

    /// The path of a file or folder of this run, named after its manifest.
    pub fn companion(&self, name: &str) -> PathBuf {
        companion(&self.job.manifest, name)
    }
}

impl StageContext<'_> {
    /// Does a job: loads and checks with `inputs`, which may record what it reads but writes
    /// nothing, then does `work`. `None` when the result of an earlier run is there and is kept.
    ///
    /// # Errors
    /// A path that holds something else, inputs that do not belong together, another process at
    /// the same job, those of `work`.
    pub fn perform<I, T>(
        &self,
        job: &Job,
        inputs: impl FnOnce(&mut manifest::Run) -> Result<I>,
        work: impl FnOnce(I, &mut Session) -> Result<T>,
    ) -> Result<Option<T>> {
        let saved = companion(&job.manifest, "checkpoint");
        if self.admit(job, &saved)? == Admission::Done {
            clear_leftovers(job, &saved)?;
            return Ok(None);
        }
        let mut run = manifest::Run::prepare(&job.manifest, self.start(job)?);
        let given = inputs(&mut run)?;
        let _lock = lock(job)?;
        // Somebody may have done the job in the meantime.
        let admission = self.admit(job, &saved)?;
        if admission == Admission::Done {
            return Ok(None);
        }
        let own = job
            .manifest
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let written = [
            own.unwrap_or(Path::new(".")).to_path_buf(),
            companion(&job.manifest, ".hydra"),
            saved.clone(),
        ];
        for folder in &written {
            atomic::remove_stale(folder);
        }
        let log = logging::to_file(&job.log)?;
        let checkpoints = Checkpoints::new(saved.clone(), self.identity(job, &run)?);
        let earlier = match admission {
            Admission::Continue => manifest::existing(&job.manifest)?,
            _ => None,
        };
        if admission == Admission::Fresh {
            checkpoint::remove(&saved)?;
        }
        run.begin(earlier)?;
        let mut session = Session {
            job,
            run: &mut run,
            checkpoints: &checkpoints,
        };
        let done = self
            .snapshot(job)
            .map_err(Error::from)
            .and_then(|()| guarded(|| work(given, &mut session)));
        match done {
            Ok(value) => {
                run.finish()?;
                checkpoint::remove(&saved)?;
                Ok(Some(value))
            }
            Err(error) => {
                let error = match error.only_stops() {
                    true => error.hint("the same command with `resume=true` resumes from here"),
                    false => error,
                };
                // What went wrong first is what the user must see, even if the manifest cannot be
                // written either.
                let _ = run.end_with(&error);
                log.failed(&error);
                Err(error.into())
            }
        }
    }

    /// A run that only collects what a rank reads, and is never on disk.
    pub fn unrecorded(&self, job: &Job) -> Result<manifest::Run> {
        Ok(manifest::Run::prepare(&job.manifest, self.start(job)?))
    }

    fn start(&self, job: &Job) -> Result<manifest::Start> {
        Ok(manifest::Start {
            stage: job.stage.name.into(),
            overrides: self.composed.overrides.clone(),
            config: self.settings()?,
            seeds: BTreeMap::from([
                ("seed".to_owned(), self.config.seed),
                ("student.seed".to_owned(), self.config.student.seed),
            ]),
            device: format!("{:?}", self.device).to_lowercase(),
            threads: self.threads,
            result: job.output.clone(),
        })
    }

    /// What a checkpoint of this job belongs to.
    fn identity(&self, job: &Job, run: &manifest::Run) -> Result<Identity> {
        let made = run.manifest();
        let input = |record: &manifest::FileRecord| {
            (
                record.role.clone(),
                (record.path.clone(), record.sha256.clone()),
            )
        };
        Ok(Identity {
            stage: job.stage.name.into(),
            version: made.versions.fed_distill.clone(),
            config: job.stage.identity(&self.settings()?),
            inputs: made.inputs.iter().map(input).collect(),
            facts: made.facts.clone(),
        })
    }

    /// The config, with the precision that `auto` stands for here: the numbers of a run depend on
    /// it, and not on the device.
    pub fn settings(&self) -> Result<Value> {
        let resolved = Config {
            precision: self.precision.into(),
            ..self.config.clone()
        };
        serde_json::to_value(resolved).map_err(|error| {
            let text = format!("cannot record the config: {error}");
            Error::failed(text).caused_by(error).into()
        })
    }

    /// Decides whether to start, to resume, or to keep a finished run.
    fn admit(&self, job: &Job, saved: &Path) -> Result<Admission> {
        let there = match *self.config.overwrite {
            // Whatever it is, it is to be replaced, damaged or not; but two stages under one name
            // are a mistake.
            true => manifest::existing(&job.manifest).unwrap_or(None),
            false => manifest::existing(&job.manifest)?,
        };
        if let Some(there) = there.filter(|there| there.stage != job.stage.name) {
            bail!(
                Error::usage(format!(
                    "`{}` would share its manifest with what `{}` wrote there",
                    job.output.display(),
                    there.stage
                ))
                .note("file", job.manifest.display().to_string())
                .hint("give it another name")
            );
        }
        let config = &self.config;
        let identity = job.stage.identity(&self.settings()?);
        let admission = manifest::admit(
            &job.manifest,
            *config.resume,
            *config.overwrite,
            &job.output,
            &identity,
        )?;
        match admission {
            Admission::Done => match manifest::verify(&job.manifest)?.into_iter().next() {
                None => Ok(Admission::Done),
                Some(finding) => Err(Error::failed(format!(
                    "`{}` is finished, but not as it was left",
                    job.output.display()
                ))
                .note("file", finding.to_string())
                .hint("`overwrite=true` makes it again from what is there now")
                .into()),
            },
            Admission::Fresh if !*config.overwrite && checkpoint::any_in(saved) => {
                match *config.resume {
                    true => Ok(Admission::Continue),
                    false => Err(Error::usage(format!(
                        "`{}` was begun by an earlier run that did not end",
                        job.output.display()
                    ))
                    .note("file", saved.display().to_string())
                    .hint("`resume=true` resumes it, `overwrite=true` starts again")
                    .into()),
                }
            }
            other => Ok(other),
        }
    }
}

/// A name beside a manifest that belongs to the same run: for `metrics.jsonl` it is `metrics.jsonl`
/// beside `manifest.json`, `metrics_teacher0.jsonl` beside `manifest_teacher0.json`,
/// `STEM.metrics.jsonl` beside `STEM.manifest.json`.
pub fn companion(manifest: &Path, name: &str) -> PathBuf {
    let own = manifest.file_name().unwrap_or_default().to_string_lossy();
    if let Some(stem) = own.strip_suffix(".manifest.json") {
        return manifest.with_file_name(format!("{stem}.{}", name.trim_start_matches('.')));
    }
    let which = own.trim_start_matches("manifest").trim_end_matches(".json");
    let named = match name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        Some((stem, extension)) => format!("{stem}{which}.{extension}"),
        None => format!("{name}{which}"),
    };
    manifest.with_file_name(named)
}

/// The lock of the run that has this manifest.
pub fn lock_path(manifest: &Path) -> PathBuf {
    let name = manifest.file_name().unwrap_or_default().to_string_lossy();
    manifest.with_file_name(format!(".{name}.lock"))
}

/// Keeps others from the job, or says that they are at it.
fn lock(job: &Job) -> Result<Lock> {
    let path = lock_path(&job.manifest);
    match Lock::attempt(&path)? {
        Attempt::Taken(lock) => Ok(lock),
        Attempt::Held(holder) => Err(Error::failed(format!(
            "another `{}` is at work on `{}`",
            job.stage.name,
            job.output.display()
        ))
        .note("file", path.display().to_string())
        .note(
            "found",
            if holder.is_empty() {
                "a lock".into()
            } else {
                holder
            },
        )
        .hint("wait for it to end, or write to another path")
        .into()),
    }
}

/// Removes checkpoints of a run that was killed after it was done.
fn clear_leftovers(job: &Job, saved: &Path) -> Result<()> {
    if saved.exists()
        && let Ok(_lock) = lock(job)
    {
        checkpoint::remove(saved)?;
    }
    Ok(())
}
