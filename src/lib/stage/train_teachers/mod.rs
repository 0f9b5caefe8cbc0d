//! `train_teachers` trains a teacher for every node on the node's own images. A teacher's file is
//! all that a node uploads.

mod recorder;

use crate::artifact::json;
use crate::config::Composed;
use crate::config::schema::{LabelCounts, TeacherConfig};
use crate::data::Dataset;
use crate::error::{During, Error};
use crate::federated::transport::Rank;
use crate::model::{Model, StateDict};
use crate::partition::Part;
use crate::report::Table;
use crate::run::BestWeights;
use crate::run::Checkpointer;
use crate::run::job::{Job, Session};
use crate::run::journal::Journal;
use crate::run::manifest;
use crate::run::metrics::TeacherMetrics;
use crate::run::stages;
use crate::run::weights::Card;
use crate::run::{StageContext, open_for, ranks, required};
use crate::runtime::Progress;
use crate::runtime::output;
use crate::runtime::seed::Seeds;
use crate::train::{CrossEntropy, FitSettings, Selection, Shuffled, fit};
use crate::words::counted;
use crate::words::percent;
use anyhow::{Context, Result, bail};
use rand::seq::SliceRandom;
use recorder::{Notes, Recorder};
use std::path::Path;
use std::time::Instant;
use tch::Tensor;

/// Runs the stage.
///
/// # Errors
/// Fails when the split is of another dataset, when `teacher.only` names an unknown teacher, when
/// the training diverges, and when a file cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let context = open_for(composed, ranks::processes())?;
    let folder = required(
        &context.config.teacher.save_folder,
        "teacher.save_folder",
        "outputs/teachers",
    )?;
    let rows = ranks::together(&context, |rank| {
        let rows = train_own(&context, folder, rank)?;
        collect(rows, rank)
    })?;
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&[
        "teacher",
        "images",
        "own test",
        "whole test",
        "best on test",
        "bytes uploaded",
        "weights",
    ]);
    for (_, row) in rows {
        table.row(row);
    }
    output::print(&table)?;
    Ok(())
}

/// Holds a teacher's index among those to be trained, and its line of the table on stdout.
type Row = (usize, Vec<String>);

/// Trains this rank's teachers: of those to be trained, number i is trained by rank i mod ranks.
/// Each is a run of its own, and its rank writes all of its files. Returns the lines of those that
/// were not there already.
fn train_own(context: &StageContext, folder: &Path, rank: &Rank) -> Result<Vec<Row>> {
    let settings = &context.config.teacher;
    let index = settings.index.map(|index| own_teacher(context, index));
    let index = index.transpose()?;
    let dataset = context.dataset()?;
    let augment = &settings.augment;
    context.refuse_large_crop("teacher", augment, dataset.size())?;
    let split = context.split(&dataset)?;
    let nodes = match index {
        Some(index) => vec![(index, &split.nodes[0])],
        None => {
            let is_split = context.config.split.save_path.is_some();
            if !is_split {
                refuse_settings_without_split(context)?;
            }
            let nodes = chosen(settings, split.nodes.len());
            let nodes = nodes.map_err(|error| match is_split {
                true => error,
                false => Error::from(error).hint(PARTY).into(),
            })?;
            let part = |node| (node, &split.nodes[node]);
            nodes.into_iter().map(part).collect()
        }
    };
    let own = nodes.into_iter().enumerate();
    let mut rows = Vec::new();
    for (index, (node, part)) in own.skip(rank.number()).step_by(rank.ranks()) {
        if let Some(metrics) = teacher(context, &dataset, part, node, folder)? {
            rows.push((index, row(&metrics, &weights_path(folder, node))));
        }
    }
    Ok(rows)
}

/// Tells a party with images of its own, without a split, how its teacher gets a number.
const PARTY: &str = "a party with images of its own says which number its teacher has: \
    `teacher.index=1`";

/// Checks that a party with images of its own trains teacher `index`, and returns it.
///
/// # Errors
/// Fails (usage) with a split, and when the other settings name other teachers.
fn own_teacher(context: &StageContext, index: usize) -> Result<usize> {
    let config = context.config;
    let refused = |what: String, hint: &str| bail!(Error::usage(what).hint(hint.to_owned()));
    if let Some(split) = &config.split.save_path {
        return refused(
            format!(
                "`teacher.index` is {index}, the teacher of a party with images of its own, but \
                 `split.save_path` is `{}`",
                split.display()
            ),
            &format!(
                "`teacher.only=[{index}]` trains that teacher of the split; `split.save_path=null` \
                 takes all images for the one teacher"
            ),
        );
    }
    if let Some(only) = config
        .teacher
        .only
        .as_ref()
        .filter(|only| !only.contains(&index))
    {
        return refused(
            format!("`teacher.index` is {index}, but `teacher.only` is {only:?}"),
            "a party trains one teacher: `teacher.index` alone says which",
        );
    }
    if let Some(count) = config.teacher.num_teachers.filter(|count| index >= *count) {
        return refused(
            format!(
                "`teacher.index` is {index}, but there {} {} (`teacher.num_teachers`)",
                if count == 1 { "is" } else { "are" },
                counted(count, "teacher")
            ),
            &format!("teachers count from 0: choose from 0 to {}", count - 1),
        );
    }
    if config.dataset.mean.is_none() || config.dataset.std.is_none() {
        tracing::warn!(
            "mean and standard deviation are computed from these images alone, but teachers of \
             several parties go together only with the same ones: agree on them, as \
             `dataset.mean=[0.5] dataset.std=[0.25]`"
        );
    }
    Ok(index)
}

