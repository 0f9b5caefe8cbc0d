//! Makes the section of the splits: what each node holds.

use super::super::run::Entry;
use super::super::split;
use super::plots;
use crate::partition::skew;
use crate::report::html;
use crate::report::stacked_bars_svg;
use anyhow::Result;
use maud::{Markup, html};

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
    let Some(written) = split.run.manifest.output("split") else {
        return Vec::new();
    };
    let reads_it = |teacher: &&&Entry| {
        let read = teacher.run.manifest.input("split");
        read.is_some_and(|read| read.sha256 == written.sha256)
    };
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
    plots::drawn(
        title,
        stacked_bars_svg(title, &names, &card.classes, &counts),
    )
}

/// Returns the label counts of the teachers that have metrics.
fn counts(teachers: &[&Entry]) -> Vec<Vec<u64>> {
    let of = |entry: &&Entry| entry.metrics.label_counts.clone();
    teachers.iter().filter_map(of).collect()
}

/// Returns the measures of label skew over the teachers; nothing for fewer than two.
fn skewness(teachers: &[&Entry]) -> Markup {
    let counts = counts(teachers);
    match counts.len() {
        0 | 1 => html! {},
        _ => html::table(&split::measures(&skew(&counts))),
    }
}
