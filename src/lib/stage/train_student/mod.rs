//! `train_student`: the server trains one student on synthetic batches, adding fresh ones as it learns, and compares it with what the
//! teachers could do without it.

mod inputs;
mod outputs;

use super::kept::Kept;
use super::teachers::{self, TeacherSet};
use super::{Workplace, open, percent, required};
use crate::artifact::manifest;
use crate::config::schema::{Objective as ObjectiveKind, StudentConfig};
use crate::config::{Composed, Config};
use crate::data::{Dataset, ImageSet};
use crate::distill::{AdaptiveSource, Distillation, GrowingSet, SourceSettings};
use crate::error::{During, Error, Result};
use crate::inversion::{Ensemble, Inverter};
use crate::model::{Model, ModelSpec};
use crate::runtime::seed::Seeds;
use crate::runtime::{Progress, logging};
use crate::train::{CrossEntropy, EpochReport, Evaluation, FitSettings, Objective, Observer, evaluate, fit};
use serde::Serialize;
use std::path::Path;
use tch::{Kind, Tensor};

/// What a student depends on: everything.
pub(super) const DEPENDS: [&str; 8] = [
    "seed", "dataset", "model", "split", "teacher", "deep_inv", "initial", "student",
];

/// One epoch in `metrics.json`.
#[derive(Clone, Debug, Serialize)]
struct Epoch {
    #[serde(flatten)]
    fit: EpochReport,
    test_accuracy: Option<f64>,
    per_class_accuracy: Vec<Option<f64>>,
}

/// Runs the stage.
///
/// # Errors
/// Teachers, initial batches, split and dataset that do not belong together; a diverging training; a place that cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let place = open(composed)?;
    let folder = required(
        &place.config.student.save_folder,
        "student.save_folder",
        "outputs/student",
    )?;
    let manifest_path = folder.join("manifest.json");
    if place.admit(
        "train_student",
        &manifest_path,
        &folder.join("student.safetensors"),
        &DEPENDS,
    )? == manifest::Admission::Done
    {
        tracing::info!("the student is trained already: {}", folder.display());
        return Ok(());
    }
    let _log = logging::to_file(&folder.join("train_student.log"))?;
    place.carry_out("train_student", &manifest_path, |run| train(&place, folder, run))
}

fn train(place: &Workplace, folder: &Path, run: &mut manifest::Run) -> Result<()> {
    let (config, settings) = (place.config, &place.config.student);
    let set = teachers::load(place)?;
    set.record(run)?;
    let dataset = place.dataset()?;
    if dataset.fingerprint != set.card.dataset_fingerprint {
        return Err(Error::failed("the teachers were trained on another dataset")
            .note(
                "expected",
                format!("{} with fingerprint {}", dataset.name, dataset.fingerprint),
            )
            .note(
                "found",
                format!("{} with fingerprint {}", set.card.dataset, set.card.dataset_fingerprint),
            )
            .hint("use the `dataset` overrides the teachers were trained with"));
    }
    run.fact("dataset_fingerprint", &dataset.fingerprint)?;
    let own = inputs::own_images(place, &dataset, &set, run)?;
    let (images, labels) = inputs::initial(place, &set, run)?;
    let fresh = settings.new_batches_per_epoch * settings.epochs;
    let capacity = labels.size()[0] as usize + fresh * config.deep_inv.batch_size;
    let growing = GrowingSet::new(
        &images,
        &labels,
        capacity,
        own.as_ref(),
        &dataset.normalisation,
        place.device,
    );
    let mut model = student(place, &set)?;
    let seeds = Seeds::new(settings.seed);
    let inverter = Inverter::new(set.all(), &config.deep_inv, Seeds::new(config.seed))?;
    let supply = source_settings(config, &dataset);
    let images = |epoch: usize| growing.len() + epoch * settings.new_batches_per_epoch * config.deep_inv.batch_size;
    let training: usize = (0..settings.epochs).map(|epoch| supply.steps(images(epoch))).sum();
    let steps = training + fresh * inverter.steps(settings.adaptive);
    let progress = Progress::new("training the student", steps as u64);
    let tick = || progress.step();
    let ensemble = || Ensemble::new(config.deep_inv.ensemble, &set.all(), place.device);
    let made = config
        .initial
        .num_batches
        .max(labels.size()[0] as usize / config.deep_inv.batch_size);
    let mut source = AdaptiveSource::new(growing, inverter, ensemble(), supply, seeds, made, &tick);
    let mut watcher = Watcher {
        dataset: &dataset,
        settings,
        epochs: Vec::new(),
        best: Kept::default(),
        progress: &progress,
    };
    let objective = objective(config, &set, place.device, dataset.classes.len())?;
    let fitting = FitSettings {
        epochs: settings.epochs,
        optimizer: settings.optimizer.clone(),
        schedule: settings.schedule.clone(),
    };
    fit(&mut model, &mut source, &*objective, &fitting, &mut watcher).during(|| "training the student")?;
    let finished = outputs::Finished {
        set: &set,
        dataset: &dataset,
        folder,
        epochs: watcher.epochs,
        kept: watcher.best,
        fresh: &source.fresh,
        real: own.as_ref().map_or(0, ImageSet::len),
        synthetic: source.set.synthetic(),
    };
    progress.finish();
    finished.save(place, &mut model, run)
}

