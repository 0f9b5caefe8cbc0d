//! `inspect ensembles` measures on test images what teachers can do together: each rule but
//! `weighted_logits` that joins their predictions, at some temperatures, their weight average, and
//! each of them alone.

use super::{Answer, dataset, find};
use crate::config::{Request as ConfigRequest, compose, list, quoted};
use crate::data::Dataset;
use crate::error::Error;
use crate::inversion::{Ensemble, EnsembleKind};
use crate::report::Table;
use crate::run::{StageContext, agreement};
use crate::runtime::{interrupt, threads};
use crate::stage::{self, TeacherSet};
use crate::train::{Evaluation, evaluate};
use crate::words::{counted, percent};
use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Tensor, no_grad};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// Folder of the teachers, `model_teacher0.safetensors` and so on
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Which test images, if others than those of the teachers' runs: `dataset=mnist
    /// dataset.root=FOLDER`; which teachers: `teacher.only=[0,2]`
    #[arg(value_name = "OVERRIDE")]
    overrides: Vec<String>,
    /// Temperatures at which predictions are softened before they are joined
    #[arg(long, value_name = "T", value_delimiter = ',', default_value = "1",
        value_parser = temperature)]
    temperatures: Vec<f64>,
}

/// Reads a temperature.
fn temperature(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a temperature is a number above 0".into()),
    }
}

/// The rules that teachers alone give: the weights of `weighted_logits` are learnt with a student.
const RULES: [EnsembleKind; 5] = [
    EnsembleKind::MeanLogits,
    EnsembleKind::MeanSoftmax,
    EnsembleKind::LabelShare,
    EnsembleKind::LabelGated,
    EnsembleKind::MadeFrom,
];

/// The keys and groups that it reads.
const READS: &[&str] = &[
    "dataset",
    "device",
    "experiment",
    "method",
    "model",
    "precision",
    "protocol",
    "scale",
    "split",
    "student.eval_batch_size",
    "teacher.counts_from",
    "teacher.in_memory",
    "teacher.num_teachers",
    "teacher.only",
    "threads",
];

/// Holds accuracies on the test images, shares 0..1.
#[derive(Serialize)]
struct Accuracies {
    /// Of each teacher.
    teachers: Vec<Option<f64>>,
    /// `None` for teachers of different architectures.
    one_shot_average: Option<f64>,
    /// Training images of each class of each teacher, as its card tells or its weights show.
    label_counts: Vec<Vec<u64>>,
    /// Of each rule at each temperature.
    rules: BTreeMap<String, Vec<Option<f64>>>,
}

impl Request {
    /// Returns the accuracies.
    ///
    /// # Errors
    /// Fails when there are no such teachers, or no test images of what they were trained for.
    pub fn answer(&self) -> Result<Answer> {
        let folder = find::folder(&self.folder)?;
        let there = stage::teacher_numbers(folder);
        let Some(&lowest) = there.first() else {
            bail!(no_teachers(folder));
        };
        let command = format!("inspect ensembles {}", folder.display());
        let place = format!(
            "teacher.save_folder={}",
            quoted(&folder.display().to_string())
        );
        // The dataset's settings may change those of the teachers' runs, which are read below.
        let others = self.overrides.iter();
        let others = others.filter(|typed| !dataset::is_setting(typed));
        let mut composed = compose(&ConfigRequest {
            overrides: others.cloned().chain([place]).collect(),
            ..ConfigRequest::default()
        })?;
        let mut only = composed.config.teacher.only.iter().flatten();
        let first = only.find(|node| there.contains(node));
        let first = stage::weights_path(folder, *first.unwrap_or(&lowest));
        let chosen = dataset::choose(&first, &self.overrides, READS, &command)?;
        composed.config.dataset = chosen.settings.clone();
        let (config, device) = (&composed.config, chosen.device);
        let context = StageContext {
            composed: &composed,
            config,
            device,
            precision: config.precision.on(device),
            threads: threads::set(*config.threads, 1)?,
            ranks: 1,
        };
        let set = stage::load_teachers(&context)?;
        let dataset = chosen.load_named(&command)?;
        let dataset = agreement::fitted(dataset, &chosen.settings, &set.card, &set.paths[0])?;
        if dataset.test.is_empty() {
            bail!(Error::failed(
                "the dataset has no test images to measure on"
            ));
        }
        let batch_size = *config.student.eval_batch_size;
        let accuracies = Accuracies::new(&set, &dataset, &self.temperatures, batch_size)?;
        let images = counted(dataset.test.len(), "test image");
        Answer::new(
            format!(
                "{}\n\n{images} of {}",
                accuracies.text(&self.temperatures),
                dataset.name
            ),
            json!({
                "files": set.paths, "test_images": dataset.test.len(),
                "temperatures": self.temperatures, "accuracies": accuracies,
            }),
        )
    }
}

