//! Sweeps: every job has a place of its own.

use crate::common::{Place, TINY};
use fed_distill::artifact::hash;

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
}
