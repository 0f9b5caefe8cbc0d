//! Loads what the server's stages start from: the teachers, and the cards that describe data which
//! the server never sees.

use super::train_teachers::{named, weights_path};
use crate::artifact::fault::folder_of;
use crate::artifact::{hash, tensors};
use crate::config::schema::CountsFrom;
use crate::data::DatasetKind;
use crate::error::{During, Error};
use crate::inversion::{Teacher, TeacherCache, estimate_class_shares};
use crate::model::ModelSpec;
use crate::partition::label_counts;
use crate::run::agreement::{self, Task};
use crate::run::manifest;
use crate::run::weights::{self, Card};
use crate::run::{StageContext, of_sweep, required, split};
use crate::words::{counted, first_of};
use anyhow::{Result, bail};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Holds the uploaded teachers. `card` is the first one's; all agree with it on input, classes and
/// normalisation.
pub struct TeacherSet {
    pub teachers: Vec<Teacher>,
    pub paths: Vec<PathBuf>,
    /// Size of each file: what its node uploaded.
    pub bytes: Vec<u64>,
    pub card: Card,
    /// Fingerprint of the one dataset that all were trained on, where their runs left it here.
    pub fingerprint: Option<String>,
}

impl TeacherSet {
    /// Returns all teachers, for an engine.
    pub fn all(&self) -> Vec<&Teacher> {
        self.teachers.iter().collect()
    }

    /// Records every teacher as an input of a run, and the teachers' architectures as a fact.
    pub fn record(&self, run: &mut manifest::Run) -> Result<()> {
        for (index, path) in self.paths.iter().enumerate() {
            run.input(&format!("teacher{index}"), path)?;
        }
        let mut models: Vec<String> = self
            .teachers
            .iter()
            .map(|teacher| teacher.spec.model.to_string())
            .collect();
        models.dedup();
        run.fact(manifest::TEACHERS_MODEL, models.join(", "))?;
        Ok(())
    }
}

/// Loads `model_teacher0`, `model_teacher1`, … of `teacher.save_folder`: those that `teacher.only`
/// names, `teacher.num_teachers` of them, or as many as there are.
///
/// # Errors
/// Fails when teachers are missing or damaged, do not belong together, or were trained on another
/// split.
pub fn load(context: &StageContext) -> Result<TeacherSet> {
    let folder = required(
        &context.config.teacher.save_folder,
        "teacher.save_folder",
        "outputs/teachers",
    )?;
    let split = context
        .config
        .split
        .save_path
        .as_deref()
        .filter(|path| path.exists());
    let nodes = match split {
        Some(path) => {
            let split = split::read(path)?;
            split::refuse_other_settings(context.composed, path, &split)?;
            Some(split.nodes.len())
        }
        None => None,
    };
    let wanted = context.config.teacher.num_teachers.or(nodes);
    let only = match &context.config.teacher.only {
        Some(only) => Some(named(only, wanted.unwrap_or(usize::MAX))?),
        None => None,
    };
    let found = match &only {
        Some(only) => teacher_files(folder, only.iter().copied())?,
        None => teacher_files(folder, 0..wanted.unwrap_or(usize::MAX))?,
    };
    let (numbers, paths): (Vec<usize>, Vec<PathBuf>) = found.into_iter().unzip();
    if let Some(split) = split {
        refuse_other_split(&paths, split, nodes.unwrap_or(0))?;
    }
    let missing = match &only {
        Some(only) => only.get(paths.len()).copied(),
        None => Some(paths.len()).filter(|&next| match wanted {
            Some(count) => next < count,
            None => next == 0 || has_later_teachers(folder, next),
        }),
    };
    if let Some(missing) = missing {
        bail!(missing_teacher(folder, missing, paths.len(), wanted, split));
    }
    let counted_here = RefCell::new(Vec::new());
    let mut uploads = Vec::<Upload>::new();
    for (&node, path) in numbers.iter().zip(&paths) {
        let default_card = || Ok(default_card(context, node, &paths, &counted_here)?);
        let upload = Upload::read(context, node, path, &default_card)?;
        if let Some(first) = uploads.first() {
            refuse_other_task(
                (first.node, &first.card, paths[0].as_path()),
                (node, &upload.card, path.as_path()),
            )?;
        }
        uploads.push(upload);
    }
    warn_about_uploads(&uploads, &counted_here.take());
    let counts = counts_of(&uploads);
    let bytes: Vec<u64> = uploads.iter().map(|upload| upload.bytes).collect();
    let mut cards: Vec<Card> = uploads.into_iter().map(|upload| upload.card).collect();
    let teachers = cached(context, &paths, &cards, counts, &bytes)?;
    tracing::info!(
        "{} from {}",
        counted(teachers.len(), "teacher"),
        folder.display()
    );
    warn_about_model(context, &cards);
    let fingerprint = fingerprint(&paths, &cards);
    let card = cards.swap_remove(0);
    Ok(TeacherSet {
        teachers,
        paths,
        bytes,
        card,
        fingerprint,
    })
}

