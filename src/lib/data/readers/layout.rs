//! Recognises training and test images and their classes by the names of a set's files:
//! `[TOP/]SPLIT/CLASS/…/NAME` or `[TOP/]CLASS/…/NAME`. Used by the image folder reader.

use super::damaged;
use super::input::{self, shown, some_of};
use super::listing::{Listing, Stored, is_hidden};
use crate::error::{Error, Result, Text, assignment, parameter};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Endings of the files that are read.
pub(super) const ENDINGS: [&str; 10] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff",
];

/// Folders above those of the splits are skipped up to this many.
pub(super) const MAX_TOPS: usize = 2;

/// Distinguishes training images from test images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Split {
    Train,
    Test,
    /// Images that stand in for test images where there are none.
    Validation,
}

/// Returns the split that a folder is named after, in any case.
pub(super) fn split_named(folder: &str) -> Option<Split> {
    match folder.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "test" | "testing" => Some(Split::Test),
        "val" | "valid" | "validation" => Some(Split::Validation),
        _ => None,
    }
}

/// Returns true for a name that ends as those of images do.
pub(super) fn is_image(name: &str) -> bool {
    let ending = ending(name).unwrap_or_default();
    ENDINGS
        .iter()
        .any(|known| known.eq_ignore_ascii_case(ending))
}

/// Returns the ending of a file's name, without the dot.
fn ending(path: &str) -> Option<&str> {
    let name = path.rsplit('/').next()?;
    let (stem, ending) = name.rsplit_once('.')?;
    (!stem.is_empty()).then_some(ending)
}

/// Holds the name of an image and what it says.
pub(super) struct ImagePath {
    /// Path in the folder or archive.
    pub path: String,
    /// Entry of an archive that has its contents, if it is a link to that.
    pub target: Option<String>,
    pub split: Split,
    pub label: usize,
    /// Where the name below the class folder begins.
    name: usize,
}

impl ImagePath {
    /// Returns the key that images are sorted by: split, class, name below the class folder.
    fn key(&self) -> (Split, usize, &str) {
        (self.split, self.label, &self.path[self.name..])
    }
}

/// Holds the images of a set in its order, and its classes in order of their names.
pub(super) struct Layout {
    pub images: Vec<ImagePath>,
    pub classes: Vec<String>,
}

/// Holds an image's path and the offsets of its parts.
struct Parts {
    file: Stored,
    /// The split, and the end of its folder; `None` in a set without splits.
    split: Option<(Split, usize)>,
    /// Start and end of the class.
    class: (usize, usize),
}

impl Parts {
    fn class(&self) -> &str {
        &self.file.name[self.class.0..self.class.1]
    }

    /// Returns the path down to the split's folder.
    fn folder(&self) -> &str {
        &self.file.name[..self.split.map_or(0, |(_, end)| end)]
    }

    fn is(&self, split: Split) -> bool {
        self.split.is_some_and(|(found, _)| found == split)
    }
}

/// Counts the files that are not read, by the reason.
#[derive(Default)]
struct Skipped {
    reasons: BTreeMap<String, usize>,
}

impl Skipped {
    fn add(&mut self, reason: impl Into<String>, count: usize) {
        *self.reasons.entry(reason.into()).or_default() += count;
    }

    /// Names the reasons with their counts, the most frequent first.
    fn text(&self) -> String {
        let mut reasons: Vec<_> = self
            .reasons
            .iter()
            .filter(|(_, count)| **count > 0)
            .collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
        let reasons = reasons.iter().take(input::SHOWN);
        let reasons: Vec<String> = reasons
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.join(", ")
    }

    fn count(&self) -> usize {
        self.reasons.values().sum()
    }
}

impl Layout {
    /// Finds the images in a list of files. With `divide` only training images are taken, of which
    /// some become test images; a set without folders for splits has no others. Warns of what is
    /// not read.
    ///
    /// # Errors
    /// Fails when there are no images of a split, when there are several sets, when a class of the
    /// test images has no training images, and when an image occurs twice.
    pub fn of(listing: Listing, source: &Path, divide: bool) -> Result<Self> {
        let mut skipped = Skipped::default();
        skipped.add(
            "links to nothing, sparse files, pipes or devices",
            listing.unread,
        );
        skipped.add("links to a folder that they lie in", listing.circular);
        let annotated = listing.files.iter().any(|file| is_annotation(&file.name));
        let files = images_only(listing.files, &mut skipped);
        let (parts, folders) = match files.iter().any(|file| split_of(&file.name).is_some()) {
            true => {
                let folders = &listing.folders;
                splits(files, folders, source, divide, annotated, &mut skipped)?
            }
            false => flat(files, &listing.folders, source, divide, &mut skipped)?,
        };
        if skipped.count() > 0 {
            tracing::warn!(
                "{}: {} skipped: {}; what is read ends in .{}",
                source.display(),
                match skipped.count() {
                    1 => "1 file was".into(),
                    count => format!("{count} files were"),
                },
                skipped.text(),
                ENDINGS.join(", .")
            );
        }
        let layout = Self::from_parts(parts, folders, source)?;
        layout.warn_about_empty_classes(source);
        Ok(layout)
    }

