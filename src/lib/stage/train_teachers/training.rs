//! Trains one node's teacher as a run of its own, and saves what the node uploads.

use super::recorder::{self, Notes, Recorder};
use super::weights_path;
use crate::config::schema::{LabelCounts, TeacherConfig};
use crate::data::{Dataset, ImageSet};
use crate::error::{During, Error};
use crate::model::Model;
use crate::partition::Part;
use crate::run::job::{Job, Session};
use crate::run::journal::Journal;
use crate::run::metrics::TeacherMetrics;
use crate::run::weights::{self, Card};
use crate::run::{BestWeights, Checkpointer, StageContext, manifest, stages};
use crate::runtime::Progress;
use crate::runtime::seed::Seeds;
use crate::train::{CrossEntropy, FitSettings, Selection, Shuffled, fit};
use crate::words::counted;
use anyhow::{Context, Result, bail};
use rand::seq::SliceRandom;
use std::path::Path;
use std::time::Instant;
use tch::Tensor;

/// Trains one teacher; returns `None` when it was there already and is kept.
pub(super) fn teacher(
    context: &StageContext,
    dataset: &Dataset,
    part: &Part,
    node: usize,
    folder: &Path,
) -> Result<Option<TeacherMetrics>> {
    let path = weights_path(folder, node);
    let job = Job {
        stage: &stages::TRAIN_TEACHERS,
        manifest: folder.join(format!("manifest_teacher{node}.json")),
        output: path.clone(),
        log: folder.join("train_teachers.log"),
    };
    let inputs = |run: &mut manifest::Run| {
        run.dataset(dataset)?;
        run.fact("node", node)?;
        if let Some(split) = &context.config.split.save_path {
            run.input("split", split)?;
        }
        context.refuse_model(dataset, run)?;
        let seeds = Seeds::new(context.config.seed);
        hold_out(&context.config.teacher, part, &seeds, node)
    };
    let metrics = context.perform(&job, inputs, |indices, session| {
        train(context, dataset, (part, indices), node, session)
            .with_context(|| format!("training teacher {node}"))
    })?;
    if metrics.is_none() {
        refuse_other_images(dataset, &path)?;
        tracing::info!("teacher {node} is trained already: {}", path.display());
    }
    Ok(metrics)
}

/// Refuses to keep a finished teacher of other images than those that were read.
fn refuse_other_images(dataset: &Dataset, weights: &Path) -> Result<()> {
    let made = manifest::made(weights);
    let recorded = made.as_ref().and_then(|(_, made)| made.fingerprint());
    match recorded {
        Some(recorded) if recorded != dataset.fingerprint => Err(Error::failed(format!(
            "`{}` is finished, but was trained on other images",
            weights.display()
        ))
        .of_resume()
        .note("expected", format!("images of the hash {recorded}"))
        .note(
            "found",
            format!("images of the hash {}", dataset.fingerprint),
        )
        .hint("`overwrite=true` trains it again, another `teacher.save_folder` beside it")
        .into()),
        _ => Ok(()),
    }
}

/// Trains the model of a node, or continues from its checkpoint, and saves it.
fn train(
    context: &StageContext,
    dataset: &Dataset,
    (part, (train, validation)): (&Part, (Vec<usize>, Option<Vec<usize>>)),
    node: usize,
    session: &mut Session,
) -> Result<TeacherMetrics> {
    let (config, settings) = (context.config, &context.config.teacher);
    let seeds = Seeds::new(config.seed);
    let train = dataset.train.select(&train)?;
    let validation = validation
        .map(|indices| dataset.train.select(&indices))
        .transpose()?;
    let own_test: Vec<i64> = part.test.iter().map(|&index| index as i64).collect();
    let own_test = Tensor::f_from_slice(&own_test)?.f_to_device(context.device)?;
    let mut model = initial(context, dataset, &seeds, node)?;
    let mut source = Shuffled::new(
        &train,
        &dataset.normalisation,
        settings.augment.clone(),
        settings.batch_size,
        seeds,
        format!("teacher/{node}/batches"),
    );
    let checkpointer = Checkpointer::new(context, session.checkpoints);
    let (start, best, notes) = match checkpointer.load::<Notes>("epoch", 1)? {
        Some(resumed) => (Some(resumed.fit), resumed.best, resumed.notes),
        None => (None, BestWeights::default(), Notes::default()),
    };
    let Notes { epochs, events } = notes;
    let steps = settings.epochs.saturating_mul(source.steps());
    let progress = Progress::new(&format!("teacher {node}"), steps as u64);
    let done = start.as_ref().map(|start| start.position.optimizer_steps);
    progress.skip(done.unwrap_or(0) as u64);
    let lines = recorder::lines(node, &epochs)?;
    let mut recorder = Recorder {
        dataset,
        settings,
        own_test,
        validation,
        node,
        journal: Journal::open(context, session, &lines, events.as_ref())?,
        epochs,
        best,
        checkpointer,
        progress,
        clock: Instant::now(),
    };
    let fitting = FitSettings {
        epochs: settings.epochs,
        optimizer: settings.optimizer.clone(),
        schedule: settings.schedule.clone(),
    };
    fit(
        &mut model,
        &mut source,
        &CrossEntropy::default(),
        &fitting,
        start.as_ref(),
        &mut recorder,
    )
    .within("teacher")?;
    save(recorder, &model, &train, session)
}

