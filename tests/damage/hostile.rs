//! Files that are worse than damaged: archives that decompress to far more than they are or want to
//! write outside, and weights that no model can take.

use super::cases::{Case, images};
use crate::common::datasets::{encode, gzip, idx, idx_files, noise, png, tar};
use fed_distill::Error;
use fed_distill::artifact::tensors;
use fed_distill::model::{Model, ModelSettings, ModelSpec, StateDict};
use fed_distill::runtime::seed::Seeds;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// A zip archive of one stored entry, which says that it is encrypted by AES and is flagged as
/// plain.
pub fn zip_said_to_be_encrypted(name: &str, content: &[u8]) -> Vec<u8> {
    const AES: [u8; 11] = [0x01, 0x99, 7, 0, 1, 0, b'A', b'E', 1, 0, 0];
    let (mut sum, size) = (flate2::Crc::new(), (content.len() as u32).to_le_bytes());
    sum.update(content);
    let lengths = [name.len() as u16, AES.len() as u16].map(u16::to_le_bytes);
    // Version, flags, method, time, date; the checksum and both sizes; the lengths that follow.
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..],
        &sum.sum().to_le_bytes(),
        &size,
        &size,
        &lengths.concat(),
    ]
    .concat();
    let named = [name.as_bytes(), &AES].concat();
    let local = [b"PK\x03\x04", &common[..], &named, content].concat();
    let central = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], &named].concat();
    let [at, length] = [local.len(), central.len()].map(|length| (length as u32).to_le_bytes());
    let end = [
        &b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..],
        &length,
        &at,
        b"\0\0",
    ]
    .concat();
    [local, central, end].concat()
}

/// Archives that decompress to far more than they are, or want to write outside: each with what it
/// is, and words of the error that it gives.
pub fn bombs() -> Vec<(Case, Vec<u8>, &'static str, &'static str)> {
    let zeros = |count: usize| vec![0_u8; count];
    let images = || images().into_iter();
    let take = |name: &str| images().find(|case| case.name == name).unwrap();
    let [train, ..] = idx_files(20, 10);
    let png = png(9, 9, 3, &noise(243, 1));
    let escaping = |name: &'static str| {
        tar(&[
            ("train/a/1.png", png.clone()),
            (name, png.clone()),
            ("test/a/1.png", png.clone()),
        ])
    };
    // The size field of the first entry says 8 GiB.
    let mut huge = tar(&[("train/a/1.png", png.clone())]);
    huge[124..136].copy_from_slice(b"77777777777\0");
    let sum: u32 = huge[..512]
        .iter()
        .enumerate()
        .map(|(at, &byte)| u32::from(if (148..156).contains(&at) { b' ' } else { byte }))
        .sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut wide = encode(4096, 4096, 1, &zeros(4096 * 4096), image::ImageFormat::Png);
    // Width and height of the header say 65,536.
    wide[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    let mut sum = flate2::Crc::new();
    sum.update(&wide[12..29]);
    wide[29..33].copy_from_slice(&sum.sum().to_be_bytes());
    vec![
        (
            take("IDX, gzip"),
            gzip(&[train, zeros(300 << 20)].concat()),
            "more behind the images than the header says",
            "more than",
        ),
        (
            take("IDX, gzip"),
            gzip(&idx(&[4_000_000_000, 12, 12], &zeros(64 << 20))),
            "four billion images",
            "4000000000",
        ),
        (
            take("CIFAR, tar"),
            gzip(&zeros(512 << 20)),
            "half a gigabyte of zeros",
            "it decompresses to more than its headers allow",
        ),
        (
            take("tar, zstd"),
            zstd::encode_all(zeros(512 << 20).as_slice(), 1).unwrap(),
            "zeros for an archive",
            "it decompresses to more than its headers allow",
        ),
        (
            take("tar, gzip"),
            gzip(&tar(&[("train/a/1.png", zeros(200 << 20))])),
            "an image of 200 MiB",
            "more than 64 MiB",
        ),
        (
            take("zip"),
            zip_said_to_be_encrypted("train/a/1.png", &png),
            "an entry that is said to be encrypted",
            "encrypted",
        ),
        (
            class_names(take("CIFAR, pickle")),
            repeated_names(1 << 20, 20_000),
            "20 GB of class names",
            "20000 class names instead of 100",
        ),
        (
            class_names(take("CIFAR, pickle")),
            repeated_names(1 << 20, 100),
            "class names of a megabyte",
            "holds something that is no name",
        ),
        (
            take("tar"),
            huge,
            "an entry of 8 GiB",
            "the archive is cut off",
        ),
        (
            take("PNG"),
            wide,
            "an image of 65,536 pixels a side",
            "65536",
        ),
        (
            take("PNG"),
            encode(
                4096,
                4096,
                3,
                &zeros(3 * 4096 * 4096),
                image::ImageFormat::Png,
            ),
            "one image much larger than the others",
            "the images differ in size",
        ),
        (
            take("PNG"),
            deep_picture(),
            "an image of 4,096 pixels a side with four channels of 16 bits",
            "the images differ in size",
        ),
        (
            take("tar, gzip"),
            named_entries(4000, 100_000),
            "names of 100 kB",
            "the name of an entry has 99999 bytes",
        ),
        (
            take("tar, gzip"),
            named_entries(40_000, 3900),
            "160 MB of names",
            "its names take more than 128 MiB",
        ),
        (
            take("tar, gzip"),
            linked_entries(600, 1 << 20),
            "600 MB of targets in long links",
            "it decompresses to more than its headers allow",
        ),
        (
            take("tar, gzip"),
            linked_entries(40_000, 3900),
            "160 MB of targets",
            "its names take more than 128 MiB",
        ),
        (
            take("tar"),
            escaping("../escaped.png"),
            "a name that climbs",
            "an entry has an unsafe name",
        ),
        (
            take("tar"),
            escaping("/tmp/escaped.png"),
            "an absolute name",
            "an entry has an unsafe name",
        ),
        (
            take("tar"),
            escaping("train/../../../escaped.png"),
            "a name that climbs later",
            "an entry has an unsafe name",
        ),
    ]
}

