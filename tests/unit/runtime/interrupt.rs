//! Ctrl-C, on processes of their own: each test starts itself again as a child and looks at how the
//! child ends.

use crate::common::child;
use fed_distill::Class;
use fed_distill::runtime::interrupt;
use std::time::{Duration, Instant};

fn send(signal: i32) {
    // SAFETY: a signal to ourselves.
    assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
}

fn wait_until(done: impl Fn() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    done()
}

/// The first asks the run to stop.
#[test]
fn second_signal_exits_with_130() {
    if !child::is_child() {
        let output = child::output(second_signal_exits_with_130);
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        return;
    }
    interrupt::install().unwrap();
    interrupt::install().expect("a second call is fine");
    interrupt::check().expect("no signal yet");
    send(libc::SIGINT);
    assert!(wait_until(interrupt::requested));
    assert_eq!(interrupt::check().unwrap_err().class(), Class::Interrupted);
    send(libc::SIGINT);
    std::thread::sleep(Duration::from_secs(60));
    panic!("still here after the second Ctrl-C");
}

#[test]
fn sigterm_asks_too() {
    if !child::is_child() {
        let output = child::output(sigterm_asks_too);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        return;
    }
    interrupt::install().unwrap();
    send(libc::SIGTERM);
    assert!(wait_until(interrupt::requested));
}

#[test]
fn a_hangup_that_nohup_ignores_stays_ignored() {
    if !child::is_child() {
        let output = child::output(a_hangup_that_nohup_ignores_stays_ignored);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        return;
    }
    // SAFETY: what `nohup` does before it starts a program.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    interrupt::install().unwrap();
    send(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!interrupt::requested());
    send(libc::SIGTERM);
    assert!(wait_until(interrupt::requested), "the others are heard");
}
