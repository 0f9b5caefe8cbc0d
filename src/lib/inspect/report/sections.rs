//! The sections of the page, each from the runs of one stage. A section without content stays away.

use super::super::confusion::Matrix;
use super::super::run::{Comparison, Epoch, Run, percent, size};
use super::super::{group, split};
use super::{Entry, figures};
use crate::error::Result;
use crate::partition::skew;
use crate::report::html::{self, Bar};
use crate::report::{Table, stacked_bars};
use std::collections::BTreeMap;
use std::path::Path;

/// Teachers that have a bar each.
const BARS: usize = 12;

/// The figures that matter, and what the student is compared with.
pub fn result(students: &[&Entry], teachers: &[&Entry]) -> Result<String> {
    let compared = |entry: &&Entry| {
        entry
            .metrics
            .comparison
            .clone()
            .map(|comparison| (comparison, entry.metrics.clone()))
    };
    Ok(
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
                html::tiles(&tiles.map(|(value, name)| (value, name.to_owned())))
                    + &comparison_bars(comparison)
            }
            _ => grouped(students),
        },
    )
}

fn comparison_bars(comparison: &Comparison) -> String {
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

fn teachers_only(teachers: &[&Entry]) -> String {
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
        true => String::new(),
        false => html::bars("Accuracy on the whole test set, %", &measured),
    }
}

/// Several students: repetitions in one line, and each beside the others.
fn grouped(students: &[&Entry]) -> String {
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
    html::table(&group::table(&groups))
        + &html::paragraph(
            "Accuracy on the whole test set in percent, mean ± sample standard deviation over runs that differ in seeds and places only.",
        )
        + &html::bars(
            "Students, accuracy after the last epoch, %",
            &students.iter().map(bar).collect::<Vec<_>>(),
        )
}

/// What each node holds.
pub fn splits(splits: &[&Entry], teachers: &[&Entry]) -> Result<String> {
    let mut body = String::new();
    for entry in splits {
        if splits.len() > 1 {
            body += &html::heading(&entry.run.name);
        }
        if let Some(plot) = entry.run.output("plot") {
            body += &figures::left("Training images of each node", &plot);
        }
        let hash = entry
            .run
            .manifest
            .outputs
            .iter()
            .find(|record| record.role == "split")
            .map(|record| &record.sha256);
        let of_this = |entry: &&&Entry| {
            entry
                .run
                .manifest
                .inputs
                .iter()
                .any(|input| input.role == "split" && Some(&input.sha256) == hash)
        };
        body += &skewness(&teachers.iter().filter(of_this).copied().collect::<Vec<_>>());
    }
    // Teachers that came without their split still say what they were trained on.
    if splits.is_empty() && teachers.len() > 1 {
        let names: Vec<String> = teachers
            .iter()
            .map(|entry| entry.run.name.clone())
            .collect();
        let counts: Vec<_> = teachers
            .iter()
            .filter_map(|entry| entry.metrics.label_counts.clone())
            .collect();
        if let Some(card) = teachers[0]
            .run
            .card()?
            .filter(|_| counts.len() == names.len())
        {
            let title = "Training images of each teacher";
            body += &figures::drawn(title, |path| {
                stacked_bars(path, title, &names, &card.classes, &counts)
            })?;
        }
        body += &skewness(teachers);
    }
    Ok(body)
}

fn skewness(teachers: &[&Entry]) -> String {
    let counts: Vec<Vec<u64>> = teachers
        .iter()
        .filter_map(|entry| entry.metrics.label_counts.clone())
        .collect();
    match counts.len() {
        0 | 1 => String::new(),
        _ => html::table(&split::measures(&skew(&counts))),
    }
}