fn student(place: &Workplace, set: &TeacherSet) -> Result<Model> {
    let teacher = &set.card.model;
    let settings = place.config.student.model.as_ref().unwrap_or(&teacher.model);
    let spec = ModelSpec::new(settings, teacher.channels, teacher.size, teacher.classes)?;
    Model::new(
        &spec,
        place.device,
        &mut Seeds::new(place.config.student.seed).stream("student/initialisation", 0),
    )
}

fn source_settings(config: &Config, dataset: &Dataset) -> SourceSettings {
    let constants = dataset.normalisation.mean.iter().zip(&dataset.normalisation.std);
    SourceSettings {
        batch_size: config.student.batch_size,
        new_batches_per_epoch: config.student.new_batches_per_epoch,
        epoch_images: config.student.epoch_images,
        adaptive: config.student.adaptive,
        augment: config.student.augment.clone(),
        augment_fresh: config.student.augment_fresh,
        black: constants.map(|(mean, std)| -mean / std).collect(),
    }
}

fn objective<'a>(
    config: &Config,
    set: &'a TeacherSet,
    device: tch::Device,
    classes: usize,
) -> Result<Box<dyn Objective + 'a>> {
    let settings = &config.student;
    if let Some(weights) = settings
        .class_weights
        .as_ref()
        .filter(|weights| weights.len() != classes)
    {
        return Err(Error::usage(format!(
            "`student.class_weights` has {} values for {classes} classes",
            weights.len()
        )));
    }
    let weights = settings.class_weights.as_ref();
    let class_weights = weights.map(|weights| Tensor::from_slice(weights).to_kind(Kind::Float).to_device(device));
    Ok(match settings.objective {
        ObjectiveKind::CrossEntropy => Box::new(CrossEntropy { class_weights }),
        ObjectiveKind::Distill => Box::new(Distillation {
            teachers: set.all(),
            ensemble: Ensemble::new(
                settings.distill.ensemble.unwrap_or(config.deep_inv.ensemble),
                &set.all(),
                device,
            ),
            temperature: settings.distill.temperature,
            class_weights,
        }),
    })
}

/// Evaluates after each epoch.
struct Watcher<'a> {
    dataset: &'a Dataset,
    settings: &'a StudentConfig,
    epochs: Vec<Epoch>,
    best: Kept,
    progress: &'a Progress,
}

impl Observer for Watcher<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<()> {
        let evaluation = test(model, self.dataset, self.settings.eval_batch_size)?;
        let accuracy = evaluation.accuracy();
        self.best.offer(self.settings.selection, report.epoch, accuracy, model);
        self.progress.message(format!(
            "epoch {}, loss {:.3}, test {}",
            report.epoch + 1,
            report.train_loss,
            percent(accuracy)
        ));
        tracing::debug!(
            "epoch {}: loss {:.4}, test {}",
            report.epoch,
            report.train_loss,
            percent(accuracy)
        );
        self.epochs.push(Epoch {
            fit: *report,
            test_accuracy: accuracy,
            per_class_accuracy: evaluation.per_class(),
        });
        Ok(())
    }
}

fn test(model: &Model, dataset: &Dataset, batch_size: usize) -> Result<Evaluation> {
    evaluate(
        &|images| Ok(model.eval(images)),
        &dataset.test,
        &dataset.normalisation,
        dataset.classes.len(),
        batch_size,
    )
}
