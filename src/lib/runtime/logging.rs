//! The log: short plain lines on stderr for the user, stamped lines in a file for the record.
//!
//! The library logs through `tracing`; binaries call [`init`] once, and stages [`to_file`] for as
//! long as they write into a folder.

use super::launcher;
use super::progress::BARS;
use crate::artifact::atomic;
use crate::error::{Error, Result};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
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
/// A value of `FED_DISTILL_LOG` that is no level (usage).
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
/// # Errors
/// A file that cannot be opened for writing.
pub fn to_file(path: &Path) -> Result<FileLog> {
    init()?;
    let file = atomic::append(path)?;
    let mut open = lock(&OPEN);
    let id = open.next;
    open.next += 1;
    open.files.push((id, file));
    Ok(FileLog { id })
}

/// Keeps a log file open; see [`to_file`].
#[derive(Debug)]
#[must_use = "the file is closed when this is dropped"]
pub struct FileLog {
    id: u64,
}

impl Drop for FileLog {
    fn drop(&mut self) {
        lock(&OPEN).files.retain(|(id, _)| *id != self.id);
    }
}

/// The log files that are open.
struct Open {
    next: u64,
    files: Vec<(u64, std::fs::File)>,
}

static OPEN: Mutex<Open> = Mutex::new(Open {
    next: 0,
    files: Vec::new(),
});

/// Writes to all open log files. A full disk does not end a run here: what the run itself writes
/// will say so.
struct Files;

impl Write for Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (_, file) in &mut lock(&OPEN).files {
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
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

/// A level, or `tracing` directives (`fed_distill=debug,warn`).
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
    EnvFilter::try_new(wanted).map_err(|_| wrong())
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
            let now = jiff::Zoned::now();
            write!(out, "{} {level:5} ", now.strftime("%Y-%m-%dT%H:%M:%S%:z"))?;
        } else if let Some((colour, word)) = prefix(level) {
            if out.has_ansi_escapes() {
                write!(out, "\x1b[{colour}m{word}:\x1b[0m ")?;
            } else {
                write!(out, "{word}: ")?;
            }
        }
        context.field_format().format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// Colour and word before a line on stderr; none for the ordinary ones.
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
