//! Images in folders named after their classes: `train/CLASS/*.{png,jpg,jpeg}` and `test/CLASS/…`,
//! as a folder or a tar archive.

use super::super::load::Wanted;
use super::super::parallel;
use super::super::raw::{RawSet, RawSplit};
use super::super::resize;
use super::decode::{Picture, decode};
use super::place::{Place, Split};
use super::{archive, damaged};
use crate::error::{Error, Result};
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
/// Errors: nothing to read, a damaged image, an image of another size than the first, a test class
/// without training images.
pub(super) fn read(root: &Path, wanted: &Wanted) -> Result<RawSet> {
    let source = locate(root)?;
    let mut collector = Collector::new(&source, *wanted);
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

/// The folder that holds `train`, or the archive.
fn locate(root: &Path) -> Result<PathBuf> {
    let missing = |what: String| {
        Error::failed(what)
            .note("file", root.display().to_string())
            .note(
                "expected",
                format!(
                    "a folder with train/ and test/, or an archive ({})",
                    ARCHIVES.join(", ")
                ),
            )
            .hint("`dataset.root=PATH` says where the images are")
    };
    if root.is_file() {
        return match is_archive(root) {
            true => Ok(root.to_path_buf()),
            false => Err(missing("`dataset.root` is a file but no archive".into())),
        };
    }
    if !root.is_dir() {
        return Err(missing("the images of `dataset.root` are missing".into()));
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
        [] => Err(missing("there are no images in `dataset.root`".into())),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            Err(missing("`dataset.root` holds several sets".into())
                .note("available", names.join(", "))
                .hint(format!("`dataset.root={}` takes the first", names[0])))
        }
    }
}

fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    ARCHIVES.iter().any(|ending| name.ends_with(ending))
}

/// Adds the files below `folder`, as paths relative to the root that start with `prefix`.
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
        // Links are followed; hidden folders and, at the top, anything but the two splits are not
        // looked into.
        match path.is_dir() {
            true if name.starts_with('.') || (depth == 0 && !["train", "test"].contains(&name)) => {
            }
            true => list(&path, &format!("{relative}/"), depth + 1, files)?,
            false => files.push(relative),
        }
    }
    Ok(())
}

/// Gathers image files, decodes them by the batch, and puts the set together.
struct Collector<'a> {
    source: &'a Path,
    wanted: Wanted,
    waiting: Vec<(Place, Vec<u8>)>,
    waiting_bytes: usize,
    pictures: Vec<(Place, Picture)>,
    taken: AtomicU64,
    skipped: usize,
}

impl<'a> Collector<'a> {
    fn new(source: &'a Path, wanted: Wanted) -> Self {
        Self {
            source,
            wanted,
            waiting: Vec::new(),
            waiting_bytes: 0,
            pictures: Vec::new(),
            taken: AtomicU64::new(0),
            skipped: 0,
        }
    }

    fn add(&mut self, name: &str, size: u64, reader: &mut dyn Read) -> Result<()> {
        let Some(place) = Place::of(name) else {
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
            .map_err(|error| damaged(&path, error))?;
        self.waiting_bytes += bytes.len();
        self.waiting.push((place, bytes));
        if self.waiting_bytes >= BATCH {
            self.decode_waiting()?;
        }
        Ok(())
    }

    fn decode_waiting(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let (wanted, taken) = (&self.wanted, &self.taken);
        let pictures = parallel::map(&waiting, |(_, file)| decode(file, wanted, taken));
        for ((place, _), picture) in waiting.into_iter().zip(pictures) {
            let picture =
                picture.map_err(|problem| damaged(&self.source.join(place.path()), problem))?;
            self.pictures.push((place, picture));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<RawSet> {
        self.decode_waiting()?;
        if self.skipped > 0 {
            tracing::warn!(
                "{}: {} hidden or other files were skipped",
                self.source.display(),
                self.skipped
            );
        }
        self.pictures.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.check_places()?;
        let classes: BTreeSet<String> = self
            .pictures
            .iter()
            .filter(|(place, _)| place.split == Split::Train)
            .map(|(place, _)| place.class.clone())
            .collect();
        let classes: Vec<String> = classes.into_iter().collect();
        let channels = self
            .pictures
            .iter()
            .map(|(_, picture)| picture.channels)
            .max();
        let start = self
            .pictures
            .partition_point(|(place, _)| place.split == Split::Train);
        let test = self.pictures.split_off(start);
        let channels = channels.unwrap_or(1);
        Ok(RawSet {
            train: assemble(self.pictures, &classes, channels, self.source)?,
            test: assemble(test, &classes, channels, self.source)?,
            classes,
        })
    }

    /// One set, both splits, no image twice, all of one size.
    fn check_places(&self) -> Result<()> {
        let source = self.source;
        for (split, name) in [(Split::Train, "train"), (Split::Test, "test")] {
            if !self.pictures.iter().any(|(place, _)| place.split == split) {
                return Err(Error::failed(format!("there are no images in `{name}`"))
                    .note("file", source.display().to_string())
                    .note("expected", format!("{name}/CLASS/*.png, *.jpg or *.jpeg")));
            }
        }
        let Some((first, expected)) = self.pictures.first() else {
            return Ok(());
        };
        for (place, picture) in &self.pictures {
            if place.top != first.top {
                return Err(Error::failed("the archive holds several sets")
                    .note("file", source.display().to_string())
                    .note("found", format!("{} and {}", first.path(), place.path())));
            }
            if (picture.height, picture.width) != (expected.height, expected.width) {
                let size = |picture: &Picture| format!("{}×{}", picture.height, picture.width);
                return Err(Error::failed("the images differ in size")
                    .note("file", source.join(place.path()).display().to_string())
                    .note(
                        "expected",
                        format!("{} pixels, as {}", size(expected), first.path()),
                    )
                    .note("found", size(picture))
                    .hint(format!(
                        "`dataset.size={}` resizes them all",
                        expected.height.min(expected.width).max(8)
                    )));
            }
        }
        match self.pictures.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(damaged(&source.join(pair[0].0.path()), "it is there twice")),
            None => Ok(()),
        }
    }
}

/// Sorted pictures of one split to a block of pixels with labels.
fn assemble(
    pictures: Vec<(Place, Picture)>,
    classes: &[String],
    channels: usize,
    source: &Path,
) -> Result<RawSplit> {
    let (height, width) = pictures
        .first()
        .map_or((0, 0), |(_, picture)| (picture.height, picture.width));
    let mut split = RawSplit {
        channels,
        height,
        width,
        pixels: Vec::with_capacity(pictures.len() * channels * height * width),
        labels: Vec::with_capacity(pictures.len()),
        files: Vec::with_capacity(pictures.len()),
    };
    for (place, picture) in pictures {
        let label = classes.binary_search(&place.class).map_err(|_| {
            Error::failed(format!(
                "test class `{}` has no training images",
                place.class
            ))
            .note("file", source.join(place.path()).display().to_string())
            .note("available", classes.join(", "))
        })?;
        split.labels.push(label as i64);
        split.files.push(picture.sha256);
        let planes = resize::convert(&picture.pixels, picture.channels, channels);
        split.pixels.extend(planes);
    }
    Ok(split)
}
