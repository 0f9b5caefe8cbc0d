//! Writes the log: short plain lines to stderr, lines with times to a file.
//!
//! The library logs through `tracing`; binaries call [`init`] once, and stages call [`to_file`] for
//! as long as they write into a folder.

use super::launcher;
use super::output::printable;
use super::progress::BARS;
use crate::artifact::atomic;
use crate::error::{Error, Result};
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::{Event, Level, Subscriber};
use tracing_indicatif::IndicatifWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as log};

/// Environment variable that sets what is logged.
const VARIABLE: &str = "FED_DISTILL_LOG";

/// Starts the log of this process, at the level that `FED_DISTILL_LOG` gives, else `info`, or
/// `error` on other ranks than 0. A second call does nothing; in a program that already has a
/// `tracing` subscriber that one stays.
///
/// # Errors
/// Fails for a value of `FED_DISTILL_LOG` that is no level (usage).
pub fn init() -> Result<()> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    let mut started = lock(&STARTED);
    if *started {
        return Ok(());
    }
    let filter = filter(std::env::var(VARIABLE).ok().as_deref())?;
    let colour = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let terminal = log::layer()
        .event_format(Line { stamped: false })
        .with_ansi(colour)
        .with_writer(IndicatifWriter::<tracing_indicatif::writer::Stderr>::new(
            BARS.clone(),
        ));
    let files = log::layer()
        .event_format(Line { stamped: true })
        .with_ansi(false)
        .with_writer(Files);
    // It fails only when there is a subscriber already.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(terminal)
        .with(files)
        .try_init();
    *started = true;
    Ok(())
}

/// Appends the log to the file at `path`, with times and levels, as long as the returned guard
/// lives. Starts the log if need be.
///
/// The file begins with what was logged while no file was open, such as the line that describes
/// the dataset. It is created with its first line, so that a run that logs nothing leaves none.
///
/// # Errors
/// Fails for a value of `FED_DISTILL_LOG` that is no level (usage).
pub fn to_file(path: &Path) -> Result<FileLog> {
    init()?;
    let open = &mut *lock(&OPEN);
    let id = open.next;
    open.next += 1;
    let mut file = LogFile {
        id,
        path: path.to_path_buf(),
        file: None,
    };
    file.write(&std::mem::take(&mut open.early));
    open.files.push(file);
    Ok(FileLog { id })
}

/// Keeps a log file open; see [`to_file`].
#[derive(Debug)]
#[must_use = "the file is closed when this is dropped"]
pub struct FileLog {
    id: u64,
}

impl FileLog {
    /// Writes the error that ends the run to this file alone: the command line shows it on stderr.
    pub fn failed(&self, error: &Error) {
        let line = format!("{}{}\n", stamp(Level::ERROR), printable(&error.to_string()));
        let open = &mut *lock(&OPEN);
        let own = open.files.iter_mut().filter(|file| file.id == self.id);
        own.for_each(|file| file.write(line.as_bytes()));
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        lock(&OPEN).files.retain(|file| file.id != self.id);
    }
}

/// Limits the bytes that are kept for the next log file.
const EARLY: usize = 1 << 20;

/// The log files that are open.
struct Open {
    next: u64,
    files: Vec<LogFile>,
    /// The lines that were logged while no file was open.
    early: Vec<u8>,
}

static OPEN: Mutex<Open> = Mutex::new(Open {
    next: 0,
    files: Vec::new(),
    early: Vec::new(),
});

/// Writes one log file, which is created with its first line.
struct LogFile {
    id: u64,
    path: PathBuf,
    file: Option<File>,
}

impl LogFile {
    /// Appends lines. A full disk or a missing permission does not end a run here: the run's own
    /// files report it.
    fn write(&mut self, lines: &[u8]) {
        if self.file.is_none() && !lines.is_empty() {
            self.file = atomic::append(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(lines);
        }
    }
}

/// Writes to all open log files, or keeps the lines for the next one.
struct Files;

impl Write for Files {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let open = &mut *lock(&OPEN);
        match open.files.is_empty() {
            // A server may log for months without a file.
            true if open.early.len() < EARLY => open.early.extend(lines),
            true => {}
            false => open.files.iter_mut().for_each(|file| file.write(lines)),
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Files {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

/// Parses a level, or `tracing` directives (`fed_distill=debug,warn`).
fn filter(wanted: Option<&str>) -> Result<EnvFilter> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let usual = if launcher::is_follower() {
        "error"
    } else {
        "info"
    };
    let wanted = wanted
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .unwrap_or(usual);
    let wrong = || {
        Error::usage(format!("{VARIABLE} is `{wanted}`, which is no log level"))
            .note("available", LEVELS.join(", "))
            .hint("or directives as `fed_distill=debug,warn`")
    };
    // A single unknown word would be taken for a module whose every message is wanted, and nothing
    // else logged.
    if !wanted.contains('=') && !LEVELS.contains(&wanted.to_ascii_lowercase().as_str()) {
        return Err(wrong());
    }
    EnvFilter::try_new(wanted).map_err(|error| wrong().caused_by(error))
}

/// Formats an event: `message`, `warning: message`, `error: message`; stamped
/// `2025-01-31T12:00:00+01:00 INFO message`.
struct Line {
    stamped: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.stamped {
            out.write_str(&stamp(level))?;
        } else if let Some((colour, word)) = prefix(level) {
            if out.has_ansi_escapes() {
                write!(out, "\x1b[{colour}m{word}:\x1b[0m ")?;
            } else {
                write!(out, "{word}: ")?;
            }
        }
        let mut text = String::new();
        context
            .field_format()
            .format_fields(Writer::new(&mut text), event)?;
        writeln!(out, "{}", printable(&text))
    }
}

/// Returns what a line in a file begins with: `2025-01-31T12:00:00+01:00 INFO  `.
fn stamp(level: Level) -> String {
    let now = jiff::Zoned::now();
    format!("{} {level:5} ", now.strftime("%Y-%m-%dT%H:%M:%S%:z"))
}

/// Returns colour and word before a line on stderr; `None` for the ordinary ones.
fn prefix(level: Level) -> Option<(&'static str, &'static str)> {
    match level {
        Level::ERROR => Some(("1;31", "error")),
        Level::WARN => Some(("1;33", "warning")),
        Level::INFO => None,
        Level::DEBUG => Some(("2", "debug")),
        Level::TRACE => Some(("2", "trace")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
