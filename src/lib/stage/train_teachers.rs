//! `train_teachers`: every node trains a teacher on its own images. A teacher's file is all that a node uploads.

use super::weights::{self, Card};
use super::{Workplace, open, percent, required, size};
use crate::artifact::{json, manifest};
use crate::config::{Composed, schema::TeacherConfig};
use crate::data::{Dataset, ImageSet};
use crate::error::{During, Error, Result};
use crate::model::{Model, ModelSpec, StateDict};
use crate::partition::{Part, Split};
use crate::report::Table;
use crate::runtime::seed::Seeds;
use crate::runtime::{Progress, logging};
use crate::train::{CrossEntropy, EpochReport, FitSettings, Observer, Selection, Shuffled, evaluate, fit};
use rand::seq::SliceRandom;
use serde::Serialize;
use std::path::Path;

/// What a teacher depends on: not on how many others there are.
const DEPENDS: [&str; 12] = [
    "seed",
    "dataset",
    "model",
    "split",
    "teacher.shared_initialisation",
    "teacher.epochs",
    "teacher.batch_size",
    "teacher.optimizer",
    "teacher.schedule",
    "teacher.augment",
    "teacher.selection",
    "teacher.validation_share",
];

/// A teacher's `metrics_teacher{i}.json`.
#[derive(Debug, Serialize)]
struct Metrics {
    teacher: usize,
    label_counts: Vec<u64>,
    train_images: usize,
    test_images: usize,
    parameters: u64,
    upload_bytes: u64,
    /// The epoch whose weights were saved, and why.
    saved_epoch: usize,
    selection: Selection,
    /// Accuracy on the whole test set after the last epoch, of the best epoch, and of the weights that were saved.
    final_test_accuracy: Option<f64>,
    best_test_accuracy: Option<f64>,
    saved_test_accuracy: Option<f64>,
    epochs: Vec<Epoch>,
}

#[derive(Clone, Debug, Serialize)]
struct Epoch {
    #[serde(flatten)]
    fit: EpochReport,
    /// On the whole test set.
    test_accuracy: Option<f64>,
    /// On the node's own test part.
    own_test_accuracy: Option<f64>,
    /// On the images held out of the node's training part.
    validation_accuracy: Option<f64>,
}

/// Runs the stage.
///
/// # Errors
/// A split of another dataset, an unknown teacher in `teacher.only`, a diverging training, a place that cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let place = open(composed)?;
    let folder = required(
        &place.config.teacher.save_folder,
        "teacher.save_folder",
        "outputs/teachers",
    )?;
    let _log = logging::to_file(&folder.join("train_teachers.log"))?;
    let dataset = place.dataset()?;
    let split = place.split(&dataset)?;
    let mut table = Table::new(&[
        "teacher",
        "images",
        "own test",
        "whole test",
        "best on test",
        "upload",
        "weights",
    ]);
    let mut trained = false;
    for node in chosen(&place.config.teacher, split.nodes.len())? {
        if let Some(metrics) = teacher(&place, &dataset, &split, node, folder)? {
            trained = true;
            let own = metrics
                .epochs
                .iter()
                .find(|epoch| epoch.fit.epoch == metrics.saved_epoch)
                .and_then(|e| e.own_test_accuracy);
            table.row(vec![
                node.to_string(),
                metrics.train_images.to_string(),
                percent(own),
                percent(metrics.saved_test_accuracy),
                percent(metrics.best_test_accuracy),
                size(metrics.upload_bytes),
                weights_path(folder, node).display().to_string(),
            ]);
        }
    }
    if trained {
        println!("{table}");
    }
    Ok(())
}

/// Where teacher `node`'s weights are.
pub(super) fn weights_path(folder: &Path, node: usize) -> std::path::PathBuf {
    folder.join(format!("model_teacher{node}.safetensors"))
}

/// How many of a split's nodes train teachers.
pub(super) fn teacher_count(settings: &TeacherConfig, nodes: usize) -> Result<usize> {
    match settings.num_teachers {
        None => Ok(nodes),
        Some(count) if (1..=nodes).contains(&count) => Ok(count),
        Some(count) => Err(Error::usage(format!(
            "`teacher.num_teachers` is {count}, but the split has {nodes} nodes"
        ))
        .hint(format!("choose 1 to {nodes}"))),
    }
}

