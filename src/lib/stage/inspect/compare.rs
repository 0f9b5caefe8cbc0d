//! `inspect compare`: students beside what could be had without them.

use super::run::{Comparison, Run, percent, size};
use super::{Answer, find};
use crate::error::{Error, Result};
use crate::report::Table;
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// Students' runs, or folders with students in them
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
}

impl Request {
    /// # Errors
    /// No finished student.
    pub fn answer(&self) -> Result<Answer> {
        let mut found = Vec::<(Run, Comparison, Option<f64>)>::new();
        for path in &self.runs {
            let mut finished = false;
            for run in find::all(path)?.into_iter().filter(Run::is_student) {
                // A run that was named twice is shown once.
                let again = found.iter().any(|other| other.0.place == run.place);
                finished |= again;
                match run.metrics()? {
                    Some(metrics) if !again => {
                        finished |= metrics.comparison.is_some();
                        let best = metrics.best_test_accuracy;
                        found.extend(metrics.comparison.map(|compared| (run, compared, best)));
                    }
                    _ => {}
                }
            }
            if !finished {
                return Err(
                    Error::failed(format!("`{}` holds no finished student to compare", path.display()))
                        .hint("`inspect runs` lists the runs below a folder"),
                );
            }
        }
        let text = match &found[..] {
            [(run, comparison, best)] => format!(
                "{}\n\n{}\nbest on test: {} %",
                run.name,
                comparison.table(),
                percent(*best)
            ),
            _ => several(&found).to_string(),
        };
        let data: Vec<_> = found
            .iter()
            .map(|(run, comparison, best)| json!({"run": run.place, "name": run.name, "comparison": comparison, "best_test_accuracy": best}))
            .collect();
        Answer::new(text, data)
    }
}

fn several(found: &[(Run, Comparison, Option<f64>)]) -> Table {
    let mut table = Table::new(&[
        "student of",
        "nodes",
        "teachers, mean %",
        "best teacher %",
        "ensemble %",
        "one-shot %",
        "student %",
        "best on test %",
        "uploaded",
        "a node",
    ]);
    for (run, comparison, best) in found {
        let best_teacher = comparison.teachers.iter().flatten().copied().reduce(f64::max);
        let all: u64 = comparison.upload_bytes.iter().sum();
        let nodes = comparison.upload_bytes.len();
        table.row(vec![
            run.name.clone(),
            nodes.to_string(),
            percent(comparison.teachers_mean),
            percent(best_teacher),
            percent(comparison.ensemble),
            percent(comparison.one_shot_average),
            percent(comparison.student),
            percent(*best),
            size(all),
            size(all / nodes.max(1) as u64),
        ]);
    }
    table
}