    /// Labels and sorts the images; `folders` are the names of the class folders of the training
    /// images.
    fn from_parts(parts: Vec<Parts>, folders: BTreeSet<String>, source: &Path) -> Result<Self> {
        let mut classes = folders;
        let train = parts.iter().filter(|part| !is_test(part));
        let trained: BTreeSet<String> = train.map(|part| part.class().to_owned()).collect();
        classes.extend(trained.iter().cloned());
        let classes: Vec<String> = classes.into_iter().collect();
        let mut images = Vec::with_capacity(parts.len());
        for part in parts {
            let class = part.class();
            if is_test(&part) && !trained.contains(class) {
                return Err(unknown_class(&part, &trained, source));
            }
            // The class is one of them: of a training image, or known from one.
            let label = classes.binary_search_by(|known| known.as_str().cmp(class));
            images.push(ImagePath {
                label: label.unwrap_or_default(),
                split: if is_test(&part) {
                    Split::Test
                } else {
                    Split::Train
                },
                name: part.class.1 + 1,
                path: part.file.name,
                target: part.file.target,
            });
        }
        images.sort_by(|a, b| a.key().cmp(&b.key()));
        match images
            .windows(2)
            .find(|pair| pair[0].key() == pair[1].key())
        {
            Some(pair) => Err(damaged(&source.join(&pair[0].path), "it is there twice")),
            None => Ok(Self { images, classes }),
        }
    }

    fn warn_about_empty_classes(&self, source: &Path) {
        let mut empty = vec![true; self.classes.len()];
        for image in self
            .images
            .iter()
            .filter(|image| image.split == Split::Train)
        {
            empty[image.label] = false;
        }
        let names = self.classes.iter().zip(empty).filter(|(_, empty)| *empty);
        let names: Vec<String> = names
            .map(|(name, _)| format!("`{}`", shown(name)))
            .collect();
        if !names.is_empty() {
            tracing::warn!(
                "{}: no training images of class {}; it keeps its place among the {} classes: \
                 remove the folder if it is none",
                source.display(),
                some_of(names),
                self.classes.len()
            );
        }
    }
}

fn is_test(part: &Parts) -> bool {
    part.split.is_some_and(|(split, _)| split != Split::Train)
}

fn unknown_class(part: &Parts, trained: &BTreeSet<String>, source: &Path) -> Error {
    let class = shown(part.class());
    Error::failed(format!("test class `{class}` has no training images"))
        .note("file", source.join(&part.file.name).display().to_string())
        .note("available", some_of(trained.iter().cloned().collect()))
        .hint(
            assignment("test_share", 0.2)
                + " takes a fifth of each class of training images for the test instead",
        )
}

/// Returns the files that are named like images and not hidden.
fn images_only(files: Vec<Stored>, skipped: &mut Skipped) -> Vec<Stored> {
    let mut images = Vec::with_capacity(files.len());
    for file in files {
        if file.name.split('/').any(is_hidden) {
            skipped.add("hidden", 1);
        } else if is_image(&file.name) {
            images.push(file);
        } else {
            match ending(&file.name) {
                Some(ending) => skipped.add(format!(".{}", shown(&ending.to_lowercase())), 1),
                None => skipped.add("without an ending", 1),
            }
        }
    }
    images
}

/// Returns the split that a path names, with the start of its folder and the end.
fn split_of(path: &str) -> Option<(Split, usize, usize)> {
    let mut start = 0;
    for part in path.split('/').take(MAX_TOPS + 1) {
        let end = start + part.len();
        if let Some(split) = split_named(part) {
            // A class folder and a name follow.
            let rest = path.get(end + 1..)?;
            return rest.contains('/').then_some((split, start, end));
        }
        start = end + 1;
    }
    None
}