/// A table and curves for each folder of teachers.
pub fn teachers(teachers: &[&Entry]) -> Result<String> {
    let mut folders: BTreeMap<&Path, Vec<&Entry>> = BTreeMap::new();
    teachers
        .iter()
        .for_each(|entry| folders.entry(entry.run.folder()).or_default().push(entry));
    let several = folders.len() > 1;
    let mut body = String::new();
    for (folder, mut entries) in folders {
        let node = |entry: &Entry| {
            entry
                .run
                .manifest
                .facts
                .get("node")
                .and_then(|node| node.as_u64())
                .unwrap_or(0)
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
        for (name, entry) in &named {
            let metrics = &entry.metrics;
            let count = |count: Option<u64>| count.map_or("–".into(), |count| count.to_string());
            table.row(vec![
                name.trim_start_matches("teacher ").into(),
                entry.run.status().to_string(),
                count(metrics.train_images.map(|images| images as u64)),
                percent(metrics.final_test_accuracy),
                percent(metrics.best_test_accuracy),
                count(metrics.parameters),
                metrics.upload_bytes.map_or("–".into(), size),
                entry.run.took().unwrap_or("–".into()),
            ]);
        }
        let content = html::table(&table)
            + &figures::over_epochs(
                "Teachers on the whole test set",
                "accuracy (%)",
                false,
                &named,
                |epoch| Some(100.0 * epoch.test_accuracy?),
            )?
            + &figures::over_epochs(
                "Training loss of the teachers",
                "loss",
                true,
                &named,
                |epoch| epoch.train_loss,
            )?;
        body += &match several {
            true => html::fold(&folder.display().to_string(), &content),
            false => content,
        };
    }
    Ok(body)
}

/// Grids and loss terms.
pub fn initial(initial: &[&Entry]) -> String {
    let content = |entry: &Entry| {
        let grid = entry
            .run
            .output("grid")
            .map(|path| figures::picture("The initial batches", &path));
        let curves = entry
            .run
            .output("loss curves")
            .map(|path| figures::left("Inversion loss and its terms", &path));
        grid.unwrap_or_default() + &curves.unwrap_or_default()
    };
    match initial {
        [entry] => content(entry),
        several => several
            .iter()
            .map(|entry| html::fold(&entry.run.name, &content(entry)))
            .collect(),
    }
}

/// Curves, confusion and synthetic images.
pub fn students(students: &[&Entry]) -> Result<String> {
    if let [entry] = students {
        return student(entry);
    }
    let named: Vec<(String, &Entry)> = students
        .iter()
        .map(|entry| (entry.run.name.clone(), *entry))
        .collect();
    let accuracy = |epoch: &Epoch| Some(100.0 * epoch.test_accuracy?);
    let mut body = figures::over_epochs(
        "Students on the test set",
        "accuracy (%)",
        false,
        &named,
        accuracy,
    )?;
    for entry in students {
        body += &html::fold(&entry.run.name, &student(entry)?);
    }
    Ok(body)
}

fn student(entry: &Entry) -> Result<String> {
    let name = "Student".to_owned();
    let pictures: Vec<_> = entry.run.outputs("picture").collect();
    let shown = |show: fn(&str, &Path) -> String, named: &[(&str, &str)]| -> String {
        let find = |file: &str| pictures.iter().find(|path| path.ends_with(file));
        let each = |&(file, title): &(&str, &str)| Some(show(title, find(file)?));
        named.iter().filter_map(each).collect()
    };
    let curves = [
        ("curves.png", "Accuracy of the student"),
        ("per_class.png", "Accuracy of the student by class"),
    ];
    let mut body = shown(figures::left, &curves);
    body += &figures::over_epochs(
        "Training loss of the student",
        "loss",
        true,
        &[(name, entry)],
        |epoch| epoch.train_loss,
    )?;
    if entry.metrics.confusion.is_some() {
        match Matrix::new(&entry.run, &entry.metrics) {
            Ok(matrix) => {
                body +=
                    &figures::drawn("Confusion matrix of the student", |path| matrix.save(path))?;
                body += &html::table(&matrix.table());
            }
            Err(error) => tracing::warn!("left out of the report: {error}"),
        }
    }
    let grids = [
        (
            "dataset.png",
            "Synthetic images that the student learned from",
        ),
        ("fresh_first.png", "The first fresh batch"),
        ("fresh_last.png", "The last fresh batch"),
    ];
    Ok(body + &shown(figures::picture, &grids))
}
