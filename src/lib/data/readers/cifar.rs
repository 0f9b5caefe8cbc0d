//! Reads CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their binary version and in the one for
//! Python, as downloaded (`.tar.gz`) or unpacked.
//!
//! A record of the binary version is one label byte (CIFAR-100: the coarse, then the fine label)
//! and 3×32×32 pixels, with the planes in the order red, green, blue. A file of the version for
//! Python is a pickled dict of a list of labels and an array of the same pixels, [records,3072].

use super::super::raw::{RawSet, RawSplit};
use super::super::settings::DatasetKind;
use super::super::{download, official};
use super::{archive, damaged, damaged_by, image_folder, input, numpy};
use crate::artifact::pickle::{LONGEST_NAME, Pickle};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

const SIDE: usize = 32;
const IMAGE: usize = 3 * SIDE * SIDE;
const CIFAR10_CLASSES: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// Most bytes of all files of the set together: the official ones have 186 million.
const MAX_FILES: u64 = 192 << 20;

/// Most operations of a pickle: those of the official ones have less than half a million.
const MAX_OPERATIONS: usize = 2_000_000;

/// Folders below `root` are searched to this depth.
const MAX_DEPTH: usize = 2;

/// Describes the files and the labels of one of the two datasets.
struct Layout {
    versions: [Version; 2],
    /// Number of classes of each label byte; the last byte is the label that is used.
    label_bytes: &'static [u8],
    /// Keys of the version for Python: of the labels, and of the class names.
    labels: &'static str,
    label_names: &'static str,
}

/// Describes the files of the binary version or the one for Python.
struct Version {
    /// Folder in the official archive.
    folder: &'static str,
    archive: &'static str,
    /// Files of the training split, in order.
    train: &'static [&'static str],
    test: &'static str,
    /// File of the class names: a line each, or a pickle.
    names: &'static str,
    pickled: bool,
}

const CIFAR10: Layout = Layout {
    versions: [
        Version {
            folder: "cifar-10-batches-bin",
            archive: "cifar-10-binary.tar.gz",
            train: &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            test: "test_batch.bin",
            names: "batches.meta.txt",
            pickled: false,
        },
        Version {
            folder: "cifar-10-batches-py",
            archive: "cifar-10-python.tar.gz",
            train: &[
                "data_batch_1",
                "data_batch_2",
                "data_batch_3",
                "data_batch_4",
                "data_batch_5",
            ],
            test: "test_batch",
            names: "batches.meta",
            pickled: true,
        },
    ],
    label_bytes: &[10],
    labels: "labels",
    label_names: "label_names",
};

const CIFAR100: Layout = Layout {
    versions: [
        Version {
            folder: "cifar-100-binary",
            archive: "cifar-100-binary.tar.gz",
            train: &["train.bin"],
            test: "test.bin",
            names: "fine_label_names.txt",
            pickled: false,
        },
        Version {
            folder: "cifar-100-python",
            archive: "cifar-100-python.tar.gz",
            train: &["train"],
            test: "test",
            names: "meta",
            pickled: true,
        },
    ],
    label_bytes: &[20, 100],
    labels: "fine_labels",
    label_names: "fine_label_names",
};

/// Reads the dataset from an unpacked folder (`root` itself, the official folder in it, or another
/// below it), else from the archive that `root` is or holds, which is downloaded if it is missing
/// and `download` is set.
pub(super) fn read(kind: DatasetKind, root: &Path, download: bool) -> Result<RawSet> {
    let layout = if kind == DatasetKind::Cifar100 {
        &CIFAR100
    } else {
        &CIFAR10
    };
    let files = match find(layout, kind, root)? {
        Some(Place::Folder(version, folder)) => from_folder(version, &folder)?,
        Some(Place::Archive(path)) => from_archive(layout, &path)?,
        None => {
            let remote = official::files(kind)
                .first()
                .ok_or_else(|| Error::failed(format!("`{kind}` has no archive")))?;
            download::fetch_missing(kind, &[remote], root, download)?;
            from_archive(layout, &root.join(remote.name))?
        }
    };
    files.into_set(layout)
}

