//! Downloads the official files of a dataset, resumes what was cut off, checks hashes and shows
//! progress. Called by the readers; writes only into the dataset's folder.

use super::official::Remote;
use super::readers::input;
use super::settings::DatasetKind;
use crate::artifact::hash;
use crate::artifact::lock::Lock;
use crate::error::{Error, Result, Text, assignment};
use crate::runtime::interrupt;
use fs_err::{self as fs, File, OpenOptions};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{Response, StatusCode};

/// Largest file that is downloaded, in bytes.
const MAX_BYTES: u64 = 4 << 30;

/// Connections tried for one file; each resumes where the one before was cut off.
const ATTEMPTS: usize = 5;

/// Downloads the missing files of a dataset into `root` and returns their paths.
///
/// # Errors
/// Fails when `allowed` is false, and as [`fetch`] does; the error names what to do, and all files
/// that are missing.
pub(super) fn fetch_missing(
    set: DatasetKind,
    missing: &[&Remote],
    root: &Path,
    allowed: bool,
) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for (index, remote) in missing.iter().enumerate() {
        let path = fetch_one(set, remote, root, allowed)
            .map_err(|error| name_others(error, &missing[index + 1..]))?;
        paths.push(path);
    }
    Ok(paths)
}

/// Adds to the error for a missing file the others that are missing, with their addresses.
fn name_others(error: Error, others: &[&Remote]) -> Error {
    if others.is_empty() {
        return error;
    }
    let address = |remote: &&Remote| format!("{}{}", remote.base, remote.name);
    let addresses: Vec<String> = others.iter().map(address).collect();
    let names: Vec<&str> = others.iter().map(|remote| remote.name).collect();
    error
        .note("missing", format!("also {}", names.join(", ")))
        .hint(format!("the others are at {}", addresses.join(" ")))
}

/// Downloads a missing file.
fn fetch_one(set: DatasetKind, remote: &Remote, root: &Path, allowed: bool) -> Result<PathBuf> {
    let path = root.join(remote.name);
    let url = format!("{}{}", remote.base, remote.name);
    if !allowed {
        return Err(Error::failed(format!(
            "`{set}` is not complete: `{}` is missing",
            remote.name
        ))
        .note("file", path.display().to_string())
        .note("from", url)
        .note("available", available(root))
        .hint(
            assignment("download", true)
                + " fetches it; "
                + assignment("root", "…")
                + " names the folder that has it",
        ));
    }
    let missing: Vec<&Path> = root
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    fs::create_dir_all(root)?;
    let fetched = fetch_once(remote, &url, &path);
    if fetched.is_err() {
        // A misspelt `root` leaves no empty folders; a folder with a partial file stays.
        let _ = missing.iter().try_for_each(std::fs::remove_dir);
    }
    let here = || available(root);
    fetched
        .map(|()| path)
        .map_err(|error| error.note("available", here()))
}

/// Lists what there is in `root` instead of what is missing.
fn available(root: &Path) -> String {
    match input::contents(root) {
        Some(contents) => format!("{contents} in {}", root.display()),
        None => format!("there is no folder {}", root.display()),
    }
}

/// Downloads a file unless another process has done so meanwhile.
fn fetch_once(remote: &Remote, url: &str, path: &Path) -> Result<()> {
    let mut told = false;
    let waiting = || {
        if !std::mem::replace(&mut told, true) {
            tracing::info!(
                "waiting for another process that downloads `{}`",
                remote.name
            );
        }
        interrupt::check()
    };
    let _lock = Lock::wait(
        &path.with_file_name(format!(".{}.lock", remote.name)),
        waiting,
    )?;
    if path.is_file() {
        return Ok(());
    }
    let progress = Progress::new(remote.name);
    fetch(url, Some(remote.sha256), path, &|done, total| {
        progress.show(done, total)
    })
}

/// Downloads `url` into the file `to`.
///
/// The bytes are written to `to` + `.part`, which a later call resumes, and which is renamed when
/// it is complete. Their hash must be `sha256` (hexadecimal). `progress` is called with the bytes
/// so far and, where the server sends it, their total.
///
/// # Errors
/// Fails without a connection, when the server answers with anything but the file, when the hash is
/// another, and when the file cannot be written. The error names the URL, the file, and what to do
/// by hand.
pub fn fetch(
    url: &str,
    sha256: Option<&str>,
    to: &Path,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let explain = |problem: &str| {
        Error::failed(format!("cannot download `{name}`: {problem}"))
            .note("from", url)
            .note("file", to.display().to_string())
            .hint(
                Text::from("put the file there by hand, or name the folder that has it: ")
                    + assignment("root", "…"),
            )
    };
    let part = to.with_file_name(format!("{name}.part"));
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .build()
        .into();
    let mut attempt = 1;
    loop {
        // What has arrived stays, and is not asked for again.
        interrupt::check()?;
        match transfer(&agent, url, &part, progress) {
            Ok(()) => break,
            Err(error) if error.can_resume && (attempt < ATTEMPTS || interrupt::requested()) => {
                tracing::debug!("{name}: {}; resuming", error.problem)
            }
            Err(TransferError { problem, cause, .. }) => {
                let error = explain(&problem);
                return Err(match cause {
                    Some(cause) => error.caused_by(cause),
                    None => error,
                });
            }
        }
        attempt += 1;
    }
    if let Some(expected) = sha256 {
        let (_, found) = hash::file(&part)?;
        if !found.eq_ignore_ascii_case(expected) {
            fs::remove_file(&part)?;
            return Err(explain("what arrived is not the file (wrong SHA-256)")
                .note("expected", expected)
                .note("found", found));
        }
    }
    Ok(fs::rename(&part, to)?)
}

