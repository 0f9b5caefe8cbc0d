//! Reads PyTorch's `.pt` files: a zip archive of one pickle and one entry of raw values per
//! storage. Called by `tensors::read_state`.
//!
//! Everything the file claims is checked against what is there before memory is taken for it.

mod state_dict;

use super::StateDict;
use super::pickle::Pickle;
use super::tensors::from_bytes;
use crate::{Error, Result};
use fs_err as fs;
use state_dict::{Storage, View};
use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tch::Tensor;
use zip::{CompressionMethod, ZipArchive, result::ZipError};

/// Most entries of an archive: one for each tensor, and some beside.
const MOST_ENTRIES: u64 = 100_000;
/// Largest pickle that is read: enough for ten thousand tensors' names and shapes.
const MOST_PICKLE: u64 = 4 << 20;
/// `torch.save` compresses nothing. A pickle that was compressed afterwards may be longer than the
/// whole file, but not more than this many times.
const MOST_DEFLATED: u64 = 16;
/// Tensors may be views that overlap, so together they may be larger than the file, but not more
/// than this many times.
const MOST_SHARING: u64 = 4;

/// Reads the state dict of a `.pt` file onto the CPU: a dict of tensors, which may be an entry of a
/// checkpoint. Prefixes that all names share, such as `module.`, are left out.
pub(super) fn read(path: &Path) -> Result<StateDict> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    refuse_false_directory(&mut file, length)?;
    let zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut archive = Archive::new(zip, length)?;
    let most = MOST_PICKLE.min(length.saturating_mul(MOST_DEFLATED));
    let bytes = archive.entry("data.pkl", most)?;
    let mut tensors = Vec::new();
    let pickle = Pickle::parse(&bytes)?;
    for (name, at) in state_dict::entries(&pickle, path)? {
        let shown = name.escape_debug();
        let tensor = state_dict::tensor(&pickle, at)
            .ok_or_else(|| Error::failed("it is no tensor"))
            .and_then(|view| archive.tensor(&view))
            .map_err(|error| error.note("while", format!("reading tensor `{shown}`")))?;
        tensors.push((name.to_owned(), tensor));
    }
    Ok(StateDict::new(tensors))
}

/// Refuses an archive whose end record in the 64-bit format, if it has one, is not where its
/// locator says, or claims more entries than a state dict has: memory is taken for as many.
fn refuse_false_directory(file: &mut (impl Read + Seek), length: u64) -> Result<()> {
    // The end record is the last one: 22 bytes, and a comment of 64 KiB at most. Before it is the
    // locator of 20 bytes, by the comment's length counted from the end, as `zip` reads it.
    const END: usize = 22;
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(
        length.saturating_sub(20 + END as u64 + (1 << 16)),
    ))?;
    file.read_to_end(&mut tail)?;
    let ends = (0..=tail.len().saturating_sub(END)).rev();
    let end = ends
        .map(|at| &tail[at..])
        .find(|end| end.starts_with(b"PK\x05\x06"));
    let comment = end.and_then(|end| {
        Some(usize::from(u16::from_le_bytes([
            *end.get(20)?,
            *end.get(21)?,
        ])))
    });
    let locator = comment.and_then(|comment| {
        let at = tail.len().checked_sub(20 + END + comment)?;
        tail.get(at..at + 20)
    });
    if let Some(locator) = locator.filter(|locator| locator.starts_with(b"PK\x06\x07")) {
        let mut record = [0; 40];
        let at = SeekFrom::Start(number(&locator[8..16]));
        let read = file.seek(at).and_then(|_| file.read_exact(&mut record));
        let there = read.is_ok() && record.starts_with(b"PK\x06\x06");
        let entries = number(&record[32..40]);
        if !there || entries > MOST_ENTRIES {
            let why = match there {
                true => format!("it claims {entries} entries, more than {MOST_ENTRIES}"),
                false => "its directory is not where it says".to_owned(),
            };
            return Err(not_whole(why));
        }
    }
    file.rewind()?;
    Ok(())
}

/// Returns eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn not_whole(why: impl std::fmt::Display) -> Error {
    Error::failed(format!("this is not a whole PyTorch file: {why}"))
        .hint("copy or make the file again; it may have been cut short on the way")
}

fn damaged(error: ZipError) -> Error {
    not_whole(&error).caused_by(error)
}

/// Holds the open file, and how much was read from it.
struct Archive {
    zip: ZipArchive<BufReader<fs::File>>,
    /// The folder that holds everything, with its slash.
    folder: String,
    length: u64,
    /// Bytes of storages read.
    stored: u64,
    /// Bytes of tensors made.
    made: u64,
    /// Storages as flat tensors, by entry.
    storages: HashMap<String, Tensor>,
}