/// Holds what a teacher's file tells, without its weights.
struct Upload {
    node: usize,
    bytes: u64,
    card: Card,
    has_norm: bool,
    /// The estimated share of each class, where the card does not tell or is not asked.
    shares: Option<Vec<f64>>,
}

impl Upload {
    /// Reads the file of teacher `node`; `default_card` makes the card of one that has none.
    fn read(
        context: &StageContext,
        node: usize,
        path: &Path,
        default_card: &dyn Fn() -> crate::error::Result<Card>,
    ) -> Result<Self> {
        let (model, card) = weights::load(path, default_card, context.device, context.precision)?;
        let shares = match context.config.teacher.counts_from {
            CountsFrom::Card if card.label_counts.is_some() => None,
            _ => {
                let shares = estimate_class_shares(&model);
                Some(shares.map_err(|error| error.note("file", path.display().to_string()))?)
            }
        };
        Ok(Self {
            node,
            bytes: fs_err::metadata(path)?.len(),
            card,
            has_norm: model.batch_norms() > 0,
            shares,
        })
    }
}

/// Warns of what some teachers lack; the label counts of `counted_here` come from the split.
fn warn_about_uploads(uploads: &[Upload], counted_here: &[usize]) {
    let nodes = |is_meant: fn(&Upload) -> bool| -> Vec<usize> {
        let meant = uploads.iter().filter(|upload| is_meant(upload));
        meant.map(|upload| upload.node).collect()
    };
    warn_about(
        &nodes(|upload| upload.card.label_counts.is_none()),
        "label counts, which are estimated from their weights",
    );
    warn_about(
        counted_here,
        "label counts of their own, which are taken from the dataset and the split",
    );
    warn_about(
        &nodes(|upload| !upload.has_norm),
        "batch norm, so that inversion has no feature statistics to match",
    );
}

/// Returns each teacher's label counts: those on its card or, where its classes' shares are
/// estimated, as many images as the others' cards tell on average, divided by the shares.
fn counts_of(uploads: &[Upload]) -> Vec<Vec<u64>> {
    let told = uploads.iter().filter(|upload| upload.shares.is_none());
    let totals: Vec<u64> = told
        .filter_map(|upload| Some(upload.card.label_counts.as_ref()?.iter().sum()))
        .collect();
    let mean = match totals.len() as u64 {
        0 => UNTOLD_IMAGES,
        count => totals.iter().sum::<u64>() / count,
    };
    let counts = |upload: &Upload| match &upload.shares {
        // At least as many as classes, so that not all round to zero.
        Some(shares) => {
            let images = mean.max(shares.len() as u64) as f64;
            let images = shares.iter().map(|share| (share * images).round() as u64);
            images.collect()
        }
        None => upload.card.label_counts.clone().unwrap_or_default(),
    };
    uploads.iter().map(counts).collect()
}

