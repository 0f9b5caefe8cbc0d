//! Reads images in folders named after their classes, `train/CLASS/…` and `test/CLASS/…` or
//! `CLASS/…`, from a folder or an archive.

use super::super::divide::divide;
use super::super::load::TargetShape;
use super::super::parallel;
use super::super::raw::{MAX_PIXELS, RawSet, RawSplit};
use super::super::resize;
use super::super::settings::DatasetSettings;
use super::decode::{self, DecodeError, DecodedImage, decode};
use super::layout::{ImagePath, Layout, MAX_TOPS, Split, expected, is_image};
use super::listing::{self, Listing};
use super::{archive, damaged, damaged_by, input, unreadable};
use crate::error::{Error, Result, Text, assignment, parameter};
use crate::runtime::interrupt;
use crate::words::counted;
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

pub(super) const ARCHIVES: [&str; 9] = [
    ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip",
];

/// Largest image file, in bytes.
const MAX_FILE: u64 = 64 << 20;

/// Bytes of image files that are collected before they are decoded together.
const BATCH: usize = 32 << 20;

/// Reads a folder, an archive, or the one archive in a folder. Classes are the folders of `train`
/// in order of their names; images are in order of split, class and path.
///
/// # Errors
/// Fails when there are no images, when images are damaged, when one is of another size than the
/// first, and when a class of the test images has no training images.
pub(super) fn read(
    root: &Path,
    target: &TargetShape,
    settings: &DatasetSettings,
) -> Result<RawSet> {
    let source = locate(root)?;
    let listing = Listing::of(&source, |name, size| {
        let refused = is_image(name) && size > MAX_FILE && !settings.skip_broken;
        match refused {
            true => Err(too_large(&source.join(name))),
            false => Ok(()),
        }
    })?;
    let layout = Layout::of(listing, &source, settings.test_share.is_some())?;
    let mut collector = Collector::new(&source, *target, &layout.images);
    match source.is_dir() {
        true => collector.add_folder()?,
        false => collector.add_archive()?,
    }
    collector.decode_pending()?;
    let Collector { images, broken, .. } = collector;
    let broken = match settings.skip_broken {
        true => broken.into_iter().map(|broken| broken.path).collect(),
        false => refuse_broken(broken, layout.images.len(), &source)?,
    };
    warn_about_broken(&broken, &source);
    finish(layout, images, broken, &source, settings)
}

fn warn_about_broken(broken: &[String], source: &Path) {
    if !broken.is_empty() {
        tracing::warn!(
            "{}: goes without {} that cannot be read: {}",
            source.display(),
            counted(broken.len(), "image"),
            input::some_of(broken.to_vec())
        );
    }
}

