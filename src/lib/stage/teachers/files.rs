//! Finds the files of the server's teachers, and says what to do about one that is missing.

use super::super::train_teachers::{named, weights_path};
use crate::artifact::fault::folder_of;
use crate::artifact::hash;
use crate::error::Error;
use crate::run::{StageContext, manifest, of_sweep, required, split};
use crate::words::counted;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Finds the files of `model_teacher0`, `model_teacher1`, … in `teacher.save_folder`: those that
/// `teacher.only` names, `teacher.num_teachers` of them, or as many as there are. Returns the
/// folder, and the number and file of each teacher.
///
/// # Errors
/// Fails when a teacher is missing or was trained on another split.
pub(super) fn find<'a>(context: &'a StageContext) -> Result<(&'a Path, Vec<(usize, PathBuf)>)> {
    let settings = &context.config.teacher;
    let folder = required(
        &settings.save_folder,
        "teacher.save_folder",
        "outputs/teachers",
    )?;
    let wanted = context.config.split.save_path.as_deref();
    let split = wanted.filter(|path| path.exists());
    // An experiment names one although a server need not have it; who types it may have erred.
    if let (Some(path), None) = (wanted, split)
        && context
            .composed
            .set_by("split.save_path")
            .starts_with("command line")
    {
        tracing::warn!(
            "`{}` does not exist: the teachers are not compared with a split",
            path.display()
        );
    }
    let nodes = match split {
        Some(path) => {
            let split = split::read(path)?;
            split::refuse_other_settings(context.composed, path, &split)?;
            Some(split.nodes.len())
        }
        None => None,
    };
    let wanted = settings.num_teachers.or(nodes);
    let most = wanted.unwrap_or(usize::MAX);
    let only = settings.only.as_ref();
    let only = only.map(|only| named(only, most)).transpose()?;
    let found = match &only {
        Some(only) => teacher_files(folder, only.iter().copied())?,
        None => teacher_files(folder, 0..most)?,
    };
    if let Some(split) = split {
        refuse_other_split(&found, split, nodes.unwrap_or(0))?;
    }
    let missing = match &only {
        Some(only) => only.get(found.len()).copied(),
        None => Some(found.len()).filter(|&next| match wanted {
            Some(count) => next < count,
            None => next == 0 || has_later_teachers(folder, next),
        }),
    };
    match missing {
        Some(missing) => {
            let expected = match (&only, settings.num_teachers, split, nodes) {
                (Some(only), ..) => Some((only.len(), Source::Key("teacher.only"))),
                (_, Some(count), ..) => Some((count, Source::Key("teacher.num_teachers"))),
                (.., Some(path), Some(nodes)) => Some((nodes, Source::Split(path))),
                _ => None,
            };
            bail!(missing_teacher(folder, missing, found.len(), expected))
        }
        None => Ok((folder, found)),
    }
}

/// Refuses teachers whose manifests name another split than the one given.
fn refuse_other_split(found: &[(usize, PathBuf)], split: &Path, nodes: usize) -> Result<()> {
    let (_, expected) = hash::file(split)?;
    for (_, path) in found {
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

/// Tells who says how many teachers there should be.
enum Source<'a> {
    Key(&'static str),
    Split(&'a Path),
}

/// Returns the error for a set in which `missing` is the first teacher that is not there, behind
/// `found` others; `expected` is how many there should be, and who says so.
fn missing_teacher(
    folder: &Path,
    missing: usize,
    found: usize,
    expected: Option<(usize, Source)>,
) -> Error {
    let error = Error::failed(format!("teacher {missing} is missing"))
        .note("file", weights_path(folder, missing).display().to_string());
    let error = match &expected {
        None => error,
        Some((count, source)) => {
            let by = match source {
                Source::Key(key) => format!("`{key}`"),
                Source::Split(path) => path.display().to_string(),
            };
            error
                .note("expected", format!("{}: {by}", counted(*count, "teacher")))
                .note("found", format!("{} before it", counted(found, "teacher")))
        }
    };
    let error = match expected {
        Some((_, Source::Split(_))) if found > 0 => error.hint(
            "if these are all: `teacher.num_teachers` says how many, or give the split that they \
             were trained on",
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
    let there = numbers(folder);
    let below = folder.join("teachers");
    let error = match found == 0 && there.is_empty() && !numbers(&below).is_empty() {
        true => error.hint(format!(
            "some are one folder down: `teacher.save_folder={}`",
            below.display()
        )),
        false => error,
    };
    let limit = expected.map_or(usize::MAX, |(count, source)| match source {
        Source::Key("teacher.only") => usize::MAX,
        _ => count,
    });
    let there: Vec<String> = there.range(..limit).map(usize::to_string).collect();
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
