//! Compares students with the methods that need no student: each teacher, their ensemble, their
//! average.

use super::super::format::{percent, size};
use super::super::run::{Comparison, Entry, Run};
use crate::report::Table;
use serde_json::{Value, json};

/// Holds the students that have a comparison.
pub struct Students<'a>(Vec<(&'a Run, &'a Comparison, Option<f64>)>);

impl<'a> Students<'a> {
    /// Selects the students among `found` that have a comparison.
    pub fn of(found: &'a [Entry]) -> Self {
        let students = found.iter().filter(|entry| entry.run.is_student());
        let compared = students.filter_map(|Entry { run, metrics }| {
            let comparison = metrics.comparison.as_ref()?;
            Some((run, comparison, metrics.best_test_accuracy))
        });
        Self(compared.collect())
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns one student in full, or a line for each of several.
    pub fn text(&self) -> String {
        match &self.0[..] {
            [(run, comparison, best)] => format!(
                "{}\n\n{}\nbest on test: {} %",
                run.name,
                comparison.table(),
                percent(*best)
            ),
            several => table(several).to_string(),
        }
    }

    /// Returns them as JSON.
    pub fn data(&self) -> Vec<Value> {
        let of = |(run, comparison, best): &(&Run, &Comparison, Option<f64>)| {
            json!({"run": run.path, "name": run.name, "comparison": comparison,
                "best_test_accuracy": best})
        };
        self.0.iter().map(of).collect()
    }
}

fn table(found: &[(&Run, &Comparison, Option<f64>)]) -> Table {
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
        let best_teacher = comparison
            .teachers
            .iter()
            .flatten()
            .copied()
            .reduce(f64::max);
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