/// Returns the folder that holds the set's images, or the archive.
fn locate(root: &Path) -> Result<PathBuf> {
    let missing = |what: Text| {
        Error::failed(what)
            .note("file", root.display().to_string())
            .note("expected", expected())
            .hint(assignment("root", "PATH") + " says where the images are")
    };
    if root.is_file() {
        return match is_archive(root)? {
            true => Ok(root.to_path_buf()),
            false => Err(missing(parameter("root") + " is a file but no archive")),
        };
    }
    if let Some(kind) = input::special(root) {
        return Err(missing(parameter("root") + format!(" is {kind}")));
    }
    if !root.is_dir() {
        let images = Text::from("the images of ") + parameter("root");
        let error = missing(images + " are missing");
        let parent = root.parent().filter(|parent| parent.is_dir());
        return Err(match parent.and_then(input::contents) {
            Some(contents) => error.note("available", contents),
            None => error,
        });
    }
    let mut candidates = Vec::new();
    find_sets(root, 0, &mut candidates)?;
    if !matches!(candidates.as_slice(), [one] if one == root) {
        for entry in fs_err::read_dir(root)? {
            let path = entry?.path();
            if path.is_file() && is_named_archive(&path) {
                candidates.push(path);
            }
        }
    }
    if !candidates.is_empty() && !candidates.contains(&root.to_path_buf()) && has_images(root)? {
        candidates.push(root.to_path_buf());
    }
    candidates.sort();
    match candidates.as_slice() {
        [one] => Ok(one.to_path_buf()),
        // Perhaps one without splits.
        [] => Ok(root.to_path_buf()),
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

/// Returns true if a folder in `root` holds images, as the folder of a class does.
fn has_images(root: &Path) -> Result<bool> {
    for entry in fs_err::read_dir(root)? {
        let entry = entry?;
        let hidden = entry.file_name().to_str().is_none_or(listing::is_hidden);
        if hidden || !entry.path().is_dir() {
            continue;
        }
        for file in fs_err::read_dir(entry.path())? {
            if file?.file_name().to_str().is_some_and(is_image) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Adds `folder` to `found` if it holds a folder of training images, else those below it that do.
fn find_sets(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    let mut below = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if listing::has_split(&path, Split::Train) {
            found.push(folder.to_path_buf());
            return Ok(());
        }
        let hidden = entry.file_name().to_str().is_none_or(listing::is_hidden);
        // `DirEntry` knows the type of most entries without asking the file system again.
        let kind = entry.file_type()?;
        if !hidden && (kind.is_dir() || (kind.is_symlink() && path.is_dir())) {
            below.push(path);
        }
    }
    if depth < MAX_TOPS {
        for path in below {
            find_sets(&path, depth + 1, found)?;
        }
    }
    Ok(())
}

/// Returns true for a file that begins as archives do, or is named like one.
fn is_archive(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    input::open(path)?.take(512).read_to_end(&mut start)?;
    if start.starts_with(b"PAR1") {
        return Err(damaged(path, "a Parquet file is no archive of images").hint(PARQUET));
    }
    Ok(archive::is_zip(&start)
        || archive::Compression::of(&start).is_some()
        || start.get(257..262) == Some(b"ustar")
        || is_named_archive(path))
}

/// Tells how to make image files of a data set of Hugging Face.
pub(super) const PARQUET: &str = concat!(
    "Parquet is not read; save its images as files, in Python: `import datasets, os`, then ",
    "`for i, row in enumerate(datasets.load_dataset(\"parquet\", data_files=\"FILE\")",
    "[\"train\"]): ",
    "os.makedirs(f\"train/{row['label']}\", exist_ok=True); ",
    "row[\"image\"].save(f\"train/{row['label']}/{i}.png\")`"
);

pub(super) fn is_named_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    ARCHIVES.iter().any(|ending| name.ends_with(ending))
}

fn too_large(path: &Path) -> Error {
    damaged(
        path,
        format!("an image file of more than {} MiB", MAX_FILE >> 20),
    )
}

/// An image that cannot be read.
struct Broken {
    path: String,
    error: Error,
}

/// Collects image files and decodes them in batches of [`BATCH`] bytes.
struct Collector<'a> {
    source: &'a Path,
    target: TargetShape,
    paths: &'a [ImagePath],
    /// Files that are not decoded yet, by the indices of their paths.
    pending: Vec<(usize, Vec<u8>)>,
    pending_bytes: usize,
    /// One for each path.
    images: Vec<Option<DecodedImage>>,
    broken: Vec<Broken>,
    shared: decode::Shared,
}

impl<'a> Collector<'a> {
    fn new(source: &'a Path, target: TargetShape, paths: &'a [ImagePath]) -> Self {
        Self {
            source,
            target,
            paths,
            pending: Vec::new(),
            pending_bytes: 0,
            images: paths.iter().map(|_| None).collect(),
            broken: Vec::new(),
            shared: decode::Shared::default(),
        }
    }

    fn add_folder(&mut self) -> Result<()> {
        for (index, image) in self.paths.iter().enumerate() {
            let path = self.source.join(&image.path);
            let bytes = input::open(&path).and_then(|mut file| read_image(&mut file, &path));
            self.add(index, bytes)?;
        }
        Ok(())
    }

    fn add_archive(&mut self) -> Result<()> {
        let mut wanted: HashMap<&str, Vec<usize>> = HashMap::with_capacity(self.paths.len());
        for (index, image) in self.paths.iter().enumerate() {
            let entry = image.target.as_deref().unwrap_or(&image.path);
            wanted.entry(entry).or_default().push(index);
        }
        archive::walk(self.source, |name, _, reader| {
            let Some(indices) = wanted.get(name) else {
                return Ok(());
            };
            let Some((last, others)) = indices.split_last() else {
                return Ok(());
            };
            let bytes = read_image(reader, &self.source.join(name));
            // The others are links to the same file.
            for &index in others {
                let bytes = match &bytes {
                    Ok(bytes) => Ok(bytes.clone()),
                    Err(error) => Err(Error::failed(error.what())),
                };
                self.add(index, bytes)?;
            }
            self.add(*last, bytes)?;
            Ok(())
        })
    }

    /// Adds the contents of a file, and decodes the batch when it is large enough.
    fn add(&mut self, index: usize, bytes: Result<Vec<u8>>) -> Result<()> {
        match bytes {
            Ok(bytes) => {
                self.pending_bytes += bytes.len();
                self.pending.push((index, bytes));
            }
            Err(error) => self.add_broken(index, error),
        }
        match self.pending_bytes >= BATCH {
            true => self.decode_pending(),
            false => Ok(()),
        }
    }

    fn add_broken(&mut self, index: usize, error: Error) {
        let path = self.paths[index].path.clone();
        self.broken.push(Broken { path, error });
    }

    fn decode_pending(&mut self) -> Result<()> {
        if interrupt::requested() {
            return Err(interrupt::stopped());
        }
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        let (target, shared) = (&self.target, &self.shared);
        let images = parallel::map(&pending, |(_, file)| decode(file, target, shared));
        for ((index, _), image) in pending.into_iter().zip(images) {
            let file = || self.source.join(&self.paths[index].path);
            match image {
                Ok(image) => self.images[index] = Some(image),
                Err(DecodeError::Damaged(error)) => {
                    self.add_broken(index, damaged_by(&file(), error))
                }
                Err(DecodeError::TooLarge(problem)) => {
                    self.add_broken(index, damaged(&file(), problem));
                }
                Err(DecodeError::SetTooLarge(problem)) => {
                    return Err(unreadable(&file(), problem));
                }
            }
        }
        Ok(())
    }
}

/// Reads an image file.
fn read_image(reader: &mut dyn Read, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged_by(path, error))?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(too_large(path)),
        false => Ok(bytes),
    }
}

