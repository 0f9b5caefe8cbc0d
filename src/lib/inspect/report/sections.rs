//! The sections of the page, each from the runs of one stage. A section without content is left
//! out.

use super::super::confusion::Matrix;
use super::super::run::{Comparison, Epoch, Run, percent, size};
use super::super::{group, split};
use super::{Entry, plots};
use crate::error::Error;
use crate::partition::skew;
use crate::report::html::{self, Bar};
use crate::report::{Table, stacked_bars};
use crate::run::manifest::FileRecord;
use anyhow::Result;
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::path::Path;

/// Teachers that have a bar each.
const BARS: usize = 12;

/// Returns the main results: of one student its accuracy beside what it is compared with, of
/// several students their means, without a student the teachers' accuracies.
pub fn result(students: &[&Entry], teachers: &[&Entry]) -> Markup {
    let compared = |entry: &&Entry| {
        entry
            .metrics
            .comparison
            .clone()
            .map(|comparison| (comparison, entry.metrics.clone()))
    };
    match &students.iter().filter_map(compared).collect::<Vec<_>>()[..] {
        [] => teachers_only(teachers),
        [(comparison, metrics)] => {
            let tiles = [
                (percent(comparison.student), "student, % of the test set"),
                (
                    percent(metrics.best_test_accuracy),
                    "student, best epoch on test, %",
                ),
                (percent(comparison.ensemble), "ensemble of the teachers, %"),
                (
                    percent(comparison.one_shot_average),
                    "one-shot weight average, %",
                ),
                (
                    size(
                        comparison.upload_bytes.iter().sum::<u64>()
                            / comparison.upload_bytes.len().max(1) as u64,
                    ),
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
        _ => grouped(students),
    }
}

fn comparison_bars(comparison: &Comparison) -> Markup {
    let bar = |name: String, accuracy: Option<f64>, strong: bool| Bar {
        name,
        share: accuracy.unwrap_or(0.0),
        value: percent(accuracy),
        strong,
    };
    let single = comparison.teachers.len() <= BARS && comparison.teachers.len() > 1;
    let teachers = comparison
        .teachers
        .iter()
        .take(if single { BARS } else { 0 })
        .enumerate();
    let mut bars: Vec<Bar> = teachers
        .map(|(node, accuracy)| bar(format!("teacher {node}"), *accuracy, false))
        .collect();
    bars.extend([
        bar("teachers, mean".into(), comparison.teachers_mean, false),
        bar("teachers, ensemble".into(), comparison.ensemble, false),
        bar(
            "one-shot weight average".into(),
            comparison.one_shot_average,
            false,
        ),
        bar("student".into(), comparison.student, true),
    ]);
    html::bars("Accuracy on the whole test set, %", &bars)
}

fn teachers_only(teachers: &[&Entry]) -> Markup {
    let bar = |entry: &&Entry| Bar {
        name: entry.run.name.clone(),
        share: entry.metrics.final_test_accuracy.unwrap_or(0.0),
        value: percent(entry.metrics.final_test_accuracy),
        strong: false,
    };
    let measured: Vec<Bar> = teachers
        .iter()
        .filter(|entry| entry.metrics.final_test_accuracy.is_some())
        .map(bar)
        .collect();
    match measured.is_empty() || measured.len() > BARS {
        true => html! {},
        false => html::bars("Accuracy on the whole test set, %", &measured),
    }
}

/// Returns a table with a line for all repetitions of a student, and a bar for each student.
fn grouped(students: &[&Entry]) -> Markup {
    let (runs, metrics): (Vec<&Run>, Vec<_>) = students
        .iter()
        .map(|entry| (&entry.run, entry.metrics.clone()))
        .unzip();
    let groups = group::groups(&runs, &metrics);
    let bar = |entry: &&Entry| Bar {
        name: entry.run.name.clone(),
        share: entry.metrics.final_test_accuracy.unwrap_or(0.0),
        value: percent(entry.metrics.final_test_accuracy),
        strong: true,
    };
    let bars: Vec<Bar> = students.iter().map(bar).collect();
    html! {
        (html::table(&group::table(&groups)))
        (html::paragraph(
            "Accuracy on the whole test set in percent, mean ± sample standard deviation over runs \
             that differ in seeds and paths only."
        ))
        (html::bars("Students, accuracy after the last epoch, %", &bars))
    }
}

/// Returns what each node holds: the plot of every split, with the label skew of the teachers that
/// were trained on it.
pub fn splits(splits: &[&Entry], teachers: &[&Entry]) -> Result<Markup> {
    Ok(html! {
        @for entry in splits {
            @if splits.len() > 1 { (html::heading(&entry.run.name)) }
            @if let Some(plot) = entry.run.output("plot") {
                (plots::saved("Training images of each node", &plot))
            }
            (skewness(&trained_on(entry, teachers)))
        }
        @if splits.is_empty() && teachers.len() > 1 {
            (teachers_counts(teachers)?)
            (skewness(teachers))
        }
    })
}

/// Returns the teachers that were trained on the split of this run.
fn trained_on<'a>(split: &Entry, teachers: &[&'a Entry]) -> Vec<&'a Entry> {
    let is_split = |record: &&FileRecord| record.role == "split";
    let hash = |records: &[FileRecord]| {
        let record = records.iter().find(is_split);
        record.map(|record| record.sha256.clone())
    };
    let written = hash(&split.run.manifest.outputs);
    let reads_it =
        |teacher: &&&Entry| written.is_some() && hash(&teacher.run.manifest.inputs) == written;
    teachers.iter().filter(reads_it).copied().collect()
}

