//! Every message of the configuration, word for word: what is wrong, where it was said, what is
//! allowed, what to type.

mod checks;
mod choices;
mod files;
mod keys;
mod newcomers;
mod references;
mod types;
mod values;

use crate::common::config_dir;
use crate::config::{Tree, request, shortened};
use fed_distill::config::compose;

/// The message for the project's own tree.
fn mistake(argument: &str) -> String {
    let error = compose(&request(Some(config_dir()), &[argument])).unwrap_err();
    shortened(
        &error
            .to_string()
            .replace(config_dir().to_str().unwrap(), "config"),
    )
}

/// The message for a primary file alone.
fn primary(text: &str) -> String {
    Tree::new(&[("config.yaml", text)]).error(&[])
}

/// Two groups with similar options.
fn groups() -> Tree {
    Tree::new(&[
        ("config.yaml", "defaults:\n  - dataset: digits\n"),
        ("dataset/digits.yaml", "kind: digits\n"),
        ("dataset/mnist.yaml", "kind: mnist\n"),
        ("teacher/one.yaml", "epochs: 1\n"),
        ("teacher/two.yaml", "epochs: 2\n"),
        (
            "student/s.yaml",
            "# @package _global_\ndefaults:\n  - /teacher: one\n",
        ),
        (
            "student/r.yaml",
            "# @package _global_\ndefaults:\n  - /teacher: two\n",
        ),
    ])
}
