//! Makes the section of the main results.

use super::super::format::{percent, size};
use super::super::group;
use super::super::run::{Comparison, Entry, Metrics};
use crate::report::html::{self, Bar};
use maud::{Markup, html};

/// Teachers that have a bar each, at most.
const BARS: usize = 12;

/// Returns the main results: of one student its accuracy beside what it is compared with, of
/// several students their means, without a student the teachers' accuracies.
pub fn result(students: &[&Entry], teachers: &[&Entry]) -> Markup {
    let mut compared = students.iter().filter_map(|entry| {
        let comparison = entry.metrics.comparison.as_ref()?;
        Some((&entry.metrics, comparison))
    });
    match (compared.next(), compared.next()) {
        (None, _) => teachers_only(teachers),
        (Some((metrics, comparison)), None) => one_student(metrics, comparison),
        (Some(_), Some(_)) => grouped(students),
    }
}

fn one_student(metrics: &Metrics, comparison: &Comparison) -> Markup {
    let (bytes, nodes) = (&comparison.upload_bytes, comparison.upload_bytes.len());
    let tiles = [
        (percent(comparison.student), "student, % of the test set"),
        (
            percent(metrics.best_test_accuracy),
            "student, best epoch on test, %",
        ),
        (percent(comparison.ensemble), "ensemble of the teachers, %"),
        (percent(comparison.one_shot_average), "one-shot average, %"),
        (
            size(bytes.iter().sum::<u64>() / nodes.max(1) as u64),
            "uploaded by a node, once",
        ),
        (
            metrics.synthetic_images.unwrap_or(0).to_string(),
            "synthetic images",
        ),
    ];
    html! {
        (html::tiles(&tiles.map(|(value, name)| (value, name.to_owned()))))
        (comparison_bars(comparison))
    }
}

/// Returns the bar of an accuracy.
fn bar(name: String, accuracy: Option<f64>, strong: bool) -> Bar {
    Bar {
        name,
        share: accuracy.unwrap_or(0.0),
        value: percent(accuracy),
        strong,
    }
}

fn comparison_bars(comparison: &Comparison) -> Markup {
    let teachers = match comparison.teachers.len() {
        2..=BARS => &comparison.teachers[..],
        _ => &[],
    };
    let mut bars: Vec<Bar> = teachers
        .iter()
        .enumerate()
        .map(|(node, accuracy)| bar(format!("teacher {node}"), *accuracy, false))
        .collect();
    bars.extend([
        bar("teachers, mean".into(), comparison.teachers_mean, false),
        bar("teachers, ensemble".into(), comparison.ensemble, false),
        bar(
            "one-shot average".into(),
            comparison.one_shot_average,
            false,
        ),
        bar("student".into(), comparison.student, true),
    ]);
    html::bars("Accuracy on the whole test set, %", &bars)
}

/// Returns a bar for the accuracy of each run after its last epoch.
fn final_bars(entries: &[&Entry], strong: bool) -> Vec<Bar> {
    let of = |entry: &&Entry| (entry.run.name.clone(), entry.metrics.final_test_accuracy);
    let bars = entries.iter().map(of);
    bars.map(|(name, accuracy)| bar(name, accuracy, strong))
        .collect()
}

fn teachers_only(teachers: &[&Entry]) -> Markup {
    let measured = |entry: &&&Entry| entry.metrics.final_test_accuracy.is_some();
    let measured: Vec<&Entry> = teachers.iter().filter(measured).copied().collect();
    match measured.len() {
        1..=BARS => html::bars(
            "Accuracy on the whole test set, %",
            &final_bars(&measured, false),
        ),
        _ => html! {},
    }
}

/// Returns a table with a line for all repetitions of a student, and a bar for each student.
fn grouped(students: &[&Entry]) -> Markup {
    html! {
        (html::table(&group::table(&group::groups(students))))
        (html::paragraph(
            "Accuracy on the whole test set in percent, mean ± sample standard deviation over runs \
             that differ in seeds and paths only."
        ))
        (html::bars("Students, accuracy after the last epoch, %", &final_bars(students, true)))
    }
}