impl Archive {
    fn new(zip: ZipArchive<BufReader<fs::File>>, length: u64) -> Result<Self> {
        let folders = zip
            .file_names()
            .filter_map(|name| name.strip_suffix("data.pkl"));
        let folder = folders
            .filter(|f| f.ends_with('/'))
            .min_by_key(|f| (f.len(), *f));
        let folder = folder.ok_or_else(|| {
            Error::failed("this zip archive is not a PyTorch file: it holds no `data.pkl`")
        })?;
        let folder = folder.to_string();
        let mut archive = Self {
            zip,
            folder,
            length,
            stored: 0,
            made: 0,
            storages: HashMap::new(),
        };
        // Files from before PyTorch 2.1 do not say; they are little-endian.
        let order = archive.entry("byteorder", 16);
        match order.as_deref() {
            Ok(b"big") => Err(Error::failed(
                "the file was written on a big-endian machine, which is not supported",
            )),
            _ => Ok(archive),
        }
    }

    /// Returns the bytes of an entry, at most `most`. The archive's checksum is verified on the
    /// way.
    fn entry(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        // `by_name` panics at some damaged entries that say they are encrypted.
        let entry = self
            .zip
            .by_name_decrypt(&format!("{}{name}", self.folder), &[])
            .map_err(damaged)?
            .map_err(|_| not_whole("an entry is encrypted"))?;
        let stored = entry.compression() == CompressionMethod::Stored;
        if entry.size() > most || (stored && entry.size() > self.length) {
            return Err(
                Error::failed(format!("entry `{name}` of the file is too large"))
                    .note("expected", format!("at most {most} bytes"))
                    .note("found", format!("{} bytes", entry.size())),
            );
        }
        let (size, mut bytes) = (entry.size(), Vec::new());
        entry.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(Error::failed(format!(
                "entry `{name}` of the file is not as long as the archive says"
            ))),
        }
    }

    /// Returns a contiguous copy of a view, after checking its bounds.
    fn tensor(&mut self, view: &View) -> Result<Tensor> {
        let bytes = bytes_of(view).ok_or_else(|| {
            Error::failed("a tensor reaches beyond its storage")
                .note("expected", format!("within {} values", view.storage.count))
                .note(
                    "found",
                    format!(
                        "offset {}, size {:?}, stride {:?}",
                        view.offset, view.size, view.stride
                    ),
                )
        })?;
        self.made = self.made.saturating_add(bytes);
        if self.made > self.length.saturating_mul(MOST_SHARING) {
            return Err(Error::failed(
                "the file's tensors claim far more values than it holds",
            ));
        }
        let storage = self.storage(&view.storage)?;
        let shaped = storage.f_as_strided(&view.size, &view.stride, view.offset)?;
        let mut tensor = Tensor::f_empty(&view.size, (view.storage.kind, tch::Device::Cpu))?;
        tensor.f_copy_(&shaped)?;
        Ok(tensor)
    }

    fn storage(&mut self, storage: &Storage) -> Result<&Tensor> {
        let identity = format!("{}:{:?}:{}", storage.key, storage.kind, storage.count);
        if !self.storages.contains_key(&identity) {
            let left = self.length.saturating_sub(self.stored);
            let bytes = self.entry(&format!("data/{}", storage.key), left)?;
            self.stored += bytes.len() as u64;
            let name = format!("storage {}", storage.key);
            let flat = from_bytes(&name, &bytes, &[storage.count], storage.kind)?;
            self.storages.insert(identity.clone(), flat);
        }
        self.storages
            .get(&identity)
            .ok_or_else(|| Error::failed("a storage could not be read"))
    }
}

/// Returns the bytes of the contiguous tensor; `None` where the view is malformed or leaves its
/// storage.
fn bytes_of(view: &View) -> Option<u64> {
    let negative = |numbers: &[i64]| numbers.iter().any(|&n| n < 0);
    if view.size.len() != view.stride.len() || negative(&view.size) || negative(&view.stride) {
        return None;
    }
    let count = view
        .size
        .iter()
        .try_fold(1i64, |product, &n| product.checked_mul(n))?;
    let mut last = view.offset;
    for (&size, &stride) in view.size.iter().zip(&view.stride) {
        last = last.checked_add((size - 1).max(0).checked_mul(stride)?)?;
    }
    let inside = view.offset >= 0 && (count == 0 || last < view.storage.count);
    let bytes = count.checked_mul(view.storage.kind.elt_size_in_bytes() as i64)?;
    inside.then_some(bytes as u64)
}