/// Fails when there are broken images, with one error that names them.
fn refuse_broken(mut broken: Vec<Broken>, images: usize, source: &Path) -> Result<Vec<String>> {
    broken.sort_by(|a, b| a.path.cmp(&b.path));
    let hint = assignment("skip_broken", true) + " goes without them";
    match broken.len() {
        0 => Ok(Vec::new()),
        1 => Err(broken.remove(0).error.hint(hint)),
        count => {
            let what = format!("{count} of {images} images cannot be read");
            let mut error = Error::failed(what).note("file", source.display().to_string());
            for Broken { path, error: cause } in broken.iter().take(input::SHOWN) {
                let cause = cause.what();
                let reason = cause.split_once(": ").map_or(&*cause, |(_, reason)| reason);
                error = error.note("found", format!("{}: {reason}", input::shown(path)));
            }
            if count > input::SHOWN {
                error = error.note("found", format!("{} more", count - input::SHOWN));
            }
            let error = error.hint(hint);
            Err(match broken.remove(0).error.into_source() {
                Some(source) => error.caused_by(source),
                None => error,
            })
        }
    }
}

/// Assembles the set of the images that were decoded.
fn finish(
    layout: Layout,
    images: Vec<Option<DecodedImage>>,
    broken: Vec<String>,
    source: &Path,
    settings: &DatasetSettings,
) -> Result<RawSet> {
    let Layout {
        images: paths,
        classes,
    } = layout;
    let mut all: Vec<(ImagePath, DecodedImage)> = paths
        .into_iter()
        .zip(images)
        .filter_map(|(path, image)| Some((path, image?)))
        .collect();
    check_size(&all, source)?;
    let all_test = settings.test_share == Some(1.0);
    if let Some(share) = settings.test_share {
        let labels: Vec<usize> = all.iter().map(|(path, _)| path.label).collect();
        let is_test = match all_test {
            true => vec![true; labels.len()],
            false => divide(&labels, classes.len(), share, settings.test_seed),
        };
        for ((path, _), is_test) in all.iter_mut().zip(is_test) {
            path.split = if is_test { Split::Test } else { Split::Train };
        }
    }
    let channels = all.iter().map(|(_, image)| image.channels).max();
    let channels = channels.unwrap_or(1);
    let is_train = |image: &(ImagePath, DecodedImage)| image.0.split == Split::Train;
    let (train, test): (Vec<_>, Vec<_>) = all.into_iter().partition(is_train);
    for (images, name) in [(&train, "training"), (&test, "test")] {
        if images.is_empty() && !(all_test && name == "training") {
            let (readable, broken) = (train.len() + test.len(), broken.len());
            return Err(Error::failed(format!("no {name} images are left"))
                .note("file", source.display().to_string())
                .note(
                    "found",
                    format!("{readable} images, and {broken} broken ones"),
                ));
        }
    }
    for images in [&train, &test] {
        check_memory(images, channels, source)?;
    }
    let test = assemble(test, channels);
    let train = match all_test {
        true => RawSplit::empty(channels, test.height, test.width),
        false => assemble(train, channels),
    };
    Ok(RawSet {
        train,
        test,
        classes,
        broken,
    })
}

