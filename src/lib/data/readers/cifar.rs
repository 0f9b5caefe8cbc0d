//! Reads CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky 2009), as downloaded
//! (`.tar.gz`) or unpacked.
//!
//! A record is one label byte (CIFAR-100: the coarse, then the fine label) and 3×32×32 pixels, with
//! the planes in the order red, green, blue.

use super::super::raw::{RawSet, RawSplit};
use super::super::settings::DatasetKind;
use super::super::{download, official};
use super::{archive, damaged, damaged_by};
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

/// Largest file of the set, in bytes: the largest official one has 154 million.
const MAX_FILE: u64 = 256 << 20;

/// Describes the files and the labels of one of the two datasets.
struct Layout {
    /// Folder in the official archive.
    folder: &'static str,
    /// Files of the training split, in order.
    train: &'static [&'static str],
    test: &'static str,
    /// Text file with one class name a line.
    names: &'static str,
    /// Number of classes of each label byte; the last byte is the label that is used.
    label_bytes: &'static [u8],
}

const CIFAR10: Layout = Layout {
    folder: "cifar-10-batches-bin",
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: "test_batch.bin",
    names: "batches.meta.txt",
    label_bytes: &[10],
};

const CIFAR100: Layout = Layout {
    folder: "cifar-100-binary",
    train: &["train.bin"],
    test: "test.bin",
    names: "fine_label_names.txt",
    label_bytes: &[20, 100],
};

/// Reads the dataset from an unpacked folder, `root` itself or the official folder in it, else from
/// the archive in `root`, which is downloaded if it is missing and `download` is set.
pub(super) fn read(kind: DatasetKind, root: &Path, download: bool) -> Result<RawSet> {
    let layout = if kind == DatasetKind::Cifar100 {
        &CIFAR100
    } else {
        &CIFAR10
    };
    let unpacked = [root.join(layout.folder), root.to_path_buf()]
        .into_iter()
        .find(|folder| {
            folder.join(layout.test).is_file() || folder.join(layout.train[0]).is_file()
        });
    let files = match unpacked {
        Some(folder) => from_folder(layout, &folder)?,
        None => {
            let remote = official::files(kind)
                .first()
                .ok_or_else(|| Error::failed(format!("`{}` has no archive", kind.name())))?;
            let present = Some(root.join(remote.name)).filter(|path| path.is_file());
            match present {
                Some(archive) => from_archive(layout, &archive)?,
                None => from_archive(
                    layout,
                    &download::fetch_missing(kind.name(), remote, root, download)?,
                )?,
            }
        }
    };
    files.into_set(layout)
}

/// Holds the contents of the files by name.
struct Files {
    /// Folder or archive that they were read from.
    source: PathBuf,
    contents: HashMap<&'static str, Vec<u8>>,
}

impl Layout {
    /// Returns the names of all files that are read.
    fn files(&self) -> impl Iterator<Item = &'static str> {
        let records = self.train.iter().copied().chain([self.test]);
        records.chain([self.names])
    }
}

fn from_folder(layout: &Layout, folder: &Path) -> Result<Files> {
    let mut contents = HashMap::new();
    for name in layout.files() {
        let path = folder.join(name);
        if path.is_file() {
            let mut bytes = Vec::new();
            let file = fs_err::File::open(&path)?;
            file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
            check_length(&path, bytes.len() as u64)?;
            contents.insert(name, bytes);
        }
    }
    Ok(Files {
        source: folder.to_path_buf(),
        contents,
    })
}

fn from_archive(layout: &Layout, path: &Path) -> Result<Files> {
    let mut contents = HashMap::new();
    archive::walk(path, |entry, size, reader| {
        let name = entry.rsplit('/').next().unwrap_or(entry);
        let Some(name) = layout.files().find(|known| *known == name) else {
            return Ok(());
        };
        check_length(&path.join(entry), size)?;
        let mut bytes = Vec::new();
        reader
            .read_to_end(&mut bytes)
            .map_err(|error| damaged_by(path, error))?;
        match contents.insert(name, bytes) {
            None => Ok(()),
            Some(_) => Err(damaged(path, format!("it holds `{name}` twice"))),
        }
    })?;
    Ok(Files {
        source: path.to_path_buf(),
        contents,
    })
}

fn check_length(path: &Path, length: u64) -> Result<()> {
    if length > MAX_FILE {
        return Err(damaged(path, format!("larger than {MAX_FILE} bytes")));
    }
    Ok(())
}

impl Files {
    fn into_set(mut self, layout: &Layout) -> Result<RawSet> {
        let classes = self.class_names(layout)?;
        let empty = RawSplit::empty(3, SIDE, SIDE);
        let (mut train, mut test) = (empty.clone(), empty);
        for name in layout.train {
            self.append(name, layout, &mut train)?;
        }
        self.append(layout.test, layout, &mut test)?;
        Ok(RawSet {
            classes,
            train,
            test,
        })
    }

    /// Appends the records of a file to `split`.
    fn append(&mut self, name: &'static str, layout: &Layout, split: &mut RawSplit) -> Result<()> {
        let path = self.source.join(name);
        let bytes = self.contents.remove(name).ok_or_else(|| {
            Error::failed(format!("`{name}` is missing"))
                .note("file", self.source.display().to_string())
                .note("expected", layout.train.join(", ") + ", " + layout.test)
        })?;
        let labels = layout.label_bytes.len();
        let record = labels + IMAGE;
        if bytes.is_empty() || bytes.len() % record != 0 {
            return Err(
                damaged(&path, "its length is not a whole number of records")
                    .note("expected", format!("a multiple of {record} bytes"))
                    .note("found", bytes.len().to_string()),
            );
        }
        for (index, record) in bytes.chunks_exact(record).enumerate() {
            let (label, pixels) = record.split_at(labels);
            if label
                .iter()
                .zip(layout.label_bytes)
                .any(|(label, classes)| label >= classes)
            {
                return Err(
                    damaged(&path, format!("record {index} has label {label:?}"))
                        .note("expected", format!("below {:?}", layout.label_bytes)),
                );
            }
            split
                .labels
                .extend(label.last().map(|&label| i64::from(label)));
            split.pixels.extend_from_slice(pixels);
        }
        Ok(())
    }

    /// Returns the class names in the dataset's own file, else the known ones of CIFAR-10, else
    /// numbers.
    fn class_names(&self, layout: &Layout) -> Result<Vec<String>> {
        let classes = layout.label_bytes.last().copied().map_or(0, usize::from);
        let Some(text) = self.contents.get(layout.names) else {
            return Ok(match classes {
                10 => CIFAR10_CLASSES.map(str::to_owned).to_vec(),
                _ => (0..classes).map(|class| class.to_string()).collect(),
            });
        };
        let path = self.source.join(layout.names);
        let text = std::str::from_utf8(text).map_err(|error| damaged_by(&path, error))?;
        let names: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect();
        if names.len() != classes {
            return Err(damaged(
                &path,
                format!("{} class names instead of {classes}", names.len()),
            ));
        }
        Ok(names)
    }
}
