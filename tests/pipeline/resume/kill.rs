//! `kill -9` at random moments of every stage.

use super::{STAGES, results, start};
use crate::common::{Place, TINY};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use std::io::Read;
use std::time::{Duration, Instant};

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
    /// Processes that went on from a checkpoint of the training loop.
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

/// Removes what a stage left, so that it can be killed again.
fn forget(place: &Place, stage: &str) {
    let stem = match stage {
        "split_data" => "split.",
        "train_teachers" => "teachers",
        "generate_initial" => "initial.",
        _ => "student",
    };
    for entry in std::fs::read_dir(place.path(".")).unwrap() {
        let path = entry.unwrap().path();
        if !path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(stem)
        {
            continue;
        }
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
}

/// Kills a stage again and again, at moments spread over the time it takes, then lets it finish.
fn torment(
    place: &Place,
    stage: &str,
    options: &[&str],
    kills: usize,
    whole: Duration,
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
        let begun = Instant::now();
        let mut child = start(place, stage, &all);
        let moment = whole.mul_f64(moments[turn % kills]);
        while begun.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Every third is killed at the next file that it writes.
        let left = half_written(&place.path("."));
        while turn % 3 == 2
            && half_written(&place.path(".")) <= left
            && child.try_wait().unwrap().is_none()
        {}
        let running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        tally.half_written += usize::from(running && half_written(&place.path(".")) > left);
        let mut errors = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut errors)
            .unwrap();
        tally.resumed += usize::from(errors.contains("going on from epoch"));
        turn += 1;
        if running {
            tally.kills += 1;
            tally.at_work += usize::from(place.path(manifest(stage)).exists());
        } else {
            assert!(status.success(), "{stage}: {errors}");
            tally.missed += 1;
            forget(place, stage);
        }
    }
    let all: Vec<&str> = options.iter().copied().chain(["resume=true"]).collect();
    place.ok(stage, &all);
}

/// Files in the making. Some may vanish under our eyes.
fn half_written(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .map(|path| match path.is_dir() {
            true => half_written(&path),
            false => usize::from(path.extension().is_some_and(|extension| extension == "tmp")),
        })
        .sum()
}

#[test]
fn killed_at_any_moment_a_run_ends_with_the_same_bytes() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
    let mut tally = Tally::default();
    for options in KINDS {
        let (calm, killed) = (Place::new(), Place::new());
        for (stage, kills) in STAGES.into_iter().zip(KILLS) {
            let begun = Instant::now();
            calm.ok(stage, options);
            let whole = begun.elapsed();
            torment(&killed, stage, options, kills, whole, &mut rng, &mut tally);
        }
        assert_eq!(
            half_written(&killed.path(".")),
            0,
            "what killed processes were writing is removed"
        );
        let (expected, found) = (results(&calm.path(".")), results(&killed.path(".")));
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
        "too few went on from a checkpoint: {tally:?}"
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