/// Fails when the images of a split take more than [`MAX_PIXELS`] once all have `channels`: one
/// image in colour makes grey ones take three times what they took when they were decoded.
fn check_memory(
    images: &[(ImagePath, DecodedImage)],
    channels: usize,
    source: &Path,
) -> Result<()> {
    let Some((_, first)) = images.first() else {
        return Ok(());
    };
    let bytes = (images.len() * channels) as u64 * (first.height * first.width) as u64;
    if bytes <= MAX_PIXELS {
        return Ok(());
    }
    let problem = format!("the images take more than {} GiB", MAX_PIXELS >> 30);
    let smaller =
        Text::from("lower ") + parameter("size") + ", or set " + assignment("channels", 1);
    Err(Error::failed(problem)
        .note("file", source.display().to_string())
        .hint(smaller))
}

/// Fails unless all images have the size of the first.
fn check_size(images: &[(ImagePath, DecodedImage)], source: &Path) -> Result<()> {
    let Some((first, expected)) = images.first() else {
        return Ok(());
    };
    for (path, image) in images {
        if (image.height, image.width) != (expected.height, expected.width) {
            let size = |image: &DecodedImage| format!("{}×{}", image.height, image.width);
            let square = expected.height.min(expected.width).max(8);
            return Err(Error::failed("the images differ in size")
                .note("file", source.join(&path.path).display().to_string())
                .note(
                    "expected",
                    format!("{} pixels, as {}", size(expected), first.path),
                )
                .note("found", size(image))
                .hint(assignment("size", square) + " resizes them all"));
        }
    }
    Ok(())
}

/// Joins the sorted images of one split, converted to `channels`, with their labels. Each image is
/// freed when it is joined.
fn assemble(images: Vec<(ImagePath, DecodedImage)>, channels: usize) -> RawSplit {
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
        split.labels.push(path.label as i64);
        split.files.push(image.sha256);
        match image.channels == channels {
            true => split.pixels.extend_from_slice(&image.pixels),
            false => {
                let planes = resize::convert(&image.pixels, image.channels, channels);
                split.pixels.extend(planes);
            }
        }
    }
    split
}