/// Returns the images of a set with folders for its splits, and the class folders of the training
/// images. `annotated` tells that a file has the classes of the validation images.
fn splits(
    files: Vec<Stored>,
    folders: &[String],
    source: &Path,
    divide: bool,
    annotated: bool,
    skipped: &mut Skipped,
) -> Result<(Vec<Parts>, BTreeSet<String>)> {
    let mut parts = Vec::with_capacity(files.len());
    for file in files {
        match split_of(&file.name) {
            None => skipped.add("outside the class folders", 1),
            Some((split, _, end)) => {
                let class = end + 1;
                let length = file.name[class..].find('/').unwrap_or_default();
                parts.push(Parts {
                    file,
                    split: Some((split, end)),
                    class: (class, class + length),
                });
            }
        }
    }
    let test = match divide {
        true => None,
        false => Some(test_split(&parts, source, annotated)?),
    };
    if !parts.iter().any(|part| part.is(Split::Train)) {
        return Err(no_images("train", &parts, source));
    }
    let (used, unused): (Vec<Parts>, Vec<Parts>) = parts
        .into_iter()
        .partition(|part| part.is(Split::Train) || test.is_some_and(|test| part.is(test)));
    for part in unused {
        skipped.add(
            format!("in `{}`, which is not used", shown(part.folder())),
            1,
        );
    }
    one_set(&used, source)?;
    let train = used.iter().find(|part| part.is(Split::Train));
    let train = train
        .map(|part| format!("{}/", part.folder()))
        .unwrap_or_default();
    Ok((used, children(folders, &train)))
}

/// Returns the split whose images are those of the test: `test`, else what is named `val`. Where
/// `test` has no class of the training images, as in sets whose test labels are secret, `val` comes
/// first; it needs class folders, where a file of annotations has the classes.
fn test_split(parts: &[Parts], source: &Path, annotated: bool) -> Result<Split> {
    let classes = |split| -> BTreeSet<&str> {
        let parts = parts.iter().filter(|part| part.is(split));
        parts.map(Parts::class).collect()
    };
    let (train, test, validation) = (
        classes(Split::Train),
        classes(Split::Test),
        classes(Split::Validation),
    );
    if test.is_empty() && validation.is_empty() {
        return Err(no_images("test", parts, source));
    }
    let unsorted = train.is_disjoint(&test) && train.is_disjoint(&validation);
    if annotated && unsorted && !train.is_empty() {
        return Err(no_class_folders(source));
    }
    let chosen = match test.is_disjoint(&train) && !validation.is_disjoint(&train) {
        true => Split::Validation,
        false if test.is_empty() => Split::Validation,
        false => Split::Test,
    };
    let folder = parts.iter().find(|part| part.is(chosen)).map(Parts::folder);
    if let (Split::Validation, Some(folder)) = (chosen, folder) {
        tracing::warn!(
            "{}: the images in `{}` are taken as test images",
            source.display(),
            shown(folder)
        );
    }
    Ok(chosen)
}

/// File beside the validation images of Tiny ImageNet: a name and a class a line, between tabs.
const ANNOTATIONS: &str = "val_annotations.txt";

fn is_annotation(path: &str) -> bool {
    path.rsplit('/').next() == Some(ANNOTATIONS)
}

/// Returns the error for validation images whose classes are in a file of annotations.
fn no_class_folders(source: &Path) -> Error {
    let sort = format!(
        "while read -r name class rest; do mkdir -p $class && mv images/$name $class/; done < \
         {ANNOTATIONS}"
    );
    let what = "the images in `val` lie in no class folders: their classes are in a file";
    let error = Error::failed(what)
        .note("found", ANNOTATIONS)
        .note("file", source.display().to_string())
        .note("expected", "val/CLASS/… with the classes of train/CLASS/…");
    let error = match source.is_dir() {
        true => error.hint(format!("in the folder `val` type: {sort}")),
        false => error.hint(format!(
            "unpack the archive, and in the folder `val` type: {sort}"
        )),
    };
    error.hint(
        assignment("test_share", 0.2)
            + " takes a fifth of each class of training images for the test instead",
    )
}

/// Returns the error for a split without images.
fn no_images(split: &str, parts: &[Parts], source: &Path) -> Error {
    let endings = "*.png, *.jpg, *.jpeg, *.webp, *.bmp, *.gif or *.tiff";
    let error = Error::failed(format!("there are no images in `{split}`"))
        .note("file", source.display().to_string())
        .note("expected", format!("{split}/CLASS/{endings}"));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for part in parts {
        *counts.entry(part.folder()).or_default() += 1;
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(folder, count)| format!("{folder}/ ({count})"))
        .collect();
    let error = error.note("available", some_of(counts));
    match split {
        "test" => error.hint(
            assignment("test_share", 0.2)
                + " takes a fifth of each class of training images for the test",
        ),
        _ => error,
    }
}