/// Refuses several teachers where no split is given, and warns of a split's settings that then have
/// no effect.
///
/// # Errors
/// Fails when `teacher.num_teachers` is more than one (usage).
fn refuse_settings_without_split(context: &StageContext) -> Result<()> {
    const HOW: &str = "make a split with `split_data`, and give its path: \
        split.save_path=outputs/split.json";
    if let Some(count) = context
        .config
        .teacher
        .num_teachers
        .filter(|count| *count > 1)
    {
        bail!(
            Error::usage(format!(
                "`teacher.num_teachers` is {count}, but no split is given: there is one node, \
                 with all images"
            ))
            .hint(HOW)
            .hint(PARTY)
        );
    }
    let typed = context.composed.overrides.iter();
    let mut typed = typed.filter(|typed| typed.trim_start_matches('+').starts_with("split."));
    if let Some(typed) = typed.next() {
        tracing::warn!(
            "`{typed}` has no effect, because no split is given: one teacher is trained on all \
             images; {HOW}"
        );
    }
    Ok(())
}

/// Returns the lines of all ranks on rank 0, in order; none on the others.
fn collect(mut rows: Vec<Row>, rank: &mut Rank) -> Result<Vec<Row>> {
    if rank.number() > 0 {
        rank.send(0, json::value(&rows)?.to_string().into_bytes());
        return Ok(Vec::new());
    }
    for other in 1..rank.ranks() {
        let theirs: Vec<Row> = serde_json::from_slice(&rank.receive(other)?).map_err(|error| {
            let text = format!("what rank {other} trained cannot be read: {error}");
            Error::failed(text).caused_by(error)
        })?;
        rows.extend(theirs);
    }
    rows.sort();
    Ok(rows)
}

fn row(metrics: &TeacherMetrics, weights: &Path) -> Vec<String> {
    let saved = metrics
        .epochs
        .iter()
        .find(|epoch| epoch.fit.epoch == metrics.saved_epoch);
    vec![
        metrics.teacher.to_string(),
        metrics.train_images.to_string(),
        percent(saved.and_then(|epoch| epoch.own_test_accuracy)),
        percent(metrics.saved_test_accuracy),
        percent(metrics.best_test_accuracy),
        metrics.upload_bytes.to_string(),
        weights.display().to_string(),
    ]
}

/// Returns the path of teacher `node`'s weights.
pub(crate) fn weights_path(folder: &Path, node: usize) -> std::path::PathBuf {
    folder.join(format!("model_teacher{node}.safetensors"))
}

/// Returns how many of a split's nodes train teachers.
///
/// # Errors
/// Fails when the config names more than there are (usage).
pub(super) fn teacher_count(settings: &TeacherConfig, nodes: usize) -> Result<usize> {
    match settings.num_teachers {
        None => Ok(nodes),
        Some(count) if (1..=nodes).contains(&count) => Ok(count),
        Some(count) => Err(Error::usage(format!(
            "`teacher.num_teachers` is {count}, but the split has {}",
            counted(nodes, "node")
        ))
        .hint(format!("choose 1 to {nodes}"))
        .into()),
    }
}

fn chosen(settings: &TeacherConfig, nodes: usize) -> Result<Vec<usize>> {
    let count = teacher_count(settings, nodes)?;
    match &settings.only {
        Some(only) => named(only, count),
        None => Ok((0..count).collect()),
    }
}

/// Returns the teachers that `teacher.only` names, of `count` that there are.
///
/// # Errors
/// Fails when it names none, one twice, or one that there is not (usage).
pub(super) fn named(only: &[usize], count: usize) -> Result<Vec<usize>> {
    if only.is_empty() {
        bail!(
            Error::usage("`teacher.only` names no teacher").hint("`teacher.only=null` trains all")
        );
    }
    if let Some((_, twice)) = only
        .iter()
        .enumerate()
        .find(|&(at, node)| only[..at].contains(node))
    {
        bail!(Error::usage(format!(
            "`teacher.only` names teacher {twice} twice"
        )));
    }
    if let Some(wrong) = only.iter().find(|&&node| node >= count) {
        bail!(
            Error::usage(format!(
                "`teacher.only` names teacher {wrong}, but there {} {}",
                if count == 1 { "is" } else { "are" },
                counted(count, "teacher")
            ))
            .hint(match count {
                1 => "the only teacher is 0: `teacher.only=[0]`".into(),
                _ => format!("teachers count from 0: choose from 0 to {}", count - 1),
            })
        );
    }
    Ok(only.to_vec())
}

