//! The log: lines on stderr for the user, stamped lines in files for as long as their guard lives.

use crate::common::child;
use fed_distill::runtime::logging;

#[test]
fn lines_on_stderr_are_plain() {
    if child::is_child() {
        match logging::init() {
            Ok(()) => logging::init().expect("a second call is fine"),
            Err(error) => return eprintln!("{error}"),
        }
        tracing::error!("it broke");
        tracing::warn!("it may break");
        tracing::info!(images = 5, "it works");
        tracing::debug!("it ticks");
        return;
    }
    let said = |level| {
        let mut command = child::command(lines_on_stderr_are_plain);
        let output = command.env("FED_DISTILL_LOG", level).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        said(""),
        "error: it broke\nwarning: it may break\nit works images=5\n"
    );
    assert_eq!(said("error"), "error: it broke\n");
    assert!(said("debug").ends_with("debug: it ticks\n"));
    let wrong = said("loud");
    assert!(
        wrong.contains("FED_DISTILL_LOG is `loud`") && wrong.contains("off, error, warn"),
        "{wrong}"
    );
}

#[test]
fn file_gets_the_log_of_its_guards_life() {
    if !child::alone(file_gets_the_log_of_its_guards_life) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/run.log");
    tracing::info!("before");
    let guard = logging::to_file(&path).unwrap();
    tracing::warn!("while");
    drop(guard);
    tracing::info!("after");
    let again = logging::to_file(&path).unwrap();
    tracing::info!("again");
    drop(again);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    let expected = [" WARN  while", " INFO  after", " INFO  again"];
    for (line, ending) in lines.iter().zip(expected) {
        let (stamp, rest) = line.split_at(25);
        assert!(stamp.parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert_eq!(rest, ending);
    }

    let silent = folder.path().join("silent.log");
    drop(logging::to_file(&silent).unwrap());
    assert!(!silent.exists(), "nothing was logged");
    let broken = logging::to_file(&silent).unwrap();
    broken.failed(&fed_distill::Error::failed("it broke"));
    drop(broken);
    let text = std::fs::read_to_string(&silent).unwrap();
    assert!(text.ends_with(" ERROR it broke\n"), "{text}");
}
