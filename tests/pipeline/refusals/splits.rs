//! A split that was made otherwise than the config says.

use super::{made, says};
use crate::common::{Place, TINY};
use fed_distill::artifact::json;

/// A split of two nodes and an uneven deal; its overrides.
fn dealt() -> (Place, [&'static str; 3]) {
    let place = Place::new();
    let uneven = [
        "split.kind=dirichlet",
        "split.alpha=0.3",
        "split.min_size=2",
    ];
    place.ok("split_data", &uneven);
    (place, uneven)
}

#[test]
fn another_number_of_nodes() {
    let place = made("train_teachers");
    for stage in ["train_teachers", "generate_initial"] {
        let text = place.fails(stage, &["split.num_nodes=5", "overwrite=true"], 2);
        says(
            &text,
            &[
                "another `split.num_nodes`",
                "split.num_nodes=5, set by command line",
                "split.num_nodes=2, as split.json says",
                "hint: to work on this split: split.num_nodes=2",
                "split_data",
            ],
        );
    }
    // Also where nothing but the file tells, and where a config file asks.
    std::fs::remove_file(place.path("split.manifest.json")).unwrap();
    let base: Vec<&str> = TINY
        .iter()
        .filter(|key| !key.contains("num_nodes"))
        .copied()
        .collect();
    let (code, _, errors) = place.run_with(
        "train_teachers",
        &base,
        &["+split=random_equal", "overwrite=true"],
    );
    assert_eq!(code, 2, "{errors}");
    says(
        &errors,
        &["split.num_nodes=5, set by built-in config/split/random_equal.yaml"],
    );
}

#[test]
fn another_deal() {
    let (place, uneven) = dealt();
    for (more, words) in [
        (
            &["split.kind=iid"][..],
            [
                "split.kind=iid, set by command line",
                "split.kind=dirichlet, as split.manifest.json says",
            ],
        ),
        (
            &["split.kind=dirichlet", "split.alpha=0.5"],
            [
                "split.alpha=0.5, set by command line",
                "split.alpha=0.3, as split.manifest.json says",
            ],
        ),
        (
            &["split.kind=dirichlet", "split.min_size=5"],
            [
                "split.min_size=5, set by command line",
                "split.min_size=2, as",
            ],
        ),
    ] {
        let text = place.fails("train_teachers", more, 2);
        says(&text, &words);
        assert!(!place.path("teachers/model_teacher0.safetensors").exists());
    }
    place.ok("train_teachers", &uneven);
}

#[test]
fn who_names_the_file_alone_takes_what_is_in_it() {
    let (place, _) = dealt();
    let base: Vec<&str> = TINY
        .iter()
        .filter(|key| !key.contains("num_nodes"))
        .copied()
        .collect();
    let (code, _, errors) = place.run_with("train_teachers", &base, &[]);
    assert_eq!(code, 0, "{errors}");
    // What `null` stood for is no other value.
    let place = Place::new();
    place.ok("split_data", &["split.kind=dirichlet", "split.min_size=2"]);
    let text = place.fails(
        "train_teachers",
        &["split.kind=dirichlet", "split.alpha=0.4"],
        2,
    );
    says(&text, &["split.alpha=0.4", "split.alpha=0.5, as"]);
    place.ok(
        "train_teachers",
        &["split.kind=dirichlet", "split.alpha=0.5"],
    );
}

/// Settings of a split have no effect where its path is not given.
#[test]
fn a_split_that_is_not_given() {
    let place = Place::new();
    let base = [
        "dataset.size=8",
        "dataset.max_train=60",
        "threads=1",
        "device=cpu",
    ];
    let run = |more: &[&str]| {
        let teacher = [
            "model.width=2",
            "model.blocks=[1]",
            "teacher.epochs=1",
            "teacher.save_folder=teachers",
        ];
        place.run_with("train_teachers", &base, &[&teacher, more].concat())
    };
    let (code, _, errors) = run(&["teacher.num_teachers=3"]);
    assert_eq!(code, 2, "{errors}");
    says(
        &errors,
        &["no split is given", "hint: ", "split.save_path="],
    );
    let (code, _, errors) = run(&["split.num_nodes=3"]);
    assert_eq!(code, 0, "{errors}");
    says(
        &errors,
        &["`split.num_nodes=3` has no effect", "split.save_path="],
    );
}

#[test]
fn nodes_without_test_images_take_one_line() {
    let place = Place::new();
    let more = ["split.num_nodes=60", "dataset.max_test=10"];
    let (code, _, errors) = place.run_with("split_data", TINY, &more);
    assert_eq!(code, 0, "{errors}");
    let parts: serde_json::Value = json::read(&place.path("split.json")).unwrap();
    let parts = parts.as_object().unwrap().values();
    let untested: Vec<usize> = parts
        .enumerate()
        .filter(|(_, part)| part["test"].as_array().unwrap().is_empty())
        .map(|(node, _)| node)
        .collect();
    assert!(untested.len() >= 50, "{untested:?}");
    let first: Vec<String> = untested.iter().take(5).map(usize::to_string).collect();
    let line = format!(
        "{} of 60 nodes have no test images of their own: {} and {} more",
        untested.len(),
        first.join(", "),
        untested.len() - 5
    );
    says(&errors, &[&line]);
    assert_eq!(errors.matches("test images of th").count(), 1, "{errors}");
}