/// Returns the fingerprint of the dataset of all teachers, as the manifests of their runs record it
/// (or, in files of earlier versions, their cards). It never leaves a client, so that a server that
/// is given weights alone knows none.
fn fingerprint(paths: &[PathBuf], cards: &[Card]) -> Option<String> {
    let of = |(path, card): (&PathBuf, &Card)| {
        let made = manifest::made(path);
        let recorded = made.and_then(|(_, made)| made.fingerprint().map(str::to_owned));
        recorded.or_else(|| card.dataset_fingerprint.clone())
    };
    let mut all = paths.iter().zip(cards).map(of);
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first))
        .then_some(first)
}

/// Warns of teachers that have something in common, all in one line: there may be hundreds.
fn warn_about(teachers: &[usize], what: &str) {
    if !teachers.is_empty() {
        tracing::warn!(
            "{} without {what}: {}",
            counted(teachers.len(), "teacher"),
            first_of(teachers)
        );
    }
}

/// Warns that a `model` on the command line changes nothing.
fn warn_about_model(context: &StageContext, cards: &[Card]) {
    let is_model = |typed: &&String| {
        typed
            .trim_start_matches(['+', '~'])
            .split(['.', '='])
            .next()
            == Some("model")
    };
    if let (Some(typed), Some(first)) = (
        context.composed.overrides.iter().find(is_model),
        cards.first(),
    ) && cards
        .iter()
        .all(|card| card.model.model != context.config.model)
    {
        tracing::warn!(
            "`{typed}` changes nothing here: the teachers bring their architecture, {}; the \
             student's is `student.model`",
            first.model.model
        );
    }
}

/// Images that each teacher is taken to have seen where no card tells how many.
const UNTOLD_IMAGES: u64 = 10_000;

/// Limits the bytes of teachers in memory where the config does not set how many are held.
const MEMORY: u64 = 2 << 30;

/// Returns teachers that are read when they are needed; `teacher.in_memory` of them stay in memory.
fn cached(
    context: &StageContext,
    paths: &[PathBuf],
    cards: &[Card],
    counts: Vec<Vec<u64>>,
    bytes: &[u64],
) -> Result<Vec<Teacher>> {
    // The fused passes hold most weights in a second form, of 16 values for 9.
    let largest = 3 * bytes.iter().copied().max().unwrap_or(0).max(1);
    let fitting = usize::try_from(MEMORY / largest).unwrap_or(usize::MAX);
    let room = context.config.teacher.in_memory.unwrap_or(fitting);
    let (files, known) = (paths.to_vec(), cards.to_vec());
    let (device, precision) = (context.device, context.precision);
    let cache = TeacherCache::new(room, move |node| {
        let card = || Ok(known[node].clone());
        let (model, _) = weights::load(&files[node], &card, device, precision)?;
        Ok(model)
    });
    let teacher = |(node, (counts, (path, card))): (usize, (Vec<u64>, (&PathBuf, &Card)))| {
        Teacher::cached(card.model.clone(), device, counts, &cache, node)
            .map_err(|error| error.note("file", path.display().to_string()).into())
    };
    let each = counts.into_iter().zip(paths.iter().zip(cards));
    each.enumerate().map(teacher).collect()
}

/// Refuses teachers whose manifests name another split than the one given.
fn refuse_other_split(paths: &[PathBuf], split: &Path, nodes: usize) -> Result<()> {
    let (_, expected) = hash::file(split)?;
    for path in paths {
        let Some((_, made)) = manifest::made(path) else {
            continue;
        };
        if let Some(input) = made
            .inputs
            .iter()
            .find(|input| input.role == "split" && input.sha256 != expected)
        {
            bail!(Error::failed("the teachers were trained on another split")
                .note(
                    "file",
                    format!("{}: trained on sha256 {}", path.display(), input.sha256),
                )
                .note(
                    "file",
                    format!(
                        "{}: sha256 {expected}, {}",
                        split.display(),
                        counted(nodes, "node")
                    ),
                )
                .hint(
                    "train them again with `train_teachers overwrite=true`, or give the split they \
                     were trained on",
                ));
        }
    }
    Ok(())
}

