//! Writes metrics during a run: a line of JSON for each epoch and each synthetic batch
//! (`metrics.jsonl`), and the same numbers as TensorBoard events, with the pictures.
//! `docs/files.md` lists the keys.
//!
//! The lines depend on config and data alone, so that a resumed run ends with the same file; events
//! carry the time and numbers that matter only during the run.

use super::StageContext;
use super::job::{self, Session};
use crate::artifact::{atomic, json};
use crate::distill::FreshReport;
use crate::error::Error;
use crate::inversion::TermsAt;
use crate::report::{EventWriter, is_event_file};
use crate::train::EpochReport;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Holds the line of an epoch of training. Accuracies are shares, 0..1.
#[derive(Clone, Debug, Serialize)]
pub struct EpochLine {
    pub stage: &'static str,
    pub event: &'static str,
    /// The teacher in training; `null` for the student.
    pub teacher: Option<usize>,
    pub epoch: usize,
    /// Steps since the run began.
    pub step: usize,
    pub lr: f64,
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub test_accuracy: Option<f64>,
    pub own_test_accuracy: Option<f64>,
    pub validation_accuracy: Option<f64>,
}

/// Holds the line of a synthetic batch. The loss terms are those of the last gradient step, before
/// scaling.
#[derive(Clone, Debug, Serialize)]
pub struct BatchLine {
    pub stage: &'static str,
    pub event: &'static str,
    /// The teacher it was made from; `null` when from several.
    pub teacher: Option<usize>,
    /// `null` for initial batches.
    pub epoch: Option<usize>,
    /// Steps of the student before it; for initial batches their index.
    pub step: usize,
    pub batch: usize,
    pub teacher_accuracy: Option<f64>,
    pub student_accuracy: Option<f64>,
    pub best_loss: f64,
    pub total: Option<f64>,
    pub cross_entropy: Option<f64>,
    pub l2: Option<f64>,
    pub total_variation: Option<f64>,
    pub batch_norm: Option<f64>,
    pub jensen_shannon: Option<f64>,
    pub entropy: Option<f64>,
    pub rival: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub divergence: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub information: Option<f64>,
}

impl EpochLine {
    /// Returns a line with what training reported; the caller fills in accuracies on other sets.
    pub fn new(
        stage: &'static str,
        teacher: Option<usize>,
        step: usize,
        report: &EpochReport,
    ) -> Self {
        Self {
            stage,
            event: "epoch",
            teacher,
            epoch: report.epoch,
            step,
            lr: report.lr,
            train_loss: report.train_loss,
            train_accuracy: report.train_accuracy,
            test_accuracy: None,
            own_test_accuracy: None,
            validation_accuracy: None,
        }
    }
}

impl BatchLine {
    /// Describes an initial batch.
    pub fn initial(
        batch: usize,
        teacher: Option<usize>,
        best_loss: f64,
        history: &[TermsAt],
    ) -> Self {
        let last = history.last();
        let term = |of: fn(&TermsAt) -> f64| last.map(of);
        Self {
            stage: "generate_initial",
            event: "batch",
            teacher,
            epoch: None,
            step: batch,
            batch,
            teacher_accuracy: None,
            student_accuracy: None,
            best_loss,
            total: term(|at| at.total),
            cross_entropy: term(|at| at.cross_entropy),
            l2: term(|at| at.l2),
            total_variation: term(|at| at.total_variation),
            batch_norm: term(|at| at.batch_norm),
            jensen_shannon: last.and_then(|at| at.jensen_shannon),
            entropy: last.and_then(|at| at.entropy),
            rival: last.and_then(|at| at.rival),
            divergence: last.and_then(|at| at.divergence),
            activation: last.and_then(|at| at.activation),
            information: last.and_then(|at| at.information),
        }
    }

    /// Describes a fresh batch, made after `step` steps of the student.
    pub fn fresh(report: &FreshReport, step: usize) -> Self {
        Self {
            stage: "train_student",
            epoch: Some(report.epoch),
            step,
            teacher_accuracy: Some(report.teacher_accuracy),
            student_accuracy: Some(report.student_accuracy),
            ..Self::initial(
                report.batch,
                report.teacher,
                report.best_loss,
                &report.history,
            )
        }
    }
}

/// Lists the keys of a line that locate it and are no measurement.
const LOCATION: [&str; 5] = ["epoch", "step", "batch", "teacher", "round"];

/// Tells how far the events had come at a checkpoint: a run that resumes writes later ones again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventPosition {
    /// Files of the run's earlier processes.
    before: Vec<String>,
    file: String,
    length: u64,
}

/// Holds the open files of a run's metrics.
pub struct Journal {
    path: PathBuf,
    /// All lines; what is in the file once the run is done.
    text: String,
    file: fs_err::File,
    events: Option<EventWriter>,
    /// How far the events of earlier processes had come, which stay where this one writes none.
    left: Option<EventPosition>,
    /// Event files of the run's earlier processes.
    before: Vec<String>,
}

