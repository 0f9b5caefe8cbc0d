//! How threads wait: the binary begins again as the same process where nobody has chosen, and only
//! there.

use crate::common::{Place, TINY};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The value of `name` in the environment of a stage at work, which was started with `given` and
/// `threads`.
fn environment(name: &str, given: Option<(&str, &str)>, threads: &str) -> Option<String> {
    let place = Place::new();
    place.ok("split_data", &[]);
    let options: Vec<&str> = TINY
        .iter()
        .copied()
        .filter(|option| *option != "threads=1")
        .collect();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("train_teachers"))
        .current_dir(place.path("."))
        .args(options)
        .args([threads, "teacher.epochs=100000"])
        .env_remove("GOMP_SPINCOUNT")
        .env_remove("OMP_WAIT_POLICY")
        .envs(given)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while !place.path("teachers/metrics_teacher0.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(5));
    }
    let found = std::fs::read(format!("/proc/{}/environ", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let found = String::from_utf8(found).unwrap();
    let value = found
        .split('\0')
        .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_owned)
}

#[test]
fn threads_wait_briefly_unless_somebody_has_chosen() {
    let spins = |given, threads| environment("GOMP_SPINCOUNT", given, threads);
    assert_eq!(spins(None, "threads=2").as_deref(), Some("10000"));
    assert_eq!(
        spins(None, "threads=1"),
        None,
        "one thread waits for nobody"
    );
    assert_eq!(
        spins(Some(("OMP_WAIT_POLICY", "active")), "threads=2"),
        None
    );
    assert_eq!(
        spins(Some(("GOMP_SPINCOUNT", "7")), "threads=2").as_deref(),
        Some("7")
    );
}

/// A strided 1×1 convolution of few channels wrote beyond its memory in oneDNN (`Conv::forward`
/// goes around it): two of three such runs ended in a crash.
#[test]
fn narrow_networks_train_on_two_threads() {
    let place = Place::new();
    let options = [
        "dataset=digits",
        "dataset.max_train=502",
        "model=resnet_small",
        "model.width=8",
        "split.save_path=null",
        "teacher.save_folder=teachers",
        "teacher.epochs=5",
        "teacher.batch_size=251",
        "threads=2",
        "overwrite=true",
    ];
    for _ in 0..4 {
        let (code, _, errors) = place.run_with("train_teachers", &options, &[]);
        assert_eq!(code, 0, "{errors}");
    }
}