/// Endings of PyTorch's files; which form a file has is seen from its content.
const ENDINGS: [&str; 7] = ["pt", "pth", "pth.tar", "th", "bin", "ckpt", "pkl"];

/// Returns the file of a teacher, if there is one.
///
/// # Errors
/// Fails when there are several of PyTorch's: which of them is meant cannot be told.
fn teacher_file(folder: &Path, node: usize) -> Result<Option<PathBuf>> {
    let ours = weights_path(folder, node);
    let others = ENDINGS.iter().map(|ending| ours.with_extension(ending));
    let mut others: Vec<PathBuf> = others.filter(|path| path.exists()).collect();
    if ours.exists() {
        for other in others {
            tracing::warn!(
                "teacher {node} is there twice: taking {}, not {}",
                ours.display(),
                other.display()
            );
        }
        return Ok(Some(ours));
    }
    if others.len() > 1 {
        let error = Error::failed(format!("teacher {node} is there {} times", others.len()));
        let error = others.iter().fold(error, |error, path| {
            error.note("file", path.display().to_string())
        });
        bail!(error.hint("keep one of them, and move the others to another folder"));
    }
    Ok(others.pop())
}

/// Returns the files of the teachers `numbers`, up to the first that is missing.
fn teacher_files(
    folder: &Path,
    numbers: impl IntoIterator<Item = usize>,
) -> Result<Vec<(usize, PathBuf)>> {
    let mut found = Vec::new();
    for node in numbers {
        match teacher_file(folder, node)? {
            Some(path) => found.push((node, path)),
            None => break,
        }
    }
    Ok(found)
}

/// Returns the error for a set in which `missing` is the first teacher that is not there, behind
/// `found` others.
fn missing_teacher(
    folder: &Path,
    missing: usize,
    found: usize,
    wanted: Option<usize>,
    split: Option<&Path>,
) -> Error {
    let error = Error::failed(format!("teacher {missing} is missing"))
        .note("file", weights_path(folder, missing).display().to_string());
    let error = match (wanted, split) {
        (Some(count), None) => error
            .note(
                "expected",
                format!("{}: `teacher.num_teachers`", counted(count, "teacher")),
            )
            .note("found", format!("{} before it", counted(found, "teacher"))),
        (Some(count), Some(split)) if found > 0 => error
            .note(
                "expected",
                format!("{}: {}", counted(count, "teacher"), split.display()),
            )
            .note("found", format!("{} before it", counted(found, "teacher")))
            .hint(
                "if these are all: `teacher.num_teachers` says how many, or give the split that \
                 they were trained on",
            ),
        _ => error,
    };
    if folder.is_file() {
        return Error::usage("`teacher.save_folder` is a file")
            .note("file", folder.display().to_string())
            .hint(format!(
                "give the folder of the teachers: `teacher.save_folder={}`",
                folder_of(folder).display()
            ));
    }
    let there: Vec<String> = numbers(folder).iter().map(usize::to_string).collect();
    let below = folder.join("teachers");
    let error = match found == 0 && there.is_empty() && !numbers(&below).is_empty() {
        true => error.hint(format!(
            "some are one folder down: `teacher.save_folder={}`",
            below.display()
        )),
        false => error,
    };
    let error = match there.as_slice() {
        [] => error,
        there => error.hint(format!(
            "if it never comes: `teacher.only=[{}]` does with those that are there, in \
             `generate_initial` and `train_student` alike",
            there.join(",")
        )),
    };
    let error = error.hint(
        "train it with `train_teachers` and the same overrides (a PyTorch state dict \
        named `model_teacher{i}.pt` will do as well)",
    );
    match found {
        0 => of_sweep::named(error, "teacher.save_folder", folder),
        _ => error,
    }
}

/// Returns the numbers i, ascending, of the files `BEGINNING{i}.ENDING` in a folder.
fn numbered(folder: &Path, beginning: &str, is_ending: impl Fn(&str) -> bool) -> BTreeSet<usize> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (number, ending) = name.strip_prefix(beginning)?.split_once('.')?;
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        (is_plain && is_ending(ending)).then(|| number.parse().ok())?
    };
    entries.filter_map(number).collect()
}

