//! The Python of the tests: `make python` puts it into the user's cache and links it here.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that can import `modules` (separated by commas).
pub fn python(modules: &str) -> PathBuf {
    let given = std::env::var_os("FED_DISTILL_PYTHON").filter(|path| !path.is_empty());
    let linked = Path::new(env!("CARGO_MANIFEST_DIR")).join(".python/bin/python");
    let python = given.map_or(linked, PathBuf::from);
    let found = Command::new(&python)
        .args(["-c", &format!("import {modules}")])
        .output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "{} is no Python with {modules}: type `make python` (once; `make test` does it), \
         or set FED_DISTILL_PYTHON to a Python that has them",
        python.display()
    );
    python
}