fn chosen(settings: &TeacherConfig, nodes: usize) -> Result<Vec<usize>> {
    let count = teacher_count(settings, nodes)?;
    let Some(only) = &settings.only else {
        return Ok((0..count).collect());
    };
    if let Some(wrong) = only.iter().find(|&&node| node >= count) {
        return Err(Error::usage(format!(
            "`teacher.only` names teacher {wrong}, but the teachers are 0 to {}",
            count - 1
        )));
    }
    Ok(only.clone())
}

/// Trains one teacher; `None` when it was there already and is kept.
fn teacher(place: &Workplace, dataset: &Dataset, split: &Split, node: usize, folder: &Path) -> Result<Option<Metrics>> {
    let manifest_path = folder.join(format!("manifest_teacher{node}.json"));
    let path = weights_path(folder, node);
    if place.admit(&manifest_path, &path, &DEPENDS)? == manifest::Admission::Done {
        tracing::info!("teacher {node} is trained already: {}", path.display());
        return Ok(None);
    }
    let metrics = place.carry_out("train_teachers", &manifest_path, |run| {
        train(place, dataset, &split.nodes[node], node, folder, run).during(|| format!("training teacher {node}"))
    })?;
    Ok(Some(metrics))
}

fn train(
    place: &Workplace,
    dataset: &Dataset,
    part: &Part,
    node: usize,
    folder: &Path,
    run: &mut manifest::Run,
) -> Result<Metrics> {
    let (config, settings) = (place.config, &place.config.teacher);
    run.fact("dataset_fingerprint", &dataset.fingerprint)?;
    run.fact("node", node)?;
    if let Some(split) = &config.split.save_path {
        run.input("split", split)?;
    }
    let seeds = Seeds::new(config.seed);
    let (train, validation) = hold_out(settings, part, &seeds, node)?;
    let train = dataset.train.select(&train)?;
    let validation = validation.map(|indices| dataset.train.select(&indices)).transpose()?;
    let own_test = dataset.test.select(&part.test)?;
    let spec = ModelSpec::new(
        &config.model,
        dataset.channels(),
        dataset.size(),
        dataset.classes.len() as i64,
    )?;
    let start = if settings.shared_initialisation { 0 } else { node as u64 };
    let mut model = Model::new(&spec, place.device, &mut seeds.stream("teacher/initialisation", start))?;
    let mut source = Shuffled::new(
        &train,
        &dataset.normalisation,
        settings.augment.clone(),
        settings.batch_size,
        seeds,
        format!("teacher/{node}/batches"),
    );
    let progress = Progress::new(&format!("teacher {node}"), (settings.epochs * source.steps()) as u64);
    let mut watcher = Watcher {
        dataset,
        settings,
        own_test,
        validation,
        node,
        epochs: Vec::new(),
        best: Kept::default(),
        progress,
    };
    let fitting = FitSettings {
        epochs: settings.epochs,
        optimizer: settings.optimizer.clone(),
        schedule: settings.schedule.clone(),
    };
    fit(
        &mut model,
        &mut source,
        &CrossEntropy::default(),
        &fitting,
        &mut watcher,
    )?;
    let card = Card {
        model: spec,
        dataset: dataset.name.clone(),
        dataset_fingerprint: dataset.fingerprint.clone(),
        classes: dataset.classes.clone(),
        normalisation: dataset.normalisation.clone(),
        label_counts: train.counts(dataset.classes.len()),
    };
    let path = weights_path(folder, node);
    weights::save(&path, &watcher.best.state(&model), &card)?;
    run.output("weights", &path)?;
    let metrics = watcher.metrics(&model, card.label_counts, train.len(), fs_err::metadata(&path)?.len());
    let metrics_path = folder.join(format!("metrics_teacher{node}.json"));
    json::write(&metrics_path, &metrics)?;
    run.output("metrics", &metrics_path)?;
    Ok(metrics)
}

