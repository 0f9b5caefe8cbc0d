//! Progress of long loops: bars on a terminal, now and then a plain line elsewhere. Everything goes
//! to stderr.

use super::launcher;
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two plain lines.
const PAUSE: Duration = Duration::from_secs(5);
/// What took less leaves no line at the end.
const SHORT: Duration = Duration::from_secs(2);
/// How often a bar is redrawn when nothing happens, to keep its clock going.
const REDRAW: Duration = Duration::from_millis(250);

/// All bars of the process. The log writes through it too, so that lines and bars do not tear each
/// other.
pub(super) static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Progress of one loop. Cheap enough to call at every step; shared between threads by reference.
/// Other ranks than 0 show none.
#[derive(Debug)]
pub struct Progress {
    label: String,
    /// Zero: unknown.
    total: u64,
    done: AtomicU64,
    message: Mutex<String>,
    started: Instant,
    /// When the next plain line is due, in milliseconds after the start.
    due: AtomicU64,
    /// On a terminal only.
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts the clock for `total` steps of `label`; zero when their number is unknown.
    pub fn new(label: &str, total: u64) -> Self {
        Self {
            label: label.to_string(),
            total,
            done: AtomicU64::new(0),
            message: Mutex::new(String::new()),
            started: Instant::now(),
            due: AtomicU64::new(millis(PAUSE)),
            bar: on_terminal().then(|| new_bar(label, total)),
        }
    }

    /// One step is done.
    pub fn step(&self) {
        self.add(1);
    }

    /// `n` steps are done.
    pub fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
        match &self.bar {
            Some(bar) => bar.inc(n),
            None => self.line_if_due(),
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

    /// Removes the bar, and leaves one line if it took long. Dropping does the same.
    pub fn finish(self) {}

    fn line_if_due(&self) {
        let now = millis(self.started.elapsed());
        let due = self.due.load(Ordering::Relaxed);
        let mine = |due| {
            self.due
                .compare_exchange(
                    due,
                    now + millis(PAUSE),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                )
                .is_ok()
        };
        if now >= due && mine(due) {
            print(&self.line());
        }
    }

    fn line(&self) -> String {
        let message = self.message.lock().unwrap_or_else(PoisonError::into_inner);
        line(
            &self.label,
            self.done.load(Ordering::Relaxed),
            self.total,
            &message,
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let spent = self.started.elapsed();
        if spent > SHORT {
            print(&format!("{}, {}", self.line(), duration(spent)));
        }
    }
}

/// `label: 120/1000 (12%), message`; without a total `label: 120, message`.
pub fn line(label: &str, done: u64, total: u64, message: &str) -> String {
    let count = match (u128::from(done) * 100).checked_div(total.into()) {
        Some(percent) => format!("{done}/{total} ({percent}%)"),
        None => done.to_string(),
    };
    let comma = if message.is_empty() { "" } else { ", " };
    format!("{label}: {count}{comma}{message}")
}

/// `7 s`, `3 min 7 s`, `2 h 3 min`: two units at most.
pub fn duration(spent: Duration) -> String {
    let seconds = spent.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// `120/s`, `3.2/s`; below one a second the time of a step, `2.5 s each`.
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

/// Bars need a terminal that can move its cursor.
fn on_terminal() -> bool {
    !launcher::is_follower()
        && std::io::stderr().is_terminal()
        && std::env::var_os("TERM").is_some_and(|kind| kind != "dumb")
}

fn new_bar(label: &str, total: u64) -> ProgressBar {
    let template = if total == 0 {
        "{prefix} {pos} {rate}, {elapsed} {wide_msg}"
    } else {
        "{prefix} [{bar:30}] {pos}/{len} {rate}, {eta} left {wide_msg}"
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

/// A line on stderr, above the bars. A closed stderr is nobody's concern here.
fn print(line: &str) {
    if launcher::is_follower() {
        return;
    }
    BARS.suspend(|| {
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}
