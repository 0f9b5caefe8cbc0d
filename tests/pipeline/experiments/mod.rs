//! Every experiment of `docs/experiments.md`: its file in `config/experiment/` says what the report
//! says, and it runs through the real binaries at tiny scale (`make experiments-smoke`).

mod checks;
mod docs;
mod facts;
mod run;

use crate::common::config_dir;
use fed_distill::config::{Config, Request, Tree, compose};

pub fn config(overrides: &[String]) -> Config {
    let request = Request {
        overrides: overrides.to_vec(),
        config_dir: Some(config_dir()),
        config_name: None,
    };
    let composed = compose(&request).unwrap_or_else(|error| panic!("{overrides:?}: {error}"));
    composed.config
}

/// The experiment `name` at full scale.
pub fn experiment(name: &str) -> Config {
    config(&[format!("+experiment={name}")])
}

/// The experiments that `docs/experiments.md` does not list: the demo and those of our own.
fn others() -> Vec<String> {
    let listed = docs::experiments();
    let options = Tree::Folder(config_dir()).options("experiment");
    for name in &listed {
        assert!(
            options.contains(name),
            "{name} is in the docs, but not in config/experiment"
        );
    }
    options
        .into_iter()
        .filter(|name| !listed.contains(name))
        .collect()
}
