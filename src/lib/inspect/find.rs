//! Finds runs: all below a folder, or the one that a path names.

use super::run::Run;
use crate::artifact::fault::folder_of;
use crate::config::{list, nearest};
use crate::error::Error;
use crate::run::{manifest, stages};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Folders nested deeper than this are not searched.
const DEPTH: usize = 12;
/// Folders are searched to this depth for what may have been meant.
const NEAR: usize = 4;
/// Names that an error lists, at most.
const LISTED: usize = 12;

/// Returns the runs below `folder`, in the order in which they began, and the errors of manifests
/// that cannot be read; of both at least one. Runs that began at the same time (older manifests
/// hold whole seconds) are in the order of [`stages::ALL`], and runs of one stage in that of their
/// manifests' paths.
///
/// # Errors
/// Fails when there is no such folder; no manifest in it.
pub fn below(folder: &Path) -> Result<(Vec<Run>, Vec<Error>)> {
    let folder = self::folder(folder)?;
    let mut manifests = Vec::new();
    walk(folder, DEPTH, &mut manifests);
    if manifests.is_empty() {
        bail!(no_run(folder));
    }
    let (mut runs, mut broken) = (Vec::new(), Vec::new());
    for path in manifests {
        match Run::open(&path, name_within(folder, &path)) {
            Ok(run) => runs.push(run),
            Err(error) => broken.push(error.into()),
        }
    }
    runs.sort_by_cached_key(order);
    Ok((runs, broken))
}

/// Returns what runs are sorted by; no two are equal.
fn order(run: &Run) -> (Option<jiff::Timestamp>, usize, PathBuf) {
    let stage = stages::ALL
        .iter()
        .position(|stage| stage.name == run.manifest.stage);
    (
        run.manifest.started.parse().ok(),
        stage.unwrap_or(stages::ALL.len()),
        run.path.clone(),
    )
}

/// Returns the runs below `folder`, for subcommands that need one: warns about damaged manifests,
/// and refuses a folder without any run.
pub fn some_below(folder: &Path) -> Result<Vec<Run>> {
    let (runs, broken) = below(folder)?;
    broken.iter().for_each(|error| tracing::warn!("{error}"));
    match runs.is_empty() {
        true => Err(no_run(folder).into()),
        false => Ok(runs),
    }
}

/// Reports that there is no run in `folder`.
fn no_run(folder: &Path) -> Error {
    Error::usage(format!("there is no run in `{}`", folder.display()))
        .note(
            "expected",
            "a manifest.json, manifest_NAME.json or NAME.manifest.json that a stage wrote",
        )
        .hint("give the folder that a stage wrote to, or one above it: `inspect runs outputs`")
}

/// Returns the run that `path` means: its manifest, its folder, a file it wrote, its name in
/// `inspect runs`, or a folder with one such run in it. `wanted` selects runs; in errors `what`
/// names them, and `subcommand` is the one that was typed.
///
/// # Errors
/// Fails when there is none, or several.
pub fn one(path: &Path, what: &str, subcommand: &str, wanted: fn(&Run) -> bool) -> Result<Run> {
    let mut found = all(path)?;
    let described = |run: &Run| format!("{} (`{}`)", run.name, run.manifest.stage);
    let there: Vec<String> = found.iter().map(described).collect();
    found.retain(wanted);
    if found.len() == 1 {
        return Ok(found.swap_remove(0));
    }
    let (which, label, names) = match found.is_empty() {
        true => ("holds no", "found", there),
        false => {
            let names = found.iter().map(|run| run.name.clone()).collect();
            ("holds more than one", "available", names)
        }
    };
    let error =
        Error::usage(format!("`{}` {which} {what}", path.display())).note(label, some_of(&names));
    let error = match found.first() {
        Some(first) => error.hint(format!("say which, as `{}`", first.name)),
        None => match near(path, wanted) {
            Some(run) => error.hint(format!("one near it: `inspect {subcommand} {}`", run.name)),
            None => error.hint(format!("`inspect {}` shows what is there", shown_by(path))),
        },
    };
    Err(error.into())
}

/// Returns the subcommand that shows what is at `path`, and its argument.
fn shown_by(path: &Path) -> String {
    let subcommand = match path.is_dir() && !path.join("manifest.json").is_file() {
        true => "runs",
        false => "show",
    };
    format!("{subcommand} {}", path.display())
}

