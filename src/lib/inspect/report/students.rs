//! Makes the section of the students.

use super::super::confusion::Matrix;
use super::super::run::Entry;
use super::plots;
use crate::error::Error;
use crate::report::html;
use anyhow::Result;
use maud::{Markup, html};

/// Returns curves, confusion and synthetic images of the students.
pub fn students(students: &[&Entry]) -> Result<Markup> {
    if let [entry] = students {
        return student(entry);
    }
    let named: Vec<(String, &Entry)> = students
        .iter()
        .map(|entry| (entry.run.name.clone(), *entry))
        .collect();
    Ok(html! {
        (plots::accuracy("Students on the test set", &named)?)
        @for entry in students { (html::fold(&entry.run.name, student(entry)?)) }
    })
}

/// Returns the same of one student.
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
        (plots::training_loss("Training loss of the student", &named)?)
        (matrix(entry)?)
        @for (file, title) in grids {
            @if let Some(path) = find(file) { (plots::picture(title, path)) }
        }
    })
}

/// Returns the confusion matrix; nothing, with a warning, where it is damaged.
fn matrix(entry: &Entry) -> Result<Markup> {
    if entry.metrics.confusion.is_none() {
        return Ok(html! {});
    }
    match Matrix::new(&entry.run, &entry.metrics) {
        Ok(matrix) => Ok(html! {
            (plots::drawn("Confusion matrix of the student", matrix.svg())?)
            (html::table(&matrix.table()))
        }),
        Err(error) => {
            tracing::warn!("left out of the report: {}", Error::from(error));
            Ok(html! {})
        }
    }
}