/// Returns the numbers of the teachers whose weights are in a folder.
pub fn numbers(folder: &Path) -> BTreeSet<usize> {
    numbered(folder, "model_teacher", |ending| {
        ending == "safetensors" || ENDINGS.contains(&ending)
    })
}

/// Returns true if the folder holds teachers from `node` on: their weights, or the manifest of a
/// run that should have written some.
fn has_later_teachers(folder: &Path, node: usize) -> bool {
    let manifests = numbered(folder, "manifest_teacher", |ending| ending == "json");
    numbers(folder)
        .iter()
        .chain(&manifests)
        .any(|number| *number >= node)
}

/// Returns the card of a teacher that has none (a PyTorch state dict), one of `paths`. Its images
/// are those of node `node` of the dataset's split, and it is added to `counted_here`; where there
/// is no split or no dataset, the task comes from the config or another teacher's card, and the
/// label counts stay unknown.
fn default_card(
    context: &StageContext,
    node: usize,
    paths: &[PathBuf],
    counted_here: &RefCell<Vec<usize>>,
) -> Result<Card> {
    let settings = &context.config.dataset;
    if settings.kind == DatasetKind::None {
        let task = Task::described(settings, known_card(paths).as_ref())?;
        let classes = task.classes.len() as i64;
        let model = ModelSpec::new(&context.config.model, task.channels, task.size, classes);
        return Ok(Card {
            model: model.within("model")?,
            dataset: settings.kind.to_string(),
            dataset_fingerprint: None,
            classes: task.classes,
            normalisation: task.normalisation,
            label_counts: None,
            synthetic_counts: Vec::new(),
        });
    }
    let dataset = context.dataset().map_err(|error| {
        Error::from(error).hint(
            "the weights do not say what they were trained on; a server without the images gives \
             it: `dataset=none`, with `dataset.num_classes`, `dataset.size`, `dataset.mean` and \
             `dataset.std`",
        )
    })?;
    let model = context.model(&dataset)?;
    // Without a split the images are those of the only teacher, or of none of several parties.
    let is_split = context.config.split.save_path.is_some();
    if dataset.train.is_empty() || !is_split && (paths.len() > 1 || node > 0) {
        return Ok(Card::new(model, &dataset, None::<Vec<u64>>));
    }
    counted_here.borrow_mut().push(node);
    let split = context.split(&dataset)?;
    let part = split.nodes.get(node).ok_or_else(|| {
        let error = Error::failed(format!("the split has no node {node} for this teacher"));
        match &context.config.split.save_path {
            Some(path) => error.note("file", path.display().to_string()),
            None => error,
        }
    })?;
    let labels = &dataset.train.label_list;
    let counts = label_counts(&part.train, labels, dataset.classes.len());
    Ok(Card::new(model, &dataset, counts))
}

/// Returns the first card that a file has.
fn known_card(paths: &[PathBuf]) -> Option<Card> {
    let card = |path: &PathBuf| {
        let card = weights::card(&tensors::metadata(path).ok()?).ok()??;
        card.check().is_ok().then_some(card)
    };
    paths.iter().find_map(card)
}

/// Refuses teachers that were trained for another task: their images could not be mixed.
fn refuse_other_task(
    (first_node, first, first_path): (usize, &Card, &Path),
    (node, card, path): (usize, &Card, &Path),
) -> Result<()> {
    let Some(differs) = agreement::difference(first, card) else {
        return Ok(());
    };
    let [before, here] = differs.said;
    let line = |node: usize, path: &Path, said: String| {
        format!("{}: teacher {node} has {said}", path.display())
    };
    Err(Error::failed(format!(
        "the teachers do not belong together: they differ in {}",
        differs.what
    ))
    .note("file", line(first_node, first_path, before))
    .note("file", line(node, path, here))
    .hint(differs.hint)
    .into())
}
