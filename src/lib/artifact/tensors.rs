//! Reads and writes tensor files: safetensors, and PyTorch's `.pt`, recognised by content. Every
//! stage reads and writes weights and images through this module, which attaches no meaning to
//! them.

use super::StateDict;
use super::fault::refuse_special;
use super::pickle::LONGEST_NAME;
use super::{atomic, pytorch};
use crate::{Error, Result};
use fs_err as fs;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use tch::{Kind, Tensor};

/// Longest header that is read; the format's own limit.
const MOST_HEADER: u64 = 100_000_000;

/// Holds the content of a safetensors file.
#[derive(Debug)]
pub struct TensorFile {
    /// On the CPU, by name.
    pub tensors: Vec<(String, Tensor)>,
    /// The file's text entries.
    pub metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Returns the tensor of that name, or an error that lists the names there are.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let found = self.tensors.iter().find(|(n, _)| n == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| {
            let names: Vec<_> = self
                .tensors
                .iter()
                .take(10)
                .map(|(n, _)| n.as_str())
                .collect();
            Error::failed(format!("the file holds no tensor `{name}`"))
                .note("available", names.join(", "))
        })
    }
}

/// Largest number of dimensions of a tensor.
pub(super) const MOST_DIMENSIONS: usize = 64;
/// Largest number of tensors of a file: many times those of the largest network here.
pub(super) const MOST_TENSORS: usize = 1 << 16;

/// Types that both the format and libtorch know.
const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::BOOL, Kind::Bool),
    (Dtype::U8, Kind::Uint8),
    (Dtype::I8, Kind::Int8),
    (Dtype::I16, Kind::Int16),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I32, Kind::Int),
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::I64, Kind::Int64),
];

/// Reads a safetensors file onto the CPU. Allocates twice the file's own size for it at most, and
/// many times its header.
///
/// # Errors
/// Fails for a file that cannot be read, is cut short or damaged, or holds a type that libtorch
/// lacks.
pub fn read(path: &Path) -> Result<TensorFile> {
    read_safetensors(path).map_err(|error| error.note("file", path.display().to_string()))
}

fn read_safetensors(path: &Path) -> Result<TensorFile> {
    refuse_special(path)?;
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    read_from(BufReader::new(file), length)
}

/// Reads what [`encode`] made. Bytes from elsewhere are checked as a file is.
///
/// # Errors
/// Fails as [`read`] does.
pub fn decode(bytes: &[u8]) -> Result<TensorFile> {
    read_from(std::io::Cursor::new(bytes), bytes.len() as u64)
}

fn read_from(mut file: impl Read, length: u64) -> Result<TensorFile> {
    let Header { tensors, metadata } = header(&mut file, length, MOST_HEADER)?;
    let mut read = Vec::new();
    for Entry {
        name,
        shape,
        kind,
        dtype,
        bytes,
    } in tensors
    {
        let mut values = vec![0; bytes as usize];
        file.read_exact(&mut values)?;
        let kind = kind.ok_or_else(|| {
            let text = format!("tensor `{name}` has the type {dtype}, which is not supported");
            let known = KINDS.map(|(dtype, _)| dtype.to_string());
            Error::failed(text).note("available", known.join(", "))
        })?;
        let tensor = from_bytes(&name, &values, &shape, kind)?;
        read.push((name, tensor));
    }
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    let tensors = read;
    Ok(TensorFile { tensors, metadata })
}

/// Returns the text entries of a safetensors file, without its tensors.
///
/// # Errors
/// Fails as [`read`] does.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    Ok(header_at(path)?.metadata)
}

/// Returns the names of the tensors in a safetensors file, in the order of their values.
///
/// # Errors
/// Fails as [`read`] does.
pub fn names(path: &Path) -> Result<Vec<String>> {
    let tensors = header_at(path)?.tensors;
    Ok(tensors.into_iter().map(|tensor| tensor.name).collect())
}

fn header_at(path: &Path) -> Result<Header> {
    let read = || {
        refuse_special(path)?;
        let file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        header(&mut BufReader::new(file), length, MOST_HEADER)
    };
    read().map_err(|error| error.note("file", path.display().to_string()))
}

/// Describes a tensor in a file, without its values.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    pub shape: Vec<i64>,
    /// `None` for a type that libtorch lacks.
    pub kind: Option<Kind>,
    /// The type's name in the file.
    pub dtype: String,
    pub bytes: u64,
}

/// Holds what a safetensors file says of itself.
#[derive(Debug)]
pub struct Header {
    /// In the order of their values, which fill the rest of the file.
    pub tensors: Vec<Entry>,
    pub metadata: BTreeMap<String, String>,
}