/// Names where a dataset was found.
enum Place {
    Folder(&'static Version, PathBuf),
    Archive(PathBuf),
}

/// Finds the dataset in or below `root`.
fn find(layout: &'static Layout, kind: DatasetKind, root: &Path) -> Result<Option<Place>> {
    if root.exists() && !root.is_dir() {
        return Ok(Some(Place::Archive(root.to_path_buf())));
    }
    for version in &layout.versions {
        for folder in [root.join(version.folder), root.to_path_buf()] {
            if version.is_in(&folder) {
                return Ok(Some(Place::Folder(version, folder)));
            }
        }
    }
    let official = layout
        .versions
        .iter()
        .map(|version| root.join(version.archive));
    if let Some(archive) = official.into_iter().find(|path| path.is_file()) {
        return Ok(Some(Place::Archive(archive)));
    }
    Ok(find_below(layout, kind, root, 0))
}

/// Finds an unpacked folder under another name, or an archive, in `folder` and those below it.
fn find_below(
    layout: &'static Layout,
    kind: DatasetKind,
    folder: &Path,
    depth: usize,
) -> Option<Place> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    let folders = paths.iter().filter(|path| path.is_dir());
    let version = |path: &&PathBuf| {
        let version = layout.versions.iter().find(|version| version.is_in(path));
        version.map(|version| Place::Folder(version, path.to_path_buf()))
    };
    if let Some(found) = folders.clone().find_map(|path| version(&path)) {
        return Some(found);
    }
    let is_of_kind = |path: &&PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_lowercase();
        let has_100 = name.contains("100");
        name.contains("cifar")
            && has_100 == (kind == DatasetKind::Cifar100)
            && image_folder::is_named_archive(path)
            && path.is_file()
    };
    if let Some(archive) = paths.iter().find(is_of_kind) {
        return Some(Place::Archive(archive.clone()));
    }
    match depth + 1 < MAX_DEPTH {
        true => folders
            .into_iter()
            .find_map(|path| find_below(layout, kind, path, depth + 1)),
        false => None,
    }
}

impl Version {
    /// Returns true when the folder has training or test images of this version.
    fn is_in(&self, folder: &Path) -> bool {
        folder.join(self.test).is_file() || folder.join(self.train[0]).is_file()
    }

    /// Returns the names of all files that are read.
    fn files(&self) -> impl Iterator<Item = &'static str> + use<> {
        let records = self.train.iter().copied().chain([self.test]);
        records.chain([self.names])
    }
}

/// Holds the contents of the files by name.
struct Files {
    version: &'static Version,
    /// Folder or archive that they were read from.
    source: PathBuf,
    contents: HashMap<&'static str, Vec<u8>>,
}

fn from_folder(version: &'static Version, folder: &Path) -> Result<Files> {
    let mut contents = HashMap::new();
    let mut left = MAX_FILES;
    for name in version.files() {
        let path = folder.join(name);
        if path.exists() {
            let mut bytes = Vec::new();
            input::open(&path)?.take(left + 1).read_to_end(&mut bytes)?;
            left = take(left, &path, bytes.len() as u64)?;
            contents.insert(name, bytes);
        }
    }
    Ok(Files {
        version,
        source: folder.to_path_buf(),
        contents,
    })
}

