//! `train_student` trains one student on synthetic batches at the server, adds fresh ones as it
//! learns, and compares it with what the teachers could do without it.

mod inputs;
mod outputs;
mod recorder;

use super::batches::BatchFiles;
use super::summary::average;
use super::synthesizer::{self, synthesizer};
use super::teachers::TeacherSet;
use crate::config::schema::{Objective as ObjectiveKind, Padding, Soften, StudentInit};
use crate::config::{Composed, Config, list};
use crate::data::{Dataset, DatasetKind};
use crate::distill::{
    AdaptiveSource, Distillation, GrowingSet, LogitCache, Perturbation, SourceSettings,
    TeacherWeights,
};
use crate::error::{During, Error};
use crate::inversion::Ensemble;
use crate::model::{Model, ModelSpec};
use crate::run::BestWeights;
use crate::run::Checkpointer;
use crate::run::job::{Job, Session};
use crate::run::journal::Journal;
use crate::run::manifest;
use crate::run::stages;
use crate::run::{StageContext, open, required};
use crate::runtime::Progress;
use crate::runtime::seed::Seeds;
use crate::train::{CrossEntropy, FitSettings, Objective, Selection, fit};
use crate::words::counted;
use anyhow::{Context, Result, bail};
use inputs::Inputs;
use recorder::{Notes, Recorder};
use std::cell::RefCell;
use std::path::Path;
use tch::{Kind, Tensor};

/// Limits the classes that a message names.
const NAMED: usize = 20;

/// Runs the stage.
///
/// # Errors
/// Fails when teachers, initial batches, split and dataset do not belong together, when the
/// training diverges, and when a file cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let context = open(composed)?;
    let folder = required(
        &context.config.student.save_folder,
        "student.save_folder",
        "outputs/student",
    )?;
    refuse_selection(context.config)?;
    let job = Job::in_folder(&stages::TRAIN_STUDENT, folder, "student.safetensors");
    let load = |run: &mut manifest::Run| inputs::load(&context, run);
    let done = context.perform(&job, load, |inputs, session| {
        train(&context, inputs, folder, session)
    })?;
    if done.is_none() {
        tracing::info!("the student is trained already: {}", folder.display());
    }
    Ok(())
}

/// Refuses to select by images that a student does not have.
///
/// # Errors
/// Fails (usage) for such a setting.
pub fn refuse_selection(config: &Config) -> Result<()> {
    match config.student.selection {
        Selection::BestTest if config.dataset.kind == DatasetKind::None => Err(Error::usage(
            "`student.selection` is `best_test`, but `dataset.kind` is `none`: there are no test \
             images",
        )
        .hint(
            "choose `student.selection=last`, or give test images: `dataset=image_folder \
             dataset.root=PATH`",
        )
        .into()),
        Selection::Last | Selection::BestTest => Ok(()),
        Selection::BestValidation | Selection::BestOwnTest => Err(Error::usage(
            "`student.selection` names images that only a teacher's node has",
        )
        .hint("choose `last`, or `best_test`")
        .into()),
    }
}

/// Refuses crops that leave nothing of synthetic images of `side` pixels.
///
/// # Errors
/// Fails (usage) for such a setting.
pub fn refuse_large_crops(context: &StageContext, side: i64) -> Result<()> {
    context.refuse_large_crop("student", &context.config.student.augment, side)?;
    super::refuse_generator_crop(context, side)
}

