//! Runs that the system kills without a warning, at random moments of every stage.

use super::{STAGES, command, forget, results, start};
use crate::common::{Place, TINY};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::ops::Range;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// What the two runs are of: between them every optimiser, selection and kind of batch that a
/// checkpoint has to carry.
const KINDS: [&[&str]; 2] = [
    &[
        "student.new_batches_per_epoch=2",
        "student.epochs=3",
        "student.selection=best_test",
        "teacher.selection=best_validation",
        "teacher.epochs=3",
        "deep_inv.keep_moments=true",
    ],
    &[
        "student.new_batches_per_epoch=1",
        "student.objective=distill",
        "student.optimizer.kind=adam",
        "student.optimizer.lr=0.01",
        "student.schedule.kind=one_cycle",
        "student.augment_fresh=true",
        "teacher.optimizer.kind=adam",
        "teacher.optimizer.lr=0.01",
        "teacher.epochs=4",
        "split.num_nodes=3",
        "teacher.num_teachers=2",
        "deep_inv.teachers.mode=sample",
        "deep_inv.teachers.n=1",
    ],
];

/// Kills of each stage, for each kind.
const KILLS: [usize; 4] = [1, 6, 5, 10];

/// What became of the killed processes.
#[derive(Debug, Default)]
struct Tally {
    /// Killed while running.
    kills: usize,
    /// Of those, after the run's manifest was written.
    at_work: usize,
    /// Ended before the kill.
    missed: usize,
    /// Processes that resumed from a checkpoint of the training loop.
    resumed: usize,
    /// Processes that were killed while they wrote a file.
    half_written: usize,
}

/// A manifest that a stage writes when its work begins.
fn manifest(stage: &str) -> &'static str {
    match stage {
        "split_data" => "split.manifest.json",
        "train_teachers" => "teachers/manifest_teacher0.json",
        "generate_initial" => "initial.manifest.json",
        _ => "student/manifest.json",
    }
}

/// When a process is killed.
#[derive(Clone, Copy)]
enum Kill {
    /// Once it has used this much processor time: by the system, however busy the machine is.
    After(Duration),
    /// While it writes a file, that of this number: by us, who look for it.
    Writing(usize),
}

impl Kill {
    /// Runs a command that is killed; `left` are the files that earlier ones began to write.
    fn run(self, mut command: Command, folder: &Path, left: &BTreeSet<PathBuf>) -> Output {
        let number = match self {
            Kill::After(time) => {
                end_after(time, &mut command);
                return command.output().unwrap();
            }
            Kill::Writing(number) => number,
        };
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut seen = left.clone();
        while seen.len() < left.len() + number && child.try_wait().unwrap().is_none() {
            seen.append(&mut half_written(folder));
            std::thread::sleep(Duration::from_micros(100));
        }
        // One that has ended is not there to be killed.
        let _ = child.kill();
        child.wait_with_output().unwrap()
    }
}

/// Has the system end a process by a signal once it has used this much processor time.
fn end_after(time: Duration, command: &mut Command) {
    // SAFETY: none of the functions called between fork and exec allocates or locks, and the
    // structs are plain data.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGPROF, libc::SIG_DFL);
            let mut timer: libc::itimerval = std::mem::zeroed();
            timer.it_value.tv_sec = time.as_secs() as _;
            timer.it_value.tv_usec = time.subsec_micros().max(1) as _;
            match libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    };
}

/// Runs a stage to its end; returns the processor time that it takes.
#[allow(clippy::zombie_processes)] // `wait4` waits for it
fn calm(place: &Place, stage: &str, options: &[&str]) -> Duration {
    let mut child = start(place, stage, options);
    let errors = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    let pid = child.id() as i32;
    // SAFETY: waits for a child of ours that nobody else waits for; fills in plain data.
    let (ended, status, usage) = unsafe {
        let (mut status, mut usage) = (0, std::mem::zeroed());
        let ended = libc::wait4(pid, &mut status, 0, &mut usage);
        (ended, status, usage)
    };
    assert!(ended == pid && status == 0, "{stage} {options:?}\n{errors}");
    let micros = |time: libc::timeval| 1_000_000 * time.tv_sec as u64 + time.tv_usec as u64;
    Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime))
}

