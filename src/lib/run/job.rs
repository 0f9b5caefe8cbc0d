//! Performs one run of a stage: decides whether there is anything to do, checks that the inputs
//! belong together and that no other process has the job, then does the work under a manifest, with
//! checkpoints and a log.

use super::StageContext;
use super::guard::guarded;
use super::result_path;
use super::stages::{Stage, without_paths};
use super::weights::{self, Card};
use crate::artifact::fault::folder_of;
use crate::artifact::lock::{Attempt, Lock};
use crate::artifact::{atomic, json};
use crate::config::Config;
use crate::error::Error;
use crate::model::StateDict;
use crate::run::checkpoint::{self, Checkpoints, Identity};
use crate::run::journal;
use crate::run::manifest::{self, Admission, Earlier};
use crate::runtime::logging::{self, FileLog};
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names one run and the files it writes.
pub struct Job {
    pub stage: &'static Stage,
    pub manifest: PathBuf,
    /// The main result.
    pub output: PathBuf,
    pub log: PathBuf,
}

impl Job {
    /// Returns a job with a folder of its own, where `output` is the main result.
    pub fn in_folder(stage: &'static Stage, folder: &Path, output: &str) -> Self {
        Self {
            stage,
            manifest: folder.join("manifest.json"),
            output: folder.join(output),
            log: folder.join(stage.name).with_extension("log"),
        }
    }
}

/// Holds what the work of a run writes to.
pub struct Session<'a> {
    pub job: &'a Job,
    pub run: &'a mut manifest::Run,
    pub checkpoints: &'a Checkpoints,
}

impl Session<'_> {
    /// Writes a model's weights as the run's main result, and records them.
    ///
    /// # Errors
    /// Fails as [`weights::save`] does.
    pub fn save_weights(&mut self, state: &StateDict, card: &Card) -> Result<()> {
        weights::save(&self.job.output, state, card)?;
        self.run.output("weights", &self.job.output)?;
        Ok(())
    }

    /// Writes `metrics.json`, and records it.
    ///
    /// # Errors
    /// Fails when a number is not finite, and when the file cannot be written.
    pub fn save_metrics(&mut self, metrics: &impl Serialize) -> Result<()> {
        let path = self.companion("metrics.json");
        json::write(&path, metrics)?;
        self.run.output("metrics", &path)?;
        Ok(())
    }

    /// Returns the path of a file or folder of this run, named after its manifest.
    pub fn companion(&self, name: &str) -> PathBuf {
        companion(&self.job.manifest, name)
    }
}

