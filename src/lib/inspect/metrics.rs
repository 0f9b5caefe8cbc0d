//! The metrics of a run, of whichever stage.

use crate::artifact::json;
use crate::federated::{Direction, Kind};
use crate::run::Comparison;
use crate::run::metrics::{StudentEpoch, StudentMetrics, TeacherEpoch, TeacherMetrics};
use crate::train::EpochReport;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The numbers of a run that `inspect` shows. Those that a stage does not measure are `None` or
/// empty.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Metrics {
    /// Stages that measure once call it `test_accuracy`.
    #[serde(alias = "test_accuracy")]
    pub final_test_accuracy: Option<f64>,
    pub best_test_accuracy: Option<f64>,
    pub saved_test_accuracy: Option<f64>,
    pub saved_epoch: Option<usize>,
    pub label_counts: Option<Vec<u64>>,
    pub train_images: Option<usize>,
    pub synthetic_images: Option<usize>,
    pub real_images: Option<usize>,
    pub parameters: Option<u64>,
    pub upload_bytes: Option<u64>,
    pub comparison: Option<Comparison>,
    pub confusion: Option<Vec<Vec<u64>>>,
    pub epochs: Vec<Epoch>,
    /// Of the multi-round baselines.
    pub rounds: Vec<Round>,
    /// Of `distributed_sgd`, which takes steps instead of rounds.
    pub method: Option<String>,
    pub ranks: Option<usize>,
    pub steps: Option<usize>,
    pub traffic: Vec<Traffic>,
}

/// An epoch of a teacher or a student.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Epoch {
    pub epoch: usize,
    pub lr: f64,
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub own_test_accuracy: Option<f64>,
}

/// A round of a baseline; the bytes are those of this round alone.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Round {
    pub round: usize,
    /// Of the global model, or the mean over the nodes' own models; `None` in rounds without
    /// evaluation.
    pub test_accuracy: Option<f64>,
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub nodes: Vec<Value>,
}

/// Bytes of one kind in one direction.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Traffic {
    pub kind: Kind,
    pub direction: Direction,
    pub bytes: u64,
}

impl Metrics {
    /// Reads the metrics file at `path`, which a run of `stage` wrote.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else.
    pub fn read(stage: &str, path: &Path) -> Result<Self> {
        Ok(match stage {
            "train_teachers" => json::read::<TeacherMetrics>(path)?.into(),
            "train_student" => json::read::<StudentMetrics>(path)?.into(),
            _ => json::read(path)?,
        })
    }

    /// Returns the bytes that all nodes of a baseline uploaded and downloaded; `None` for a run
    /// that has exchanged nothing yet.
    pub fn sent(&self) -> Option<(u64, u64)> {
        if !self.traffic.is_empty() {
            let sum = |direction| {
                let parts = self.traffic.iter();
                let parts = parts.filter(|part| part.direction == direction);
                parts.map(|part| part.bytes).sum()
            };
            return Some((sum(Direction::Upload), sum(Direction::Download)));
        }
        let sum = |of: fn(&Round) -> u64| self.rounds.iter().map(of).sum();
        let bytes = || {
            (
                sum(|round| round.upload_bytes),
                sum(|round| round.download_bytes),
            )
        };
        (!self.rounds.is_empty()).then(bytes)
    }
}

impl From<TeacherMetrics> for Metrics {
    fn from(teacher: TeacherMetrics) -> Self {
        let epoch = |epoch: TeacherEpoch| Epoch {
            own_test_accuracy: epoch.own_test_accuracy,
            ..Epoch::new(epoch.fit, epoch.test_accuracy)
        };
        Self {
            final_test_accuracy: teacher.final_test_accuracy,
            best_test_accuracy: teacher.best_test_accuracy,
            saved_test_accuracy: teacher.saved_test_accuracy,
            saved_epoch: Some(teacher.saved_epoch),
            label_counts: Some(teacher.label_counts),
            train_images: Some(teacher.train_images),
            parameters: Some(teacher.parameters),
            upload_bytes: Some(teacher.upload_bytes),
            epochs: teacher.epochs.into_iter().map(epoch).collect(),
            ..Self::default()
        }
    }
}

impl From<StudentMetrics> for Metrics {
    fn from(student: StudentMetrics) -> Self {
        let epoch = |epoch: StudentEpoch| Epoch::new(epoch.fit, epoch.test_accuracy);
        Self {
            final_test_accuracy: student.final_test_accuracy,
            best_test_accuracy: student.best_test_accuracy,
            saved_test_accuracy: student.saved_test_accuracy,
            saved_epoch: Some(student.saved_epoch),
            synthetic_images: Some(student.synthetic_images),
            real_images: Some(student.real_images),
            comparison: student.comparison,
            confusion: student.confusion,
            epochs: student.epochs.into_iter().map(epoch).collect(),
            ..Self::default()
        }
    }
}

impl Epoch {
    fn new(fit: EpochReport, test_accuracy: Option<f64>) -> Self {
        Self {
            epoch: fit.epoch,
            lr: fit.lr,
            train_loss: Some(fit.train_loss),
            train_accuracy: Some(fit.train_accuracy),
            test_accuracy,
            own_test_accuracy: None,
        }
    }
}
