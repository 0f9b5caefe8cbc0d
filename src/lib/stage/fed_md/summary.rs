//! Prints the tables of `fed_md` on stdout.

use crate::federated::fed_md::NodeReport;
use crate::report::Table;
use crate::run::metrics::{Course, FedMdMeans, FedMdMetrics, NodeLine, RoundLine};
use crate::runtime::output;
use crate::words::{counted, percent};
use anyhow::Result;
use std::path::Path;

type Node = NodeLine<NodeReport>;
type Round = RoundLine<FedMdMeans, NodeReport>;

/// Limits the lines of the table of rounds.
const SHOWN: usize = 10;

/// Prints rounds, clients and bytes.
///
/// # Errors
/// Fails when stdout cannot be written.
pub fn print(metrics: &FedMdMetrics, path: &Path) -> Result<()> {
    let course = &metrics.course;
    output::print(rounds(course))?;
    output::print(clients(metrics))?;
    output::print("test before: after transfer learning, before the first round")?;
    output::print(format!(
        "mean over {}: final {}, best on test {}",
        counted(
            course.rounds.last().map_or(0, |line| line.nodes.len()),
            "client"
        ),
        percent(course.final_test_accuracy),
        percent(course.best_test_accuracy)
    ))?;
    output::print(format!(
        "bytes: {} uploaded, {} downloaded; {} of {} public images a round, a score of each of {} \
         classes; the public set ({} bytes of pixels) is everyone's and not counted",
        course.upload_bytes,
        course.download_bytes,
        metrics.public_samples,
        metrics.public_images,
        metrics.classes,
        metrics.public_bytes
    ))?;
    output::print(format!("metrics:  {}", path.display()))?;
    Ok(())
}

/// Returns the table of means over the clients: transfer learning (round 0), then rounds spread
/// evenly, the last among them.
fn rounds(course: &Course<FedMdMeans, NodeReport>) -> Table {
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
    let last = course.rounds.len().saturating_sub(1);
    let shown = last.min(SHOWN);
    let loss = |loss: Option<f64>| loss.map_or("–".into(), |loss| format!("{loss:.4}"));
    for line in (0..=shown).filter_map(|i| course.rounds.get(last * i / shown.max(1))) {
        let (up, down) = course.bytes_of_first(line.round + 1);
        table.row(vec![
            line.round.to_string(),
            loss(line.means.digest_loss),
            loss(line.means.train_loss),
            percent(line.means.local_accuracy),
            percent(line.means.public_accuracy),
            percent(line.means.test_accuracy),
            up.to_string(),
            down.to_string(),
        ]);
    }
    table
}

/// Returns the table of clients after the last round, and on the test set before the first.
fn clients(metrics: &FedMdMetrics) -> Table {
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
    let at = |round: Option<&Round>, node: usize| -> Option<Node> {
        round?
            .nodes
            .iter()
            .find(|line| line.report.node == node)
            .cloned()
    };
    for client in &metrics.clients {
        let last = at(metrics.course.rounds.last(), client.node);
        let first = at(metrics.course.rounds.first(), client.node);
        let of =
            |line: &Option<Node>, of: fn(&Node) -> Option<f64>| percent(line.as_ref().and_then(of));
        table.row(vec![
            client.node.to_string(),
            client.model.to_string(),
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