impl StageContext<'_> {
    /// Performs a job: loads and checks with `inputs`, which may record what it reads but writes
    /// nothing, then does `work`. Returns `None` when the result of an earlier run is there and is
    /// kept.
    ///
    /// # Errors
    /// Fails when the path holds something else, when inputs do not belong together, when another
    /// process has the job, and as `work` does.
    pub fn perform<I, T>(
        &self,
        job: &Job,
        inputs: impl FnOnce(&mut manifest::Run) -> Result<I>,
        work: impl FnOnce(I, &mut Session) -> Result<T>,
    ) -> Result<Option<T>> {
        result_path::refuse_unfit_name(job)?;
        let checkpoint_folder = companion(&job.manifest, "checkpoint");
        let admission = self.admit(job, &checkpoint_folder)?;
        if admission == Admission::Done {
            clear_leftovers(job, &checkpoint_folder)?;
            return Ok(None);
        }
        result_path::check(job)?;
        let mut run = manifest::Run::prepare(&job.manifest, self.start(job)?);
        let given = guarded(|| inputs(&mut run))?;
        if admission == Admission::DoneElsewhere {
            refuse_other_inputs(job, &run)?;
            clear_leftovers(job, &checkpoint_folder)?;
            return Ok(None);
        }
        let _lock = lock(job)?;
        // Another process may have done the job in the meantime.
        let admission = self.admit(job, &checkpoint_folder)?;
        if matches!(admission, Admission::Done | Admission::DoneElsewhere) {
            refuse_other_inputs(job, &run)?;
            return Ok(None);
        }
        result_path::check(job)?;
        // Of what it writes, checkpoints are there already, or go when it starts.
        let left = run
            .least_bytes()
            .saturating_sub(checkpoint::bytes(&checkpoint_folder));
        result_path::require_space(&job.output, left)?;
        atomic::remove_stale(folder_of(&job.manifest));
        atomic::remove_stale(&companion(&job.manifest, ".hydra"));
        atomic::remove_stale(&checkpoint_folder);
        let log = logging::to_file(&job.log)?;
        let checkpoints = Checkpoints::new(checkpoint_folder.clone(), self.identity(job, &run)?);
        begin(job, &mut run, admission, &checkpoint_folder)?;
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
                checkpoint::remove(&checkpoint_folder)?;
                Ok(Some(value))
            }
            Err(error) => Err(end(run, &log, error, &checkpoint_folder).into()),
        }
    }

    /// Returns a run that only collects what a rank reads, and is never on disk.
    ///
    /// # Errors
    /// Fails as [`settings`](Self::settings) does.
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

    /// Returns the identity that this job's checkpoints carry.
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
            // What lies at the paths is among the inputs.
            config: without_paths(job.stage.identity(&self.settings()?)),
            inputs: made.inputs.iter().map(input).collect(),
            facts: made.facts.clone(),
        })
    }

    /// Returns the config, with the precision that `auto` stands for here: the numbers of a run
    /// depend on it, and not on the device. References to environment variables stay as they are.
    ///
    /// # Errors
    /// Fails when the config cannot be serialised.
    pub fn settings(&self) -> Result<Value> {
        let resolved = Config {
            precision: self.precision.into(),
            ..self.config.clone()
        };
        let config = serde_json::to_value(resolved).map_err(|error| {
            let text = format!("cannot record the config: {error}");
            Error::failed(text).caused_by(error)
        })?;
        Ok(self.composed.recorded(config))
    }

    /// Decides whether to start, to resume, or to keep a finished run.
    fn admit(&self, job: &Job, checkpoint_folder: &Path) -> Result<Admission> {
        let earlier = match *self.config.overwrite {
            // Whatever it is, it is to be replaced, damaged or not; but two stages under one name
            // are a mistake.
            true => manifest::existing(&job.manifest).unwrap_or(None),
            false => manifest::existing(&job.manifest)?,
        };
        if let Some(earlier) = earlier.filter(|earlier| earlier.stage != job.stage.name) {
            bail!(
                Error::usage(format!(
                    "`{}` would share its manifest with what `{}` wrote there",
                    job.output.display(),
                    earlier.stage
                ))
                .note("file", job.manifest.display().to_string())
                .hint("give it another name")
            );
        }
        refuse_shared_manifest(job)?;
        let config = &self.config;
        let identity = job.stage.identity(&self.settings()?);
        let admission = manifest::admit(
            &job.manifest,
            *config.resume,
            *config.overwrite,
            &job.output,
            &identity,
        )?;
        // The same reference may stand for another path than then.
        let admission = match admission {
            Admission::Done if self.composed.has_environment() => Admission::DoneElsewhere,
            other => other,
        };
        match admission {
            Admission::Done | Admission::DoneElsewhere => {
                match manifest::verify(&job.manifest)?.into_iter().next() {
                    None => Ok(admission),
                    Some(finding) => Err(Error::failed(format!(
                        "`{}` is finished, but not as it was left",
                        job.output.display()
                    ))
                    .of_resume()
                    .note("file", finding.to_string())
                    .hint("`overwrite=true` makes it again from what is there now")
                    .into()),
                }
            }
            Admission::Fresh if !*config.overwrite && checkpoint::any_in(checkpoint_folder) => {
                // Checkpoints of a run at work are no reason to resume it.
                if Lock::is_held(&lock_path(&job.manifest)) {
                    lock(job)?;
                }
                match *config.resume {
                    true => Ok(Admission::Continue),
                    false => Err(Error::usage(format!(
                        "`{}` was begun by an earlier run that did not end",
                        job.output.display()
                    ))
                    .note("file", checkpoint_folder.display().to_string())
                    .hint("`resume=true` resumes it, `overwrite=true` starts again")
                    .into()),
                }
            }
            Admission::Fresh if !*config.overwrite && !job.manifest.exists() => {
                result_path::refuse_unclaimed(job)?;
                Ok(Admission::Fresh)
            }
            other => Ok(other),
        }
    }
}

/// Refuses a result that would take over the manifest, the log and the pictures of another one that
/// is still there, as `x` and `x.txt` would those of `x.json`: nothing would tell any more where
/// the other one comes from, so that `overwrite=true` does not help.
fn refuse_shared_manifest(job: &Job) -> Result<()> {
    let Some(result) = manifest::existing(&job.manifest)
        .unwrap_or(None)
        .and_then(|earlier| earlier.result)
    else {
        return Ok(());
    };
    let other = job
        .output
        .with_file_name(result.file_name().unwrap_or_default());
    if result.file_name() == job.output.file_name() || !other.exists() {
        return Ok(());
    }
    let error = Error::usage(format!(
        "`{}` would share its manifest with `{}`",
        job.output.display(),
        other.display()
    ));
    Err(error
        .note("file", job.manifest.display().to_string())
        .hint(format!(
            "give `{}` another name, not only another ending",
            job.stage.output
        ))
        .into())
}