impl Accuracies {
    /// Measures the teachers of `set` on the test images of `dataset`.
    fn new(
        set: &TeacherSet,
        dataset: &Dataset,
        temperatures: &[f64],
        batch_size: usize,
    ) -> Result<Self> {
        let classes = dataset.classes.len();
        let of = |scores: &Tensor| {
            let predicted = scores.f_argmax(1, false)?;
            let found = Evaluation::new(&dataset.test.labels, &predicted, classes)?;
            Ok::<_, Error>(found.accuracy())
        };
        let logits = logits(set, dataset, batch_size)?;
        let all = set.all();
        let mut rules = BTreeMap::new();
        for rule in RULES {
            let ensemble = Ensemble::new(rule, &all, dataset.test.labels.device());
            let at =
                |&temperature: &f64| of(&ensemble.log_probabilities(&logits, temperature, None));
            let each = temperatures.iter().map(at).collect::<Result<Vec<_>, _>>()?;
            rules.insert(rule.to_string(), each);
        }
        let average = stage::average(set)?.map(|model| {
            let predict = |images: &Tensor| Ok(model.eval(images));
            let normalisation = &dataset.normalisation;
            evaluate(&predict, &dataset.test, normalisation, classes, batch_size)
        });
        Ok(Self {
            teachers: logits.iter().map(of).collect::<Result<_, _>>()?,
            one_shot_average: average.transpose()?.and_then(|found| found.accuracy()),
            label_counts: all
                .iter()
                .map(|teacher| teacher.label_counts.clone())
                .collect(),
            rules,
        })
    }

    /// Returns the tables for people.
    fn text(&self, temperatures: &[f64]) -> String {
        let mut models = Table::new(&["model", "test accuracy"]);
        for (node, accuracy) in self.teachers.iter().enumerate() {
            models.row(vec![format!("teacher {node}"), percent(*accuracy)]);
        }
        let known: Vec<f64> = self.teachers.iter().flatten().copied().collect();
        let mean = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
        let best = known.iter().copied().reduce(f64::max);
        for (name, accuracy) in [
            ("teachers, mean", mean),
            ("teachers, best", best),
            ("one-shot average", self.one_shot_average),
        ] {
            models.row(vec![name.into(), percent(accuracy)]);
        }
        let columns: Vec<String> = temperatures.iter().map(|t| format!("T = {t}")).collect();
        let mut headers = vec!["joint prediction"];
        headers.extend(columns.iter().map(String::as_str));
        let mut rules = Table::new(&headers);
        for rule in RULES {
            let name = match rule.of_unknown() {
                same if same == rule => rule.to_string(),
                other => format!("{rule} (as {other})"),
            };
            let each = self.rules[&rule.to_string()].iter();
            let row = [name]
                .into_iter()
                .chain(each.map(|accuracy| percent(*accuracy)));
            rules.row(row.collect());
        }
        format!("{models}\n\n{rules}")
    }
}

/// Reports a folder without teachers, and names those near it that hold some.
fn no_teachers(folder: &Path) -> Error {
    let near = find::folders_near(folder, |near| !stage::teacher_numbers(near).is_empty());
    let names: Vec<String> = near.iter().map(|near| near.display().to_string()).collect();
    let error = Error::usage(format!("`{}` holds no teachers", folder.display())).note(
        "expected",
        "model_teacher0.safetensors and so on, which `train_teachers` writes",
    );
    match names.as_slice() {
        [] => error.hint("`inspect runs` lists the runs below a folder, with their stages"),
        [one] => error.hint(format!("`inspect ensembles {one}`")),
        [first, ..] => error
            .note("available", list(&names))
            .hint(format!("say which, as `inspect ensembles {first}`")),
    }
}

/// Returns each teacher's logits f32 [M,classes] of the test images.
fn logits(set: &TeacherSet, dataset: &Dataset, batch_size: usize) -> Result<Vec<Tensor>> {
    let of = |teacher: &crate::inversion::Teacher| {
        let loaded = teacher.loaded()?;
        let parts = dataset.test.images.split(batch_size as i64, 0);
        let part = |part: &Tensor| {
            interrupt::check()?;
            Ok(loaded.predict(&dataset.normalisation.apply(part)))
        };
        let parts: Vec<Tensor> = parts.iter().map(part).collect::<Result<_, Error>>()?;
        Ok(Tensor::f_cat(&parts, 0)?)
    };
    no_grad(|| set.teachers.iter().map(of).collect())
}
