//! Tells what a file is that a subcommand is not for, and which subcommand shows it.

use super::find;
use crate::artifact::fault::{folder_of, refuse_special};
use crate::artifact::{json, tensors};
use crate::config::list;
use crate::error::Error;
use crate::run::{manifest, split};
use anyhow::{Result, bail};
use serde_json::Value;
use std::io::Read;
use std::path::Path;

/// Says what a subcommand reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Tensors,
    /// Synthetic images and their labels.
    Images,
    Split,
}

impl Wanted {
    /// Returns true for a file that is known to be of this kind.
    fn fits(self, path: &Path) -> bool {
        let pytorch = path.extension().is_some_and(|ending| ending == "pt");
        match (self, Kind::of(path)) {
            (Self::Tensors, kind) => pytorch || matches!(kind, Some(Kind::Safetensors)),
            (Self::Images, Some(Kind::Safetensors)) => has_images(path) == Some(true),
            (Self::Split, kind) => matches!(kind, Some(Kind::Split)),
            (Self::Images, _) => false,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Tensors => "a safetensors file or a PyTorch state dict (`.pt`)",
            Self::Images => "`initial.safetensors`, or `dataset.safetensors` of a student",
            Self::Split => "the JSON file that `split_data` wrote (`split.save_path`)",
        }
    }
}

/// Says what a file is.
enum Kind {
    Safetensors,
    Split,
    /// The manifest of a run of this stage.
    Manifest(String),
    /// What a run of a stage wrote in a role.
    Recorded {
        role: String,
        stage: String,
    },
    Json,
    Picture(&'static str),
    Text,
}

/// Beginnings of pictures, which `inspect` writes and does not read.
const PICTURES: [(&[u8], &str); 4] = [
    (b"\x89PNG", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"<svg", "SVG"),
];

/// Returns `path` unless it is a folder, or a file that is known to be of another kind than
/// `subcommand` reads. A file that is not known is left to the reader, which says what is wrong
/// with it.
///
/// # Errors
/// Fails with the refusal, which names the subcommand that shows the file, or the files of its
/// folder that this one reads.
pub fn file<'a>(path: &'a Path, wanted: Wanted, subcommand: &str) -> Result<&'a Path> {
    let shown = path.display();
    if path.is_dir() {
        let error = Error::usage(format!("`{shown}` is a folder, not a file"));
        bail!(fitting(error, path, wanted, subcommand));
    }
    let Some(kind) = Kind::of(find::file(path)?) else {
        return Ok(path);
    };
    let lacks = match (wanted, &kind) {
        (Wanted::Tensors, Kind::Safetensors) | (Wanted::Split, Kind::Split | Kind::Json) => {
            return Ok(path);
        }
        (Wanted::Images, Kind::Safetensors) if has_images(path) != Some(false) => return Ok(path),
        (Wanted::Images, Kind::Safetensors) => "holds no tensor `images`",
        (Wanted::Images, _) => "holds no images as tensors",
        (Wanted::Tensors, _) => "holds no tensors",
        (Wanted::Split, _) => "is no split",
    };
    let error = Error::usage(format!("`{shown}` {lacks}: it is {}", kind.described()))
        .note("file", shown.to_string());
    bail!(match kind.shown_by() {
        Some(other) => error.hint(format!("`inspect {other} {shown}` shows it")),
        None => fitting(error, folder_of(path), wanted, subcommand),
    });
}

/// Adds to an error the files of `folder` that `subcommand` reads, and the command that shows one.
fn fitting(error: Error, folder: &Path, wanted: Wanted, subcommand: &str) -> Error {
    let names = find::files_in(folder);
    let fits = |name: &&String| wanted.fits(&folder.join(name));
    let fit: Vec<String> = names.iter().filter(fits).cloned().collect();
    let command = |name: &String| {
        let path = find::within(folder, name);
        format!("`inspect {subcommand} {}`", path.display())
    };
    match fit.as_slice() {
        [] => error
            .note("expected", wanted.described())
            .note("available", list(&names)),
        [one] => error.hint(command(one)),
        [first, ..] => error
            .note("available", list(&fit))
            .hint(format!("say which, as {}", command(first))),
    }
}

/// Reports whether a safetensors file has a tensor `images`; `None` for a damaged file.
fn has_images(path: &Path) -> Option<bool> {
    let names = tensors::names(path).ok()?;
    Some(names.iter().any(|name| name == "images"))
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        let mut start = Vec::new();
        refuse_special(path).ok()?;
        let file = fs_err::File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        file.take(64).read_to_end(&mut start).ok()?;
        if let Some((_, name)) = PICTURES.iter().find(|(head, _)| start.starts_with(head)) {
            return Some(Self::Picture(name));
        }
        if let Some((size, rest)) = start.split_first_chunk::<8>()
            && u64::from_le_bytes(*size) < length
        {
            return (rest.first() == Some(&b'{')).then_some(Self::Safetensors);
        }
        let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&start);
        match text.trim_ascii_start().first()? {
            b'{' | b'[' => Some(Self::of_json(path)),
            _ if is_text(text) => Some(Self::Text),
            _ => None,
        }
    }

    fn of_json(path: &Path) -> Self {
        let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        let value: Value = json::read(path).unwrap_or_default();
        if let (Some(_), Some(stage)) = (value.get("schema_version"), text(&value, "stage")) {
            return Self::Manifest(stage);
        }
        if split::read(path).is_ok() {
            return Self::Split;
        }
        let Some((manifest, made)) = manifest::made(path) else {
            return Self::Json;
        };
        let is_it = |record: &&manifest::FileRecord| {
            record.current_path(&manifest).file_name() == path.file_name()
        };
        match made.outputs.iter().find(is_it) {
            Some(record) => Self::Recorded {
                role: record.role.clone(),
                stage: made.stage,
            },
            None => Self::Json,
        }
    }

    fn described(&self) -> String {
        match self {
            Self::Safetensors => "a safetensors file".into(),
            Self::Split => "a split".into(),
            Self::Manifest(stage) => format!("the manifest of a run of `{stage}`"),
            Self::Recorded { role, stage } => {
                format!("JSON, the {} of a run of `{stage}`", role.replace('_', " "))
            }
            Self::Json => "JSON".into(),
            Self::Picture(name) => format!("a picture ({name})"),
            Self::Text => "text".into(),
        }
    }

    /// Returns the subcommand that shows such a file.
    fn shown_by(&self) -> Option<&'static str> {
        match self {
            Self::Safetensors => Some("tensors"),
            Self::Split => Some("split"),
            Self::Manifest(_) | Self::Recorded { .. } => Some("show"),
            Self::Json | Self::Picture(_) | Self::Text => None,
        }
    }
}

/// Returns true for the beginning of a text that says nothing of its format; a pointer of Git LFS
/// and a web page stand for another file, and the reader of tensors knows them.
fn is_text(start: &[u8]) -> bool {
    // The last character may be cut.
    let whole = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let plain = |c: char| !c.is_control() || c.is_ascii_whitespace();
    let stands_for_another = whole.starts_with('<') || whole.starts_with("version https://git-lfs");
    !whole.is_empty() && whole.chars().all(plain) && !stands_for_another
}
