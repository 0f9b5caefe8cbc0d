//! Sweeps: every job has a place of its own.

use crate::common::{Place, TINY};
use fed_distill::artifact::{hash, json};

/// Jobs that are finished are skipped.
#[test]
fn sweep_jobs_have_own_folders() {
    let place = Place::new();
    place.ok("split_data", &[]);
    let sweep = ["--multirun", "seed=1,2", "teacher.epochs=1"];
    place.ok("train_teachers", &sweep);
    let weights =
        |seed: u64| place.path(&format!("teachers/seed={seed}/model_teacher0.safetensors"));
    let before = (
        hash::file(&weights(1)).unwrap(),
        hash::file(&weights(2)).unwrap(),
    );
    assert_ne!(before.0, before.1);
    let (code, _, errors) = place.run_with("train_teachers", TINY, &sweep);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(errors.matches("is trained already").count(), 4, "{errors}");
    assert_eq!(
        before,
        (
            hash::file(&weights(1)).unwrap(),
            hash::file(&weights(2)).unwrap()
        )
    );
    // Places that the user already keeps apart stay as they are.
    place.ok(
        "split_data",
        &[
            "--multirun",
            "seed=1,2",
            "split.save_path=apart/${seed}.json",
        ],
    );
    assert!(place.path("apart/1.json").exists() && place.path("apart/2.json").exists());
}

#[test]
fn no_two_jobs_of_a_sweep_share_a_place() {
    // Each sweep once, with the folders that its jobs must get.
    let sweeps: [(&[&str], &[&str]); 4] = [
        // A key that is also given as a plain override, in either order.
        (&["seed=1", "seed=1,2"], &["seed=1", "seed=2"]),
        (
            &["seed=1,2", "split.num_nodes=3", "split.num_nodes=2,3"],
            &[
                "seed=1,split.num_nodes=2",
                "seed=1,split.num_nodes=3",
                "seed=2,split.num_nodes=2",
                "seed=2,split.num_nodes=3",
            ],
        ),
        // Values that a file's name cannot hold, one place in two spellings, a reference.
        (
            &["teacher.save_folder='a/b','a_b'"],
            &["teacher.save_folder='a%2Fb'", "teacher.save_folder='a_b'"],
        ),
        (
            &[
                "split.num_nodes=${split.unif_percentage},1",
                "split.unif_percentage=1",
                "split.save_path=split.json,./split.json",
            ],
            &[
                "split.num_nodes=%24{split.unif_percentage},split.save_path=split.json",
                "split.num_nodes=%24{split.unif_percentage},split.save_path=.%2Fsplit.json",
                "split.num_nodes=1,split.save_path=split.json",
                "split.num_nodes=1,split.save_path=.%2Fsplit.json",
            ],
        ),
    ];
    for (sweep, folders) in sweeps {
        let place = Place::new();
        place.ok("split_data", &[&["--multirun"], sweep].concat());
        let mut found: Vec<String> = std::fs::read_dir(place.path("."))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        let mut folders = folders.to_vec();
        folders.sort_unstable();
        assert_eq!(found, folders);
        for folder in folders {
            assert!(place.path(folder).join("split.json").exists(), "{folder}");
        }
    }
    // A list so long that its name would not fit.
    let place = Place::new();
    let long = "x".repeat(300);
    let swept = format!("teacher.save_folder={long}1,{long}2");
    place.ok("split_data", &["--multirun", &swept]);
    assert_eq!(std::fs::read_dir(place.path(".")).unwrap().count(), 2);
    let text = place.fails("split_data", &["--multirun", "seed=3,4,3"], 2);
    for words in ["jobs 1 and 3", "seed=3", "hint: list each value once"] {
        assert!(text.contains(words), "{text}");
    }
    let text = place.fails("split_data", &["--multirun", "seed=3,3"], 2);
    assert!(text.contains("device=cpu seed=3`"), "{text}");
}