/// Reads the header of a safetensors file of `length` bytes from its start, and leaves the reader
/// at the first value.
///
/// # Errors
/// Fails for a header of more than `most` bytes, and one that does not describe a whole file.
pub fn header(file: &mut impl Read, length: u64, most: u64) -> Result<Header> {
    let header = read_header(file, length, most)?;
    let mut infos: Vec<_> = header.tensors().into_iter().collect();
    if infos.len() > MOST_TENSORS {
        let text = format!("the file holds {} tensors", infos.len());
        return Err(Error::failed(text).note("expected", format!("at most {MOST_TENSORS}")));
    }
    // In the order of the data; names only as a second key, for tensors without values.
    infos.sort_by(|(a, x), (b, y)| x.data_offsets.cmp(&y.data_offsets).then(a.cmp(b)));
    let entry = |(name, info): (String, &TensorInfo)| {
        refuse_odd_name(&name)?;
        if info.shape.len() > MOST_DIMENSIONS {
            let text = format!("tensor `{name}` has {} dimensions", info.shape.len());
            return Err(Error::failed(text).note("expected", format!("at most {MOST_DIMENSIONS}")));
        }
        let known = KINDS.iter().find(|(dtype, _)| *dtype == info.dtype);
        let shape: Result<Vec<i64>, _> = info.shape.iter().map(|&n| i64::try_from(n)).collect();
        let shape = shape.map_err(|error| {
            damaged(format!("tensor `{name}` has the shape {:?}", info.shape)).caused_by(error)
        })?;
        Ok(Entry {
            name,
            shape,
            kind: known.map(|(_, kind)| *kind),
            dtype: info.dtype.to_string(),
            bytes: (info.data_offsets.1 - info.data_offsets.0) as u64,
        })
    };
    let tensors = infos.into_iter().map(entry).collect::<Result<_>>()?;
    let metadata = header.metadata().clone().unwrap_or_default();
    Ok(Header {
        tensors,
        metadata: metadata.into_iter().collect(),
    })
}

/// Refuses a name that would not be shown as what it is: one of many lines could pass for a message
/// of ours, and a very long one hides the others.
pub(super) fn refuse_odd_name(name: &str) -> Result<()> {
    if name.len() <= LONGEST_NAME && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(Error::failed(format!(
        "a tensor's name is very long, or holds control characters: `{}`",
        shown.escape_debug()
    )))
}