/// The case of CIFAR-100's images, turned into that of the file of its class names.
fn class_names(mut case: Case) -> Case {
    case.others.retain(|(name, _)| *name != "meta");
    case.others.push((case.file, case.contents.clone()));
    case.file = "meta";
    case
}

/// A pickle of class names that are one text of `length` bytes, `count` times.
fn repeated_names(length: usize, count: usize) -> Vec<u8> {
    let text = |text: &str| {
        let length = (text.len() as u32).to_le_bytes();
        [b"X", &length[..], text.as_bytes()].concat()
    };
    [
        b"\x80\x02".to_vec(),
        text(&"n".repeat(length)),
        b"q\x000}".to_vec(),
        text("fine_label_names"),
        b"](".to_vec(),
        b"h\x00".repeat(count),
        b"es.".to_vec(),
    ]
    .concat()
}

/// A PNG of the largest size in its largest type.
fn deep_picture() -> Vec<u8> {
    let picture = image::ImageBuffer::from_pixel(4096, 4096, image::Rgba([9_u16; 4]));
    let mut file = std::io::Cursor::new(Vec::new());
    image::DynamicImage::ImageRgba16(picture)
        .write_to(&mut file, image::ImageFormat::Png)
        .unwrap();
    file.into_inner()
}

/// A compressed tar of empty images with names of `length` bytes.
fn named_entries(count: usize, length: usize) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    for at in 0..count {
        let name = format!("train/a/{at:06}/{}.png", "x/".repeat((length - 20) / 2));
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, name, &[][..]).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// A compressed tar of symbolic links whose targets have `length` bytes.
fn linked_entries(count: usize, length: usize) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut builder = tar::Builder::new(gzip);
    let target = "x/".repeat(length / 2);
    for at in 0..count {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        header.set_entry_type(tar::EntryType::Symlink);
        let name = format!("train/a/{at:06}.png");
        builder.append_link(&mut header, name, &target).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

/// Pictures with half a gigabyte of zeros in their colour profile or a text.
pub fn metadata() -> Vec<(Case, Vec<u8>, &'static str)> {
    use std::io::{Read as _, Write as _};
    let picture = png(9, 9, 3, &noise(243, 1));
    let mut zeros = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    std::io::copy(&mut std::io::repeat(0).take(512 << 20), &mut zeros).unwrap();
    zeros.flush().unwrap();
    let zeros = zeros.finish().unwrap();
    let with = |name: &[u8; 4]| {
        let data = [&b"icc\0\0"[..], &zeros].concat();
        let mut crc = flate2::Crc::new();
        crc.update(name);
        crc.update(&data);
        let length = (data.len() as u32).to_be_bytes();
        let chunk = [&length, &name[..], &data, &crc.sum().to_be_bytes()].concat();
        // Behind the header.
        [&picture[..33], &chunk, &picture[33..]].concat()
    };
    let take = || {
        images()
            .into_iter()
            .find(|case| case.name == "PNG")
            .unwrap()
    };
    vec![
        (take(), with(b"iCCP"), "a colour profile of 512 MiB"),
        (take(), with(b"zTXt"), "a text of 512 MiB"),
    ]
}

/// Files that are whole, with tensors that no model can take.
pub fn weights() {
    let spec = ModelSpec::new(
        &ModelSettings {
            width: Some(4),
            blocks: Some(vec![1]),
            ..ModelSettings::default()
        },
        1,
        8,
        10,
    )
    .unwrap();
    let model = Model::new(&spec, Device::Cpu, &mut Seeds::new(1).stream("test", 0)).unwrap();
    type Change = fn(&Tensor) -> Tensor;
    let changes: [(&str, Change); 6] = [
        ("one NaN", |tensor| {
            tensor + Tensor::full_like(tensor, f64::NAN)
        }),
        ("infinite", |tensor| {
            tensor + Tensor::full_like(tensor, f64::INFINITY)
        }),
        ("another shape", |tensor| tensor.unsqueeze(0)),
        ("fewer values", |tensor| {
            tensor.flatten(0, -1).narrow(0, 0, 1)
        }),
        ("integers", |tensor| tensor.to_kind(Kind::Int)),
        ("nothing", |_| {
            Tensor::zeros([0], (Kind::Float, Device::Cpu))
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let state = model.state();
    let mut tried = 0;
    for (at, (name, _)) in state
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| !name.ends_with("num_batches_tracked"))
    {
        for (what, change) in changes {
            let changed = |(index, (name, tensor)): (usize, (&str, &Tensor))| {
                (
                    name.to_owned(),
                    if index == at {
                        change(tensor)
                    } else {
                        tensor.shallow_clone()
                    },
                )
            };
            let list: Vec<(String, Tensor)> = state.iter().enumerate().map(changed).collect();
            let named: Vec<(&str, &Tensor)> = list
                .iter()
                .map(|(name, tensor)| (name.as_str(), tensor))
                .collect();
            tensors::write(&path, &named, &BTreeMap::new()).unwrap();
            let (read, _) = tensors::read_state(&path).unwrap();
            let error: Error = Model::from_state(&spec, &read, Device::Cpu).expect_err(what);
            assert!(
                error.to_string().contains(name),
                "{what} of {name}: {error}"
            );
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
    let missing = StateDict::new(Vec::new());
    assert!(Model::from_state(&spec, &missing, Device::Cpu).is_err());
}
