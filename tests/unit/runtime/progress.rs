//! Plain progress lines, and what reaches stderr when it is not a terminal.

use crate::common::{child, clock};
use fed_distill::runtime::Progress;
use fed_distill::runtime::progress::{duration, left, line, rate};
use std::time::Duration;

#[test]
fn lines_read_well() {
    assert_eq!(
        line("teacher 0", 120, 1000, "loss 0.31"),
        "teacher 0: 120/1000 (12%), loss 0.31"
    );
    assert_eq!(
        line("teacher 0", 1000, 1000, ""),
        "teacher 0: 1000/1000 (100%)"
    );
    assert_eq!(line("reading", 7, 0, ""), "reading: 7");
    assert_eq!(
        line("huge", u64::MAX, u64::MAX, ""),
        format!("huge: {0}/{0} (100%)", u64::MAX)
    );
}

#[test]
fn durations_have_two_units_at_most() {
    let text = |seconds| duration(Duration::from_secs(seconds));
    assert_eq!(
        [text(0), text(59), text(60), text(3599)],
        ["0 s", "59 s", "1 min 0 s", "59 min 59 s"]
    );
    assert_eq!([text(3600), text(90_061)], ["1 h 0 min", "25 h 1 min"]);
}

#[test]
fn rates_below_one_a_second_turn_into_times() {
    assert_eq!(
        [119.4283, 9.96, 1.0, 0.4].map(rate),
        ["119/s", "10.0/s", "1.0/s", "2.5 s each"]
    );
    assert_eq!([0.0, f64::NAN].map(rate), ["-/s", "-/s"]);
}

#[test]
fn what_is_left_is_as_slow_as_what_was_done() {
    let spent = Duration::from_secs(20);
    assert_eq!(left(spent, 200, 50), Some(Duration::from_secs(5)));
    assert_eq!(left(spent, 200, 0), Some(Duration::ZERO));
    assert_eq!(left(spent, 0, 50), None);
    assert_eq!(left(spent, 0, 0), None);
}

/// On stderr that is no terminal.
#[test]
fn only_long_tasks_leave_lines() {
    if !child::is_child() {
        let output = child::output(only_long_tasks_leave_lines);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        let (once, lines): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("once: "));
        // Nothing is known of the time of what comes after the last step.
        assert_eq!(once[0], "once: 1/1 (100%), after round 1", "{text}");
        // One every five seconds, so more on a busy machine, and one at the end.
        let (last, between) = lines.split_last().unwrap();
        assert!(!between.is_empty(), "{text}");
        for line in between {
            let (count, rest) = line.split_once("%), ").unwrap();
            assert!(count.starts_with("long: "), "{text}");
            assert!(rest.ends_with(" s left, loss 1.5"), "{text}");
        }
        assert!(
            last.starts_with("long: 700/1000 (70%), loss 1.5, "),
            "{text}"
        );
        return;
    }
    let short = Progress::new("short", 10);
    short.step();
    short.finish();
    let once = Progress::new("once", 1);
    once.message("after round 1");
    let long = Progress::new("long", 1000);
    long.message("loss 1.5");
    for _ in 0..700 {
        std::thread::sleep(Duration::from_millis(8));
        long.step();
    }
    once.step();
}

#[test]
fn a_step_costs_next_to_nothing() {
    let progress = Progress::new("many", 0);
    let start = clock::used();
    for _ in 0..200_000 {
        progress.step();
    }
    let each = (clock::used() - start) / 200_000;
    println!("a step takes {each:?}");
    assert!(each < Duration::from_micros(10), "{each:?}");
}
