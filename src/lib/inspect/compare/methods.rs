//! Lists the methods that a run stands for: accuracies, rounds, and the bytes that were really
//! sent.

use super::super::run::{Comparison, Metrics, Run, teachers};
use super::super::settings;
use crate::inversion::EnsembleKind;
use crate::run::manifest::{Manifest, made_as};
use serde::Serialize;
use std::path::PathBuf;

/// Stages whose runs are compared.
pub const COMPARABLE: [&str; 4] = ["train_student", "fed_avg", "fed_md", "distributed_sgd"];
pub const FED_MD: &str = "FedMD";

/// Holds a method and its results in one run. Accuracies are shares, 0..1.
#[derive(Clone, Debug, Serialize)]
pub struct Method {
    pub method: String,
    /// The run as it is listed, and its manifest.
    pub run: String,
    pub manifest: PathBuf,
    /// Fingerprint, and SHA-256 of the split's file; `None` where the run did not record or read
    /// one.
    pub dataset: Option<String>,
    pub split: Option<String>,
    /// Whether it draws each batch from the images of all nodes: distributed SGD.
    #[serde(skip)]
    pub unsplit: bool,
    /// Whether it is a model that the run trained, and not one that its teachers give.
    #[serde(skip)]
    pub trained: bool,
    /// Whether its teachers alone give it: weights that a student's run learned make its ensemble
    /// the run's own.
    #[serde(skip)]
    pub shared: bool,
    /// SHA-256 of the teachers' files of one-shot methods.
    #[serde(skip)]
    pub teachers: Vec<String>,
    pub final_test_accuracy: Option<f64>,
    /// None where there was one measurement.
    pub best_test_accuracy: Option<f64>,
    /// Exchanges between nodes and server; steps of distributed SGD.
    pub rounds: Option<usize>,
    /// Nodes that take part in a round, at most.
    pub nodes: Option<usize>,
    /// Over all nodes and rounds.
    pub upload_bytes: u64,
    pub download_bytes: u64,
    pub points: Vec<Point>,
}

/// Holds an accuracy that was measured, and the bytes that had been sent by then.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    pub round: usize,
    /// Uploads and downloads of all nodes, up to and with this round.
    pub bytes: u64,
    pub test_accuracy: f64,
}

impl Method {
    /// Returns true for a student that the run trained from uploads.
    pub fn is_student(&self) -> bool {
        self.trained && !self.teachers.is_empty()
    }
}

/// Reports whether the run is of a stage that trains a model for all nodes.
pub fn is_comparable(run: &Run) -> bool {
    COMPARABLE.contains(&run.manifest.stage.as_str())
}

/// Appends the methods that a run stands for. Methods that several students share, because they
/// have the same teachers, are listed once.
pub fn add(methods: &mut Vec<Method>, run: &Run, metrics: &Metrics) {
    for method in of(run, metrics) {
        let known = |other: &Method| {
            !method.trained
                && (&other.method, &other.teachers, other.final_test_accuracy)
                    == (&method.method, &method.teachers, method.final_test_accuracy)
        };
        if !methods.iter().any(known) {
            methods.push(method);
        }
    }
}

/// Returns the methods that a run stands for: its own, and those that need no student.
pub fn of(run: &Run, metrics: &Metrics) -> Vec<Method> {
    let blank = blank(run);
    match (run.manifest.stage.as_str(), &metrics.comparison) {
        ("train_student", Some(comparison)) => {
            let learns = run.setting("student.teacher_weights.step").as_f64() > Some(0.0);
            one_shot(blank, metrics, comparison, learns)
        }
        ("train_student", None) => Vec::new(),
        ("distributed_sgd", _) => vec![by_steps(blank, metrics)],
        _ => vec![by_rounds(blank, metrics)],
    }
}

/// Returns a method with the run's name, dataset and split; all else is to be filled in.
fn blank(run: &Run) -> Method {
    Method {
        method: name(run),
        run: run.name.clone(),
        manifest: run.path.clone(),
        dataset: run.manifest.fingerprint().map(str::to_owned),
        split: split(run),
        unsplit: run.manifest.stage == "distributed_sgd",
        trained: true,
        shared: false,
        teachers: teachers(&run.manifest)
            .map(|input| input.sha256.clone())
            .collect(),
        final_test_accuracy: None,
        best_test_accuracy: None,
        rounds: None,
        nodes: None,
        upload_bytes: 0,
        download_bytes: 0,
        points: Vec::new(),
    }
}