impl Journal {
    /// Opens the files with the `lines` and events that an interrupted run had written up to its
    /// checkpoint, and drops later ones.
    ///
    /// # Errors
    /// Fails when the files cannot be written.
    pub fn open(
        context: &StageContext,
        session: &Session,
        lines: &[Value],
        position: Option<&EventPosition>,
    ) -> Result<Self> {
        let path = session.companion("metrics.jsonl");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        atomic::write(&path, text.as_bytes())?;
        let folder = session.companion("tensorboard");
        let (events, before) = match *context.config.tensorboard {
            true => {
                let before = remove_events_after(&folder, position)?;
                (Some(EventWriter::create(&folder)?), before)
            }
            false => (None, Vec::new()),
        };
        Ok(Self {
            file: fs_err::OpenOptions::new().append(true).open(&path)?,
            path,
            text,
            events,
            before,
            left: position.cloned(),
        })
    }

    /// Adds a line, and its numbers as curves.
    ///
    /// # Errors
    /// Fails when a number is not finite, and when the disk is full.
    pub fn add(&mut self, line: &impl Serialize) -> Result<()> {
        let line = json::value(line)?;
        let text = format!("{line}\n");
        self.file.write_all(text.as_bytes())?;
        self.text.push_str(&text);
        let event = line["event"].as_str().unwrap_or_default();
        let step = step(&line);
        for (key, value) in line.as_object().into_iter().flatten() {
            if let Some(value) = value.as_f64().filter(|_| !LOCATION.contains(&key.as_str())) {
                self.scalar(&format!("{event}/{key}"), step, value)?;
            }
        }
        self.flush()
    }

    /// Returns all lines so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Records a number that is not part of the result, such as seconds, as an event alone.
    pub fn scalar(&mut self, tag: &str, step: i64, value: f64) -> Result<()> {
        if let Some(events) = &mut self.events {
            events.scalar(tag, step, value as f32)?;
        }
        Ok(())
    }

    /// Records a picture file (PNG) as an event.
    pub fn picture(&mut self, tag: &str, step: i64, path: &Path) -> Result<()> {
        match self.events {
            Some(_) => self.image(tag, step, &fs_err::read(path)?),
            None => Ok(()),
        }
    }

    /// Records an encoded PNG as an event.
    pub fn image(&mut self, tag: &str, step: i64, png: &[u8]) -> Result<()> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let (width, height) =
            image::ImageReader::with_format(std::io::Cursor::new(png), image::ImageFormat::Png)
                .into_dimensions()
                .map_err(|error| {
                    let text = format!("cannot show a picture in TensorBoard: {error}");
                    Error::failed(text).caused_by(error)
                })?;
        events.image(tag, step, png, width, height, 3)?;
        self.flush()
    }

    /// Returns how far the events have come; `None` where there are none.
    pub fn event_position(&mut self) -> Result<Option<EventPosition>> {
        let Some(events) = &mut self.events else {
            return Ok(self.left.clone());
        };
        let (path, length) = events.position()?;
        let file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let before = self.before.clone();
        Ok(Some(EventPosition {
            before,
            file,
            length,
        }))
    }

    /// Returns true if pictures are recorded.
    pub fn shows_pictures(&self) -> bool {
        self.events.is_some()
    }

    /// Closes the files and records `metrics.jsonl` as an output.
    pub fn finish(self, session: &mut Session) -> Result<()> {
        atomic::write(&self.path, self.text.as_bytes())?;
        session.run.output("metrics log", &self.path)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if let Some(events) = &mut self.events {
            events.flush()?;
        }
        Ok(())
    }
}

/// Removes the events of an earlier run in whose place another one starts.
///
/// # Errors
/// Fails without permission to do so.
pub fn remove_events(manifest: &Path) -> Result<()> {
    remove_events_after(&job::companion(manifest, "tensorboard"), None).map(drop)
}

fn step(line: &Value) -> i64 {
    line["step"].as_i64().unwrap_or(0)
}

/// Removes the events in `folder` that came after `position`. Without a position all that this
/// program wrote are removed: those of an earlier run would be shown as one curve with ours.
/// Returns the names of our files that stay.
fn remove_events_after(folder: &Path, position: Option<&EventPosition>) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_event_file(&name) {
            continue;
        }
        match position {
            Some(position) if name == position.file => {
                let file = fs_err::OpenOptions::new().write(true).open(entry.path())?;
                if file.metadata()?.len() > position.length {
                    file.set_len(position.length)?;
                }
                kept.push(name);
            }
            Some(position) if position.before.contains(&name) => kept.push(name),
            _ => fs_err::remove_file(entry.path())?,
        }
    }
    Ok(kept)
}
