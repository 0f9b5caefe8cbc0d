//! The tables on stdout.

use super::super::percent;
use super::recorder::{Metrics, NodeLine, RoundLine};
use crate::error::Result;
use crate::report::Table;
use crate::runtime::output::say;
use std::path::Path;

/// Most lines of the table of rounds.
const SHOWN: usize = 10;

/// Rounds, clients, bytes.
pub fn print(metrics: &Metrics, path: &Path) -> Result<()> {
    say(rounds(metrics))?;
    say(clients(metrics))?;
    say(format!(
        "mean over {} clients: final {}, best on test {}",
        metrics.clients.len(),
        percent(metrics.final_test_accuracy),
        percent(metrics.best_test_accuracy)
    ))?;
    say(format!(
        "bytes: {} uploaded, {} downloaded; {} of {} public images a round, a score of each of {} classes; the public set ({} bytes of pixels) is everyone's and not counted",
        metrics.upload_bytes,
        metrics.download_bytes,
        metrics.public_samples,
        metrics.public_images,
        metrics.classes,
        metrics.public_bytes
    ))?;
    say(format!("metrics:  {}", path.display()))
}

/// Means over the clients: transfer learning (round 0), then rounds spread evenly, the last among them.
fn rounds(metrics: &Metrics) -> Table {
    let mut table = Table::new(&[
        "round",
        "digest loss",
        "train loss",
        "local, mean",
        "public, mean",
        "test, mean",
        "bytes uploaded",
        "bytes downloaded",
    ]);
    let last = metrics.rounds.len().saturating_sub(1);
    let shown = last.min(SHOWN);
    let loss = |loss: Option<f64>| loss.map_or("–".into(), |loss| format!("{loss:.4}"));
    for line in (0..=shown).filter_map(|i| metrics.rounds.get(last * i / shown.max(1))) {
        let until = |of: fn(&RoundLine) -> u64| metrics.rounds[..=line.round].iter().map(of).sum::<u64>();
        table.row(vec![
            line.round.to_string(),
            loss(line.digest_loss),
            loss(line.train_loss),
            percent(line.local_accuracy),
            percent(line.public_accuracy),
            percent(line.test_accuracy),
            until(|line| line.upload_bytes).to_string(),
            until(|line| line.download_bytes).to_string(),
        ]);
    }
    table
}

/// Each client after the last round, and on the test set before the first.
fn clients(metrics: &Metrics) -> Table {
    let mut table = Table::new(&[
        "node",
        "model",
        "parameters",
        "images",
        "local",
        "public",
        "own test",
        "test",
        "test before",
    ]);
    let at = |round: Option<&'_ RoundLine>, node: usize| -> Option<NodeLine> {
        round?.nodes.iter().find(|line| line.report.node == node).cloned()
    };
    for client in &metrics.clients {
        let last = at(metrics.rounds.last(), client.node);
        let first = at(metrics.rounds.first(), client.node);
        let of = |line: &Option<NodeLine>, of: fn(&NodeLine) -> Option<f64>| percent(line.as_ref().and_then(of));
        table.row(vec![
            client.node.to_string(),
            client.model.into(),
            client.parameters.to_string(),
            client.images.to_string(),
            of(&last, |line| line.report.local_accuracy),
            of(&last, |line| line.report.public_accuracy),
            of(&last, |line| line.report.own_test_accuracy),
            of(&last, |line| line.report.test_accuracy),
            of(&first, |line| line.report.test_accuracy),
        ]);
    }
    table
}