/// The node's training indices, and those held out for `selection: best_validation`.
fn hold_out(
    settings: &TeacherConfig,
    part: &Part,
    seeds: &Seeds,
    node: usize,
) -> Result<(Vec<usize>, Option<Vec<usize>>)> {
    let few = |count| {
        Error::failed(format!(
            "node {node} has {count} training images; batch norm needs at least 2"
        ))
        .hint("split the data among fewer nodes (`split.num_nodes`)")
    };
    if settings.selection != Selection::BestValidation {
        return match part.train.len() {
            count @ (0 | 1) => Err(few(count)),
            _ => Ok((part.train.clone(), None)),
        };
    }
    let mut order = part.train.clone();
    order.shuffle(&mut seeds.stream("teacher/validation", node as u64));
    let held = ((order.len() as f64 * settings.validation_share).round() as usize).max(1);
    if order.len() < held + 2 {
        return Err(few(order.len().saturating_sub(held)));
    }
    let mut train = order.split_off(held);
    train.sort_unstable();
    Ok((train, Some(order)))
}

/// The weights that will be saved, as training goes on.
#[derive(Default)]
pub(super) struct Kept {
    epoch: usize,
    accuracy: f64,
    state: Option<StateDict>,
}

impl Kept {
    /// Looks at an epoch's weights under `selection`, given the accuracy that selects.
    pub(super) fn offer(&mut self, selection: Selection, epoch: usize, accuracy: Option<f64>, model: &Model) {
        let accuracy = accuracy.unwrap_or(0.0);
        match selection {
            Selection::Last => self.epoch = epoch,
            _ if self.state.is_none() || accuracy > self.accuracy => {
                *self = Self {
                    epoch,
                    accuracy,
                    state: Some(model.state().deep_clone()),
                }
            }
            _ => {}
        }
    }

    /// The state that `selection` chose; the model's present one when that is the last.
    pub(super) fn state(&self, model: &Model) -> StateDict {
        self.state.as_ref().unwrap_or(&model.state()).deep_clone()
    }

    /// The epoch it is of.
    pub(super) fn epoch(&self) -> usize {
        self.epoch
    }
}

/// Evaluates after each epoch.
struct Watcher<'a> {
    dataset: &'a Dataset,
    settings: &'a TeacherConfig,
    own_test: ImageSet,
    validation: Option<ImageSet>,
    node: usize,
    epochs: Vec<Epoch>,
    best: Kept,
    progress: Progress,
}

impl Watcher<'_> {
    fn metrics(self, model: &Model, label_counts: Vec<u64>, train_images: usize, upload_bytes: u64) -> Metrics {
        let of = |epoch: usize| self.epochs.get(epoch).and_then(|epoch| epoch.test_accuracy);
        let best = self
            .epochs
            .iter()
            .filter_map(|epoch| epoch.test_accuracy)
            .fold(None, |best: Option<f64>, accuracy| {
                Some(best.map_or(accuracy, |best| best.max(accuracy)))
            });
        Metrics {
            teacher: self.node,
            label_counts,
            train_images,
            test_images: self.own_test.len(),
            parameters: model.parameter_count(),
            upload_bytes,
            saved_epoch: self.best.epoch(),
            selection: self.settings.selection,
            final_test_accuracy: of(self.epochs.len().saturating_sub(1)),
            best_test_accuracy: best,
            saved_test_accuracy: of(self.best.epoch()),
            epochs: self.epochs,
        }
    }
}

impl Observer for Watcher<'_> {
    fn step(&mut self) {
        self.progress.step();
    }

    fn epoch(&mut self, model: &Model, report: &EpochReport) -> Result<()> {
        let accuracy = |set: &ImageSet| {
            let classes = self.dataset.classes.len();
            let predict = |images: &tch::Tensor| model.eval(images);
            Ok::<_, Error>(
                evaluate(
                    &predict,
                    set,
                    &self.dataset.normalisation,
                    classes,
                    self.settings.eval_batch_size,
                )?
                .accuracy(),
            )
        };
        let epoch = Epoch {
            fit: *report,
            test_accuracy: accuracy(&self.dataset.test)?,
            own_test_accuracy: accuracy(&self.own_test)?,
            validation_accuracy: self.validation.as_ref().map(accuracy).transpose()?.flatten(),
        };
        let selecting = match self.settings.selection {
            Selection::BestValidation => epoch.validation_accuracy,
            _ => epoch.test_accuracy,
        };
        self.best.offer(self.settings.selection, report.epoch, selecting, model);
        self.progress.message(format!(
            "loss {:.3}, test {}",
            report.train_loss,
            percent(epoch.test_accuracy)
        ));
        self.epochs.push(epoch);
        Ok(())
    }
}