/// Returns the model of a node before its first step.
fn initial(context: &StageContext, dataset: &Dataset, seeds: &Seeds, node: usize) -> Result<Model> {
    let stream = match context.config.teacher.shared_initialisation {
        true => 0,
        false => node as u64,
    };
    let mut rng = seeds.stream("teacher/initialisation", stream);
    let model = Model::new(&context.model(dataset)?, context.device, &mut rng)?;
    Ok(model.with_precision(context.precision))
}

/// Saves the weights that were chosen, with their card, and the metrics.
fn save(
    recorder: Recorder,
    model: &Model,
    train: &ImageSet,
    session: &mut Session,
) -> Result<TeacherMetrics> {
    let (dataset, settings) = (recorder.dataset, recorder.settings);
    let counts = train.counts(dataset.classes.len());
    let step = settings.count_step;
    let told = counts.iter().map(|count| count.div_ceil(step) * step);
    let told: Option<Vec<u64>> = match settings.label_counts {
        LabelCounts::Exact => Some(told.collect()),
        LabelCounts::None => None,
    };
    let card = Card::new(model.spec().clone(), dataset, told);
    session.save_weights(&weights::without_steps(&recorder.best.state(model)), &card)?;
    let upload = fs_err::metadata(&session.job.output)?.len();
    let (metrics, journal) = recorder.metrics(model, counts, train.len(), upload);
    session.save_metrics(&metrics)?;
    journal.finish(session)?;
    Ok(metrics)
}

/// Returns the node's training indices, and those held out for `selection: best_validation`.
///
/// # Errors
/// Fails when the node has too few images to train on, or none of its own to choose weights by.
fn hold_out(
    settings: &TeacherConfig,
    part: &Part,
    seeds: &Seeds,
    node: usize,
) -> Result<(Vec<usize>, Option<Vec<usize>>)> {
    let few = |count, hint: String| {
        Error::failed(format!(
            "node {node} has {} to train on; a teacher needs at least 2",
            counted(count, "image")
        ))
        .hint(hint)
    };
    let total = part.train.len();
    if settings.selection == Selection::BestOwnTest && part.test.is_empty() {
        bail!(
            Error::usage(format!(
                "node {node} has no test images of its own, by which `teacher.selection` is to \
                 choose"
            ))
            .note("found", "`teacher.selection` is `best_own_test`")
            .hint("`teacher.selection=last` takes the weights after the last epoch")
        );
    }
    if total < 2 {
        let hint = "with a split: fewer nodes have more images each (`split.num_nodes`)";
        bail!(few(total, hint.into()));
    }
    if settings.selection != Selection::BestValidation {
        return Ok((part.train.clone(), None));
    }
    let mut order = part.train.clone();
    order.shuffle(&mut seeds.stream("teacher/validation", node as u64));
    let held = ((order.len() as f64 * settings.validation_share).round() as usize).max(1);
    if order.len() < held + 2 {
        let hint = format!(
            "`teacher.selection=best_validation` holds {held} of {total} out: lower \
             `teacher.validation_share`, which is {}",
            settings.validation_share
        );
        bail!(few(total.saturating_sub(held), hint));
    }
    let mut train = order.split_off(held);
    train.sort_unstable();
    Ok((train, Some(order)))
}
