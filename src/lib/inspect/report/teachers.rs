//! Makes the section of the teachers.

use super::super::format::{or_dash, percent, size};
use super::super::run::Entry;
use super::plots;
use crate::report::{Table, html};
use anyhow::Result;
use maud::{Markup, html};
use std::collections::BTreeMap;
use std::path::Path;

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

/// Returns a table of the teachers of one folder, and their curves.
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
        table.row(vec![
            node(entry).to_string(),
            entry.run.status(),
            or_dash(metrics.train_images),
            percent(metrics.final_test_accuracy),
            percent(metrics.best_test_accuracy),
            or_dash(metrics.parameters),
            or_dash(metrics.upload_bytes.map(size)),
            or_dash(entry.run.took()),
        ]);
    }
    Ok(html! {
        (html::table(&table))
        (plots::accuracy("Teachers on the whole test set", &named)?)
        (plots::training_loss("Training loss of the teachers", &named)?)
    })
}
