//! Bad input through the real binaries: a clear message that names the thing, exit code 1 or 2, and
//! what was good stays as it was.

mod bounds;
mod data;
mod datasets;
mod inputs;
mod memory;
mod places;
mod runs;
mod splits;
mod teachers;

use crate::common::Place;

/// A tiny run up to and including a stage.
fn made(until: &str) -> Place {
    let place = Place::new();
    for stage in [
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
    ] {
        place.ok(stage, &[]);
        if stage == until {
            break;
        }
    }
    place
}

fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}
