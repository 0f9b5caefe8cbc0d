//! Declares the JSON files that sum up a training run: `metrics_teacher{i}.json` and a student's
//! `metrics.json`. The stages write these types and `inspect` reads them.
//!
//! Accuracies are shares, 0..1. A key that an older file lacks is read as its default.

use super::Comparison;
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
