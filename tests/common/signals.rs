//! Child processes that hear Ctrl-C wherever the tests run.

/// Undoes what a shell does to programs it starts in the background: there Ctrl-C is ignored, and
/// who inherits that keeps it.
pub fn heard(command: &mut std::process::Command) -> &mut std::process::Command {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: `signal` may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            for signal in [
                libc::SIGINT,
                libc::SIGTERM,
                libc::SIGHUP,
                libc::SIGUSR1,
                libc::SIGUSR2,
            ] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        })
    }
}
