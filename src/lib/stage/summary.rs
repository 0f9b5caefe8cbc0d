//! Evaluates the models that the student is compared with on the test set: each teacher, their
//! ensemble, and one round of federated averaging.

use super::teachers::TeacherSet;
use crate::config::Config;
use crate::data::Dataset;
use crate::error::Error;
use crate::inversion::Ensemble;
use crate::model::{Model, weighted_mean_of};
use crate::run::Comparison;
use crate::train::{Evaluation, evaluate};
use anyhow::Result;
use tch::Tensor;

/// Evaluates teachers, ensemble and weight average on the dataset's test split; `weights` f32
/// [teachers] are those of the ensemble `weighted_logits`.
///
/// # Errors
/// Fails when a teacher cannot be read, as libtorch does, and on Ctrl-C.
pub fn compare(
    set: &TeacherSet,
    dataset: &Dataset,
    student: &Evaluation,
    config: &Config,
    weights: &Tensor,
) -> Result<Comparison> {
    let accuracy = |predict: &dyn Fn(&Tensor) -> Result<Tensor, Error>| {
        let evaluation = evaluate(
            predict,
            &dataset.test,
            &dataset.normalisation,
            dataset.classes.len(),
            *config.student.eval_batch_size,
        );
        Ok::<_, Error>(evaluation?.accuracy())
    };
    let teachers = set
        .teachers
        .iter()
        .map(|teacher| accuracy(&|images| Ok(teacher.loaded()?.predict(images))))
        .collect::<Result<Vec<_>, Error>>()?;
    let known: Vec<f64> = teachers.iter().flatten().copied().collect();
    let all = set.all();
    let rule = config.student_ensemble();
    let ensemble = Ensemble::new(rule, &all, set.teachers[0].device).with_weights(weights);
    Ok(Comparison {
        teachers_mean: (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64),
        teachers,
        ensemble_rule: Some(rule.of_unknown()),
        ensemble: accuracy(&|images| ensemble.predict(&all, images, 1.0))?,
        // Without test images the mean need not be computed.
        one_shot_average: match dataset.test.is_empty() {
            true => None,
            false => average(set)?
                .map(|model| accuracy(&|images| Ok(model.eval(images))))
                .transpose()?
                .flatten(),
        },
        student: student.accuracy(),
        upload_bytes: set.bytes.clone(),
    })
}

/// Returns the teachers' mean, weighted by their numbers of training images; `None` for mixed
/// architectures.
///
/// # Errors
/// Fails when a teacher cannot be read, and as libtorch does.
pub fn average(set: &TeacherSet) -> Result<Option<Model>> {
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
    Ok(Some(model.with_precision(precision)))
}
