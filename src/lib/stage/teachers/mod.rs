//! Loads what the server's stages start from: the teachers, and the cards that describe data which
//! the server never sees.

mod files;
mod upload;

pub use files::numbers;

use crate::error::Error;
use crate::inversion::{Teacher, TeacherCache};
use crate::run::weights::{self, Card};
use crate::run::{StageContext, agreement, manifest};
use crate::words::counted;
use anyhow::Result;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use upload::{DefaultCards, Upload, counts_of, warn_about_uploads};

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
    /// The label counts of all, where those of some were counted here, in the dataset.
    counted: Option<Vec<Vec<u64>>>,
}

impl TeacherSet {
    /// Returns all teachers, for an engine.
    pub fn all(&self) -> Vec<&Teacher> {
        self.teachers.iter().collect()
    }

    /// Records every teacher as an input of a run, and as facts the teachers' architectures, and
    /// their label counts where these are not in their files.
    pub fn record(&self, run: &mut manifest::Run) -> Result<()> {
        for (index, path) in self.paths.iter().enumerate() {
            run.input(&format!("teacher{index}"), path)?;
        }
        let mut models: Vec<String> = self
            .teachers
            .iter()
            .map(|teacher| teacher.spec.model.to_string())
            .collect();
        models.sort();
        models.dedup();
        run.fact(manifest::TEACHERS_MODEL, models.join(", "))?;
        if let Some(counts) = &self.counted {
            run.fact("label_counts", counts)?;
        }
        Ok(())
    }
}

/// Loads the teachers that the config names, in the order of their numbers.
///
/// # Errors
/// Fails when teachers are missing or damaged, do not belong together, or were trained on another
/// split.
pub fn load(context: &StageContext) -> Result<TeacherSet> {
    let (folder, found) = files::find(context)?;
    let (numbers, paths): (Vec<usize>, Vec<PathBuf>) = found.into_iter().unzip();
    let (uploads, is_counted) = read(context, &numbers, &paths)?;
    let counts = counts_of(&uploads);
    let is_estimated: Vec<bool> = uploads
        .iter()
        .map(|upload| upload.shares.is_some())
        .collect();
    let made = is_counted.then(|| counts.clone());
    let bytes: Vec<u64> = uploads.iter().map(|upload| upload.bytes).collect();
    let mut cards: Vec<Card> = uploads.into_iter().map(|upload| upload.card).collect();
    let teachers = cached(context, &paths, &cards, counts, &bytes)?;
    let teachers = teachers.into_iter().zip(is_estimated);
    let teachers: Vec<Teacher> = teachers
        .map(|(teacher, is_estimated)| match is_estimated {
            true => teacher.with_estimated_counts(),
            false => teacher,
        })
        .collect();
    tracing::info!(
        "{} from {}",
        counted(teachers.len(), "teacher"),
        folder.display()
    );
    warn_about_model(context, &cards);
    let fingerprint = fingerprint(&paths);
    let card = cards.swap_remove(0);
    Ok(TeacherSet {
        teachers,
        paths,
        bytes,
        card,
        fingerprint,
        counted: made,
    })
}

/// Reads the uploads of the teachers `numbers`, which must belong together, and warns of what some
/// of them lack. Returns also whether images of some were counted.
fn read(
    context: &StageContext,
    numbers: &[usize],
    paths: &[PathBuf],
) -> Result<(Vec<Upload>, bool)> {
    let cards = DefaultCards::new(context, paths);
    let mut uploads = Vec::<Upload>::new();
    for (&node, path) in numbers.iter().zip(paths) {
        let default_card = || Ok(cards.card(node)?);
        let upload = Upload::read(context, node, path, &default_card)?;
        if let Some(first) = uploads.first() {
            refuse_other_task(
                (first.node, &first.card, paths[0].as_path()),
                (node, &upload.card, path.as_path()),
            )?;
        }
        uploads.push(upload);
    }
    let counted = cards.counted();
    warn_about_uploads(context, &uploads, &counted);
    Ok((uploads, !counted.is_empty()))
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
    // The fused passes hold most weights in a second form as well, of 16 or 36 values for 9.
    let largest = 5 * bytes.iter().copied().max().unwrap_or(0).max(1);
    let fitting = usize::try_from(MEMORY / largest).unwrap_or(usize::MAX);
    let room = context.config.teacher.in_memory.unwrap_or(fitting);
    let (files, known) = (paths.to_vec(), cards.to_vec());
    let (device, precision) = (context.device, context.precision);
    let versions: Vec<_> = files.iter().map(|path| version(path)).collect();
    let cache = TeacherCache::new(room, move |index| {
        if version(&files[index]) != versions[index] {
            return Err(
                Error::failed("the teacher's file has changed since this run began").hint(
                    "put the earlier one back and type `resume=true`, or start again with \
                         `overwrite=true`",
                ),
            );
        }
        let card = || Ok(known[index].clone());
        let (model, _) = weights::load(&files[index], &card, device, precision)?;
        Ok(model)
    });
    let teacher = |(index, (counts, (path, card))): (usize, (Vec<u64>, (&PathBuf, &Card)))| {
        Teacher::cached(card.model.clone(), device, counts, &cache, index)
            .map_err(|error| error.note("file", path.display().to_string()).into())
    };
    let each = counts.into_iter().zip(paths.iter().zip(cards));
    each.enumerate().map(teacher).collect()
}

/// Returns what tells a file from another that was put in its place: inode, length and times.
fn version(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let data = std::fs::metadata(path).ok()?;
    Some((data.ino(), data.len(), data.mtime(), data.mtime_nsec()))
}

/// Returns the fingerprint of the dataset of all teachers, as the manifests of their runs record
/// it. It never leaves a client, so that a server that is given weights alone knows none.
fn fingerprint(paths: &[PathBuf]) -> Option<String> {
    let of = |path: &PathBuf| {
        let (_, made) = manifest::made(path)?;
        made.fingerprint().map(str::to_owned)
    };
    let mut all = paths.iter().map(of);
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first))
        .then_some(first)
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
