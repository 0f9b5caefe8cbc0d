//! Reads images in folders named after their classes, `train/CLASS/*.{png,jpg,jpeg}` and
//! `test/CLASS/…`, from a folder or a tar archive.

use super::super::load::TargetShape;
use super::super::parallel;
use super::super::raw::{RawSet, RawSplit};
use super::super::resize;
use super::decode::{DecodeError, DecodedImage, decode};
use super::image_path::{ImagePath, Split};
use super::{archive, damaged, damaged_by, unreadable};
use crate::error::{Error, Result, Text, assignment, parameter};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

const ARCHIVES: [&str; 4] = [".tar", ".tar.gz", ".tgz", ".tar.zst"];

/// Largest image file, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Bytes of image files that are collected before they are decoded together.
const BATCH: usize = 32 << 20;

/// Folders below `root` are followed to this depth.
const MAX_DEPTH: usize = 8;

/// Reads a folder, an archive, or the one archive in a folder. Classes are the folders of `train`
/// in order of their names; images are in order of split, class and path.
///
/// # Errors
/// Fails when there are no images, when an image is damaged or of another size than the first, and
/// when a class of the test images has no training images.
pub(super) fn read(root: &Path, target: &TargetShape) -> Result<RawSet> {
    let source = locate(root)?;
    let mut collector = Collector::new(&source, *target);
    if source.is_dir() {
        let mut files = Vec::new();
        list(&source, "", 0, &mut files)?;
        files.sort();
        for name in files {
            let path = source.join(&name);
            let file = fs_err::File::open(&path)?;
            let size = file.metadata()?.len();
            collector.add(&name, size, &mut file.take(MAX_FILE))?;
        }
    } else {
        archive::walk(&source, |name, size, reader| {
            collector.add(name, size, reader)
        })?;
    }
    collector.finish()
}

/// Returns the folder that holds `train`, or the archive.
fn locate(root: &Path) -> Result<PathBuf> {
    let missing = |what: Text| {
        Error::failed(what)
            .note("file", root.display().to_string())
            .note(
                "expected",
                format!(
                    "a folder with train/ and test/, or an archive ({})",
                    ARCHIVES.join(", ")
                ),
            )
            .hint(assignment("root", "PATH") + " says where the images are")
    };
    if root.is_file() {
        return match is_archive(root) {
            true => Ok(root.to_path_buf()),
            false => Err(missing(parameter("root") + " is a file but no archive")),
        };
    }
    if !root.is_dir() {
        let images = Text::from("the images of ") + parameter("root");
        return Err(missing(images + " are missing"));
    }
    if root.join("train").is_dir() {
        return Ok(root.to_path_buf());
    }
    let mut entries = Vec::new();
    for entry in fs_err::read_dir(root)? {
        entries.push(entry?.path());
    }
    let tops = entries.iter().filter(|path| path.join("train").is_dir());
    let archives = entries
        .iter()
        .filter(|path| path.is_file() && is_archive(path));
    let mut candidates: Vec<&PathBuf> = tops.chain(archives).collect();
    candidates.sort();
    match candidates.as_slice() {
        [one] => Ok(one.to_path_buf()),
        [] => Err(missing(
            Text::from("there are no images in ") + parameter("root"),
        )),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(missing(parameter("root") + " holds several sets")
                .note("available", names.join(", "))
                .hint(assignment("root", &names[0]) + " takes the first"))
        }
    }
}

fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    ARCHIVES.iter().any(|ending| name.ends_with(ending))
}

/// Adds the files below `folder` to `files`, as paths relative to the root that start with
/// `prefix`.
fn list(folder: &Path, prefix: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(damaged(
            folder,
            format!("folders are nested more than {MAX_DEPTH} deep"),
        ));
    }
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| damaged(&path, "its name is not UTF-8"))?;
        let relative = format!("{prefix}{name}");
        // Links are followed. Hidden folders are skipped, and so are those at the top that are no
        // split.
        match path.is_dir() {
            true if name.starts_with('.') || (depth == 0 && !["train", "test"].contains(&name)) => {
            }
            true => list(&path, &format!("{relative}/"), depth + 1, files)?,
            false => files.push(relative),
        }
    }
    Ok(())
}

/// Collects image files, decodes them in batches of [`BATCH`] bytes, and assembles the dataset.
struct Collector<'a> {
    source: &'a Path,
    target: TargetShape,
    /// Files that are not decoded yet.
    pending: Vec<(ImagePath, Vec<u8>)>,
    pending_bytes: usize,
    images: Vec<(ImagePath, DecodedImage)>,
    /// Bytes of all decoded images.
    total: AtomicU64,
    /// Files that are no images.
    skipped: usize,
}

impl<'a> Collector<'a> {
    fn new(source: &'a Path, target: TargetShape) -> Self {
        Self {
            source,
            target,
            pending: Vec::new(),
            pending_bytes: 0,
            images: Vec::new(),
            total: AtomicU64::new(0),
            skipped: 0,
        }
    }