/// Tells why a transfer ended early.
struct TransferError {
    problem: String,
    /// True when the connection was cut off, false when another attempt would fail in the same way.
    can_resume: bool,
    /// The error that it was made from.
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl TransferError {
    /// Returns the error for a connection that was cut off.
    fn cut(problem: impl Into<String>) -> Self {
        Self {
            can_resume: true,
            ..Self::refused(problem)
        }
    }

    /// Returns the error for a transfer that no further attempt would complete.
    fn refused(problem: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            can_resume: false,
            cause: None,
        }
    }

    fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            cause: Some(cause.into()),
            ..self
        }
    }
}

impl From<io::Error> for TransferError {
    fn from(error: io::Error) -> Self {
        Self::refused(error.to_string()).caused_by(error)
    }
}

/// Opens one connection, asks for the bytes that `part` lacks, and appends them.
fn transfer(
    agent: &ureq::Agent,
    url: &str,
    part: &Path,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<(), TransferError> {
    let have = fs::metadata(part).map_or(0, |part| part.len());
    // The files are compressed themselves; a range of a re-compressed stream would not fit.
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request
        .call()
        .map_err(|error| TransferError::refused(error.to_string()).caused_by(error))?;
    let start = match response.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if have > 0 && starts_at(&response, have) => have,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            fs::remove_file(part)?;
            return Err(TransferError::cut("the server does not resume the file"));
        }
        other => {
            let problem = format!("the server answered {other}");
            return Err(TransferError::refused(problem));
        }
    };
    let mut file = OpenOptions::new().create(true).append(true).open(part)?;
    file.set_len(start)?;
    let body = response.into_body();
    let total = body
        .content_length()
        .map(|length| length.saturating_add(start));
    let done = append(body.into_reader(), &mut file, start, total, progress)?;
    file.sync_all()?;
    match total {
        Some(total) if done < total => Err(TransferError::cut(format!(
            "the connection ended after {done} of {total} bytes"
        ))),
        _ => Ok(()),
    }
}

/// Returns `true` when a partial answer starts at byte `have`.
fn starts_at<T>(response: &Response<T>, have: u64) -> bool {
    let range = response.headers().get("content-range");
    range
        .and_then(|range| range.to_str().ok())
        .is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// Appends the body to the file and returns the file's new length.
fn append(
    mut body: impl Read,
    file: &mut File,
    start: u64,
    total: Option<u64>,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<u64, TransferError> {
    let mut buffer = vec![0; 1 << 16];
    let mut done = start;
    loop {
        progress(done, total);
        if interrupt::requested() {
            return Err(TransferError::cut("asked to stop"));
        }
        let count = body.read(&mut buffer).map_err(|error| {
            TransferError::cut(format!("after {done} bytes: {error}")).caused_by(error)
        })?;
        if count == 0 {
            return Ok(done);
        }
        done += count as u64;
        if done > MAX_BYTES {
            return Err(TransferError::refused(format!(
                "the server sends more than {} GiB",
                MAX_BYTES >> 30
            )));
        }
        file.write_all(&buffer[..count])?;
    }
}

/// Shows a bar on a terminal, and a log line for each tenth of the file elsewhere.
struct Progress {
    name: &'static str,
    bar: ProgressBar,
    tenths: Cell<u64>,
}

impl Progress {
    fn new(name: &'static str) -> Self {
        let bar = ProgressBar::no_length().with_message(name);
        let template = "{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            name,
            bar,
            tenths: Cell::new(0),
        }
    }

    fn show(&self, done: u64, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total);
            let tenths = done * 10 / total.max(1);
            if self.bar.is_hidden() && tenths > self.tenths.replace(tenths) {
                tracing::info!(
                    "downloading {}: {}% of {total} bytes",
                    self.name,
                    tenths * 10
                );
            }
        }
        self.bar.set_position(done);
    }
}
