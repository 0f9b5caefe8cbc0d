//! Loads and checks what `train_student` reads beside the teachers: the student's own images and
//! the initial batches.

use super::super::synthesizer::{self, batch_size_key};
use super::super::teachers::{self, TeacherSet};
use super::super::train_teachers::teacher_count;
use crate::artifact::json::{self, at};
use crate::artifact::tensors;
use crate::config::Config;
use crate::config::schema::Objective;
use crate::data::{Dataset, DatasetKind, ImageSet};
use crate::distill::{SyntheticImages, TeacherWeightSettings};
use crate::error::Error;
use crate::inversion::EnsembleKind;
use crate::model::{Model, ModelSpec};
use crate::run::agreement::{self, Task};
use crate::run::weights::{self, Card};
use crate::run::{Demand, StageContext, required, split};
use crate::run::{manifest, of_sweep, stages};
use crate::words::counted;
use anyhow::{Result, bail};
use serde_json::Value;
use std::path::Path;
use tch::{Kind, Tensor};

/// Holds all that a student is made from.
pub struct Inputs {
    pub set: TeacherSet,
    pub dataset: Dataset,
    /// Real images of the student's own.
    pub own: Option<ImageSet>,
    /// The initial batches, on the device.
    pub initial: SyntheticImages,
    /// In how many batches they were made: fresh ones count on from there.
    pub initial_batches: usize,
    /// The student before its first step.
    pub student: Model,
}

/// Loads everything and checks that it belongs together.
///
/// # Errors
/// Fails when a file is missing or damaged, and when the files do not belong together.
pub fn load(context: &StageContext, run: &mut manifest::Run) -> Result<Inputs> {
    let set = teachers::load(context)?;
    set.record(run)?;
    let dataset = dataset(context, &set)?;
    if context.config.dataset.kind != DatasetKind::None {
        run.dataset(&dataset)?;
    }
    let own = own_images(context, &dataset, &set, run)?;
    let initial = initial(context, &set, run)?;
    let real = own.as_ref().map_or(0, ImageSet::len);
    let images = initial.labels.size()[0] as usize + real;
    refuse_demands(context, &set, images)?;
    super::refuse_student(context, &set, &dataset.classes)?;
    warn_of_short_epochs(context, images);
    let student = super::student(context, &set)?;
    let initial_images = initial.labels.size()[0] as usize;
    let initial_batches = initial_batches(context, initial_images);
    // Fresh batches are in the checkpoint as well until the run is done.
    let images = initial_images + 2 * fresh_images(context.config);
    let images = images as u128 * super::super::image_bytes(&set.card.model);
    run.needs_space(images as u64 + student.state().bytes());
    let made = context.config.student.new_batches_per_epoch > 0;
    let student_is_used = made.then_some(context.config.student.adaptive);
    synthesizer::check(context.config, &set, student_is_used)?;
    Ok(Inputs {
        set,
        dataset,
        own,
        initial,
        initial_batches,
        student,
    })
}

/// Returns how many images the student's own training adds to the initial ones.
pub fn fresh_images(config: &Config) -> usize {
    let student = &config.student;
    student.epochs * student.new_batches_per_epoch * config.synthetic_batch()
}

/// Returns how the teachers' weights are learnt: not at all where no rule weighs the teachers.
pub fn teacher_weights(config: &Config) -> TeacherWeightSettings {
    let settings = config.student.teacher_weights.clone();
    let step = if config.weighs_teachers() {
        settings.step
    } else {
        0.0
    };
    TeacherWeightSettings { step, ..settings }
}

/// Returns the server's own dataset, whose test images measure the student; one without images
/// where the server has none.
fn dataset(context: &StageContext, set: &TeacherSet) -> Result<Dataset> {
    let settings = &context.config.dataset;
    let dataset = match settings.kind {
        DatasetKind::None => {
            tracing::info!("there is no dataset, so that nothing is tested");
            Task::described(settings, Some(&set.card))?.without_images(context.device)?
        }
        _ => context.dataset()?,
    };
    let path = &set.paths[0];
    Ok(agreement::fitted(dataset, settings, &set.card, path)?)
}

