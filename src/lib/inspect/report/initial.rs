//! Makes the section of the initial batches.

use super::super::run::Entry;
use super::plots;
use crate::report::html;
use maud::{Markup, html};

/// Returns what the plot of the loss is called, by what made the batches.
fn title(entry: &Entry) -> &'static str {
    match entry.run.setting("generator").is_null() {
        true => "Inversion loss and its terms",
        false => "Generator's loss and its terms",
    }
}

/// Returns the grids and loss terms of initial batches.
pub fn initial(initial: &[&Entry]) -> Markup {
    let content = |entry: &Entry| {
        html! {
            @if let Some(grid) = entry.run.output("grid") {
                (plots::picture("The initial batches", &grid))
            }
            @if let Some(curves) = entry.run.output("loss curves") {
                (plots::saved(title(entry), &curves))
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