/// Returns the hash of the split that the run read, or else that its first teacher was trained on.
fn split(run: &Run) -> Option<String> {
    let of = |manifest: &Manifest| Some(manifest.input("split")?.sha256.clone());
    if let Some(own) = of(&run.manifest) {
        return Some(own);
    }
    let record = teachers(&run.manifest).next()?;
    let (_, of_teacher) = made_as(&record.current_path(&run.path), &record.sha256)?;
    of(&of_teacher)
}

/// Returns what the literature calls the method under the run's settings.
fn name(run: &Run) -> String {
    let set = |key: &str| run.setting(key).as_f64().is_some_and(|value| value > 0.0);
    match run.manifest.stage.as_str() {
        "train_student" => match settings::name(run) {
            Some(name) => format!("student, {name}"),
            None => "one-shot student".into(),
        },
        "fed_md" => FED_MD.into(),
        "distributed_sgd" => {
            let method = run
                .setting("distributed_sgd.method")
                .as_str()
                .unwrap_or_default();
            format!("SGD, {}", method.replace('_', " "))
        }
        _ => {
            let is_adam = run.setting("fed_avg.server.kind") == "adam";
            let base = match (is_adam, set("fed_avg.server.momentum")) {
                (true, _) => "FedAdam",
                (false, true) => "FedAvgM",
                (false, false) if set("fed_avg.proximal") => return "FedProx".into(),
                (false, false) => return "FedAvg".into(),
            };
            match set("fed_avg.proximal") {
                true => format!("{base} with a proximal term"),
                false => base.into(),
            }
        }
    }
}

/// Returns the student, and the methods that need the same uploads but no student. `learns` says
/// whether the run learned weights of the teachers.
fn one_shot(
    blank: Method,
    metrics: &Metrics,
    comparison: &Comparison,
    learns: bool,
) -> Vec<Method> {
    let bytes = comparison.upload_bytes.iter().sum();
    let method = |last: Option<f64>| Method {
        final_test_accuracy: last,
        rounds: Some(1),
        nodes: Some(comparison.upload_bytes.len()),
        upload_bytes: bytes,
        points: point(1, bytes, last).into_iter().collect(),
        ..blank.clone()
    };
    let of_teachers = |name: String, accuracy: Option<f64>| Method {
        method: name,
        trained: false,
        shared: true,
        ..method(accuracy)
    };
    let student = metrics.final_test_accuracy.or(comparison.student);
    let mut all = vec![Method {
        best_test_accuracy: metrics.best_test_accuracy,
        ..method(student)
    }];
    // Mixed architectures have no average.
    if comparison.one_shot_average.is_some() {
        let average = "one-shot average".into();
        all.push(of_teachers(average, comparison.one_shot_average));
    }
    let rule = comparison.ensemble_rule.map(|rule| format!(" ({rule})"));
    let ensemble = format!("teachers' ensemble{}", rule.unwrap_or_default());
    all.push(Method {
        shared: !learns || comparison.ensemble_rule != Some(EnsembleKind::WeightedLogits),
        ..of_teachers(ensemble, comparison.ensemble)
    });
    all
}

fn by_rounds(blank: Method, metrics: &Metrics) -> Method {
    let (mut sent, mut points) = (0, Vec::new());
    for round in &metrics.rounds {
        sent += round.upload_bytes + round.download_bytes;
        points.extend(point(round.round, sent, round.test_accuracy));
    }
    let (upload_bytes, download_bytes) = metrics.sent().unwrap_or_default();
    Method {
        final_test_accuracy: metrics.final_test_accuracy,
        best_test_accuracy: metrics.best_test_accuracy,
        // Some methods measure a round 0, before anything was sent.
        rounds: metrics.rounds.iter().map(|round| round.round).max(),
        nodes: metrics.rounds.iter().map(|round| round.nodes.len()).max(),
        upload_bytes,
        download_bytes,
        points,
        ..blank
    }
}

fn by_steps(blank: Method, metrics: &Metrics) -> Method {
    let (up, down) = metrics.sent().unwrap_or_default();
    let steps = metrics.steps.unwrap_or(0);
    Method {
        final_test_accuracy: metrics.final_test_accuracy,
        rounds: metrics.steps,
        nodes: metrics.ranks,
        upload_bytes: up,
        download_bytes: down,
        points: point(steps, up + down, metrics.final_test_accuracy)
            .into_iter()
            .collect(),
        ..blank
    }
}

fn point(round: usize, bytes: u64, accuracy: Option<f64>) -> Option<Point> {
    accuracy.map(|test_accuracy| Point {
        round,
        bytes,
        test_accuracy,
    })
}