    /// Reads the file `name`, if it is an image, and decodes the batch when it is large enough.
    fn add(&mut self, name: &str, size: u64, reader: &mut dyn Read) -> Result<()> {
        let Some(image) = ImagePath::parse(name) else {
            self.skipped += 1;
            return Ok(());
        };
        let path = self.source.join(name);
        if size > MAX_FILE {
            return Err(damaged(
                &path,
                format!("an image file of more than {} MiB", MAX_FILE >> 20),
            ));
        }
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| damaged_by(&path, error))?;
        self.pending_bytes += bytes.len();
        self.pending.push((image, bytes));
        if self.pending_bytes >= BATCH {
            self.decode_pending()?;
        }
        Ok(())
    }

    fn decode_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let (target, total) = (&self.target, &self.total);
        let images = parallel::map(&pending, |(_, file)| decode(file, target, total));
        for ((path, _), image) in pending.into_iter().zip(images) {
            let file = || self.source.join(path.to_path());
            let image = image.map_err(|error| match error {
                DecodeError::Damaged(error) => damaged_by(&file(), error),
                DecodeError::TooLarge(problem) => unreadable(&file(), problem),
            })?;
            self.images.push((path, image));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<RawSet> {
        self.decode_pending()?;
        if self.skipped > 0 {
            tracing::warn!(
                "{}: {} hidden or other files were skipped",
                self.source.display(),
                self.skipped
            );
        }
        self.images.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.check()?;
        let classes: BTreeSet<String> = self
            .images
            .iter()
            .filter(|(path, _)| path.split == Split::Train)
            .map(|(path, _)| path.class.clone())
            .collect();
        let classes: Vec<String> = classes.into_iter().collect();
        let channels = self.images.iter().map(|(_, image)| image.channels).max();
        let start = self
            .images
            .partition_point(|(path, _)| path.split == Split::Train);
        let test = self.images.split_off(start);
        let channels = channels.unwrap_or(1);
        Ok(RawSet {
            train: assemble(self.images, &classes, channels, self.source)?,
            test: assemble(test, &classes, channels, self.source)?,
            classes,
        })
    }

    /// Fails unless the images are of one dataset with both splits, each image occurs once, and all
    /// have one size.
    fn check(&self) -> Result<()> {
        let source = self.source;
        for (split, name) in [(Split::Train, "train"), (Split::Test, "test")] {
            if !self.images.iter().any(|(path, _)| path.split == split) {
                return Err(Error::failed(format!("there are no images in `{name}`"))
                    .note("file", source.display().to_string())
                    .note("expected", format!("{name}/CLASS/*.png, *.jpg or *.jpeg")));
            }
        }
        let Some((first, expected)) = self.images.first() else {
            return Ok(());
        };
        for (path, image) in &self.images {
            if path.top != first.top {
                return Err(Error::failed("the archive holds several sets")
                    .note("file", source.display().to_string())
                    .note(
                        "found",
                        format!("{} and {}", first.to_path(), path.to_path()),
                    ));
            }
            if (image.height, image.width) != (expected.height, expected.width) {
                let size = |image: &DecodedImage| format!("{}×{}", image.height, image.width);
                let square = expected.height.min(expected.width).max(8);
                return Err(Error::failed("the images differ in size")
                    .note("file", source.join(path.to_path()).display().to_string())
                    .note(
                        "expected",
                        format!("{} pixels, as {}", size(expected), first.to_path()),
                    )
                    .note("found", size(image))
                    .hint(assignment("size", square) + " resizes them all"));
            }
        }
        match self.images.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(damaged(
                &source.join(pair[0].0.to_path()),
                "it is there twice",
            )),
            None => Ok(()),
        }
    }
}

/// Joins the sorted images of one split, converted to `channels`, with their labels.
fn assemble(
    images: Vec<(ImagePath, DecodedImage)>,
    classes: &[String],
    channels: usize,
    source: &Path,
) -> Result<RawSplit> {
    let (height, width) = images
        .first()
        .map_or((0, 0), |(_, image)| (image.height, image.width));
    let mut split = RawSplit {
        channels,
        height,
        width,
        pixels: Vec::with_capacity(images.len() * channels * height * width),
        labels: Vec::with_capacity(images.len()),
        files: Vec::with_capacity(images.len()),
    };
    for (path, image) in images {
        let label = classes.binary_search(&path.class).map_err(|_| {
            Error::failed(format!(
                "test class `{}` has no training images",
                path.class
            ))
            .note("file", source.join(path.to_path()).display().to_string())
            .note("available", classes.join(", "))
        })?;
        split.labels.push(label as i64);
        split.files.push(image.sha256);
        let planes = resize::convert(&image.pixels, image.channels, channels);
        split.pixels.extend(planes);
    }
    Ok(split)
}
