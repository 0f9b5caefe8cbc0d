//! Shows how far the rounds are: accuracies as a picture, who is waited for, who was missing.

use super::super::server::Server;
use super::super::state::{Outcome, Phase, State};
use crate::federated::At;
use crate::report::Table;
use crate::report::html;
use crate::report::{LinePlot, Series};
use maud::Markup;
use serde_json::Value;
use std::collections::BTreeMap;

/// Returns what the server waits for in its rounds.
pub fn waiting(server: &Server, state: &State) -> String {
    let Some(asked) = &state.rounds.current else {
        return "Waiting for nobody: the server is at work.".into();
    };
    let here: Vec<usize> = state
        .answers()
        .filter(|(_, upload)| upload.outcome == Outcome::Accepted)
        .map(|(node, _)| node)
        .collect();
    let awaited = state.clients.iter().filter(|(id, client)| {
        let is_asked = |node: usize| asked.nodes.contains(&node) && !here.contains(&node);
        client.node.is_some_and(is_asked) && server.tokens.is_valid(id)
    });
    let names: Vec<&str> = awaited.map(|(_, client)| client.name.as_str()).collect();
    match names.is_empty() {
        true => format!("Round {}: all have answered.", server.task.round(asked.at)),
        false => format!(
            "Round {}: waiting for {}.",
            server.task.round(asked.at),
            names.join(", ")
        ),
    }
}

/// Returns in a sentence how far the rounds are.
pub fn lead(server: &Server, state: &State) -> Option<String> {
    let algorithm = &server.task.rounds.as_ref()?.algorithm;
    let rounds = algorithm.rounds();
    // Transfer learning is no round of these.
    let before = 1 - algorithm.first_round();
    let at = state
        .rounds
        .at()
        .map_or(0, |at| at.round.saturating_sub(before));
    match state.phase {
        Phase::Closed => Some(format!("Rounds: {at} of {rounds} are complete.")),
        Phase::Done(_) => Some(format!("Done: {rounds} rounds.")),
        _ => None,
    }
}

/// Returns the picture of the accuracies, with the `names` of the nodes, and a table of the
/// exchanges in which clients were missing.
pub fn section(
    server: &Server,
    missed: &[(At, Vec<String>)],
    names: &BTreeMap<usize, String>,
) -> Markup {
    let mut body = maud::html! {};
    if let Some(plan) = &server.task.rounds {
        let folder = server.store.folder.join(plan.algorithm.to_string());
        let lines = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
        if let Some(svg) = drawn(&lines, names) {
            // A picture that cannot be shown is no reason to show no page.
            body.0 += &html::plot("accuracy in each round", &svg)
                .map(|plot| plot.0)
                .unwrap_or_default();
        }
    }
    if !missed.is_empty() {
        let mut table = Table::new(&["round", "missing"]);
        for (at, names) in missed {
            table.row(vec![server.task.round(*at).to_string(), names.join(", ")]);
        }
        body.0 += &html::heading("Who did not answer in time").0;
        body.0 += &html::table(&table).0;
    }
    body
}

/// Draws the accuracies in the lines of `metrics.jsonl`, if there are any.
fn drawn(lines: &str, names: &BTreeMap<usize, String>) -> Option<String> {
    let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for line in lines.lines() {
        let Ok(round) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let Some(number) = round["round"].as_f64() else {
            continue;
        };
        let mut add = |name: String, accuracy: &Value| {
            if let Some(accuracy) = accuracy.as_f64() {
                series
                    .entry(name)
                    .or_default()
                    .push((number, 100.0 * accuracy));
            }
        };
        add("all, on the test images".into(), &round["test_accuracy"]);
        for node in round["nodes"].as_array().into_iter().flatten() {
            let number = node["node"].as_u64().unwrap_or_default() as usize;
            let name = match names.get(&number) {
                Some(name) => format!("{name}, on its own"),
                None => format!("client {number}, on its own"),
            };
            add(name, &node["own_test_accuracy"]);
        }
    }
    let plot = LinePlot {
        title: "Accuracy",
        x: "round",
        y: "accuracy (%)",
        log_x: false,
        log_y: false,
        series: series
            .into_iter()
            .map(|(name, points)| Series { name, points })
            .collect(),
    };
    plot.svg().ok()
}