/// Returns a plot of the images that each teacher was trained on, for teachers that came without
/// their split; nothing where their metrics or classes are gone.
fn teachers_counts(teachers: &[&Entry]) -> Result<Markup> {
    let name = |entry: &&Entry| entry.run.name.clone();
    let names: Vec<String> = teachers.iter().map(name).collect();
    let counts = counts(teachers);
    let card = teachers[0].run.card()?;
    let Some(card) = card.filter(|_| counts.len() == names.len()) else {
        return Ok(html! {});
    };
    let title = "Training images of each teacher";
    plots::drawn(title, |path| {
        stacked_bars(path, title, &names, &card.classes, &counts)
    })
}

fn counts(teachers: &[&Entry]) -> Vec<Vec<u64>> {
    let of = |entry: &&Entry| entry.metrics.label_counts.clone();
    teachers.iter().filter_map(of).collect()
}

fn skewness(teachers: &[&Entry]) -> Markup {
    let counts = counts(teachers);
    match counts.len() {
        0 | 1 => html! {},
        _ => html::table(&split::measures(&skew(&counts))),
    }
}

/// Returns a table and curves for each folder of teachers.
pub fn teachers(teachers: &[&Entry]) -> Result<Markup> {
    let mut folders: BTreeMap<&Path, Vec<&Entry>> = BTreeMap::new();
    for entry in teachers {
        folders.entry(entry.run.folder()).or_default().push(entry);
    }
    let several = folders.len() > 1;
    Ok(html! {
        @for (folder, entries) in folders {
            @if several {
                (html::fold(&folder.display().to_string(), folder_of_teachers(entries)?))
            } @else {
                (folder_of_teachers(entries)?)
            }
        }
    })
}

