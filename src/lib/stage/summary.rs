//! What the student is compared with on the test set: each teacher, their ensemble, and one round
//! of federated averaging.

use super::percent;
use super::teachers::TeacherSet;
use crate::config::Config;
use crate::data::Dataset;
use crate::error::Result;
use crate::inversion::Ensemble;
use crate::model::{Model, weighted_mean_of};
use crate::report::Table;
use crate::train::{Evaluation, evaluate};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Test accuracies (0..1) and communication of one experiment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Comparison {
    pub teachers: Vec<Option<f64>>,
    pub teachers_mean: Option<f64>,
    pub ensemble: Option<f64>,
    /// One round of federated averaging (McMahan et al. 2017), batch-norm statistics averaged too;
    /// `null` for mixed architectures.
    pub one_shot_average: Option<f64>,
    pub student: Option<f64>,
    /// Bytes each node uploaded: its teacher's file.
    pub upload_bytes: Vec<u64>,
}

/// Evaluates teachers, ensemble and weight average on the dataset's test split.
///
/// # Errors
/// What libtorch reports; Ctrl-C.
pub fn compare(
    set: &TeacherSet,
    dataset: &Dataset,
    student: &Evaluation,
    config: &Config,
) -> Result<Comparison> {
    let accuracy = |predict: &dyn Fn(&Tensor) -> Result<Tensor>| {
        let evaluation = evaluate(
            predict,
            &dataset.test,
            &dataset.normalisation,
            dataset.classes.len(),
            config.student.eval_batch_size,
        );
        Ok::<_, crate::Error>(evaluation?.accuracy())
    };
    let teachers = set
        .teachers
        .iter()
        .map(|teacher| accuracy(&|images| Ok(teacher.loaded()?.predict(images))))
        .collect::<Result<Vec<_>>>()?;
    let known: Vec<f64> = teachers.iter().flatten().copied().collect();
    let all = set.all();
    let ensemble = Ensemble::new(config.deep_inv.ensemble, &all, set.teachers[0].device);
    Ok(Comparison {
        teachers_mean: (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64),
        teachers,
        ensemble: accuracy(&|images| ensemble.predict(&all, images, 1.0))?,
        one_shot_average: match average(set)? {
            Some(model) => accuracy(&|images| Ok(model.eval(images)))?,
            None => None,
        },
        student: student.accuracy(),
        upload_bytes: set.bytes.clone(),
    })
}

/// The teachers' mean, weighted by their numbers of training images.
fn average(set: &TeacherSet) -> Result<Option<Model>> {
    let spec = &set.teachers[0].spec;
    if set.teachers.iter().any(|teacher| teacher.spec != *spec) {
        return Ok(None);
    }
    let weights: Vec<f64> = set
        .teachers
        .iter()
        .map(|teacher| teacher.label_counts.iter().sum::<u64>() as f64)
        .collect();
    let mean = weighted_mean_of(set.teachers.len(), &weights, |index| {
        Ok(set.teachers[index].loaded()?.model.state())
    })?;
    let model = Model::from_state(spec, &mean, set.teachers[0].device)?;
    let precision = set.teachers[0].loaded()?.model.precision();
    Ok(Some(model.compute_in(precision)))
}

impl Comparison {
    /// The table on stdout.
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
        let rest = [
            ("teachers, mean", self.teachers_mean, ""),
            ("teachers, ensemble", self.ensemble, &all),
            ("one-shot weight average", self.one_shot_average, &all),
            ("student", self.student, &all),
        ];
        for (name, accuracy, bytes) in rest {
            table.row(vec![name.into(), percent(accuracy), bytes.into()]);
        }
        table
    }
}