/// Returns a run that is wanted near `path`: below its folder, or somewhat below the one above.
fn near(path: &Path, wanted: fn(&Run) -> bool) -> Option<Run> {
    let folder = folder_of(path);
    let mut manifests = Vec::new();
    walk(folder, NEAR, &mut manifests);
    walk(folder_of(folder), NEAR / 2, &mut manifests);
    let open = |manifest: &PathBuf| named_by_path(manifest.strip_prefix(".").unwrap_or(manifest));
    manifests.iter().flat_map(open).find(wanted)
}

/// Returns the folders in `folder`, beside it and beside the one that it lies in, of which `holds`
/// is true, in this order.
pub fn folders_near(folder: &Path, holds: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let above = folder_of(folder);
    let mut near = Vec::new();
    for around in [folder, above, folder_of(above)] {
        let names = folders_in(around).into_iter();
        near.extend(names.map(|name| within(around, &name)));
    }
    let mut seen = BTreeSet::new();
    near.retain(|folder| holds(folder) && seen.insert(folder.clone()));
    near
}

/// Returns the path of `name` in `folder`, as it is typed.
pub fn within(folder: &Path, name: &str) -> PathBuf {
    folder.strip_prefix(".").unwrap_or(folder).join(name)
}

/// Returns true if `path` is no file, and the name of a run in its folder as `inspect runs` lists
/// it, such as `teachers/teacher0`.
pub fn is_run(path: &Path) -> bool {
    !path.exists() && manifest_named(path).is_some()
}

/// Returns the manifest of the run that has the name `path` in its folder.
fn manifest_named(path: &Path) -> Option<PathBuf> {
    let (folder, name) = (path.parent().unwrap_or(Path::new("")), file_name(path));
    let named = [
        format!("manifest_{name}.json"),
        format!("{name}.manifest.json"),
    ];
    let mut manifests = named.iter().map(|name| folder.join(name));
    manifests.find(|manifest| manifest.is_file())
}

/// Returns the run that wrote the file at `path`, if a manifest in its folder lists it.
pub fn writer_of(path: &Path) -> Option<Run> {
    let real = path.canonicalize().ok()?;
    let wrote_it = |run: &Run| {
        let mut outputs = run.manifest.outputs.iter();
        outputs.any(|record| {
            let path = record.current_path(&run.path).canonicalize();
            path.is_ok_and(|path| path == real)
        })
    };
    let mut manifests = Vec::new();
    walk(folder_of(path), 0, &mut manifests);
    let mut runs = manifests.iter().flat_map(|path| named_by_path(path));
    runs.find(wrote_it)
}

/// Returns every run that `path` means.
pub fn all(path: &Path) -> Result<Vec<Run>> {
    if path.is_file() {
        let manifest = match is_manifest(&file_name(path)) {
            true => Some(path.to_path_buf()),
            false => manifest::producer_of(path),
        };
        let manifest = manifest.ok_or_else(|| {
            let what = format!("no manifest says which run wrote `{}`", path.display());
            let error = Error::usage(what).hint("give the folder that a stage wrote to");
            let runs = runs_in(folder_of(path));
            let runs: Vec<String> = runs.iter().map(|name| typed(path, name)).collect();
            match runs.as_slice() {
                [] => error,
                names => error.note("available", some_of(names)),
            }
        })?;
        return Ok(vec![named_by_path(&manifest)?]);
    }
    if path.is_dir() {
        let own = path.join("manifest.json");
        return match own.is_file() {
            true => Ok(vec![named_by_path(&own)?]),
            false => {
                // Named so that the name can be typed.
                let mut runs = some_below(path)?;
                runs.iter_mut()
                    .for_each(|run| run.name = path.join(&run.name).display().to_string());
                Ok(runs)
            }
        };
    }
    match manifest_named(path) {
        Some(manifest) => Ok(vec![named_by_path(&manifest)?]),
        None => Err(nothing_there("run", path, &runs_in(folder_of(path))).into()),
    }
}

/// Returns `path` if there is a file, else an error that lists the files beside it.
///
/// # Errors
/// Fails when there is no such file.
pub fn file(path: &Path) -> Result<&Path> {
    match path.is_file() {
        true => Ok(path),
        false => Err(nothing_there("file", path, &files_in(folder_of(path))).into()),
    }
}

/// Returns `path` if there is a folder, else an error that lists the folders beside it.
///
/// # Errors
/// Fails when there is no such folder, or it is a file.
pub fn folder(path: &Path) -> Result<&Path> {
    match path {
        path if path.is_dir() => Ok(path),
        path if path.is_file() => Err(no_folder(path).into()),
        path => Err(nothing_there("folder", path, &folders_in(folder_of(path))).into()),
    }
}

