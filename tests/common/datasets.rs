//! Writers of the official formats, independent of the readers, and short cuts for loading.

use fed_distill::data::{Dataset, DatasetKind, DatasetSettings, ImageSet, load};
use fed_distill::{Error, Result};
use std::io::Write;
use std::path::Path;
use tch::{Device, Kind, Tensor};

pub fn settings(kind: DatasetKind, root: &Path) -> DatasetSettings {
    DatasetSettings {
        kind,
        root: Some(root.into()),
        download: false.into(),
        ..DatasetSettings::default()
    }
}

pub fn load_cpu(settings: &DatasetSettings) -> Result<Dataset> {
    load(settings, Device::Cpu)
}

/// The error of a load that must fail.
pub fn failure(settings: &DatasetSettings) -> Error {
    load_cpu(settings).expect_err("the load must fail")
}

pub fn pixels(set: &ImageSet) -> Vec<u8> {
    bytes(&set.images)
}

pub fn bytes(tensor: &Tensor) -> Vec<u8> {
    Vec::try_from(tensor.contiguous().view(-1)).unwrap()
}

pub fn floats(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).contiguous().view(-1)).unwrap()
}

/// Arbitrary but fixed bytes.
pub fn noise(count: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2654435761).wrapping_add(1);
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 11) as u8
    };
    (0..count).map(step).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Magic, big-endian dimensions, body.
pub fn idx(shape: &[u32], body: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, shape.len() as u8];
    for length in shape {
        file.extend(length.to_be_bytes());
    }
    file.extend(body);
    file
}

pub const IDX_FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The four plain files of a small set of 12×12 images: labels 0..9 in turn.
pub fn idx_files(train: u32, test: u32) -> [Vec<u8>; 4] {
    let labels = |count: u32| {
        (0..count)
            .map(|index| (index % 10) as u8)
            .collect::<Vec<u8>>()
    };
    let images = |count: u32| noise(count as usize * 144, count);
    [
        idx(&[train, 12, 12], &images(train)),
        idx(&[train], &labels(train)),
        idx(&[test, 12, 12], &images(test)),
        idx(&[test], &labels(test)),
    ]
}

pub fn write_idx(root: &Path, files: &[Vec<u8>; 4], compressed: bool) {
    std::fs::create_dir_all(root).unwrap();
    for (name, file) in IDX_FILES.iter().zip(files) {
        match compressed {
            true => std::fs::write(root.join(format!("{name}.gz")), gzip(file)).unwrap(),
            false => std::fs::write(root.join(name), file).unwrap(),
        }
    }
}

/// A PNG of `channels` 1 or 3 from interleaved pixels.
pub fn png(width: u32, height: u32, channels: usize, pixels: &[u8]) -> Vec<u8> {
    encode(width, height, channels, pixels, image::ImageFormat::Png)
}

pub fn encode(
    width: u32,
    height: u32,
    channels: usize,
    pixels: &[u8],
    format: image::ImageFormat,
) -> Vec<u8> {
    let color = if channels == 1 {
        image::ColorType::L8
    } else {
        image::ColorType::Rgb8
    };
    let mut file = std::io::Cursor::new(Vec::new());
    image::write_buffer_with_format(&mut file, pixels, width, height, color, format).unwrap();
    file.into_inner()
}

/// A tar of regular files.
pub fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        // Written into the raw field: the library refuses names such as `../x`, which the readers
        // must survive.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, contents.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The six files of CIFAR-10 that hold images, a record each.
pub fn cifar10_files() -> Vec<(&'static str, Vec<u8>)> {
    let names = [
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ];
    let record = |label: u8| [vec![label], noise(3072, label.into())].concat();
    names.into_iter().zip((0..6).map(record)).collect()
}

/// A folder of images: what it is made of.
pub struct Pictures {
    pub png: Vec<u8>,
    pub jpeg: Vec<u8>,
    /// Both as classes of their own, as a tar.
    pub tar: Vec<u8>,
    /// A class to stand beside one that is under test.
    pub others: Vec<(&'static str, Vec<u8>)>,
}

pub fn pictures() -> Pictures {
    let png = png(9, 9, 3, &noise(243, 1));
    let jpeg = encode(9, 9, 3, &noise(243, 2), image::ImageFormat::Jpeg);
    let others = vec![
        ("train/a/1.png", png.clone()),
        ("test/a/1.png", png.clone()),
    ];
    let all = [
        ("train/a/1.png", png.clone()),
        ("train/b/1.jpg", jpeg.clone()),
        ("test/a/1.png", png.clone()),
    ];
    Pictures {
        tar: tar(&all),
        png,
        jpeg,
        others,
    }
}

/// Every file in the folder, with its contents: what must not change while reading.
pub fn snapshot(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(snapshot(&path)),
            false => files.push((path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    files.sort();
    files
}