/// Warns of a batch that `images` do not fill, and of epochs that are too short for more than the
/// fresh batches: the student then sees each of them once, and the initial images never.
fn warn_of_short_epochs(context: &StageContext, images: usize) {
    let student = &context.config.student;
    if images < student.batch_size {
        tracing::warn!(
            "the set begins with {}, fewer than `student.batch_size={}`: a batch repeats them",
            counted(images, "image"),
            student.batch_size
        );
    }
    let (fresh, images) = (student.new_batches_per_epoch, student.epoch_images);
    if let Some(images) = images.filter(|images| images / student.batch_size <= fresh)
        && fresh > 0
    {
        tracing::warn!(
            "`student.epoch_images={images}` is {} of `student.batch_size={}`, no more than the \
             {}: the student sees no earlier image",
            counted(images / student.batch_size, "batch"),
            student.batch_size,
            counted(fresh, "fresh batch")
        );
    }
}

/// Refuses settings whose products are beyond any memory; `images` are there at the start.
fn refuse_demands(context: &StageContext, set: &TeacherSet, images: usize) -> Result<()> {
    let (config, student) = (context.config, &context.config.student);
    super::refuse_large_crops(context, set.card.model.size)?;
    let pixels = super::super::image_bytes(&set.card.model);
    let wide = |count: usize| count as u128;
    let made = wide(student.epochs)
        .saturating_mul(wide(student.new_batches_per_epoch))
        .saturating_mul(wide(config.synthetic_batch()));
    let demands = [
        Demand {
            what: "synthetic images",
            count: made,
            bytes: pixels,
            keys: &[
                "student.epochs",
                "student.new_batches_per_epoch",
                batch_size_key(config),
            ],
        },
        Demand {
            what: "images in a batch",
            count: wide(student.batch_size),
            // A batch, and its copy while it is cropped.
            bytes: 2 * pixels,
            keys: &["student.batch_size"],
        },
        Demand {
            what: "mebibytes of the teachers' logits",
            count: student.distill.cache_mib.map_or(0, u128::from),
            bytes: 1 << 20,
            keys: &["student.distill.cache_mib"],
        },
        Demand {
            what: "images in an epoch",
            count: wide(student.epoch_images.unwrap_or(images)),
            bytes: 8,
            keys: &["student.epoch_images"],
        },
    ];
    let mut asked = demands.iter().filter(|demand| demand.count > 0);
    asked.try_for_each(|demand| context.refuse_demand(demand))?;
    super::super::refuse_synthesis(context, pixels)
}

/// Returns the student's own real images: those of the nodes that train no teacher.
fn own_images(
    context: &StageContext,
    dataset: &Dataset,
    set: &TeacherSet,
    run: &mut manifest::Run,
) -> Result<Option<ImageSet>> {
    let Some(path) = &context.config.split.save_path else {
        return Ok(None);
    };
    let has_images = context.config.dataset.kind != DatasetKind::None;
    // A server without data has no split, though the experiment names one.
    if !has_images && !path.exists() {
        return Ok(None);
    }
    let split = match has_images {
        true => context.split(dataset)?,
        false => split::read(path)?,
    };
    run.input("split", path)?;
    let count = teacher_count(&context.config.teacher, split.nodes.len())?.max(set.teachers.len());
    let indices: Vec<usize> = split
        .nodes
        .iter()
        .skip(count)
        .flat_map(|part| part.train.iter().copied())
        .collect();
    if indices.is_empty() {
        return Ok(None);
    }
    if !has_images {
        bail!(
            Error::usage(format!(
                "nodes {count} to {} of the split are the student's own, but `dataset.kind` is \
                 `none`: there are no images",
                split.nodes.len() - 1
            ))
            .note("file", path.display().to_string())
            .hint("give the dataset that was split, or `split.save_path=null`")
        );
    }
    tracing::info!(
        "the student has {} real images of its own (nodes {count} to {})",
        indices.len(),
        split.nodes.len() - 1
    );
    Ok(Some(dataset.train.select(&indices)?))
}

/// Returns in how many batches `images` initial images were made, as their manifest says; batches
/// of the size of the fresh ones, where there is none.
fn initial_batches(context: &StageContext, images: usize) -> usize {
    let made = context.config.initial.save_path.as_deref();
    let made = made.and_then(manifest::made);
    let told = made.and_then(|(_, made)| made.facts.get("batches")?.as_u64());
    told.map_or(images.div_ceil(context.config.synthetic_batch()), |told| {
        told as usize
    })
}

