//! Compares the student of an experiment with its teachers, their ensemble and their average.

use crate::inversion::EnsembleKind;
use crate::report::Table;
use crate::words::percent;
use serde::{Deserialize, Serialize};

/// Holds the test accuracies (0..1) and the communication of one experiment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Comparison {
    pub teachers: Vec<Option<f64>>,
    pub teachers_mean: Option<f64>,
    pub ensemble: Option<f64>,
    /// Names the rule by which the ensemble joins its predictions; earlier versions do not tell.
    #[serde(default)]
    pub ensemble_rule: Option<EnsembleKind>,
    /// One round of federated averaging (McMahan et al. 2017), batch-norm statistics averaged too;
    /// `null` for mixed architectures.
    pub one_shot_average: Option<f64>,
    pub student: Option<f64>,
    /// Bytes each node uploaded: its teacher's file.
    pub upload_bytes: Vec<u64>,
}

impl Comparison {
    /// Returns the table that is printed to stdout.
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["model", "test accuracy", "bytes uploaded"]);
        for (node, (accuracy, bytes)) in self.teachers.iter().zip(&self.upload_bytes).enumerate() {
            table.row(vec![
                format!("teacher {node}"),
                percent(*accuracy),
                bytes.to_string(),
            ]);
        }
        let all = self.upload_bytes.iter().sum::<u64>().to_string();
        let rule = self.ensemble_rule.map(|rule| format!(" ({rule})"));
        let ensemble = format!("teachers, ensemble{}", rule.unwrap_or_default());
        let rest = [
            ("teachers, mean", self.teachers_mean, ""),
            (&ensemble, self.ensemble, &all),
            ("one-shot average", self.one_shot_average, &all),
            ("student", self.student, &all),
        ];
        for (name, accuracy, bytes) in rest {
            table.row(vec![name.into(), percent(accuracy), bytes.into()]);
        }
        table
    }
}
