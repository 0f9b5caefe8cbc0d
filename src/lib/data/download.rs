//! Fetching a set's official files: resumed, checked, and shown while it happens. Called by the
//! readers; writes into the set's folder only.

use super::official::Remote;
use crate::artifact::lock::Lock;
use crate::error::{Error, Result};
use fs_err::{self as fs, File, OpenOptions};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::{Response, StatusCode};

/// Largest file that is fetched, in bytes.
const MAX_BYTES: u64 = 4 << 30;

/// Connections tried for one file, each going on where the one before was cut.
const ATTEMPTS: usize = 5;

/// Puts a missing file of a set into `root` and returns its path; an error that says what to do if
/// `allowed` is not set or it fails.
pub(super) fn ensure(set: &str, remote: &Remote, root: &Path, allowed: bool) -> Result<PathBuf> {
    let path = root.join(remote.name);
    let url = format!("{}{}", remote.base, remote.name);
    if !allowed {
        return Err(Error::failed(format!(
            "`{set}` is not complete: `{}` is missing",
            remote.name
        ))
        .note("file", path.display().to_string())
        .note("from", url)
        .hint(
            "`dataset.download=true` fetches it; `dataset.root=…` names the folder that has it",
        ));
    }
    let missing: Vec<&Path> = root
        .ancestors()
        .take_while(|folder| !folder.exists())
        .collect();
    fs::create_dir_all(root)?;
    let fetched = fetch_once(remote, &url, &path);
    if fetched.is_err() {
        // A misspelt `dataset.root` leaves no empty folders; what arrived in part keeps its own.
        let _ = missing.iter().try_for_each(std::fs::remove_dir);
    }
    fetched.map(|()| path)
}

/// Fetches a set's file unless another process has done so meanwhile.
fn fetch_once(remote: &Remote, url: &str, path: &Path) -> Result<()> {
    let _lock = Lock::wait(
        &path.with_file_name(format!(".{}.lock", remote.name)),
        || {
            tracing::info!(
                "waiting for another process that downloads `{}`",
                remote.name
            );
        },
    )?;
    if path.is_file() {
        return Ok(());
    }
    let progress = Progress::new(remote.name);
    fetch(url, Some(remote.sha256), path, &|done, total| {
        progress.show(done, total)
    })
}

/// Fetches `url` into the file `to`.
///
/// The bytes go to `to` + `.part`, which a later call goes on with, and which is renamed when
/// whole. `sha256` (hexadecimal) is what they must hash to. `progress` is told the bytes so far
/// and, if the server says so, of how many.
///
/// Errors: no connection, an answer other than the file, a wrong hash, a file system that refuses.
/// They name the URL, the file, and what to do by hand.
pub fn fetch(
    url: &str,
    sha256: Option<&str>,
    to: &Path,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<()> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let explain = |problem: String| {
        Error::failed(format!("cannot download `{name}`: {problem}"))
            .note("from", url)
            .note("file", to.display().to_string())
            .hint("put the file there by hand, or name the folder that has it: `dataset.root=…`")
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
        match transfer(&agent, url, &part, progress) {
            Ok(()) => break,
            Err(Stop::Again(problem)) if attempt < ATTEMPTS => {
                tracing::debug!("{name}: {problem}; going on")
            }
            Err(Stop::Again(problem) | Stop::Final(problem)) => return Err(explain(problem)),
        }
        attempt += 1;
    }
    if let Some(expected) = sha256 {
        let found = hash(&part)?;
        if !found.eq_ignore_ascii_case(expected) {
            fs::remove_file(&part)?;
            return Err(
                explain("what arrived is not the file (wrong SHA-256)".into())
                    .note("expected", expected)
                    .note("found", found),
            );
        }
    }
    Ok(fs::rename(&part, to)?)
}

/// Why a transfer ended early.
enum Stop {
    /// Cut off: worth going on.
    Again(String),
    Final(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Final(error.to_string())
    }
}

/// One connection: asks for what `part` does not have yet, and appends it.
fn transfer(
    agent: &ureq::Agent,
    url: &str,
    part: &Path,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<(), Stop> {
    let have = fs::metadata(part).map_or(0, |part| part.len());
    // The files are compressed themselves; a range of a re-compressed stream would not fit.
    let mut request = agent.get(url).header("Accept-Encoding", "identity");
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request
        .call()
        .map_err(|error| Stop::Final(error.to_string()))?;
    let start = match response.status() {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if have > 0 && continues(&response, have) => have,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => {
            fs::remove_file(part)?;
            return Err(Stop::Again("the server does not go on from there".into()));
        }
        other => return Err(Stop::Final(format!("the server answered {other}"))),
    };
    let mut file = OpenOptions::new().create(true).append(true).open(part)?;
    file.set_len(start)?;
    let body = response.into_body();
    let total = body
        .content_length()
        .map(|length| length.saturating_add(start));
    let done = copy(body.into_reader(), &mut file, start, total, progress)?;
    file.sync_all()?;
    match total {
        Some(total) if done < total => Err(Stop::Again(format!(
            "the connection ended after {done} of {total} bytes"
        ))),
        _ => Ok(()),
    }
}

/// Whether a partial answer starts at byte `have`.
fn continues<T>(response: &Response<T>, have: u64) -> bool {
    let range = response.headers().get("content-range");
    range
        .and_then(|range| range.to_str().ok())
        .is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// Appends the body to the file; returns how long the file is then.
fn copy(
    mut body: impl Read,
    file: &mut File,
    start: u64,
    total: Option<u64>,
    progress: &dyn Fn(u64, Option<u64>),
) -> Result<u64, Stop> {
    let mut buffer = vec![0; 1 << 16];
    let mut done = start;
    loop {
        progress(done, total);
        let count = body
            .read(&mut buffer)
            .map_err(|error| Stop::Again(format!("after {done} bytes: {error}")))?;
        if count == 0 {
            return Ok(done);
        }
        done += count as u64;
        if done > MAX_BYTES {
            return Err(Stop::Final(format!(
                "the server sends more than {} GiB",
                MAX_BYTES >> 30
            )));
        }
        file.write_all(&buffer[..count])?;
    }
}

fn hash(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

/// A bar on a terminal, a line every tenth otherwise.
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
