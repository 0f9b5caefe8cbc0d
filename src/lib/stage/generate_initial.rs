//! `generate_initial`: the synthetic batches that the student starts with, made from the teachers alone. Never looks at an image.

use super::batches::BatchFiles;
use super::job::{Job, Session};
use super::journal::{BatchLine, Journal};
use super::teachers::{self, TeacherSet};
use super::{Workplace, open, pictures, required, weights};
use crate::artifact::{json, manifest, tensors};
use crate::config::Composed;
use crate::error::{During, Error, Result};
use crate::inversion::{Inverter, SyntheticBatch, TermsAt};
use crate::runtime::Progress;
use crate::runtime::output::say;
use crate::runtime::seed::Seeds;
use crate::words::counted;
use serde::Serialize;
use std::path::Path;
use tch::{Kind, Tensor};

/// What the initial batches depend on: nothing of the student, so that several students can start from them. The teachers bring their
/// architecture.
pub(super) const DEPENDS: [&str; 15] = [
    "seed",
    "dataset",
    "split",
    "teacher.num_teachers",
    "teacher.save_folder",
    "deep_inv.batch_size",
    "deep_inv.di",
    "deep_inv.optimizer",
    "deep_inv.keep_moments",
    "deep_inv.engine",
    "deep_inv.teachers",
    "deep_inv.ensemble",
    "deep_inv.labels",
    "deep_inv.label_weights",
    "initial",
];

/// One batch in `STEM.metrics.json`.
#[derive(Debug, Serialize)]
struct BatchMetrics {
    batch: usize,
    teacher: Option<usize>,
    best_loss: f64,
    label_counts: Vec<u64>,
    history: Vec<TermsAt>,
}

/// Runs the stage.
///
/// # Errors
/// Missing or damaged teachers, a loss that is never finite, a place that cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let place = open(composed)?;
    let path = required(
        &place.config.initial.save_path,
        "initial.save_path",
        "outputs/initial.safetensors",
    )?;
    if place.config.initial.num_batches == 0 {
        return Err(Error::usage(
            "`initial.num_batches` is 0: the student needs something to start with",
        ));
    }
    let job = Job {
        stage: "generate_initial",
        manifest: manifest::beside(path),
        output: path,
        depends: &DEPENDS,
        log: path.with_extension("log"),
    };
    let load = |run: &mut manifest::Run| {
        let set = teachers::load(&place)?;
        set.record(run)?;
        run.fact("dataset_fingerprint", &set.card.dataset_fingerprint)?;
        Ok(set)
    };
    let done = place.perform(&job, load, |set, session| generate(&place, &set, path, session))?;
    if done.is_none() {
        tracing::info!("{} is there already", path.display());
    }
    Ok(())
}

fn generate(place: &Workplace, set: &TeacherSet, path: &Path, session: &mut Session) -> Result<()> {
    let config = place.config;
    let mut inverter = Inverter::new(set.all(), &config.deep_inv, Seeds::new(config.seed))?;
    let store = BatchFiles {
        checkpoints: session.checkpoints,
        device: place.device,
    };
    // Batches that an interrupted run finished come from the store, and write their lines again.
    let mut journal = Journal::open(place, session, &[], None)?;
    let count = config.initial.num_batches;
    let progress = Progress::new("inverting the teachers", (count * inverter.steps(false)) as u64);
    let mut batches = Vec::new();
    for index in 0..count {
        progress.message(format!("batch {} of {count}", index + 1));
        let batch = inverter
            .make_once(index, None, &store, &|| progress.step())
            .during(|| format!("making synthetic batch {index}"))?;
        tracing::debug!("batch {index}: best loss {:.3}", batch.best_loss);
        journal.add(&BatchLine::initial(
            index,
            batch.teacher,
            batch.best_loss,
            &batch.history,
        ))?;
        batches.push(batch);
    }
    progress.finish();
    save(set, &batches, path, journal, session)
}

fn save(
    set: &TeacherSet,
    batches: &[SyntheticBatch],
    path: &Path,
    mut journal: Journal,
    session: &mut Session,
) -> Result<()> {
    let cat = |of: &dyn Fn(&SyntheticBatch) -> Tensor| Tensor::cat(&batches.iter().map(of).collect::<Vec<_>>(), 0);
    let images = cat(&|batch| batch.images.shallow_clone());
    let labels = cat(&|batch| batch.labels.shallow_clone());
    let teachers = cat(&|batch| {
        batch
            .labels
            .full_like(batch.teacher.map_or(-1, |teacher| teacher as i64))
    });
    tensors::write(
        path,
        &[("images", &images), ("labels", &labels), ("teachers", &teachers)],
        &weights::metadata(&set.card)?,
    )?;
    let run = &mut session.run;
    run.fact("batches", batches.len())?;
    run.output("initial", path)?;
    let classes = set.card.classes.len();
    let metrics: Vec<BatchMetrics> = batches
        .iter()
        .enumerate()
        .map(|(index, batch)| metrics(index, batch, classes))
        .collect::<Result<_>>()?;
    let metrics_path = path.with_extension("metrics.json");
    json::write(&metrics_path, &metrics)?;
    run.output("metrics", &metrics_path)?;
    let picture = path.with_extension("png");
    let cycled = batches.iter().all(|batch| batch.teacher.is_some());
    match cycled && set.teachers.len() > 1 {
        true => pictures::grid_by_teacher(
            &picture,
            &images,
            &teachers,
            set.teachers.len(),
            &set.card.normalisation,
        )?,
        false => pictures::grid_by_class(
            &picture,
            "Synthetic images by class",
            &images,
            &labels,
            &set.card.classes,
            &set.card.normalisation,
        )?,
    }
    run.output("grid", &picture)?;
    let curves = path.with_extension("loss.png");
    let histories: Vec<&[TermsAt]> = metrics.iter().map(|batch| &batch.history[..]).collect();
    pictures::loss_curves(&curves, &histories)?;
    run.output("loss curves", &curves)?;
    for (tag, picture) in [("grid", &picture), ("loss", &curves)] {
        journal.picture(tag, batches.len() as i64, picture)?;
    }
    journal.finish(session)?;
    say(format!(
        "{} in {}: {}",
        counted(labels.size()[0], "synthetic image"),
        counted(batches.len(), "batch"),
        path.display()
    ))?;
    say(format!("grid:  {}\nloss:  {}", picture.display(), curves.display()))?;
    Ok(())
}

fn metrics(index: usize, batch: &SyntheticBatch, classes: usize) -> Result<BatchMetrics> {
    let counts: Vec<i64> = Vec::try_from(
        batch
            .labels
            .bincount(None::<Tensor>, classes as i64)
            .to_kind(Kind::Int64),
    )?;
    Ok(BatchMetrics {
        batch: index,
        teacher: batch.teacher,
        best_loss: batch.best_loss,
        label_counts: counts.into_iter().map(|count| count as u64).collect(),
        history: batch.history.clone(),
    })
}
