//! TensorBoard event files, read back by a decoder of their own: TFRecord framing, checksums,
//! protobuf fields.

use fed_distill::report::EventWriter;
use std::path::{Path, PathBuf};

/// CRC-32C bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 * (crc & 1));
        }
    }
    !crc
}

fn masked(bytes: &[u8]) -> u32 {
    let crc = crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Data of every record; panics on a wrong checksum or a rest.
fn records(mut file: &[u8]) -> Vec<Vec<u8>> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut records = Vec::new();
    while !file.is_empty() {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        assert_eq!(word(&file[8..12]), masked(&file[..8]));
        let data = &file[12..12 + length];
        assert_eq!(word(&file[12 + length..16 + length]), masked(data));
        records.push(data.to_vec());
        file = &file[16 + length..];
    }
    records
}

#[derive(Clone, Debug, PartialEq)]
enum Field {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

fn varint(data: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = data[0];
        *data = &data[1..];
        value |= u64::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

/// (field number, value) of one protobuf message.
fn fields(mut data: &[u8]) -> Vec<(u64, Field)> {
    let mut found = Vec::new();
    while !data.is_empty() {
        let key = varint(&mut data);
        let (value, used) = match key & 7 {
            0 => (Field::Varint(varint(&mut data)), 0),
            1 => (Field::Fixed64(data[..8].try_into().unwrap()), 8),
            2 => {
                let length = varint(&mut data) as usize;
                (Field::Bytes(data[..length].to_vec()), length)
            }
            5 => (Field::Fixed32(data[..4].try_into().unwrap()), 4),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, value));
        data = &data[used..];
    }
    found
}

fn get(message: &[(u64, Field)], number: u64) -> Field {
    let field = message.iter().find(|field| field.0 == number);
    field
        .unwrap_or_else(|| panic!("field {number} in {message:?}"))
        .1
        .clone()
}

fn message(field: Field) -> Vec<(u64, Field)> {
    match field {
        Field::Bytes(bytes) => fields(&bytes),
        other => panic!("not a message: {other:?}"),
    }
}

/// The one value of an event's summary.
fn value(event: &[(u64, Field)]) -> Vec<(u64, Field)> {
    message(get(&message(get(event, 5)), 1))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn events(path: &Path) -> Vec<Vec<(u64, Field)>> {
    records(&std::fs::read(path).unwrap())
        .iter()
        .map(|data| fields(data))
        .collect()
}

fn bytes(text: &str) -> Field {
    Field::Bytes(text.as_bytes().to_vec())
}

#[test]
fn the_decoder_knows_crc32c() {
    // The check value of CRC-32C in the catalogue of parametrised CRC algorithms.
    assert_eq!(crc32c(b"123456789"), 0xE306_9283);
}

#[test]
fn scalars_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("new/run");
    let expected = [
        ("loss/train", 0, 2.5),
        ("loss/train", 300, f32::INFINITY),
        ("größe", -1, -0.0),
    ];
    let mut writer = EventWriter::create(&run).unwrap();
    for (tag, step, number) in expected {
        writer.scalar(tag, step, number).unwrap();
    }
    writer.flush().unwrap();

    let file = &files(&run)[0];
    assert!(
        file.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("events.out.tfevents.")
    );
    let events = events(file);
    assert_eq!(get(&events[0], 3), bytes("brain.Event:2"));
    assert_eq!(events.len(), 1 + expected.len());
    for (event, (tag, step, number)) in events[1..].iter().zip(expected) {
        let Field::Fixed64(time) = get(event, 1) else {
            panic!("wall time is a double")
        };
        assert!(f64::from_le_bytes(time) > 1.6e9);
        assert_eq!(get(event, 2), Field::Varint(step as u64));
        assert_eq!(get(&value(event), 1), bytes(tag));
        assert_eq!(get(&value(event), 2), Field::Fixed32(number.to_le_bytes()));
    }
}

#[test]
fn images_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let png: Vec<u8> = (0..100_000u32).map(|i| (i * 7 % 251) as u8).collect();
    let mut writer = EventWriter::create(folder.path()).unwrap();
    writer.image("synthetic", 12, &png, 640, 480, 3).unwrap();
    drop(writer);
    let events = events(&files(folder.path())[0]);
    let picture = message(get(&value(&events[1]), 4));
    assert_eq!(get(&value(&events[1]), 1), bytes("synthetic"));
    let sizes = [1, 2, 3].map(|number| get(&picture, number));
    assert_eq!(
        sizes,
        [Field::Varint(480), Field::Varint(640), Field::Varint(3)]
    );
    assert_eq!(get(&picture, 4), Field::Bytes(png));
}

#[test]
fn a_second_writer_leaves_the_first_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = EventWriter::create(folder.path()).unwrap();
    let mut second = EventWriter::create(folder.path()).unwrap();
    first.scalar("a", 1, 1.0).unwrap();
    second.scalar("b", 2, 2.0).unwrap();
    drop((first, second));
    let files = files(folder.path());
    assert_eq!(files.len(), 2);
    let tags: Vec<Field> = files
        .iter()
        .map(|file| get(&value(&events(file)[1]), 1))
        .collect();
    assert_eq!(tags, [bytes("a"), bytes("b")]);
}

#[test]
fn a_folder_that_is_a_file_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = EventWriter::create(file.path()).unwrap_err().to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
}
