//! Decides where pictures and pages go, and refuses to write over what a stage wrote.

use super::find;
use crate::error::Error;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

/// The formats of plots, by the endings of their names.
pub const PLOT: &[&str] = &["svg", "png"];
/// The format of pictures of images.
pub const PICTURE: &[&str] = &["png"];
/// The format of a report.
pub const PAGE: &[&str] = &["html"];

/// Refuses an `--out` whose name ends in none of `endings`, and one that is a file of a run.
/// Subcommands call it before they work.
///
/// # Errors
/// Fails (usage) with the refusal.
pub fn check(out: Option<&Path>, endings: &[&str]) -> Result<()> {
    let Some(out) = out else {
        return Ok(());
    };
    let shown = out.display();
    let ending = out.extension().unwrap_or_default().to_string_lossy();
    if !endings.contains(&ending.to_lowercase().as_str()) {
        let named: Vec<String> = endings.iter().map(|ending| format!(".{ending}")).collect();
        let named = named.join(" or ");
        let meant = out.with_extension(endings[0]);
        bail!(
            Error::usage(format!("`--out` cannot be `{shown}`"))
                .note("expected", format!("a name ending in {named}"))
                .hint(format!("type `--out {}`", meant.display()))
        );
    }
    // A link is followed when the file is written.
    let Ok(real) = out.canonicalize() else {
        return Ok(());
    };
    if let Some(run) = [out, real.as_path()].into_iter().find_map(find::writer_of) {
        let stage = &run.manifest.stage;
        bail!(
            Error::usage(format!(
                "`--out` cannot be `{shown}`: a run of `{stage}` wrote this file"
            ))
            .note("from", format!("manifest {}", run.path.display()))
            .hint("give the name of another file, or leave `--out` out")
        );
    }
    Ok(())
}

/// Returns where a picture of `of` goes: `out`, or `NAME` in a folder `inspect/` beside it.
pub fn picture(out: Option<&Path>, of: &Path, name: &str) -> PathBuf {
    let beside = if of.is_dir() {
        of
    } else {
        of.parent().unwrap_or(Path::new(""))
    };
    out.map_or_else(|| beside.join("inspect").join(name), Path::to_path_buf)
}