/// Reads length and header, and checks that the tensors fill the rest of the file exactly.
fn read_header(file: &mut impl Read, length: u64, most: u64) -> Result<Metadata> {
    let mut size = [0; 8];
    file.read_exact(&mut size)
        .map_err(|error| damaged("it is shorter than its 8-byte header length").caused_by(error))?;
    let size = u64::from_le_bytes(size);
    let rest = length.saturating_sub(8);
    if size > rest {
        return Err(damaged(format!(
            "its header claims {size} bytes, but {rest} follow"
        )));
    }
    if size > most {
        let text = format!("the header of the safetensors file has {size} bytes");
        return Err(Error::failed(text).note("expected", format!("at most {most}")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| damaged(&error).caused_by(error))?;
    let (claimed, there) = (header.data_len() as u64, rest - size);
    if claimed != there {
        return Err(damaged("its tensors do not fill it")
            .note("expected", format!("{claimed} bytes of tensors"))
            .note("found", format!("{there} bytes")));
    }
    Ok(header)
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::failed(format!("this is not a whole safetensors file: {why}"))
        .hint("it may be a file of another kind, or have been cut short: copy or make it again")
}

/// Makes a CPU tensor of raw little-endian values; `bytes` must be as long as shape and kind
/// require.
pub(super) fn from_bytes(name: &str, bytes: &[u8], shape: &[i64], kind: Kind) -> Result<Tensor> {
    let count = shape
        .iter()
        .try_fold(1i64, |product, &n| product.checked_mul(n));
    let length = count.and_then(|n| n.checked_mul(kind.elt_size_in_bytes() as i64));
    if length != i64::try_from(bytes.len()).ok() {
        return Err(
            Error::failed(format!("tensor `{name}` does not fill its shape"))
                .note("expected", format!("{shape:?} of {kind:?}"))
                .note("found", format!("{} bytes", bytes.len())),
        );
    }
    if kind == Kind::Bool && bytes.iter().any(|&byte| byte > 1) {
        return Err(Error::failed(format!(
            "tensor `{name}` holds truth values other than 0 and 1"
        )));
    }
    Ok(Tensor::f_from_data_size(bytes, shape, kind)?)
}

/// Writes a safetensors file: to a temporary file in the same folder, synced, renamed. The same
/// tensors and metadata give the same bytes.
///
/// Tensors are stored as the reference writer stores them, by type (widest first) and name.
///
/// # Errors
/// Fails for a folder that cannot be written, two tensors of one name, a type that the format
/// lacks.
pub fn write(
    path: &Path,
    tensors: &[(&str, &Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let (header, sorted) = header_of(tensors, metadata)
        .map_err(|error| error.note("file", path.display().to_string()))?;
    atomic::write_with(path, |file| write_to(file, &header, &sorted))
}

/// Returns the bytes of such a file, for tensors that are sent.
///
/// # Errors
/// Fails for two tensors of one name, a type that the format lacks.
pub fn encode(tensors: &[(&str, &Tensor)], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let (header, sorted) = header_of(tensors, metadata)?;
    let mut bytes = Vec::new();
    write_to(&mut bytes, &header, &sorted)?;
    Ok(bytes)
}

/// Returns how many bytes [`encode`] makes of them.
///
/// # Errors
/// Fails as [`encode`] does.
pub fn length(tensors: &[(&str, &Tensor)], metadata: &BTreeMap<String, String>) -> Result<usize> {
    let (header, sorted) = header_of(tensors, metadata)?;
    let values = |tensor: &&Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
    Ok(8 + header.len() + sorted.iter().map(values).sum::<usize>())
}

fn write_to(file: &mut dyn Write, header: &str, sorted: &[&Tensor]) -> Result<()> {
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for tensor in sorted {
        file.write_all(&bytes(tensor)?)?;
    }
    Ok(())
}

/// Returns a tensor's values, little-endian, in row-major order.
pub(crate) fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

/// Returns the header, padded with spaces to a multiple of 8 bytes, and the tensors in the order in
/// which it lists them.
fn header_of<'a>(
    tensors: &[(&str, &'a Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<(String, Vec<&'a Tensor>)> {
    let mut sorted = Vec::new();
    let mut names = HashSet::from(["__metadata__"]);
    for &(name, tensor) in tensors {
        if !names.insert(name) {
            return Err(Error::failed(format!(
                "a safetensors file cannot hold two entries `{name}`"
            )));
        }
        let dtype = KINDS
            .iter()
            .find(|(_, kind)| *kind == tensor.kind())
            .map(|(dtype, _)| *dtype);
        let dtype = dtype.ok_or_else(|| {
            Error::failed(format!(
                "tensor `{name}` has the type {:?}, which safetensors lacks",
                tensor.kind()
            ))
        })?;
        sorted.push((dtype, name, tensor));
    }
    sorted.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut start = 0;
    for (dtype, name, tensor) in &sorted {
        let end = start + tensor.numel() * tensor.kind().elt_size_in_bytes();
        let dtype = dtype.to_string();
        let entry = json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end]});
        header.insert((*name).into(), entry);
        start = end;
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(
        ' ',
        header.len().next_multiple_of(8) - header.len(),
    ));
    if header.len() as u64 > MOST_HEADER {
        return Err(Error::failed(format!(
            "a safetensors header of {} bytes could not be read again",
            header.len()
        ))
        .note(
            "expected",
            format!("at most {MOST_HEADER} bytes of names, shapes and metadata"),
        ));
    }
    Ok((
        header,
        sorted.into_iter().map(|(_, _, tensor)| tensor).collect(),
    ))
}

/// Reads weights, by content and not by the file's name: safetensors with its metadata, or a
/// PyTorch state dict (`.pt`) with none.
///
/// # Errors
/// Fails as [`read`] does; for `.pt` also anything but tensors in it, and the format from before
/// PyTorch 1.6.
pub fn read_state(path: &Path) -> Result<(StateDict, BTreeMap<String, String>)> {
    refuse_special(path)?;
    let mut start = Vec::new();
    fs::File::open(path)?.take(64).read_to_end(&mut start)?;
    // The eight bytes of a header's length may be the beginning of any other format.
    let length = start.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    if length.is_some_and(|length| length <= MOST_HEADER) && start.get(8) == Some(&b'{') {
        return read(path).map(|file| (StateDict::new(file.tensors), file.metadata));
    }
    if let Some(error) = another_file(&start) {
        return Err(error.note("file", path.display().to_string()));
    }
    match start.as_slice() {
        [b'P', b'K', 3, 4, ..] => pytorch::read(path)
            .map(|state| (state, BTreeMap::new()))
            .map_err(|error| error.note("file", path.display().to_string())),
        [0x80, ..] => Err(Error::failed(
            "this looks like a PyTorch file in the old format, which is not read",
        )
        .note("file", path.display().to_string())
        .hint(
            "in Python: `torch.save(torch.load(path), path, _use_new_zipfile_serialization=True)`",
        )),
        _ => read(path).map(|file| (StateDict::new(file.tensors), file.metadata)),
    }
}

/// Returns the error for what downloads leave in place of a file, by how it starts.
fn another_file(start: &[u8]) -> Option<Error> {
    if start.starts_with(b"version https://git-lfs.github.com") {
        let text = "this is a Git LFS pointer, not the weights themselves";
        return Some(Error::failed(text).hint("`git lfs pull` fetches them"));
    }
    let page = start.trim_ascii_start().starts_with(b"<");
    page.then(|| {
        Error::failed("this is a web page or XML, not a weights file")
            .hint("download the file again, in a browser if the server asks for something first")
    })
}