/// Fails unless all images are of one set, in one folder for each split.
fn one_set(parts: &[Parts], source: &Path) -> Result<()> {
    let top = |part: &Parts| -> String {
        let folder = part.folder();
        folder
            .rsplit_once('/')
            .map_or("", |(top, _)| top)
            .to_owned()
    };
    for split in [Split::Train, Split::Test, Split::Validation] {
        let first = parts.first();
        let same = parts.iter().find(|part| part.is(split));
        for part in parts.iter().filter(|part| part.is(split)) {
            let other = [first.filter(|first| top(first) != top(part))]
                .into_iter()
                .chain([same.filter(|same| same.folder() != part.folder())])
                .flatten()
                .next();
            if let Some(other) = other {
                let found = format!("{} and {}", other.file.name, part.file.name);
                let what = match source.is_dir() {
                    true => "the folder holds several sets",
                    false => "the archive holds several sets",
                };
                return Err(Error::failed(what)
                    .note("file", source.display().to_string())
                    .note("found", found));
            }
        }
    }
    Ok(())
}

/// Returns the images of a set whose class folders lie at the top, and the names of these folders.
fn flat(
    files: Vec<Stored>,
    folders: &[String],
    source: &Path,
    divide: bool,
    skipped: &mut Skipped,
) -> Result<(Vec<Parts>, BTreeSet<String>)> {
    let all = files.len();
    let (deep, loose): (Vec<Stored>, Vec<Stored>) =
        files.into_iter().partition(|file| file.name.contains('/'));
    skipped.add("outside the class folders", loose.len());
    let top = common_top(&deep);
    let parts: Vec<Parts> = deep
        .into_iter()
        .map(|file| {
            let length = file.name[top.len()..].find('/').unwrap_or_default();
            Parts {
                class: (top.len(), top.len() + length),
                split: None,
                file,
            }
        })
        .collect();
    if parts.is_empty() {
        let what = match all {
            0 => Text::from("there are no images in ") + parameter("root"),
            _ => Text::from("the images in ") + parameter("root") + " lie in no class folders",
        };
        return Err(nothing(what, all, source, skipped));
    }
    if !divide {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for part in &parts {
            *counts.entry(part.class()).or_default() += 1;
        }
        let counts: Vec<String> = counts
            .iter()
            .map(|(class, count)| format!("{class}/ ({count})"))
            .collect();
        let what = parameter("root") + " has no folders for training and test images";
        return Err(Error::failed(what)
            .note("file", source.display().to_string())
            .note("expected", "train/CLASS/… and test/CLASS/…")
            .note("available", some_of(counts))
            .hint(
                assignment("test_share", 0.2)
                    + " takes these folders as the classes, and a fifth of each for the test",
            ));
    }
    Ok((parts, children(folders, &top)))
}

/// Returns the error for a source without images, or whose `images` lie in no class folders.
fn nothing(what: Text, images: usize, source: &Path, skipped: &Skipped) -> Error {
    let error = Error::failed(what)
        .note("file", source.display().to_string())
        .note("expected", expected());
    let error = match input::contents(source) {
        Some(contents) => error.note("available", contents),
        None => error,
    };
    let error = match skipped.count() {
        0 => error,
        _ => error.note("found", skipped.text()),
    };
    if skipped.reasons.contains_key(".parquet") {
        return error.hint(super::image_folder::PARQUET);
    }
    match images {
        0 => error.hint(assignment("root", "PATH") + " says where the images are"),
        _ => error.hint(
            Text::from("move the images of each class into a folder of its name, CLASS/…; then ")
                + assignment("test_share", 0.2)
                + " takes a fifth of each for the test",
        ),
    }
}

/// Tells what a set of images looks like.
pub(super) fn expected() -> String {
    format!(
        "a folder with train/ and test/, or an archive ({})",
        super::image_folder::ARCHIVES.join(", ")
    )
}

/// Returns the folder above the class folders, with a `/` behind it: the one that all images lie
/// in, as long as there is only one.
fn common_top(files: &[Stored]) -> String {
    let mut top = String::new();
    for _ in 0..MAX_TOPS {
        let Some(first) = files.first() else { break };
        let Some(length) = first.name[top.len()..].find('/') else {
            break;
        };
        let next = &first.name[..top.len() + length + 1];
        let deeper = |file: &Stored| {
            file.name
                .strip_prefix(next)
                .is_some_and(|rest| rest.contains('/'))
        };
        if !files.iter().all(deeper) {
            break;
        }
        top = next.to_owned();
    }
    top
}

/// Returns the names of the folders that lie directly in `folder`, whose name ends in `/`.
fn children(folders: &[String], folder: &str) -> BTreeSet<String> {
    folders
        .iter()
        .filter_map(|name| name.strip_prefix(folder))
        .filter(|name| !name.is_empty() && !name.contains('/') && !is_hidden(name))
        .map(str::to_owned)
        .collect()
}