/// Returns the path beside a manifest of a file that belongs to the same run: for `metrics.jsonl`
/// it is `metrics.jsonl` beside `manifest.json`, `metrics_teacher0.jsonl` beside
/// `manifest_teacher0.json`, `STEM.metrics.jsonl` beside `STEM.manifest.json`.
pub fn companion(manifest: &Path, name: &str) -> PathBuf {
    let file = manifest.file_name().unwrap_or_default().to_string_lossy();
    if let Some(stem) = file.strip_suffix(".manifest.json") {
        return manifest.with_file_name(format!("{stem}.{}", name.trim_start_matches('.')));
    }
    let which = file
        .trim_start_matches("manifest")
        .trim_end_matches(".json");
    let named = match name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
        Some((stem, extension)) => format!("{stem}{which}.{extension}"),
        None => format!("{name}{which}"),
    };
    manifest.with_file_name(named)
}

/// Returns the path of the lock of the run that has this manifest.
pub fn lock_path(manifest: &Path) -> PathBuf {
    let name = manifest.file_name().unwrap_or_default().to_string_lossy();
    manifest.with_file_name(format!(".{name}.lock"))
}

/// Takes the job's lock, or reports the process that holds it.
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

/// Refuses to keep a finished run that read something else than `run` did.
fn refuse_other_inputs(job: &Job, run: &manifest::Run) -> Result<()> {
    let Some(earlier) = manifest::existing(&job.manifest)? else {
        return Ok(());
    };
    let now = run.manifest();
    let differences = manifest::input_differences(&earlier, now, ["then", "now"]);
    if differences.is_empty() {
        return Ok(());
    }
    let error = Error::usage(format!(
        "`resume=true`, but the earlier run of `{}` read something else",
        earlier.stage
    ));
    let error = differences
        .into_iter()
        .fold(error, |error, line| error.note("differs", line));
    Err(error
        .of_resume()
        .note("from", job.manifest.display().to_string())
        .hint(
            "give the earlier files, or `overwrite=true` to start again, or write to another path",
        )
        .into())
}

/// Writes the manifest of a run that starts or resumes; one that starts drops earlier checkpoints.
fn begin(
    job: &Job,
    run: &mut manifest::Run,
    admission: Admission,
    checkpoint_folder: &Path,
) -> Result<()> {
    let earlier = match admission {
        Admission::Continue => manifest::existing(&job.manifest)?.map(|run| Earlier::Resumed {
            run: Box::new(run),
            last: checkpoint::last_written(checkpoint_folder),
        }),
        // A damaged one does not say what it wrote.
        _ => (manifest::existing(&job.manifest).unwrap_or(None))
            .map(|run| Earlier::Replaced(Box::new(run))),
    };
    if admission == Admission::Fresh {
        checkpoint::remove(checkpoint_folder)?;
        journal::remove_events(&job.manifest)?;
    }
    run.begin(earlier.unwrap_or(Earlier::Nothing))?;
    Ok(())
}

/// Records `error` in the manifest and the log, and returns it with what to type to resume.
fn end(run: manifest::Run, log: &FileLog, error: Error, checkpoint_folder: &Path) -> Error {
    let error = match error.only_stops() {
        // `overwrite=true` excludes `resume=true`, and would start again.
        true if typed_overwrite() => error.hint(format!("to resume from here: {}", command())),
        true => error.hint("the same command with `resume=true` resumes from here"),
        // What was computed is there, and only could not be written.
        false if error.io().is_some() && checkpoint::any_in(checkpoint_folder) => error
            .note("checkpoint", checkpoint_folder.display().to_string())
            .hint(format!("then resume from the checkpoint: {}", command())),
        false => error,
    };
    // What went wrong first is what the user must see, even if the manifest cannot be written
    // either.
    let _ = run.end_with(&error);
    log.failed(&error);
    error
}

fn is_overwrite(argument: &str) -> bool {
    argument.trim_start_matches('+').starts_with("overwrite=")
}

fn typed_overwrite() -> bool {
    std::env::args_os().any(|argument| is_overwrite(&argument.to_string_lossy()))
}

/// Returns the command line of this process with `resume=true`, as a shell reads it.
fn command() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./=+,:@%".contains(c);
    let quoted = |argument: String| match argument.chars().all(plain) && !argument.is_empty() {
        true => argument,
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    };
    let typed = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    typed
        .filter(|argument| !is_overwrite(argument))
        .filter(|argument| !argument.trim_start_matches('+').starts_with("resume="))
        .chain(["resume=true".to_owned()])
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Removes checkpoints of a run that was killed after it was done.
fn clear_leftovers(job: &Job, checkpoint_folder: &Path) -> Result<()> {
    if checkpoint_folder.exists()
        && let Ok(_lock) = lock(job)
    {
        checkpoint::remove(checkpoint_folder)?;
    }
    Ok(())
}
