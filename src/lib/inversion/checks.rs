//! Checks, before the first batch is made, that inversion settings fit the teachers they are for.
//! Called by [`Inverter::new`](super::Inverter::new).

use super::fused::Frozen;
use super::settings::{EngineKind, InversionSettings, LabelSampling, TeacherMode};
use super::teacher::Teacher;
use crate::error::{Error, Result, Text, assignment, parameter};
use crate::model::ModelKind;
use crate::words::counted;

/// Checks that `settings` can be used with this number of `teachers` and `classes`.
///
/// # Errors
/// Fails with a usage error when a sample is larger than the number of teachers, when label weights
/// do not match the classes, and when a term of other teachers is in use where a batch has none.
pub(super) fn check(settings: &InversionSettings, teachers: usize, classes: i64) -> Result<()> {
    if settings.teachers.mode == TeacherMode::Sample
        && !(1..=teachers).contains(&settings.teachers.n)
    {
        return Err(Error::usage(
            parameter("teachers.n")
                + format!(
                    " is {} of {}",
                    settings.teachers.n,
                    counted(teachers, "teacher")
                ),
        )
        .hint(format!("choose 1 to {teachers}")));
    }
    if let Some(weights) = settings
        .label_weights
        .as_ref()
        .filter(|weights| weights.len() as i64 != classes)
    {
        return Err(Error::usage(
            parameter("label_weights")
                + format!(
                    " has {} for {}",
                    counted(weights.len(), "value"),
                    counted(classes, "class")
                ),
        )
        .hint("give one for each class, in label order"));
    }
    let weights = settings.label_weights.iter().flatten();
    if !weights.sum::<f64>().is_finite() {
        return Err(Error::usage(
            parameter("label_weights") + " adds up to more than a number can hold",
        )
        .hint("only their ratios count: divide them all by the largest"));
    }
    check_others(settings, teachers)
}

/// Warns of teachers whose batches have none of the labels that `label_weights` asks for: each one
/// where it has batches of its own, else all together.
pub(crate) fn warn_of_labels(settings: &InversionSettings, teachers: &[&Teacher]) {
    let (LabelSampling::Weighted, Some(weights), true) = (
        settings.labels,
        &settings.label_weights,
        settings.teachers.mask,
    ) else {
        return;
    };
    let weighs = |class: i64| weights[class as usize] > 0.0;
    let is_without = |teacher: &Teacher| !teacher.seen().into_iter().any(weighs);
    let without: Vec<usize> = (0..teachers.len())
        .filter(|&i| is_without(teachers[i]))
        .collect();
    let by_teacher = settings.teachers.mode == TeacherMode::Cycle;
    if by_teacher && !without.is_empty() || without.len() == teachers.len() {
        tracing::warn!(
            "`label_weights` is 0 for all classes of {}: labels of their batches are uniform over \
             the classes that they have seen (teachers {without:?})",
            counted(without.len(), "teacher")
        );
    }
}

/// Refuses terms of the teachers that a batch is not made from, where there are none.
fn check_others(settings: &InversionSettings, teachers: usize) -> Result<()> {
    let alone = teachers < 2 || settings.teachers.mode != TeacherMode::Cycle;
    for (phase, loss) in [("di", &settings.di.loss), ("adi", &settings.adi.loss)] {
        for (key, scale) in [
            ("entropy_scale", loss.entropy_scale),
            ("rival_scale", loss.rival_scale),
        ] {
            if alone && scale != 0.0 {
                let name = format!("{phase}.loss.{key}");
                return Err(Error::usage(
                    parameter(&name) + format!(" is {scale}, but no batch has other teachers"),
                )
                .note(
                    "expected",
                    assignment("teachers.mode", "cycle") + " and at least two teachers",
                )
                .note(
                    "found",
                    format!("{:?} and {teachers}", settings.teachers.mode).to_lowercase(),
                )
                .hint(Text::from("set ") + assignment(&name, 0)));
            }
        }
    }
    Ok(())
}

/// Returns the architectures of those `teachers` that have no fused passes.
fn without_fused_passes(teachers: &[&Teacher]) -> Vec<ModelKind> {
    let without = teachers
        .iter()
        .filter(|teacher| !Frozen::supports(&teacher.spec));
    without.map(|teacher| teacher.spec.model.kind).collect()
}

/// Tells which teachers are inverted by the plain engine for lack of fused passes, if any.
pub(super) fn tell_engine(engine: EngineKind, teachers: &[&Teacher]) {
    let without = without_fused_passes(teachers);
    let (EngineKind::Auto, Some(reason)) = (engine, without.first()) else {
        return;
    };
    let which = match without.len() == teachers.len() {
        true => String::new(),
        false => format!(" of {} of {} teachers", without.len(), teachers.len()),
    };
    tracing::info!("inversion{which} by the plain engine: {reason} has no fused path");
}

/// Returns `true` when batches are to be made by the fused engine: where it is asked for, or where
/// a teacher has fused passes; it takes the other teachers through autograd.
///
/// # Errors
/// Fails with a usage error when `engine` is [`EngineKind::Fused`] and a teacher is no residual
/// network.
pub(super) fn uses_fused_engine(engine: EngineKind, teachers: &[&Teacher]) -> Result<bool> {
    let without = without_fused_passes(teachers);
    match (engine, without.first()) {
        (EngineKind::Plain, _) => Ok(false),
        (EngineKind::Auto | EngineKind::Fused, None) => Ok(true),
        (EngineKind::Auto, Some(_)) => Ok(without.len() < teachers.len()),
        (EngineKind::Fused, Some(reason)) => Err(Error::usage(
            parameter("engine") + " is fused, but not every teacher has a fused path",
        )
        .note("expected", "residual networks")
        .note("found", reason.to_string())
        .hint(Text::from("set ") + assignment("engine", "auto"))),
    }
}