/// Returns the initial batches, on the device.
fn initial(
    context: &StageContext,
    set: &TeacherSet,
    run: &mut manifest::Run,
) -> Result<SyntheticImages> {
    let path = required(
        &context.config.initial.save_path,
        "initial.save_path",
        "outputs/initial.safetensors",
    )?;
    if !path.exists() {
        let error = Error::failed("the initial batches do not exist yet")
            .note("file", path.display().to_string())
            .hint("make them with `generate_initial` and the same overrides");
        bail!(of_sweep::named(error, "initial.save_path", path));
    }
    run.input("initial", path)?;
    refuse_other_teachers(context, path, set, run)?;
    let read = || {
        let file = tensors::read(path)?;
        if let Some(card) = weights::card(&file.metadata)? {
            refuse_other_data(set, &card)?;
        }
        let take = |name: &str| {
            let found = file.tensors.iter().find(|(key, _)| key == name);
            found
                .map(|(_, tensor)| tensor.shallow_clone())
                .ok_or_else(|| Error::failed(format!("there is no tensor `{name}`")))
        };
        let (images, labels) = (take("images")?, take("labels")?);
        check_initial(&images, &labels, &set.card.model)?;
        // A file from elsewhere need not say which teachers its images were made from.
        let teachers = take("teachers").unwrap_or_else(|_| labels.full_like(-1));
        check_teachers(&teachers, &labels, set.teachers.len())?;
        let upload = |tensor: Tensor| tensor.to_device(context.device);
        Ok::<_, Error>(SyntheticImages {
            images: upload(images),
            labels: upload(labels),
            teachers: upload(teachers),
        })
    };
    Ok(read().map_err(|error| error.note("file", path.display().to_string()))?)
}

/// Refuses initial batches that were made of other teachers than those loaded.
fn refuse_other_teachers(
    context: &StageContext,
    path: &Path,
    set: &TeacherSet,
    run: &manifest::Run,
) -> Result<()> {
    let Some((_, made)) = manifest::made(path) else {
        return Ok(());
    };
    if made.stage != stages::GENERATE_INITIAL.name {
        bail!(
            Error::usage("`initial.save_path` names no initial batches")
                .note(
                    "file",
                    format!("{}: `{}` wrote it", path.display(), made.stage)
                )
                .hint("give the file that `generate_initial` wrote, such as `initial.safetensors`")
        );
    }
    warn_of_another_method(context, &made.config)?;
    let made_from = made
        .inputs
        .iter()
        .filter(|input| input.role.starts_with("teacher"))
        .count();
    if made_from != set.paths.len() {
        bail!(
            Error::failed(format!(
                "the initial batches were made from {}, but {} given",
                counted(made_from, "teacher"),
                match set.paths.len() {
                    1 => "1 is".to_owned(),
                    given => format!("{given} are"),
                }
            ))
            .note("file", path.display().to_string())
            .hint(
                "give the same ones (`teacher.num_teachers`, `teacher.only`), or make the initial \
                 batches again with `generate_initial`",
            )
        );
    }
    for (index, teacher) in set.paths.iter().enumerate() {
        let role = format!("teacher{index}");
        let of = |manifest: &manifest::Manifest| {
            let input = manifest.input(&role);
            input.map_or("no such teacher".to_owned(), |input| input.sha256.clone())
        };
        let (expected, found) = (of(&made), of(run.manifest()));
        if expected != found {
            bail!(
                Error::failed(format!(
                    "the initial batches were made from another teacher {index}"
                ))
                .note(
                    "file",
                    format!("{}: made from sha256 {expected}", path.display()),
                )
                .note("file", format!("{}: sha256 {found}", teacher.display()))
                .hint("make the initial batches again with `generate_initial`")
            );
        }
    }
    Ok(())
}