fn train(
    context: &StageContext,
    inputs: Inputs,
    folder: &Path,
    session: &mut Session,
) -> Result<()> {
    let (config, settings) = (context.config, &context.config.student);
    let Inputs {
        set,
        dataset,
        own,
        initial,
        initial_batches,
        student: mut model,
    } = inputs;
    let (set, dataset) = (&set, &dataset);
    let fresh = settings.new_batches_per_epoch * settings.epochs;
    let initial_images = initial.labels.size()[0] as usize;
    let capacity = initial_images + inputs::fresh_images(config);
    let growing = GrowingSet::new(
        &initial,
        capacity,
        own.as_ref(),
        &dataset.normalisation,
        context.device,
    )?;
    // The growing set has a copy.
    drop(initial);
    let weights = TeacherWeights::new(set.all(), inputs::teacher_weights(config));
    let shared = weights.values.shallow_clone();
    let maker = synthesizer(config, set, Some(&shared))?;
    let checkpointer = Checkpointer::new(context, session.checkpoints);
    let (start, best, mut notes) = match checkpointer.load::<Notes>("epoch", 1)? {
        Some(resumed) => (Some(resumed.fit), resumed.best, resumed.notes),
        None => (None, BestWeights::default(), Notes::default()),
    };
    let first_batch = notes.first_batch.unwrap_or(initial_batches);
    notes.first_batch = Some(first_batch);
    let supply = source_settings(config, dataset, first_batch);
    let images = |epoch: usize| {
        growing.len() + epoch * settings.new_batches_per_epoch * config.synthetic_batch()
    };
    let training = match settings.new_batches_per_epoch {
        0 => supply.steps(images(0)).saturating_mul(settings.epochs),
        // As many batches as epochs, or more, fit into memory.
        _ => (0..settings.epochs)
            .map(|epoch| supply.steps(images(epoch)))
            .fold(0, usize::saturating_add),
    };
    let steps = maker.steps(settings.adaptive);
    let progress = Progress::new(
        "training the student",
        training.saturating_add(fresh.saturating_mul(steps)) as u64,
    );
    let done = start
        .as_ref()
        .map_or(0, |start| start.position.optimizer_steps as usize);
    progress.skip((done + notes.fresh.len() * steps) as u64);
    let journal = Journal::open(context, session, &notes.lines()?, notes.events.as_ref())?;
    let recorder = Recorder::new(
        dataset,
        settings,
        checkpointer,
        &progress,
        journal,
        best,
        notes,
    );
    let batches = BatchFiles {
        checkpoints: session.checkpoints,
        device: context.device,
    };
    let ensemble = |rule| Ensemble::new(rule, &set.all(), context.device).with_weights(&shared);
    let mut source = AdaptiveSource::new(
        growing,
        maker,
        ensemble(config.synthesis_ensemble()),
        supply,
        Seeds::new(settings.seed),
    )
    .with_synthesizer_group(synthesizer::group(config))
    .with_store(&batches)
    .with_callback(&recorder)
    .with_teacher_weights(weights);
    if settings.perturbation > 0.0 {
        source = source.with_perturbation(Perturbation {
            teachers: set.all(),
            ensemble: ensemble(config.student_ensemble()),
            size: settings.perturbation,
        });
    }
    let objective = objective(context, set, ensemble(config.student_ensemble()));
    let fitting = FitSettings {
        epochs: settings.epochs,
        optimizer: settings.optimizer.clone(),
        schedule: settings.schedule.clone(),
    };
    let mut observer = &recorder;
    fit(
        &mut model,
        &mut source,
        &*objective,
        &fitting,
        start.as_ref(),
        &mut observer,
    )
    .within("student")
    .context("training the student")?;
    let synthetic = source.set.synthetic();
    drop(source);
    let (notes, best, journal) = recorder.close();
    progress.finish();
    let finished = outputs::Finished {
        set,
        dataset,
        folder,
        notes: &notes,
        best,
        real: own.as_ref(),
        synthetic,
        weights: shared.shallow_clone(),
    };
    finished.save(context, &mut model, journal, session)
}

