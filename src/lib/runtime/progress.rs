//! Shows the progress of long loops on stderr: as bars on a terminal, as a plain line every few
//! seconds elsewhere. Called by the stages.

use super::launcher;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// A loop that took no longer leaves no line at its end.
const SHORT: Duration = Duration::from_secs(2);
/// Time after which a bar is redrawn without a step, so that its clock runs.
const REDRAW: Duration = Duration::from_millis(250);

/// Holds all bars of the process. The log is written through it as well, so that its lines do not
/// run into the bars.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Shows the progress of one loop. It is cheap enough to call at each step and is shared between
/// threads by reference. Ranks other than 0 show nothing.
#[derive(Debug)]
pub struct Progress {
    label: String,
    unit: Unit,
    /// Number of steps, or zero when it is unknown.
    total: u64,
    done: AtomicU64,
    /// Those of them that took no time here.
    skipped: AtomicU64,
    message: Mutex<String>,
    started: Instant,
    /// Time of the next plain line, in milliseconds after the start.
    due: AtomicU64,
    /// The bar, on a terminal only.
    bar: Option<ProgressBar>,
}

/// Says what is counted.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Steps,
    Bytes,
}

impl Progress {
    /// Starts the clock of a loop named `label` over `total` steps, zero when their number is
    /// unknown.
    pub fn new(label: &str, total: u64) -> Self {
        Self::counting(Unit::Steps, label, total)
    }

    /// Starts the clock of a transfer named `label` of `total` bytes, which are its steps.
    pub fn of_bytes(label: &str, total: u64) -> Self {
        Self::counting(Unit::Bytes, label, total)
    }

    fn counting(unit: Unit, label: &str, total: u64) -> Self {
        Self {
            label: label.to_string(),
            unit,
            total,
            done: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            message: Mutex::new(String::new()),
            started: Instant::now(),
            due: AtomicU64::new(millis(LINE_INTERVAL)),
            bar: on_terminal().then(|| new_bar(unit, label, total)),
        }
    }

    /// Counts one step as done.
    pub fn step(&self) {
        self.add(1);
    }

    /// Counts `n` steps as done.
    pub fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => bar.inc(n),
            None => self.line_if_due(),
        }
    }

    /// Counts `n` steps that an earlier run has done, which say nothing about the time of others.
    pub fn skip(&self, n: u64) {
        self.skipped.fetch_add(n, Ordering::Relaxed);
        self.done.fetch_add(n, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.inc(n);
            bar.reset_eta();
        }
    }

    /// Shows `text` beside the count, in place of an earlier one.
    pub fn message(&self, text: impl Into<String>) {
        let text = text.into();
        if let Some(bar) = &self.bar {
            bar.set_message(text.clone());
        }
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Removes the bar and prints one line if the loop took longer than two seconds. Dropping does
    /// the same.
    pub fn finish(self) {}

    /// Prints a line when the time has come, on the one thread that is first to see it.
    fn line_if_due(&self) {
        let now = millis(self.started.elapsed());
        let due = self.due.load(Ordering::Relaxed);
        let is_first = |due| {
            self.due
                .compare_exchange(
                    due,
                    now + millis(LINE_INTERVAL),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
        };
        if now >= due && is_first(due) {
            print(&self.line(self.left()));
        }
    }

    fn left(&self) -> Option<Duration> {
        let done = self.done.load(Ordering::Relaxed);
        let timed = done.saturating_sub(self.skipped.load(Ordering::Relaxed));
        // What comes after the last step, such as an evaluation, is not timed.
        let remaining = self.total.checked_sub(done).filter(|steps| *steps > 0)?;
        left(self.started.elapsed(), timed, remaining)
    }

    fn line(&self, left: Option<Duration>) -> String {
        let message = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.map(|left| format!("{} left", duration(left)));
        let mut parts: Vec<&str> = left.iter().map(String::as_str).collect();
        parts.extend(Some(message.as_str()).filter(|message| !message.is_empty()));
        let done = self.done.load(Ordering::Relaxed);
        match self.unit {
            Unit::Steps => line(&self.label, done, self.total, &parts.join(", ")),
            Unit::Bytes => {
                let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
                let percent = u128::from(done) * 100 / u128::from(self.total.max(1));
                let mut line = format!(
                    "{}: {}/{} MB ({percent}%)",
                    self.label,
                    megabytes(done),
                    megabytes(self.total)
                );
                for part in parts {
                    line = line + ", " + part;
                }
                line
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let spent = self.started.elapsed();
        if spent > SHORT {
            print(&format!("{}, {}", self.line(None), duration(spent)));
        }
    }
}

/// Writes a plain line: `label: 120/1000 (12%), message`, or without a total `label: 120, message`.
pub fn line(label: &str, done: u64, total: u64, message: &str) -> String {
    let count = match (u128::from(done) * 100).checked_div(total.into()) {
        Some(percent) => format!("{done}/{total} ({percent}%)"),
        None => done.to_string(),
    };
    let comma = if message.is_empty() { "" } else { ", " };
    format!("{label}: {count}{comma}{message}")
}

/// Returns the time that `remaining` steps will take if they are like the `timed` ones, which took
/// `spent`; `None` before the first of them.
pub fn left(spent: Duration, timed: u64, remaining: u64) -> Option<Duration> {
    let seconds = spent.as_secs_f64() / timed as f64 * remaining as f64;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Writes a duration in at most two units: `7 s`, `3 min 7 s`, `2 h 3 min`.
pub fn duration(spent: Duration) -> String {
    let seconds = spent.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Writes a rate, `120/s` or `3.2/s`; below one a second the time of a step, `2.5 s each`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        fast if fast >= 10.0 => format!("{fast:.0}/s"),
        some if some >= 1.0 => format!("{some:.1}/s"),
        slow if slow > 0.0 => format!("{:.1} s each", 1.0 / slow),
        _ => "-/s".to_string(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns `true` when stderr is a terminal that can move its cursor, as bars need.
fn on_terminal() -> bool {
    !launcher::is_follower()
        && std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_some_and(|kind| kind != "dumb")
}

fn new_bar(unit: Unit, label: &str, total: u64) -> ProgressBar {
    let template = match (unit, total) {
        (Unit::Steps, 0) => "{prefix} {pos} {rate}, {elapsed} {wide_msg}",
        (Unit::Steps, _) => "{prefix} [{bar:30}] {pos}/{len} {rate}, {eta} left {wide_msg}",
        (Unit::Bytes, _) => {
            "{prefix} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}, \
             {eta} left {wide_msg}"
        }
    };
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = match total {
        0 => ProgressBar::no_length(),
        _ => ProgressBar::new(total),
    };
    let style = style.progress_chars("=> ").with_key(
        "rate",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = out.write_str(&rate(state.per_sec()));
        },
    );
    let bar = BARS.add(bar.with_style(style).with_prefix(label.to_string()));
    bar.enable_steady_tick(REDRAW);
    bar
}

/// Prints a line to stderr, above the bars. An error of a closed stderr is ignored.
fn print(line: &str) {
    if launcher::is_follower() {
        return;
    }
    BARS.suspend(|| {
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}