/// Trains one teacher; returns `None` when it was there already and is kept.
fn teacher(
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
        Ok(())
    };
    let metrics = context.perform(&job, inputs, |(), session| {
        train(context, dataset, part, node, session)
            .with_context(|| format!("training teacher {node}"))
    })?;
    if metrics.is_none() {
        tracing::info!("teacher {node} is trained already: {}", path.display());
    }
    Ok(metrics)
}

fn train(
    context: &StageContext,
    dataset: &Dataset,
    part: &Part,
    node: usize,
    session: &mut Session,
) -> Result<TeacherMetrics> {
    let (config, settings) = (context.config, &context.config.teacher);
    let seeds = Seeds::new(config.seed);
    let (train, validation) = hold_out(settings, part, &seeds, node)?;
    let train = dataset.train.select(&train)?;
    let validation = validation
        .map(|indices| dataset.train.select(&indices))
        .transpose()?;
    let own_test: Vec<i64> = part.test.iter().map(|&index| index as i64).collect();
    let own_test = Tensor::f_from_slice(&own_test)?.f_to_device(context.device)?;
    let spec = context.model(dataset)?;
    let start = if settings.shared_initialisation {
        0
    } else {
        node as u64
    };
    let mut model = Model::new(
        &spec,
        context.device,
        &mut seeds.stream("teacher/initialisation", start),
    )?
    .with_precision(context.precision);
    session.require_space(model.state().bytes())?;
    let mut source = Shuffled::new(
        &train,
        &dataset.normalisation,
        settings.augment.clone(),
        settings.batch_size,
        seeds,
        format!("teacher/{node}/batches"),
    );
    let progress = Progress::new(
        &format!("teacher {node}"),
        settings.epochs.saturating_mul(source.steps()) as u64,
    );
    let checkpointer = Checkpointer::new(context, session.checkpoints);
    let (start, best, notes) = match checkpointer.load::<Notes>("epoch")? {
        Some(resumed) => (Some(resumed.fit), resumed.best, resumed.notes),
        None => (None, BestWeights::default(), Notes::default()),
    };
    let Notes { epochs, events } = notes;
    progress.skip(
        start
            .as_ref()
            .map_or(0, |start| start.position.optimizer_steps as u64),
    );
    let mut recorder = Recorder {
        dataset,
        settings,
        own_test,
        validation,
        node,
        journal: Journal::open(
            context,
            session,
            &recorder::lines(node, &epochs)?,
            events.as_ref(),
        )?,
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
    let counts = train.counts(dataset.classes.len());
    let step = settings.count_step;
    let told = counts.iter().map(|count| count.div_ceil(step) * step);
    let told: Option<Vec<u64>> = match settings.label_counts {
        LabelCounts::Exact => Some(told.collect()),
        LabelCounts::None => None,
    };
    let card = Card::new(spec, dataset, told);
    session.save_weights(&without_steps(&recorder.best.state(&model)), &card)?;
    let upload = fs_err::metadata(&session.job.output)?.len();
    let (metrics, journal) = recorder.metrics(&model, counts, train.len(), upload);
    session.save_metrics(&metrics)?;
    journal.finish(session)?;
    Ok(metrics)
}

/// Returns the weights without the number of steps that were taken (`num_batches_tracked` of every
/// batch norm), which tells how many images there were. Nothing reads it.
fn without_steps(state: &StateDict) -> StateDict {
    let tensors = state.iter().map(|(name, tensor)| {
        let tensor = match name.ends_with("num_batches_tracked") {
            true => tensor.zeros_like(),
            false => tensor.shallow_clone(),
        };
        (name.to_owned(), tensor)
    });
    StateDict::new(tensors.collect())
}

/// Returns the node's training indices, and those held out for `selection: best_validation`.
fn hold_out(
    settings: &TeacherConfig,
    part: &Part,
    seeds: &Seeds,
    node: usize,
) -> Result<(Vec<usize>, Option<Vec<usize>>)> {
    let few = |count| {
        Error::failed(format!(
            "node {node} has {} to train on; batch norm needs at least 2",
            counted(count, "image")
        ))
        .hint("split the data among fewer nodes (`split.num_nodes`)")
    };
    if settings.selection != Selection::BestValidation {
        return match part.train.len() {
            count @ (0 | 1) => Err(few(count).into()),
            _ => Ok((part.train.clone(), None)),
        };
    }
    let mut order = part.train.clone();
    order.shuffle(&mut seeds.stream("teacher/validation", node as u64));
    let held = ((order.len() as f64 * settings.validation_share).round() as usize).max(1);
    if order.len() < held + 2 {
        bail!(few(order.len().saturating_sub(held)));
    }
    let mut train = order.split_off(held);
    train.sort_unstable();
    Ok((train, Some(order)))
}