fn folder_of_teachers(mut entries: Vec<&Entry>) -> Result<Markup> {
    let node = |entry: &Entry| {
        let node = entry.run.manifest.facts.get("node");
        node.and_then(|node| node.as_u64()).unwrap_or(0)
    };
    entries.sort_by_key(|entry| node(entry));
    let named: Vec<(String, &Entry)> = entries
        .iter()
        .map(|entry| (format!("teacher {}", node(entry)), *entry))
        .collect();
    let mut table = Table::new(&[
        "teacher",
        "status",
        "images",
        "final %",
        "best %",
        "parameters",
        "upload",
        "took",
    ]);
    for entry in entries {
        let metrics = &entry.metrics;
        let dash = || "–".to_owned();
        table.row(vec![
            node(entry).to_string(),
            entry.run.status(),
            metrics
                .train_images
                .map_or_else(dash, |count| count.to_string()),
            percent(metrics.final_test_accuracy),
            percent(metrics.best_test_accuracy),
            metrics
                .parameters
                .map_or_else(dash, |count| count.to_string()),
            metrics.upload_bytes.map_or_else(dash, size),
            entry.run.took().unwrap_or_else(dash),
        ]);
    }
    let accuracy = |epoch: &Epoch| Some(100.0 * epoch.test_accuracy?);
    Ok(html! {
        (html::table(&table))
        (plots::over_epochs(
            "Teachers on the whole test set",
            "accuracy (%)",
            false,
            &named,
            accuracy,
        )?)
        (plots::over_epochs(
            "Training loss of the teachers",
            "loss",
            true,
            &named,
            |epoch| epoch.train_loss,
        )?)
    })
}

/// Returns the grids and loss terms of initial batches.
pub fn initial(initial: &[&Entry]) -> Markup {
    let content = |entry: &Entry| {
        html! {
            @if let Some(grid) = entry.run.output("grid") {
                (plots::picture("The initial batches", &grid))
            }
            @if let Some(curves) = entry.run.output("loss curves") {
                (plots::saved("Inversion loss and its terms", &curves))
            }
        }
    };
    match initial {
        [entry] => content(entry),
        several => html! {
            @for entry in several { (html::fold(&entry.run.name, content(entry))) }
        },
    }
}

/// Returns curves, confusion and synthetic images of the students.
pub fn students(students: &[&Entry]) -> Result<Markup> {
    if let [entry] = students {
        return student(entry);
    }
    let named: Vec<(String, &Entry)> = students
        .iter()
        .map(|entry| (entry.run.name.clone(), *entry))
        .collect();
    let accuracy = |epoch: &Epoch| Some(100.0 * epoch.test_accuracy?);
    Ok(html! {
        (plots::over_epochs("Students on the test set", "accuracy (%)", false, &named, accuracy)?)
        @for entry in students { (html::fold(&entry.run.name, student(entry)?)) }
    })
}

fn student(entry: &Entry) -> Result<Markup> {
    let pictures: Vec<_> = entry.run.outputs("picture").collect();
    let find = |file: &str| pictures.iter().find(|path| path.ends_with(file));
    let curves = [
        ("curves.png", "Accuracy of the student"),
        ("per_class.png", "Accuracy of the student by class"),
    ];
    let grids = [
        (
            "dataset.png",
            "Synthetic images that the student learned from",
        ),
        ("fresh_first.png", "The first fresh batch"),
        ("fresh_last.png", "The last fresh batch"),
    ];
    let named = [("Student".to_owned(), entry)];
    Ok(html! {
        @for (file, title) in curves {
            @if let Some(path) = find(file) { (plots::saved(title, path)) }
        }
        (plots::over_epochs(
            "Training loss of the student",
            "loss",
            true,
            &named,
            |epoch| epoch.train_loss,
        )?)
        (matrix(entry)?)
        @for (file, title) in grids {
            @if let Some(path) = find(file) { (plots::picture(title, path)) }
        }
    })
}

fn matrix(entry: &Entry) -> Result<Markup> {
    if entry.metrics.confusion.is_none() {
        return Ok(html! {});
    }
    match Matrix::new(&entry.run, &entry.metrics) {
        Ok(matrix) => Ok(html! {
            (plots::drawn("Confusion matrix of the student", |path| Ok(matrix.save(path)?))?)
            (html::table(&matrix.table()))
        }),
        Err(error) => {
            tracing::warn!("left out of the report: {}", Error::from(error));
            Ok(html! {})
        }
    }
}