/// It may be meant, to see that the folders hold the same.
#[test]
fn jobs_with_one_config_are_warned_about() {
    let place = Place::new();
    for (sweep, folders) in [
        (&["-m", "seed=3,4", "seed=5"][..], ["seed=3", "seed=4"]),
        (&["-m", "seed=7,7.0"], ["seed=7", "seed=7.0"]),
    ] {
        let (code, _, errors) = place.run_with("split_data", TINY, sweep);
        assert_eq!(code, 0, "{errors}");
        let warning = format!(
            "warning: jobs 1 and 2 of this sweep have the same config: `{}` and `{}` will",
            folders[0], folders[1]
        );
        assert!(errors.contains(&warning), "{errors}");
        for folder in folders {
            assert!(place.path(folder).join("split.json").exists(), "{folder}");
        }
    }
    let (_, _, errors) = place.run_with("split_data", TINY, &["-m", "seed=8,9"]);
    assert!(!errors.contains("the same config"), "{errors}");
}

/// A sweep keeps its results apart, but reads what its paths say: one split for all jobs, although
/// the sweep before made one for each.
#[test]
fn sweeps_chain_or_say_how() {
    let place = Place::new();
    let sweep = ["-m", "seed=1,2", "teacher.epochs=1"];
    place.ok("split_data", &sweep);
    let text = place.fails("train_teachers", &sweep, 2);
    let typed = "split.save_path=\"seed=${seed}/split.json\"";
    for words in [
        "from: split.save_path=split.json",
        "found: seed=1/split.json",
        typed,
    ] {
        assert!(text.contains(words), "{text}");
    }
    place.ok("train_teachers", &[&sweep[..], &[typed]].concat());
    for seed in ["1", "2"] {
        let manifest = place.path(&format!("teachers/seed={seed}/manifest_teacher0.json"));
        let made: serde_json::Value = json::read(&manifest).unwrap();
        let split = made["inputs"][0]["path"].as_str().unwrap();
        assert_eq!(split, format!("../../seed={seed}/split.json"));
    }
    // Both inputs at once, with two keys that vary; a single run names the folders that there are.
    let text = place.fails(
        "generate_initial",
        &["-m", "student.seed=1,2", "seed=1,2"],
        2,
    );
    for words in [typed, "teacher.save_folder=\"teachers/seed=${seed}\""] {
        assert!(text.contains(words), "{text}");
    }
    let text = place.fails("generate_initial", &["seed=1"], 1);
    for words in ["teacher 0 is missing", "teachers/seed=1, teachers/seed=2"] {
        assert!(text.contains(words), "{text}");
    }
    // Where there is one for all as well, either may be meant.
    place.ok("split_data", &[]);
    let both = [&sweep[..], &["teacher.save_folder=others"]].concat();
    let (code, _, errors) = place.run_with("train_teachers", TINY, &both);
    assert_eq!(code, 0, "{errors}");
    let warned = errors.lines().filter(|line| line.contains(typed)).count();
    assert_eq!(warned, 1, "{errors}");
}

/// A sweep over one value resumes as others do, at the path that it was given.
#[test]
fn a_sweep_of_one_job_resumes() {
    let place = Place::new();
    place.ok("split_data", &["-m", "seed=4"]);
    assert!(place.path("split.json").exists());
    let (code, _, errors) = place.run_with("split_data", TINY, &["-m", "seed=4"]);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("is there already"), "{errors}");
}

/// Nobody typed `resume=true`.
#[test]
fn sweep_says_that_it_resumes() {
    let place = Place::new();
    place.ok("split_data", &["-m", "seed=1,2"]);
    let text = place.fails("split_data", &["-m", "seed=1,2", "split.num_nodes=3"], 2);
    for words in [
        "had another config",
        "job 1 of 2",
        "every job of a sweep has `resume=true`",
    ] {
        assert!(text.contains(words), "{text}");
    }
}
