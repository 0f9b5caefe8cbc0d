//! Handles Ctrl-C, SIGTERM and SIGHUP, and SIGUSR1 and SIGUSR2, which schedulers send: the first
//! asks the run to stop at its next safe point, the second ends the process at once, unless a
//! launcher started it, which ends processes itself.
//!
//! Binaries call [`install`] at start; long loops call [`check`] at each step and pass its error
//! up, past what saves their work. What must happen at these safe points as well, such as a rank's
//! look at the other ranks, is registered with [`watch`].

use super::{launcher, threads};
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Exit code of a process ended by Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Installs the signal handler; a second call does nothing. Signals that the parent ignores
/// (`nohup`) stay ignored.
///
/// # Errors
/// Fails when another handler of the `ctrlc` crate is installed.
pub fn install() -> Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    let ignored = ignored_signals();
    ctrlc::set_handler(on_signal).map_err(|error| {
        // It takes a thread.
        Error::failed(format!("cannot listen for Ctrl-C: {error}"))
            .hint(threads::LIMITED)
            .caused_by(error)
    })?;
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: the handler calls nothing that is not allowed in a signal's context.
        unsafe { libc::signal(signal, as_termination as *const () as libc::sighandler_t) };
    }
    for signal in ignored {
        // SAFETY: restores a disposition that this process had a moment ago.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    *installed = true;
    Ok(())
}

type Poll = Rc<dyn Fn() -> Result<()>>;

thread_local! {
    static POLL: RefCell<Option<Poll>> = const { RefCell::new(None) };
}

/// Keeps a [`watch`] registered.
#[must_use = "the watch ends when this is dropped"]
pub struct Watch(Option<Poll>);

impl Drop for Watch {
    fn drop(&mut self) {
        POLL.with(|current| *current.borrow_mut() = self.0.take());
    }
}

/// Calls `poll` at each safe point of this thread as long as the returned guard lives; its error
/// ends the loop there.
pub fn watch(poll: impl Fn() -> Result<()> + 'static) -> Watch {
    Watch(POLL.with(|current| current.borrow_mut().replace(Rc::new(poll))))
}

/// Marks a safe point: returns an error once a stop was asked for.
///
/// # Errors
/// Fails, with class interrupted, once a stop was asked for; and when a [`watch`] does.
pub fn check() -> Result<()> {
    if requested() {
        return Err(stopped());
    }
    let poll = POLL.with(|current| current.borrow().clone());
    poll.map_or(Ok(()), |poll| poll())
}

/// Returns the error of a run that was asked to stop.
pub fn stopped() -> Error {
    Error::interrupted("interrupted")
}

/// Returns true once a stop was asked for.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Passes a scheduler's signal on as SIGTERM.
extern "C" fn as_termination(_: libc::c_int) {
    // SAFETY: `kill` may be called in a signal's context.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
}

/// Lets a write beyond the limit on the size of files (`ulimit -f`) fail with an error, instead of
/// ending the process by a signal.
pub fn ignore_file_size_signal() {
    // SAFETY: sets a disposition of this process.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Runs on a thread of its own, not in the signal's context.
fn on_signal() {
    if REQUESTED.swap(true, Ordering::Relaxed) {
        // A launcher may signal twice for one Ctrl-C, and kills by itself if it must.
        if launcher::launched().is_some() {
            return;
        }
        // SAFETY: ends the process without exit handlers, which could hang on what the other
        // threads hold.
        unsafe { libc::_exit(INTERRUPTED) };
    }
    tracing::warn!(
        "stopping at the next safe point{}",
        match launcher::launched() {
            Some(_) => "",
            None => "; Ctrl-C again stops at once",
        }
    );
}

/// Returns those of the handled signals that are ignored now.
fn ignored_signals() -> Vec<i32> {
    const HANDLED: [i32; 5] = [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
    ];
    HANDLED
        .into_iter()
        .filter(|&signal| {
            // SAFETY: with a null new action, `sigaction` only fills in the old one, which is plain
            // data.
            unsafe {
                let mut old: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, std::ptr::null(), &mut old) == 0
                    && old.sa_sigaction == libc::SIG_IGN
            }
        })
        .collect()
}