/// Has a stage killed again and again, at moments spread over the processor time from its start to
/// its end and while it writes files, then lets it finish.
fn torment(
    place: &Place,
    stage: &str,
    options: &[&str],
    kills: usize,
    time: Range<Duration>,
    rng: &mut impl Rng,
    tally: &mut Tally,
) {
    let mut moments: Vec<f64> = (0..kills)
        .map(|slot| (slot as f64 + rng.random::<f64>()) / kills as f64)
        .collect();
    moments.shuffle(rng);
    let first = tally.kills;
    let mut turn = 0;
    while tally.kills - first < kills {
        // Every other process saves at each step, the rest seldom or never: when a checkpoint is
        // written must not matter.
        let every = [
            "checkpoint.every=0",
            "checkpoint.every=0.02",
            "checkpoint.every=0",
            "checkpoint.every=60",
        ][turn % 4];
        let all: Vec<&str> = options
            .iter()
            .copied()
            .chain([every, "resume=true"])
            .collect();
        // Every third is killed while it writes a file.
        let kill = match turn % 3 {
            2 => Kill::Writing(rng.random_range(1..6)),
            _ => Kill::After(time.start + (time.end - time.start).mul_f64(moments[turn % kills])),
        };
        let left = half_written(&place.path("."));
        let output = kill.run(command(place, stage, &all), &place.path("."), &left);
        let errors = String::from_utf8(output.stderr).unwrap();
        let killed = output.status.signal().is_some();
        let new = |found: BTreeSet<PathBuf>| !found.is_subset(&left);
        tally.half_written += usize::from(killed && new(half_written(&place.path("."))));
        tally.resumed += usize::from(errors.contains("resuming from"));
        turn += 1;
        if killed {
            tally.kills += 1;
            tally.at_work += usize::from(place.path(manifest(stage)).exists());
        } else {
            assert!(output.status.success(), "{stage}: {errors}");
            tally.missed += 1;
            forget(place, stage);
        }
    }
    let all: Vec<&str> = options.iter().copied().chain(["resume=true"]).collect();
    place.ok(stage, &all);
}

/// Returns the files below `folder` that somebody began to write, while others may come and go.
fn half_written(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.append(&mut half_written(&path));
        } else if path.extension().is_some_and(|extension| extension == "tmp") {
            found.insert(path);
        }
    }
    found
}

#[test]
fn killed_runs_end_with_the_same_bytes() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
    let mut tally = Tally::default();
    for options in KINDS {
        let (whole, killed) = (Place::new(), Place::new());
        for (stage, kills) in STAGES.into_iter().zip(KILLS) {
            let begun = calm(&whole, stage, &[options, &["--cfg", "job"]].concat());
            let time = begun..calm(&whole, stage, options);
            torment(&killed, stage, options, kills, time, &mut rng, &mut tally);
        }
        assert_eq!(
            half_written(&killed.path(".")),
            BTreeSet::new(),
            "what killed processes were writing is removed"
        );
        let (expected, found) = (results(&whole.path(".")), results(&killed.path(".")));
        assert!(expected.len() > 25, "{expected:?}");
        assert_eq!(expected, found);
        assert!(
            found.keys().all(|name| !name.contains("checkpoint")),
            "{found:?}"
        );
    }
    println!("{tally:?}");
    assert!(tally.kills >= 30, "{tally:?}");
    assert!(
        tally.at_work >= 15,
        "too many died before their work began: {tally:?}"
    );
    assert!(tally.half_written >= 3, "no write was hit: {tally:?}");
    assert!(
        tally.resumed >= 5,
        "too few resumed from a checkpoint: {tally:?}"
    );
}

/// Without an interruption too: when checkpoints are written changes nothing.
#[test]
fn checkpoints_change_no_result() {
    let places = [
        "checkpoint.every=0",
        "checkpoint.every=1e9",
        "tensorboard=false",
    ]
    .map(|option| {
        let place = Place::new();
        for stage in STAGES {
            let (code, _, errors) =
                place.run_with(stage, TINY, &["student.new_batches_per_epoch=1", option]);
            assert_eq!(code, 0, "{errors}");
        }
        results(&place.path("."))
    });
    assert_eq!(places[0], places[1]);
    assert_eq!(places[0], places[2]);
}