fn from_archive(layout: &'static Layout, path: &Path) -> Result<Files> {
    let mut contents = HashMap::new();
    let mut left = MAX_FILES;
    let mut others = Vec::new();
    archive::walk(path, |entry, size, reader| {
        let name = entry.rsplit('/').next().unwrap_or(entry);
        let mut known = layout.versions.iter().flat_map(Version::files);
        let Some(name) = known.find(|known| *known == name) else {
            if others.len() <= input::SHOWN {
                others.push(entry.to_owned());
            }
            return Ok(());
        };
        left = take(left, &path.join(entry), size)?;
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| damaged_by(path, error))?;
        match contents.insert(name, bytes) {
            None => Ok(()),
            Some(_) => Err(damaged(path, format!("it holds `{name}` twice"))),
        }
    })?;
    let has = |version: &&Version| {
        contents.contains_key(version.test) || contents.contains_key(version.train[0])
    };
    let version = layout.versions.iter().find(has).ok_or_else(|| {
        let versions = layout.versions.iter();
        let expected: Vec<String> = versions
            .map(|version| version.train.join(", ") + ", " + version.test)
            .collect();
        Error::failed("the archive holds no images of the set")
            .note("file", path.display().to_string())
            .note("expected", expected.join("; or "))
            .note("found", input::some_of(others))
    })?;
    Ok(Files {
        version,
        source: path.to_path_buf(),
        contents,
    })
}

/// Takes `length` bytes from what the files may have.
fn take(left: u64, path: &Path, length: u64) -> Result<u64> {
    left.checked_sub(length).ok_or_else(|| {
        let problem = format!("with it the files have more than {MAX_FILES} bytes");
        damaged(path, problem)
    })
}

impl Files {
    fn into_set(mut self, layout: &Layout) -> Result<RawSet> {
        let classes = self.class_names(layout)?;
        let empty = RawSplit::empty(3, SIDE, SIDE);
        let (mut train, mut test) = (empty.clone(), empty);
        for name in self.version.train {
            self.append(name, layout, &mut train)?;
        }
        self.append(self.version.test, layout, &mut test)?;
        Ok(RawSet {
            classes,
            train,
            test,
            broken: Vec::new(),
        })
    }

    /// Appends the records of a file to `split`.
    fn append(&mut self, name: &'static str, layout: &Layout, split: &mut RawSplit) -> Result<()> {
        let path = self.source.join(name);
        let bytes = self.contents.remove(name).ok_or_else(|| {
            let (train, test) = (self.version.train, self.version.test);
            let mut available: Vec<String> =
                self.contents.keys().copied().map(Into::into).collect();
            available.extend(input::contents(&self.source));
            Error::failed(format!("`{name}` is missing"))
                .note("file", self.source.display().to_string())
                .note("expected", train.join(", ") + ", " + test)
                .note("available", input::some_of(available))
        })?;
        match self.version.pickled {
            true => append_pickled(&path, &bytes, layout, split),
            false => append_records(&path, &bytes, layout, split),
        }
    }

    /// Returns the class names in the dataset's own file, else the known ones of CIFAR-10, else
    /// numbers.
    fn class_names(&self, layout: &Layout) -> Result<Vec<String>> {
        let classes = layout.label_bytes.last().copied().map_or(0, usize::from);
        let Some(file) = self.contents.get(self.version.names) else {
            return Ok(match classes {
                10 => CIFAR10_CLASSES.map(str::to_owned).to_vec(),
                _ => (0..classes).map(|class| class.to_string()).collect(),
            });
        };
        let path = self.source.join(self.version.names);
        let names = match self.version.pickled {
            true => pickled_names(&path, file, layout.label_names, classes)?,
            false => {
                let text = std::str::from_utf8(file).map_err(|error| damaged_by(&path, error))?;
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                lines.map(str::to_owned).collect()
            }
        };
        if names.len() != classes {
            return Err(damaged(
                &path,
                format!("{} class names instead of {classes}", names.len()),
            ));
        }
        Ok(names)
    }
}

