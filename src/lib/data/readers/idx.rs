//! Reads the IDX format of MNIST, Fashion-MNIST and KMNIST (LeCun et al. 1998): four files, plain
//! or gzip. Also reads the arrays that Keras keeps of them, `mnist.npz`.
//!
//! An images file holds `00 00 08 03`, then count, rows and columns as big-endian u32, then the
//! bytes; a labels file holds `00 00 08 01`, then the count, then the bytes.

use super::super::raw::{MAX_SIDE, RawSet, RawSplit};
use super::super::settings::DatasetKind;
use super::super::{download, official};
use super::{archive, damaged, damaged_by, input, numpy};
use crate::error::{Error, Result, assignment, parameter};
use std::collections::BTreeMap;
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

/// Folders below `root` are searched to this depth.
const MAX_DEPTH: usize = 3;

/// Reads the four files from `root`, `root/raw`, or the folder that torchvision writes them to,
/// else from another folder below `root` that has all four; missing ones are downloaded into `root`
/// if `download` is set.
pub(super) fn read(kind: DatasetKind, root: &Path, download: bool) -> Result<RawSet> {
    let classes = match kind {
        DatasetKind::FashionMnist => FASHION.map(str::to_owned).to_vec(),
        DatasetKind::Kmnist => KUZUSHIJI.map(str::to_owned).to_vec(),
        _ => (0..CLASSES).map(|class| class.to_string()).collect(),
    };
    if let Some(arrays) = find_npz(kind, root) {
        return read_npz(&arrays, classes);
    }
    refuse_file(kind, root)?;
    let files = official::files(kind);
    let usual: Vec<_> = files
        .iter()
        .map(|remote| find(kind, root, remote.name))
        .collect();
    let elsewhere = match usual.contains(&None) {
        true => search(kind, root)?,
        false => None,
    };
    let paths: Vec<PathBuf> = match elsewhere {
        Some(paths) => paths,
        None => {
            let missing = files.iter().zip(&usual).filter(|(_, path)| path.is_none());
            let missing: Vec<_> = missing.map(|(remote, _)| remote).collect();
            let mut fetched = download::fetch_missing(kind, &missing, root, download)?.into_iter();
            let paths = usual.into_iter();
            paths
                .filter_map(|path| path.or_else(|| fetched.next()))
                .collect()
        }
    };
    let [train_images, train_labels, test_images, test_labels] = paths.as_slice() else {
        return Err(Error::failed(format!(
            "`{kind}` is not a set of four IDX files"
        )));
    };
    Ok(RawSet {
        classes,
        train: read_split(train_images, train_labels)?,
        test: read_split(test_images, test_labels)?,
        broken: Vec::new(),
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

/// Fails when `root` is not a folder.
fn refuse_file(kind: DatasetKind, root: &Path) -> Result<()> {
    if root.is_dir() || !root.exists() {
        return Ok(());
    }
    let folder = root.parent().unwrap_or(root);
    let names = official::files(kind).iter().map(|remote| remote.name);
    let kind_of_root = input::special(root).unwrap_or("a file");
    let what = parameter("root") + format!(" is {kind_of_root}, not a folder");
    Err(Error::failed(what)
        .note("file", root.display().to_string())
        .note(
            "expected",
            format!("a folder with {}", names.collect::<Vec<_>>().join(", ")),
        )
        .hint(assignment("root", folder.display()) + " is the folder that it lies in"))
}

/// Returns the path of the arrays that Keras keeps: `root` itself, or a file in it that is named
/// after the set, where there are no IDX files.
fn find_npz(kind: DatasetKind, root: &Path) -> Option<PathBuf> {
    let is_npz = |path: &Path| path.extension().is_some_and(|ending| ending == "npz");
    if root.is_file() {
        return is_npz(root).then(|| root.to_path_buf());
    }
    let mut files = official::files(kind).iter();
    if files.any(|remote| find(kind, root, remote.name).is_some()) {
        return None;
    }
    let entries = std::fs::read_dir(root).ok()?.flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_named = name.contains("mnist") && !is_of_another_set(kind, &name);
        is_npz(path) && is_named && path.is_file()
    })
}

/// Reads the arrays `x_train`, `y_train`, `x_test` and `y_test` of a file of NumPy.
fn read_npz(path: &Path, classes: Vec<String>) -> Result<RawSet> {
    let names = ["x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy"];
    let mut arrays: [Option<(Vec<usize>, Vec<u8>)>; 4] = Default::default();
    let mut others = Vec::new();
    archive::walk(path, |name, size, reader| {
        let Some(at) = names.iter().position(|known| *known == name) else {
            others.push(name.to_owned());
            return Ok(());
        };
        let file = path.join(name);
        if size > MAX_BODY {
            return Err(damaged(&file, format!("larger than {MAX_BODY} bytes")));
        }
        let mut bytes = Vec::new();
        reader
            .take(MAX_BODY)
            .read_to_end(&mut bytes)
            .map_err(|error| damaged_by(&file, error))?;
        let array = numpy::npy(bytes);
        arrays[at] = Some(array.map_err(|error| damaged(&file, error.what()).caused_by(error))?);
        Ok(())
    })?;
    let mut split = |images: usize| {
        let mut take = |at: usize| {
            arrays[at].take().ok_or_else(|| {
                damaged(path, format!("it has no array `{}`", names[at]))
                    .note("expected", names.join(", "))
                    .note("available", input::some_of(others.clone()))
            })
        };
        let ((shape, pixels), (label_shape, labels)) = (take(images)?, take(images + 1)?);
        let (images, labels_file) = (path.join(names[images]), path.join(names[images + 1]));
        let shape = <[usize; 3]>::try_from(shape).map_err(|shape| {
            damaged(&images, format!("it has the shape {shape:?}")).note("expected", "[N, H, W]")
        })?;
        if label_shape.len() != 1 || shape.contains(&0) {
            return Err(damaged(&labels_file, "no images, or no list of labels"));
        }
        join(&images, &labels_file, shape, pixels, labels)
    };
    Ok(RawSet {
        train: split(0)?,
        test: split(2)?,
        classes,
        broken: Vec::new(),
    })
}

/// Returns the name of a file or folder in the form that the many spellings of it share:
/// `train-images.idx3-ubyte` as `trainimagesidx3ubyte`, and the same with `.gz`.
fn plain(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.replace(['-', '_', '.', ' '], "")
}

/// Returns true for the name of a folder that is named after another set with files of the same
/// names.
fn is_of_another_set(kind: DatasetKind, folder: &str) -> bool {
    let name = plain(folder);
    let set = match () {
        () if name.contains("fashion") => Some(DatasetKind::FashionMnist),
        () if name.contains("kmnist") || name.contains("kuzushiji") => Some(DatasetKind::Kmnist),
        () if name.contains("qmnist") || name.contains("emnist") => None,
        () if name.contains("mnist") => Some(DatasetKind::Mnist),
        () => Some(kind),
    };
    set != Some(kind)
}

/// Returns the four files in the one folder below `root` that has all of them under any spelling of
/// their names, be it in folders of their own, `NAME/NAME`.
fn search(kind: DatasetKind, root: &Path) -> Result<Option<Vec<PathBuf>>> {
    let names: Vec<String> = official::files(kind)
        .iter()
        .map(|remote| plain(remote.name))
        .collect();
    let mut homes = BTreeMap::new();
    collect(kind, root, 0, &names, &mut homes);
    let mut complete = homes
        .into_iter()
        .filter_map(|(home, files)| Some((home, files.into_iter().collect::<Option<Vec<_>>>()?)));
    match (complete.next(), complete.next()) {
        (Some((one, _)), Some((other, _))) => {
            let found = format!("{} and {}", one.display(), other.display());
            Err(Error::failed(format!("`{kind}` is there twice"))
                .note("found", found)
                .hint(assignment("root", one.display()) + " takes the first"))
        }
        (one, _) => Ok(one.map(|(_, files)| files)),
    }
}

/// Adds the files below `folder` that are named like one of `names` to the folders they are in.
fn collect(
    kind: DatasetKind,
    folder: &Path,
    depth: usize,
    names: &[String],
    homes: &mut BTreeMap<PathBuf, [Option<PathBuf>; 4]>,
) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let own_name = |path: &Path| path.file_name().map(|name| plain(&name.to_string_lossy()));
    for path in paths {
        let Some(name) = own_name(&path) else {
            continue;
        };
        if path.is_dir() {
            let shown = path.file_name().unwrap_or_default().to_string_lossy();
            let skipped = shown.starts_with('.') || is_of_another_set(kind, &shown);
            if depth < MAX_DEPTH && !skipped {
                collect(kind, &path, depth + 1, names, homes);
            }
        } else if let Some(at) = names.iter().position(|known| *known == name)
            && path.is_file()
        {
            let of_its_own = own_name(folder).is_some_and(|folder| folder == name) && depth > 0;
            let home = match folder.parent() {
                Some(above) if of_its_own => above,
                _ => folder,
            };
            let files = homes.entry(home.to_path_buf()).or_default();
            files[at].get_or_insert(path);
        }
    }
}

/// Reads an images file and a labels file, which must agree.
fn read_split(images: &Path, labels: &Path) -> Result<RawSplit> {
    let (shape, pixels) = read_file::<3>(images)?;
    let (_, label_bytes) = read_file::<1>(labels)?;
    join(images, labels, shape, pixels, label_bytes)
}

/// Joins images and labels, which must agree; errors name the files that they come from.
fn join(
    images: &Path,
    labels: &Path,
    [count, height, width]: [usize; 3],
    pixels: Vec<u8>,
    label_bytes: Vec<u8>,
) -> Result<RawSplit> {
    let label_count = label_bytes.len();
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
    // Reading one byte more than the header states tells a body that is too short from one that is
    // too long, and bounds the memory that a hostile file can take.
    let mut body = Vec::with_capacity(bytes as usize + 1);
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
