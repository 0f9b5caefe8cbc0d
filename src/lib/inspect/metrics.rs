//! Reads the metrics of a run, whichever its stage.

use crate::artifact::json;
use crate::federated::distributed_sgd::Method;
use crate::federated::{Direction, Traffic};
use crate::run::Comparison;
use crate::run::metrics::{
    Course, DistributedSgdMetrics, FedAvgMetrics, FedMdMetrics, StudentEpoch, StudentMetrics,
    TeacherEpoch, TeacherMetrics,
};
use crate::train::EpochReport;
use anyhow::Result;
use serde::Serialize;
use serde_json::Value;
use std::path::Path;

/// Holds the numbers of a run that `inspect` shows. Those that a stage does not measure are `None`
/// or empty.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metrics {
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
    pub method: Option<Method>,
    pub ranks: Option<usize>,
    pub steps: Option<usize>,
    pub traffic: Vec<Traffic>,
}

/// Holds an epoch of a teacher or a student.
#[derive(Clone, Debug, Serialize)]
pub struct Epoch {
    pub epoch: usize,
    pub lr: f64,
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub own_test_accuracy: Option<f64>,
}

/// Holds a round of a baseline; the bytes are those of this round alone.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    pub round: usize,
    /// Of the global model, or the mean over the nodes' own models; `None` in rounds without
    /// evaluation.
    pub test_accuracy: Option<f64>,
    pub upload_bytes: u64,
    pub download_bytes: u64,
    /// What each node reported.
    pub nodes: Vec<Value>,
}

impl Metrics {
    /// Reads the metrics file at `path`, which a run of `stage` wrote.
    ///
    /// # Errors
    /// Fails for a file that cannot be read or holds something else.
    pub fn read(stage: &str, path: &Path) -> Result<Self> {
        Ok(match stage {
            "train_teachers" => json::read::<TeacherMetrics>(path)?.into(),
            "train_student" => json::read::<StudentMetrics>(path)?.into(),
            "fed_avg" => json::read::<FedAvgMetrics>(path)?.into(),
            "fed_md" => json::read::<FedMdMetrics>(path)?.into(),
            "distributed_sgd" => json::read::<DistributedSgdMetrics>(path)?.into(),
            _ => Self::default(),
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

    /// Returns what a baseline of many rounds measured.
    fn of_rounds<M, N: Serialize>(
        course: Course<M, N>,
        test_accuracy: fn(&M) -> Option<f64>,
    ) -> Self {
        let rounds = course.rounds.into_iter().map(|line| Round {
            round: line.round,
            test_accuracy: test_accuracy(&line.means),
            upload_bytes: line.upload_bytes,
            download_bytes: line.download_bytes,
            // They were read from JSON.
            nodes: line.nodes.iter().flat_map(serde_json::to_value).collect(),
        });
        Self {
            final_test_accuracy: course.final_test_accuracy,
            best_test_accuracy: course.best_test_accuracy,
            upload_bytes: Some(course.upload_bytes),
            rounds: rounds.collect(),
            ..Self::default()
        }
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

impl From<FedAvgMetrics> for Metrics {
    fn from(average: FedAvgMetrics) -> Self {
        Self {
            parameters: Some(average.parameters),
            ..Self::of_rounds(average.course, |means| means.test_accuracy)
        }
    }
}

impl From<FedMdMetrics> for Metrics {
    fn from(distillation: FedMdMetrics) -> Self {
        Self::of_rounds(distillation.course, |means| means.test_accuracy)
    }
}

impl From<DistributedSgdMetrics> for Metrics {
    fn from(sgd: DistributedSgdMetrics) -> Self {
        Self {
            final_test_accuracy: sgd.test_accuracy,
            parameters: Some(sgd.parameters),
            method: Some(sgd.method),
            ranks: Some(sgd.ranks),
            steps: Some(sgd.steps),
            traffic: sgd.traffic,
            ..Self::default()
        }
    }
}

impl Epoch {
    /// Returns the numbers of an epoch of training, with the accuracy on the test set.
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