/// Appends the records of a file of the binary version to `split`.
fn append_records(path: &Path, bytes: &[u8], layout: &Layout, split: &mut RawSplit) -> Result<()> {
    let labels = layout.label_bytes.len();
    let record = labels + IMAGE;
    if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
        return Err(damaged(path, "its length is not a whole number of records")
            .note("expected", format!("a multiple of {record} bytes"))
            .note("found", bytes.len().to_string()));
    }
    for (index, record) in bytes.chunks_exact(record).enumerate() {
        let (label, pixels) = record.split_at(labels);
        if label
            .iter()
            .zip(layout.label_bytes)
            .any(|(label, classes)| label >= classes)
        {
            return Err(damaged(path, format!("record {index} has label {label:?}"))
                .note("expected", format!("below {:?}", layout.label_bytes)));
        }
        split
            .labels
            .extend(label.last().map(|&label| i64::from(label)));
        split.pixels.extend_from_slice(pixels);
    }
    Ok(())
}

/// Appends the records of a file of the version for Python to `split`.
fn append_pickled(path: &Path, bytes: &[u8], layout: &Layout, split: &mut RawSplit) -> Result<()> {
    let within = |error: Error| damaged(path, error.what()).caused_by(error);
    let pickle = Pickle::parse_within(bytes, MAX_OPERATIONS).map_err(within)?;
    let value = |key: &str| {
        let value = pickle.get(pickle.root, key);
        value.ok_or_else(|| {
            let expected = format!("a dict with `data` and `{}`", layout.labels);
            damaged(path, format!("it has no `{key}`"))
                .note("expected", expected)
                .note("found", pickle.describe(pickle.root))
        })
    };
    let (data, labels) = (value("data")?, value(layout.labels)?);
    let data = numpy::array(&pickle, data).map_err(within)?;
    let labels = pickle.list(labels).ok_or_else(|| {
        let found = pickle.describe(labels);
        damaged(path, format!("`{}` is no list", layout.labels)).note("found", found)
    })?;
    let count = labels.len();
    let is_planes = data.shape == [count, IMAGE] || data.shape == [count, 3, SIDE, SIDE];
    if count == 0 || data.bytes.len() != count * IMAGE || !is_planes {
        let found = format!("{:?} and {count} labels", data.shape);
        return Err(damaged(path, "its data and labels do not fit together")
            .note("expected", format!("data of shape [labels, {IMAGE}]"))
            .note("found", found));
    }
    let classes = layout.label_bytes.last().copied().map_or(0, i64::from);
    for (index, &label) in labels.iter().enumerate() {
        match pickle.int(label) {
            Some(label) if (0..classes).contains(&label) => split.labels.push(label),
            other => {
                let found = other.map_or_else(|| pickle.describe(label), |label| label.to_string());
                return Err(damaged(path, format!("record {index} has label {found}"))
                    .note("expected", format!("an integer below {classes}")));
            }
        }
    }
    split.pixels.extend_from_slice(&data.bytes);
    Ok(())
}

/// Returns the names of `classes` classes in the file of the version for Python that holds them
/// under `key`.
fn pickled_names(path: &Path, bytes: &[u8], key: &str, classes: usize) -> Result<Vec<String>> {
    let pickle = Pickle::parse_within(bytes, MAX_OPERATIONS)
        .map_err(|error| damaged(path, error.what()).caused_by(error))?;
    let names = pickle.get(pickle.root, key).and_then(|at| pickle.list(at));
    let names = names.ok_or_else(|| damaged(path, format!("it has no list of names `{key}`")))?;
    // Before any is copied: a short file may name one long text very often.
    if names.len() != classes {
        let text = format!("{} class names instead of {classes}", names.len());
        return Err(damaged(path, text));
    }
    let name = |&at: &usize| {
        let text = match pickle.text(at) {
            Some(text) => text.to_owned(),
            None => String::from_utf8(pickle.bytes(at)?.into_owned()).ok()?,
        };
        (text.len() <= LONGEST_NAME).then_some(text)
    };
    let named: Option<Vec<String>> = names.iter().map(name).collect();
    named.ok_or_else(|| damaged(path, format!("`{key}` holds something that is no name")))
}
