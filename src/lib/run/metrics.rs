//! Declares the JSON files that sum up a training run: `metrics_teacher{i}.json`, and the
//! `metrics.json` of a student and of each baseline. The stages write these types and `inspect`
//! reads them.
//!
//! Accuracies are shares, 0..1. A key that an older file lacks is read as its default.

use super::Comparison;
use crate::federated::distributed_sgd::{LossAt, Method};
use crate::federated::{Direction, Ledger, Traffic, fed_avg, fed_md};
use crate::model::ModelKind;
use crate::train::{EpochReport, Selection};
use serde::{Deserialize, Serialize};

/// Holds what `train_teachers` measured for one teacher.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TeacherMetrics {
    pub teacher: usize,
    pub label_counts: Vec<u64>,
    pub train_images: usize,
    pub test_images: usize,
    pub parameters: u64,
    pub upload_bytes: u64,
    /// The epoch whose weights were saved, and the rule that chose it.
    pub saved_epoch: usize,
    pub selection: Selection,
    /// On the whole test set: after the last epoch, of the best epoch, of the saved weights.
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub saved_test_accuracy: Option<f64>,
    pub epochs: Vec<TeacherEpoch>,
}

/// Holds one epoch of a teacher.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TeacherEpoch {
    #[serde(flatten)]
    pub fit: EpochReport,
    /// The share on the whole test set.
    pub test_accuracy: Option<f64>,
    /// The share on the node's own test part.
    pub own_test_accuracy: Option<f64>,
    /// The share on the images held out of the node's training part.
    pub validation_accuracy: Option<f64>,
}

/// Holds what `train_student` measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StudentMetrics {
    pub synthetic_images: usize,
    pub real_images: usize,
    /// The epoch whose weights were saved, and the rule that chose it.
    pub saved_epoch: usize,
    pub selection: Selection,
    /// On the test set: after the last epoch, of the best epoch, of the saved weights.
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub saved_test_accuracy: Option<f64>,
    /// `None` in files of older versions, as is `confusion`.
    pub comparison: Option<Comparison>,
    /// Test images of each class (row) by the class that the student takes them for (column).
    pub confusion: Option<Vec<Vec<u64>>>,
    /// The teachers' weights in the ensemble `weighted_logits`, where they were learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher_weights: Option<Vec<f64>>,
    pub epochs: Vec<StudentEpoch>,
}

/// Holds one epoch of a student.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StudentEpoch {
    #[serde(flatten)]
    pub fit: EpochReport,
    pub test_accuracy: Option<f64>,
    #[serde(default)]
    pub per_class_accuracy: Vec<Option<f64>>,
}

/// Holds what `fed_avg` measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FedAvgMetrics {
    pub parameters: u64,
    /// What one transfer carries, framing aside: the state dict, without what nodes keep to
    /// themselves.
    pub model_bytes: u64,
    #[serde(flatten)]
    pub course: Course<FedAvgMeans, fed_avg::NodeReport>,
}

/// Holds what `fed_avg` measured after a round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FedAvgMeans {
    /// Over the round's nodes, weighted by their training images: of their last epoch's training
    /// passes, and of their own models on their own test images.
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub own_test_accuracy: Option<f64>,
    /// Of the global model on the whole test set; `None` in rounds without evaluation, and where
    /// nodes keep their statistics.
    pub test_accuracy: Option<f64>,
    /// The same on the training images of all nodes, those of this round and the others; `None`
    /// without `fed_avg.eval_train`.
    pub global_train_accuracy: Option<f64>,
}

/// Holds what `fed_md` measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FedMdMetrics {
    pub clients: Vec<FedMdClient>,
    /// The public set, which everyone holds from the start: its bytes are in no sum.
    pub public_images: usize,
    pub public_bytes: u64,
    /// Public images that are scored in a round.
    pub public_samples: usize,
    pub classes: i64,
    /// Accuracies are means over the clients.
    #[serde(flatten)]
    pub course: Course<FedMdMeans, fed_md::NodeReport>,
}

/// Describes a client of `fed_md`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FedMdClient {
    pub node: usize,
    pub model: ModelKind,
    pub parameters: u64,
    pub images: usize,
}

/// Holds what `fed_md` measured after a round: unweighted means over the clients that have the
/// number. Round 0 is transfer learning.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FedMdMeans {
    pub digest_loss: Option<f64>,
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub local_accuracy: Option<f64>,
    pub public_accuracy: Option<f64>,
    pub own_test_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
}

/// Holds what `distributed_sgd` measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DistributedSgdMetrics {
    pub method: Method,
    pub ranks: usize,
    pub parameters: u64,
    pub steps: usize,
    pub losses: Vec<LossAt>,
    pub test_accuracy: Option<f64>,
    /// Of all steps and ranks.
    pub traffic: Vec<Traffic>,
}

/// Holds what a node reports of a round, with the bytes it sent and received.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeLine<N> {
    #[serde(flatten)]
    pub report: N,
    pub traffic: Vec<Traffic>,
}

/// Holds what was measured after a round, with the algorithm's own means over its nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RoundLine<M, N> {
    /// Rounds that are complete.
    pub round: usize,
    #[serde(flatten)]
    pub means: M,
    /// In this round, as serialised.
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub nodes: Vec<NodeLine<N>>,
}

impl<M, N: Clone> RoundLine<M, N> {
    /// Makes a line of the nodes' `reports` and their traffic in `ledger`; `node` returns the
    /// number of a report's node.
    pub fn new(
        round: usize,
        means: M,
        reports: &[N],
        node: fn(&N) -> usize,
        ledger: &Ledger,
    ) -> Self {
        let bytes = |direction| ledger.sum(|entry| entry.direction == direction).bytes;
        let line = |report: &N| NodeLine {
            report: report.clone(),
            traffic: ledger.traffic(|entry| entry.node == node(report)),
        };
        Self {
            round,
            means,
            upload_bytes: bytes(Direction::Upload),
            download_bytes: bytes(Direction::Download),
            nodes: reports.iter().map(line).collect(),
        }
    }
}

/// Holds what a baseline of many rounds measured, whichever its algorithm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Course<M, N> {
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub rounds: Vec<RoundLine<M, N>>,
}

impl<M, N> Course<M, N> {
    /// Sums up `rounds`; `test_accuracy` returns that of a round's means.
    pub fn new(rounds: Vec<RoundLine<M, N>>, test_accuracy: fn(&M) -> Option<f64>) -> Self {
        let tested = |line: &RoundLine<M, N>| test_accuracy(&line.means);
        let (upload_bytes, download_bytes) = bytes(&rounds);
        Self {
            upload_bytes,
            download_bytes,
            final_test_accuracy: rounds.last().and_then(tested),
            // FedMD's round 0 is before anything was sent: its accuracy is not FedMD's.
            best_test_accuracy: rounds
                .iter()
                .filter(|line| line.round > 0)
                .filter_map(tested)
                .max_by(f64::total_cmp),
            rounds,
        }
    }

    /// Returns the bytes uploaded and downloaded in the first `lines`.
    pub fn bytes_of_first(&self, lines: usize) -> (u64, u64) {
        bytes(&self.rounds[..lines])
    }
}

fn bytes<M, N>(lines: &[RoundLine<M, N>]) -> (u64, u64) {
    let up = lines.iter().map(|line| line.upload_bytes).sum();
    (up, lines.iter().map(|line| line.download_bytes).sum())
}
