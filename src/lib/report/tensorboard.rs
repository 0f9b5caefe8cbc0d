//! Writes TensorBoard event files: scalars and images. They are never read back.
//!
//! A file is a sequence of TFRecords (length, masked CRC-32C of it, data, masked CRC-32C of that;
//! little-endian), each a protobuf `Event`. It grows during a run, so unlike the other files
//! it is appended to; a record is complete once it is flushed.

use crate::{Error, Result};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Beginning of the name of every event file, whichever program wrote it.
pub const PREFIX: &str = "events.out.tfevents.";

/// Returns true for the name of an event file of this program: behind the prefix come time, process
/// and a count. Other programs name their machine as well, or instead.
pub fn is_event_file(name: &str) -> bool {
    let numbers = name.strip_prefix(PREFIX).unwrap_or_default().split('.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    numbers.clone().count() == 3 && numbers.clone().all(is_number)
}

/// Appends events to one new file in a folder. TensorBoard shows all files of a folder as one run.
#[derive(Debug)]
pub struct EventWriter {
    path: PathBuf,
    file: std::io::BufWriter<fs_err::File>,
}

impl EventWriter {
    /// Starts a new event file in `folder`, which is created if missing.
    pub fn create(folder: &Path) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        // TensorBoard reads the files of a folder in the order of their names, which begin with the
        // time.
        let start = format!("{PREFIX}{:010}.{}", now().as_secs(), std::process::id());
        let file = (0..1000).find_map(|i| {
            let path = folder.join(format!("{start}.{i}"));
            match fs_err::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&path)
            {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
                result => Some(result.map(|file| (path, file))),
            }
        });
        let file = file.ok_or_else(|| {
            Error::failed("no free name for an event file")
                .note("file", folder.join(start).display().to_string())
        })?;
        let (path, file) = file?;
        let mut writer = Self {
            path,
            file: std::io::BufWriter::new(file),
        };
        let mut version = Message::default();
        version.bytes(3, b"brain.Event:2");
        writer.event(0, version)?;
        writer.flush()?;
        Ok(writer)
    }

    /// Writes one point of the curve `tag`.
    pub fn scalar(&mut self, tag: &str, step: i64, value: f32) -> Result<()> {
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.fixed32(2, value.to_le_bytes());
        self.summary(step, entry)
    }

    /// Writes one picture under `tag`: an encoded PNG with its size and channels (1 grey, 3 RGB, 4
    /// RGBA).
    pub fn image(
        &mut self,
        tag: &str,
        step: i64,
        png: &[u8],
        width: u32,
        height: u32,
        channels: u32,
    ) -> Result<()> {
        let mut picture = Message::default();
        picture.varint(1, height.into());
        picture.varint(2, width.into());
        picture.varint(3, channels.into());
        picture.bytes(4, png);
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes());
        entry.bytes(4, &picture.0);
        self.summary(step, entry)
    }

    /// Returns the file, and how long it is now.
    pub fn position(&mut self) -> Result<(&Path, u64)> {
        self.flush()?;
        Ok((&self.path, self.file.get_ref().metadata()?.len()))
    }

    /// Hands everything written so far to the operating system, so that a running TensorBoard sees
    /// it.
    pub fn flush(&mut self) -> Result<()> {
        Ok(self.file.flush()?)
    }

    /// Writes an event whose summary holds one value.
    fn summary(&mut self, step: i64, value: Message) -> Result<()> {
        let mut summary = Message::default();
        summary.bytes(1, &value.0);
        let mut content = Message::default();
        content.bytes(5, &summary.0);
        self.event(step, content)
    }

    fn event(&mut self, step: i64, content: Message) -> Result<()> {
        let mut event = Message::default();
        event.fixed64(1, now().as_secs_f64().to_le_bytes());
        event.varint(2, step as u64);
        event.0.extend(content.0);
        let length = (event.0.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked_crc(&length).to_le_bytes())?;
        self.file.write_all(&event.0)?;
        self.file.write_all(&masked_crc(&event.0).to_le_bytes())?;
        Ok(())
    }
}

fn now() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Encodes a message in Protobuf's wire format: a field is (number << 3 | type), then its value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.raw_varint(field << 3);
        self.raw_varint(value);
    }

    fn fixed64(&mut self, field: u64, value: [u8; 8]) {
        self.raw_varint(field << 3 | 1);
        self.0.extend(value);
    }

    fn bytes(&mut self, field: u64, value: &[u8]) {
        self.raw_varint(field << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn fixed32(&mut self, field: u64, value: [u8; 4]) {
        self.raw_varint(field << 3 | 5);
        self.0.extend(value);
    }
}

/// Returns the checksum of TFRecords: CRC-32C, rotated and shifted so that a checksum of data that
/// holds checksums stays useful.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// Returns the CRC-32C (Castagnoli, reflected polynomial 0x82F63B78).
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes.iter().fold(!0, |crc, &byte| {
        TABLE[((crc ^ u32::from(byte)) & 0xFF) as usize] ^ (crc >> 8)
    })
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82F6_3B78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}
