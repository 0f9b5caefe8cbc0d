//! Configuration: composition, every error message, the config tree of the
//! project, properties.

mod composition;
mod errors;
mod project_tree;
mod properties;
mod values;

use fed_distill::Class;
use fed_distill::config::{Composed, Request, compose, compose_all};
use std::path::PathBuf;
use tempfile::TempDir;

/// A config tree of a test's own.
struct Tree(TempDir);

impl Tree {
    /// Files as path and text; an empty `config.yaml` unless given.
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), "").unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(folder)
    }

    fn request(&self, overrides: &[&str]) -> Request {
        request(Some(self.0.path().to_owned()), overrides)
    }

    fn compose(&self, overrides: &[&str]) -> Composed {
        compose(&self.request(overrides)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The message of a composition that must fail with a usage error, with the tree's folder as
    /// `TREE`.
    fn error(&self, overrides: &[&str]) -> String {
        let error = compose(&self.request(overrides)).unwrap_err();
        assert_eq!(error.class(), Class::Usage);
        let text = error
            .to_string()
            .replace(self.0.path().to_str().unwrap(), "TREE");
        shortened(&text)
    }

    /// Who set a key, with the tree's folder as `TREE`.
    fn set_by(&self, composed: &Composed, key: &str) -> String {
        composed
            .set_by(key)
            .replace(self.0.path().to_str().unwrap(), "TREE")
    }

    /// The jobs of a sweep, as their overrides.
    fn sweep(&self, overrides: &[&str]) -> Vec<String> {
        let jobs =
            compose_all(&self.request(overrides), true).unwrap_or_else(|error| panic!("{error}"));
        jobs.iter().map(|job| job.overrides.join(" ")).collect()
    }
}

/// Lists of what is available cut behind the third name, so that a new key or option does not
/// change every expected message.
fn shortened(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match line.trim_start().strip_prefix("available: ") {
            Some(names) if names.matches(", ").count() > 3 => {
                let kept: Vec<_> = line.splitn(4, ", ").take(3).collect();
                format!("{}, …", kept.join(", "))
            }
            _ => line.to_owned(),
        });
    lines.collect::<Vec<_>>().join("\n")
}

fn request(config_dir: Option<PathBuf>, overrides: &[&str]) -> Request {
    Request {
        overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        config_dir,
        config_name: None,
    }
}
