//! The section of the baselines: what each reached by which round, and the bytes that took.

use super::super::run::{Metrics, percent, size};
use super::{Entry, plots};
use crate::report::{LinePlot, Series, Table, html};
use anyhow::Result;
use maud::{Markup, html};

/// Stages that train a model for all nodes in many exchanges.
const STAGES: [&str; 3] = ["fed_avg", "fed_md", "distributed_sgd"];

pub fn is_baseline(entry: &Entry) -> bool {
    STAGES.iter().any(|stage| entry.is(stage))
}

/// Returns the accuracy over the rounds as a plot, and a table with a line a run.
pub fn baselines(entries: &[&Entry]) -> Result<Markup> {
    if entries.is_empty() {
        return Ok(html! {});
    }
    let has = |stage: &str| entries.iter().any(|entry| entry.is(stage));
    let mut remarks = vec!["Test accuracy in percent; bytes of all nodes together, as serialised."];
    if has("fed_md") {
        remarks.push("FedMD: mean over the nodes' own models.");
    }
    if has("distributed_sgd") {
        remarks.push("Distributed SGD takes steps, no rounds, and is measured at its end.");
    }
    Ok(html! {
        (over_rounds(entries)?)
        (html::table(&table(entries)))
        (html::paragraph(&remarks.join(" ")))
    })
}

fn over_rounds(entries: &[&Entry]) -> Result<Markup> {
    let series = |entry: &&Entry| Series {
        name: entry.run.name.clone(),
        points: entry
            .metrics
            .rounds
            .iter()
            .filter_map(|round| Some((round.round as f64, 100.0 * round.test_accuracy?)))
            .collect(),
    };
    plots::lines(&LinePlot {
        title: "Baselines on the test set",
        x: "round",
        y: "accuracy (%)",
        log_x: false,
        log_y: false,
        series: entries
            .iter()
            .filter(|entry| !entry.metrics.rounds.is_empty())
            .map(series)
            .collect(),
    })
}

fn table(entries: &[&Entry]) -> Table {
    let mut table = Table::new(&[
        "run",
        "stage",
        "status",
        "rounds",
        "steps",
        "nodes",
        "final %",
        "best %",
        "uploaded",
        "downloaded",
        "took",
    ]);
    for Entry { run, metrics } in entries {
        let count = |count: Option<usize>| count.map_or("–".into(), |count| count.to_string());
        let sent = metrics.sent();
        let bytes = |of: fn((u64, u64)) -> u64| sent.map_or("–".into(), |sent| size(of(sent)));
        table.row(vec![
            run.name.clone(),
            run.manifest.stage.clone(),
            run.status().to_string(),
            count(metrics.rounds.iter().map(|round| round.round).max()),
            count(metrics.steps),
            count(nodes(metrics)),
            percent(metrics.final_test_accuracy),
            percent(metrics.best_test_accuracy),
            bytes(|(up, _)| up),
            bytes(|(_, down)| down),
            run.took().unwrap_or("–".into()),
        ]);
    }
    table
}

/// Returns how many nodes take part in a round, at most.
fn nodes(metrics: &Metrics) -> Option<usize> {
    let most = metrics.rounds.iter().map(|round| round.nodes.len()).max();
    most.or(metrics.ranks)
}
