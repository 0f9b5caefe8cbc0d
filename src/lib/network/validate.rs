//! Checks a file that came from anybody, piece by piece and before any network is built: its
//! length, its hash, its header, its card, the names, shapes and types of its tensors, and every
//! value.

use super::task::Task;
use crate::artifact::{hash, tensors};
use crate::error::{Error, Result};
use crate::model::{Model, ModelSpec};
use crate::run::weights;
use crate::words::counted;
use fs_err::File;
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::path::Path;
use tch::Kind;

/// Longest header of an upload: names and shapes of some thousand tensors, and a card.
const MOST_HEADER: u64 = 1 << 20;
/// Largest counter: of larger integers float64 does not have each.
const MOST_COUNT: i64 = 1 << 53;
/// Read at a time; a multiple of every type's size.
const CHUNK: usize = 1 << 20;

/// What a file was announced to be.
#[derive(Clone, Debug)]
pub struct Announced {
    pub bytes: u64,
    pub sha256: String,
    /// Training images that its client declared.
    pub images: u64,
}

/// Checks that the file at `path` is what was announced, and weights of the task.
///
/// # Errors
/// Fails for whatever is wrong with it, and when it cannot be read.
pub fn upload(path: &Path, announced: &Announced, task: &Task) -> Result<()> {
    same_file(path, announced)?;
    let bytes = announced.bytes;
    let mut file = BufReader::with_capacity(CHUNK, File::open(path)?);
    refuse_pickle(path)?;
    let header = tensors::header(&mut file, bytes, MOST_HEADER)?;
    let card = weights::card(&header.metadata)?.ok_or_else(|| {
        Error::failed("the file has no card: it does not say what it was trained on")
            .hint("`join upload` writes one")
    })?;
    task.check_card(&card)?;
    let counts = card.label_counts.iter().flatten();
    let images: u128 = counts.map(|&count| u128::from(count)).sum();
    if images > u128::from(announced.images) {
        return Err(
            Error::failed("the card counts more images than the client declared")
                .note("expected", format!("at most {}", announced.images))
                .note("found", images.to_string()),
        );
    }
    check_tensors(&header.tensors, &card.model)?;
    for tensor in &header.tensors {
        check_values(&mut file, tensor)?;
    }
    Ok(())
}

/// Checks length and hash of the file at `path`.
///
/// # Errors
/// Fails when they are not those that were announced, and when the file cannot be read.
pub fn same_file(path: &Path, announced: &Announced) -> Result<()> {
    let (bytes, sha256) = hash::file(path)?;
    if bytes == announced.bytes && sha256 == announced.sha256 {
        return Ok(());
    }
    Err(
        Error::failed("what arrived is not the file that was announced")
            .note(
                "expected",
                format!("{} bytes, SHA-256 {}", announced.bytes, announced.sha256),
            )
            .note("found", format!("{bytes} bytes, SHA-256 {sha256}"))
            .hint("send it again; it may have been changed while it was sent"),
    )
}

/// Refuses what Python pickles: it is never read here.
fn refuse_pickle(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut start)?;
    match start.as_slice() {
        [b'P', b'K', ..] | [0x80, 2..=5, ..] => Err(Error::failed(
            "this is a PyTorch file, and the server takes safetensors only",
        )
        .hint("`join upload FILE.pt` converts it before it is sent")),
        _ => Ok(()),
    }
}

/// Checks that a file's tensors are those of the architecture: no other name, shape or type.
///
/// # Errors
/// Fails for the first tensors that differ.
pub fn check_tensors(found: &[tensors::Entry], spec: &ModelSpec) -> Result<()> {
    check_outline(found, &Model::outline(spec)?, &spec.model.to_string())
}

/// Checks that a file's tensors are those of an outline, by name, shape and type; `of` is what it
/// outlines.
///
/// # Errors
/// Fails for the first tensors that differ.
pub fn check_outline(
    found: &[tensors::Entry],
    outline: &[(String, Vec<i64>, Kind)],
    of: &str,
) -> Result<()> {
    let expected: BTreeMap<&str, (&[i64], Kind)> = outline
        .iter()
        .map(|(name, shape, kind)| (name.as_str(), (shape.as_slice(), *kind)))
        .collect();
    let mut problems = Vec::new();
    for entry in found {
        let shown = entry.name.escape_debug();
        match expected.get(entry.name.as_str()) {
            None => problems.push(format!("`{shown}` does not belong to it")),
            Some(&(shape, kind)) if entry.shape != shape || entry.kind != Some(kind) => {
                let is = entry
                    .kind
                    .map_or("another type".into(), |kind| format!("{kind:?}"));
                problems.push(format!(
                    "`{shown}`: expected {shape:?} of {kind:?}, found {:?} of {is}",
                    entry.shape
                ));
            }
            Some(_) => {}
        }
    }
    let names: std::collections::HashSet<&str> =
        found.iter().map(|entry| entry.name.as_str()).collect();
    let missing = expected.keys().filter(|name| !names.contains(*name));
    problems.extend(missing.map(|name| format!("`{name}` is missing")));
    if problems.is_empty() {
        return Ok(());
    }
    let error = Error::failed(format!(
        "{} of the file {} not fit {of}",
        counted(problems.len(), "tensor"),
        if problems.len() == 1 { "does" } else { "do" },
    ));
    let first = problems.into_iter().take(5);
    Err(first.fold(error, |error, problem| error.note("tensor", problem)))
}

/// Reads the values of a tensor, which come next in the file, and checks them: all finite,
/// variances and counters not negative, and counters no larger than a mean in float64 can hold.
///
/// # Errors
/// Fails for a value that is, and when the file cannot be read.
pub fn check_values(file: &mut impl Read, tensor: &tensors::Entry) -> Result<()> {
    let name = &tensor.name;
    let unsigned = name.ends_with(".running_var") || name.ends_with(".num_batches_tracked");
    let is_float = tensor.kind == Some(Kind::Float);
    let mut left = tensor.bytes;
    let mut chunk = vec![0; CHUNK.min(left as usize)];
    let (mut infinite, mut negative, mut large) = (0_u64, 0_u64, 0_u64);
    while left > 0 {
        let part = &mut chunk[..CHUNK.min(left as usize)];
        file.read_exact(part)?;
        left -= part.len() as u64;
        if is_float {
            for value in part.chunks_exact(4) {
                let value = f32::from_le_bytes([value[0], value[1], value[2], value[3]]);
                infinite += u64::from(!value.is_finite());
                negative += u64::from(value < 0.0);
            }
        } else {
            for value in part.as_chunks().0 {
                let value = i64::from_le_bytes(*value);
                negative += u64::from(value < 0);
                large += u64::from(value > MOST_COUNT);
            }
        }
    }
    let problem = match (infinite, negative) {
        (1.., _) => format!("{} not finite", values(infinite)),
        (_, 1..) if unsigned => format!("{} negative", values(negative)),
        _ if unsigned && large > 0 => format!("{} too large for a counter", values(large)),
        _ => return Ok(()),
    };
    Err(Error::failed("one tensor of the file cannot be right")
        .note("tensor", format!("`{name}`: {problem}"))
        .hint("train again with a lower learning rate, or look at the images"))
}

fn values(count: u64) -> String {
    match count {
        1 => "1 value is".into(),
        count => format!("{count} values are"),
    }
}