/// Refuses a student that cannot be made, or class weights that are not those of `classes`.
///
/// # Errors
/// Fails (usage) for such settings.
fn refuse_student(context: &StageContext, set: &TeacherSet, classes: &[String]) -> Result<()> {
    let (settings, spec) = (&context.config.student, student_spec(context, set)?);
    if let Some(weights) = settings
        .class_weights
        .as_ref()
        .filter(|weights| weights.len() != classes.len())
    {
        bail!(
            Error::usage(format!(
                "`student.class_weights` has {} for {}",
                counted(weights.len(), "value"),
                counted(classes.len(), "class")
            ))
            .hint(format!(
                "give one for each class, in this order: {}",
                list(&classes[..classes.len().min(NAMED)])
            ))
        );
    }
    let other = set.teachers.iter().find(|teacher| teacher.spec != spec);
    match other.filter(|_| settings.init == StudentInit::Average) {
        None => Ok(()),
        Some(other) => Err(Error::usage(
            "`student.init` is `average`, but not every teacher has the student's architecture",
        )
        .note("expected", spec.model.to_string())
        .note("found", other.spec.model.to_string())
        .hint("`student.init=random` does without")
        .into()),
    }
}

fn student_spec(context: &StageContext, set: &TeacherSet) -> Result<ModelSpec> {
    let teacher = &set.card.model;
    let (settings, group) = match &context.config.student.model {
        Some(own) => (own, "student.model"),
        None => (&teacher.model, "model"),
    };
    let spec = ModelSpec::new(settings, teacher.channels, teacher.size, teacher.classes);
    Ok(spec.within(group)?)
}

fn student(context: &StageContext, set: &TeacherSet) -> Result<Model> {
    if context.config.student.init == StudentInit::Average {
        return average(set)?.context("the teachers have one architecture, and so a mean");
    }
    let spec = student_spec(context, set)?;
    let mut rng = Seeds::new(context.config.student.seed).stream("student/initialisation", 0);
    let model = Model::new(&spec, context.device, &mut rng)?;
    Ok(model.with_precision(context.precision))
}

fn source_settings(config: &Config, dataset: &Dataset, first_batch: usize) -> SourceSettings {
    SourceSettings {
        batch_size: config.student.batch_size,
        new_batches_per_epoch: config.student.new_batches_per_epoch,
        first_batch,
        epoch_images: config.student.epoch_images,
        adaptive: config.student.adaptive,
        augment: config.student.augment.clone(),
        augment_fresh: config.student.augment_fresh,
        real_padding: dataset.normalisation.black(),
        padding: match config.student.padding {
            Padding::Black => dataset.normalisation.black(),
            Padding::Mean => vec![0.0; dataset.normalisation.mean.len()],
        },
    }
}

fn objective<'a>(
    context: &StageContext,
    set: &'a TeacherSet,
    ensemble: Ensemble,
) -> Box<dyn Objective + 'a> {
    let settings = &context.config.student;
    let weights = settings.class_weights.as_ref();
    let class_weights = weights.map(|weights| {
        Tensor::from_slice(weights)
            .to_kind(Kind::Float)
            .to_device(set.teachers[0].device)
    });
    match settings.objective {
        ObjectiveKind::CrossEntropy => Box::new(CrossEntropy { class_weights }),
        ObjectiveKind::Distill => Box::new(Distillation {
            teachers: set.all(),
            ensemble: ensemble.softening_joint(settings.distill.soften == Soften::Joint),
            temperature: settings.distill.temperature,
            label_weight: settings.distill.label_weight,
            class_weights,
            cache: cache(context),
        }),
    }
}

/// Bytes that the teachers' logits may take on a device that does not tell its free memory.
const UNKNOWN: u64 = 1 << 30;

/// Returns what keeps the teachers' logits, unless the config asks for none.
fn cache(context: &StageContext) -> Option<RefCell<LogitCache>> {
    let bytes = match *context.config.student.distill.cache_mib {
        Some(mebibytes) => mebibytes << 20,
        None => context.memory().map_or(UNKNOWN, |free| free / 4),
    };
    (bytes > 0).then(|| RefCell::new(LogitCache::new(bytes)))
}
