//! Draws the plot of test accuracy against bytes.

use super::comparability::Comparability;
use super::methods::Method;
use super::{Entry, Request};
use crate::error::Error;
use crate::inspect::settings;
use crate::report::{LinePlot, Series};
use anyhow::Result;
use std::path::{Component, Path, PathBuf};

/// Returns why there is no plot: nothing to draw, or accuracies that do not compare.
pub fn obstacle(methods: &[Method], comparability: &Comparability) -> Option<Error> {
    if let Some(why) = comparability.mismatch() {
        let error = Error::failed(format!("{why}, so their accuracies do not compare"));
        return Some(error.hint("`inspect compare` without `--out` lists them anyway"));
    }
    let drawn = methods
        .iter()
        .any(|method| method.points.iter().any(|point| point.bytes > 0));
    (!drawn).then(|| Error::failed("no method has a test accuracy and bytes"))
}

/// Draws a curve for each method of many rounds and a point for each other. Returns the paths of
/// the plots.
///
/// # Errors
/// Fails for a file that cannot be written.
pub fn save(methods: &[Method], found: &[Entry], request: &Request) -> Result<Vec<PathBuf>> {
    let folder = common(request, found);
    let kinds = |method: &Method| {
        methods
            .iter()
            .filter(|other| other.method == method.method)
            .count()
    };
    // Nothing that was sent has no place on a logarithmic axis.
    let sends = |method: &&Method| method.upload_bytes + method.download_bytes > 0;
    let series = methods.iter().filter(sends).map(|method| {
        let run = Path::new(&method.run)
            .strip_prefix(&folder)
            .unwrap_or(Path::new(&method.run));
        // `dense/student` is the student of the method `dense`.
        let above = run.parent().filter(|above| above.components().count() > 0);
        let run = match run.ends_with("student") {
            true => above.unwrap_or(run),
            false => run,
        };
        let name = match kinds(method) {
            1 => method.method.clone(),
            _ => format!("{}: {}", method.method, run.display()),
        };
        // Before the first exchange only reports were sent: so few bytes would stretch the axis.
        let points = method.points.iter().filter(|point| point.round > 0);
        Series {
            name,
            points: points
                .map(|point| (point.bytes as f64 / 1e6, 100.0 * point.test_accuracy))
                .collect(),
        }
    });
    let title = format!(
        "Test accuracy against communication, {}",
        found
            .first()
            .map_or(String::new(), |entry| settings::dataset(&entry.run))
    );
    let plot = LinePlot {
        title: &title,
        x: "MB sent so far, up and down, over all nodes (logarithmic)",
        y: "test accuracy (%)",
        log_x: true,
        log_y: false,
        series: series.collect(),
    };
    let paths = match &request.out {
        Some(path) => vec![path.clone()],
        None => ["svg", "png"]
            .map(|kind| folder.join("inspect").join(format!("compare.{kind}")))
            .to_vec(),
    };
    paths.iter().try_for_each(|path| plot.save(path))?;
    Ok(paths)
}

/// Returns the folder that was named, or the one that holds all the runs; the current one where
/// they share none.
fn common(request: &Request, found: &[Entry]) -> PathBuf {
    if let [folder] = &request.runs[..]
        && folder.is_dir()
    {
        return folder.clone();
    }
    let mut folders = found.iter().map(|entry| entry.run.folder());
    let first: Vec<Component> = folders
        .next()
        .map_or(Vec::new(), |folder| folder.components().collect());
    let shared = folders.fold(first, |shared, folder| {
        let same = shared
            .into_iter()
            .zip(folder.components())
            .take_while(|(a, b)| a == b);
        same.map(|(part, _)| part).collect()
    });
    match shared[..] {
        // Runs that share the root alone share no folder.
        [] | [Component::RootDir] => PathBuf::from("."),
        _ => shared.iter().collect(),
    }
}