/// Warns of initial batches that another method made, or another number of them than the command
/// line says: `made` is the config of `generate_initial`.
///
/// # Errors
/// Fails for a number that JSON cannot hold.
fn warn_of_another_method(context: &StageContext, made: &Value) -> Result<()> {
    let start = |config: &Value| {
        let start = at(config, "deep_inv.start").as_str().map(str::to_owned);
        start.unwrap_or_else(|| "noise".into())
    };
    let maker = |config: &Value| match at(config, "generator") {
        Value::Null => format!("`deep_inv.start={}`", start(config)),
        _ => "a `generator`".to_owned(),
    };
    let now = json::value(context.config)?;
    let (before, here) = (maker(made), maker(&now));
    let again = "if that is not meant, make them again with `generate_initial` and the same \
                 `+method`";
    if before != here {
        tracing::warn!(
            "the initial batches were made with {before}, but the config has {here}: {again}"
        );
    } else if at(made, "generator") != at(&now, "generator") {
        tracing::warn!(
            "the initial batches were made by a generator with other settings than the config's: \
             {again}"
        );
    }
    // One step, of which the best is kept, leaves the pictures as they were drawn.
    let is_drawn = here == "`deep_inv.start=shapes`"
        && at(made, "deep_inv.di.grad_updates_batch") == 1
        && at(made, "deep_inv.keep") == "best";
    if let Some(setting) = of_labels(context.config).filter(|_| is_drawn) {
        tracing::warn!(
            "pictures of shapes have random labels, and {setting} uses them: \
             `student.objective=distill` with other rules learns what the teachers say of them"
        );
    }
    let key = "initial.num_batches";
    let by = context.composed.set_by(key);
    if at(made, key) != at(&now, key) && by.starts_with("command line") {
        tracing::warn!(
            "`{key}`, set by {by}, makes no batches here: `generate_initial` made {}",
            at(made, key)
        );
    }
    Ok(())
}

/// Returns a setting by which the student learns the labels of the synthetic images, if there is
/// one.
fn of_labels(config: &Config) -> Option<&'static str> {
    match config.student.objective {
        Objective::CrossEntropy => Some("`student.objective=cross_entropy`"),
        Objective::Distill if config.student.distill.label_weight > 0.0 => {
            Some("`student.distill.label_weight`")
        }
        Objective::Distill if config.student_ensemble() == EnsembleKind::LabelGated => {
            Some("the rule `label_gated`")
        }
        Objective::Distill => None,
    }
}

/// Refuses initial batches whose pixels or labels mean something else to the teachers.
fn refuse_other_data(set: &TeacherSet, card: &Card) -> Result<(), Error> {
    let Some(differs) = agreement::difference(&set.card, card) else {
        return Ok(());
    };
    let [teachers, here] = differs.said;
    Err(Error::failed(format!(
        "the initial batches do not fit the teachers: they differ in {}",
        differs.what
    ))
    .note(
        "expected",
        format!("{teachers}: {}", set.paths[0].display()),
    )
    .note("found", here)
    .hint("make the initial batches again with `generate_initial`"))
}

/// Refuses indices of teachers that there are not.
fn check_teachers(teachers: &Tensor, labels: &Tensor, count: usize) -> Result<(), Error> {
    let fits = teachers.size() == labels.size() && teachers.kind() == Kind::Int64;
    let outside = || teachers.lt(-1).logical_or(&teachers.ge(count as i64)).any();
    if fits && !bool::try_from(outside())? {
        return Ok(());
    }
    Err(
        Error::failed("the initial batches do not say which teachers they were made from")
            .note(
                "expected",
                format!("teachers i64 [M], from −1 (several) to {}", count - 1),
            )
            .note(
                "found",
                format!("{:?} {:?}", teachers.kind(), teachers.size()),
            )
            .hint("make the initial batches again with `generate_initial`"),
    )
}

fn check_initial(images: &Tensor, labels: &Tensor, spec: &ModelSpec) -> Result<()> {
    let wanted = [spec.channels, spec.size, spec.size];
    let shape = images.size();
    let fits = shape.len() == 4 && shape[1..] == wanted && images.kind() == Kind::Float;
    if !fits || labels.size() != [shape[0]] || labels.kind() != Kind::Int64 || shape[0] == 0 {
        bail!(
            Error::failed("the initial batches do not fit the teachers")
                .note(
                    "expected",
                    format!(
                        "images f32 [M, {}, {}, {}] and labels i64 [M]",
                        wanted[0], wanted[1], wanted[2]
                    ),
                )
                .note(
                    "found",
                    format!(
                        "images {:?} {shape:?} and labels {:?} {:?}",
                        images.kind(),
                        labels.kind(),
                        labels.size()
                    ),
                )
        );
    }
    let outside = i64::try_from(
        labels
            .lt(0)
            .logical_or(&labels.ge(spec.classes))
            .sum(Kind::Int64),
    )?;
    if outside > 0 || !bool::try_from(images.isfinite().all())? {
        bail!(Error::failed(
            "the initial batches hold labels out of range or pixels that are not finite",
        ));
    }
    Ok(())
}