/// Reports that `path` is a file where a folder is wanted.
fn no_folder(path: &Path) -> Error {
    let what = format!("`{}` is a file, not a folder", path.display());
    let above = path.parent().filter(|above| *above != Path::new(""));
    let above = above.unwrap_or(Path::new(".")).display().to_string();
    Error::usage(what).hint(format!("the folder that it lies in is `{above}`"))
}

/// Reports that there is no file, folder or run at `path`; `names` are those in its folder that may
/// have been meant.
fn nothing_there(what: &str, path: &Path, names: &[String]) -> Error {
    let error = Error::usage(format!("there is no {what} `{}`", path.display()));
    let folder = folder_of(path);
    if names.is_empty() {
        return error.hint(match files_in(folder).is_empty() {
            true => format!("`{}` is empty or does not exist either", folder.display()),
            false => format!("there is no {what} in `{}`", folder.display()),
        });
    }
    let wrong = file_name(path);
    // A folder with one run stands for it.
    let above = |name: &String| -> Vec<String> {
        let folders = Path::new(name).ancestors().skip(1);
        let folders = folders.map(|folder| folder.display().to_string());
        folders.filter(|folder| !folder.is_empty()).collect()
    };
    let meant: Vec<String> = names.iter().flat_map(above).chain(names.to_vec()).collect();
    // Names of files share endings and stages' words: only a slip of the fingers is a hint.
    match nearest(&wrong, &meant)
        .filter(|name| strsim::osa_distance(&wrong, name) <= 1 + wrong.len() / 6)
    {
        Some(name) => error.hint(format!("did you mean `{}`?", typed(path, name))),
        None if what == "run" => {
            let names: Vec<String> = names.iter().map(|name| typed(path, name)).collect();
            error.note("available", some_of(&names))
        }
        None => error.note("available", some_of(names)),
    }
}

/// Returns `name`, which counts from the folder of `path`, as it is typed.
fn typed(path: &Path, name: &str) -> String {
    path.with_file_name(name).display().to_string()
}

/// Returns the names of the runs in a folder and somewhat below it, as paths from there, sorted.
fn runs_in(folder: &Path) -> Vec<String> {
    let mut manifests = Vec::new();
    walk(folder, NEAR, &mut manifests);
    let within = |path: &PathBuf| name(path.strip_prefix(folder).unwrap_or(path));
    let mut names: Vec<String> = manifests.iter().map(within).collect();
    // The folder's own run has no name there.
    names.retain(|name| !name.is_empty());
    names.sort();
    names
}

/// Joins the first [`LISTED`] names, and counts the others.
fn some_of(names: &[String]) -> String {
    let shown = list(&names[..names.len().min(LISTED)]);
    match names.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn folders_in(folder: &Path) -> Vec<String> {
    let mut names = files_in(folder);
    names.retain(|name| folder.join(name).is_dir());
    names
}

/// Returns the names in a folder that are not hidden, sorted.
pub fn files_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Appends the manifests in `folder` and the folders below it, `deeper` levels down.
fn walk(folder: &Path, deeper: usize, found: &mut Vec<PathBuf>) {
    for name in files_in(folder) {
        let path = folder.join(&name);
        // Links could lead around in circles.
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() && deeper > 0 {
            walk(&path, deeper - 1, found);
        } else if is_manifest(&name) && path.is_file() {
            found.push(path);
        }
    }
}

fn is_manifest(name: &str) -> bool {
    name == "manifest.json"
        || name.ends_with(".manifest.json")
        || (name.starts_with("manifest_") && name.ends_with(".json"))
}

/// Opens a run under the name that its path gives it.
fn named_by_path(manifest: &Path) -> Result<Run> {
    Run::open(manifest, name(manifest))
}

/// Returns a run's name as a path from `folder`.
fn name_within(folder: &Path, manifest: &Path) -> String {
    match name(manifest.strip_prefix(folder).unwrap_or(manifest)) {
        // The folder's own run.
        name if name.is_empty() => folder
            .file_name()
            .map_or(".".into(), |name| name.to_string_lossy().into_owned()),
        name => name,
    }
}

/// Returns the name of a run by its manifest: `student/manifest.json` is `student`,
/// `teachers/manifest_teacher0.json` is `teachers/teacher0`, `split.manifest.json` is `split`.
fn name(manifest: &Path) -> String {
    let name = file_name(manifest);
    let own = name.strip_suffix(".manifest.json");
    let own = own.or_else(|| name.strip_prefix("manifest_")?.strip_suffix(".json"));
    let path = match own {
        Some(own) => manifest.with_file_name(own),
        None => manifest.parent().unwrap_or(Path::new("")).to_path_buf(),
    };
    path.display().to_string()
}
