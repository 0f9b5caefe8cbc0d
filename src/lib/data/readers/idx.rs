//! Reads the IDX format of MNIST, Fashion-MNIST and KMNIST (LeCun et al. 1998): four files, plain
//! or gzip.
//!
//! An images file holds `00 00 08 03`, then count, rows and columns as big-endian u32, then the
//! bytes; a labels file holds `00 00 08 01`, then the count, then the bytes.

use super::super::raw::{MAX_SIDE, RawSet, RawSplit};
use super::super::settings::DatasetKind;
use super::super::{download, official};
use super::{archive, damaged, damaged_by};
use crate::error::{Error, Result};
use std::io::Read;
use std::path::{Path, PathBuf};

const CLASSES: usize = 10;
const FASHION: [&str; CLASSES] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];
const KUZUSHIJI: [&str; CLASSES] = ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"];

/// Largest body of one file, in bytes: nearly three times MNIST's.
const MAX_BODY: u64 = 128 << 20;

/// Reads the four files from `root`, `root/raw`, or the folder that torchvision writes them to;
/// missing ones are downloaded into `root` if `download` is set.
pub(super) fn read(kind: DatasetKind, root: &Path, download: bool) -> Result<RawSet> {
    let classes = match kind {
        DatasetKind::FashionMnist => FASHION.map(str::to_owned).to_vec(),
        DatasetKind::Kmnist => KUZUSHIJI.map(str::to_owned).to_vec(),
        _ => (0..CLASSES).map(|class| class.to_string()).collect(),
    };
    let mut paths = Vec::new();
    for remote in official::files(kind) {
        let path = match find(kind, root, remote.name) {
            Some(path) => path,
            None => download::fetch_missing(kind.name(), remote, root, download)?,
        };
        paths.push(path);
    }
    let [train_images, train_labels, test_images, test_labels] = paths.as_slice() else {
        return Err(Error::failed(format!(
            "`{}` is not a set of four IDX files",
            kind.name()
        )));
    };
    Ok(RawSet {
        classes,
        train: read_split(train_images, train_labels)?,
        test: read_split(test_images, test_labels)?,
    })
}

/// Returns the path of the file `name`, with or without `.gz`, in the usual folders below `root`.
fn find(kind: DatasetKind, root: &Path, name: &str) -> Option<PathBuf> {
    let torchvision = match kind {
        DatasetKind::FashionMnist => "FashionMNIST/raw",
        DatasetKind::Kmnist => "KMNIST/raw",
        _ => "MNIST/raw",
    };
    let plain = name.trim_end_matches(".gz");
    ["", "raw", torchvision]
        .iter()
        .flat_map(|folder| [name, plain].map(|name| root.join(folder).join(name)))
        .find(|path| path.is_file())
}

/// Reads an images file and a labels file, which must agree.
fn read_split(images: &Path, labels: &Path) -> Result<RawSplit> {
    let ([count, height, width], pixels) = read_file::<3>(images)?;
    let ([label_count], label_bytes) = read_file::<1>(labels)?;
    if height > MAX_SIDE || width > MAX_SIDE {
        return Err(damaged(
            images,
            format!("images of {height}×{width} pixels are larger than {MAX_SIDE}"),
        ));
    }
    if count != label_count {
        return Err(
            damaged(labels, format!("{label_count} labels for {count} images"))
                .note("available", format!("images: {}", images.display())),
        );
    }
    if let Some(at) = label_bytes
        .iter()
        .position(|&label| usize::from(label) >= CLASSES)
    {
        return Err(damaged(
            labels,
            format!(
                "label {} at position {at} is not below {CLASSES}",
                label_bytes[at]
            ),
        ));
    }
    Ok(RawSplit {
        channels: 1,
        height,
        width,
        pixels,
        labels: label_bytes.into_iter().map(i64::from).collect(),
        files: Vec::new(),
    })
}

/// Returns the dimensions and the body of an IDX file of bytes with `D` dimensions.
fn read_file<const D: usize>(path: &Path) -> Result<([usize; D], Vec<u8>)> {
    let mut file = archive::decompressed(path)?;
    let mut word = || -> Result<u32> {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes)
            .map_err(|error| damaged(path, format!("no IDX header ({error})")).caused_by(error))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let (magic, expected) = (word()?, 0x0800 + D as u32);
    if magic != expected {
        return Err(damaged(path, "not an IDX file of the expected kind")
            .note("expected", format!("it starts with {expected:08x}"))
            .note("found", format!("{magic:08x}")));
    }
    let mut shape = [0_usize; D];
    for length in &mut shape {
        *length = word()? as usize;
    }
    let bytes = shape
        .iter()
        .try_fold(1_u64, |product, &length| product.checked_mul(length as u64))
        .filter(|bytes| (1..=MAX_BODY).contains(bytes))
        .ok_or_else(|| damaged(path, format!("its header says {shape:?}")))?;
    // Reading one byte more than the header says tells a body that is too short from one that is
    // too long, and bounds the memory that a hostile file can take.
    let mut body = Vec::new();
    file.take(bytes + 1)
        .read_to_end(&mut body)
        .map_err(|error| damaged_by(path, error))?;
    if body.len() as u64 != bytes {
        let more = if body.len() as u64 > bytes {
            "more than "
        } else {
            ""
        };
        return Err(damaged(path, "its length does not fit its header")
            .note(
                "expected",
                format!("{bytes} bytes after the header, for {shape:?}"),
            )
            .note("found", format!("{more}{}", body.len().min(bytes as usize))));
    }
    Ok((shape, body))
}
