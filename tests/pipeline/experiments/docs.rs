//! The commands of `docs/experiments.md`, read as a reader would: a section's own commands count
//! for all of its experiments.

use super::{config, experiment};
use fed_distill::config::Config;

/// A stage and its overrides.
pub type Command = (String, Vec<String>);

pub struct Experiment {
    pub name: String,
    pub commands: Vec<Command>,
}

/// All experiments in the order of the docs.
pub fn experiments() -> Vec<Experiment> {
    // A backslash continues a command on the next line.
    let text = include_str!("../../../docs/experiments.md").replace(" \\\n", " ");
    let (mut section, mut found, mut inside) = (Vec::new(), Vec::<Experiment>::new(), None);
    for line in text.lines() {
        if line.starts_with("## ") {
            (section, inside) = (Vec::new(), None);
        } else if let Some(name) = line.strip_prefix("### ") {
            inside = Some(found.len());
            found.push(Experiment {
                name: name.into(),
                commands: section.clone(),
            });
        } else if let Some(command) = command(line) {
            match inside {
                Some(index) => found[index].commands.push(command),
                None => section.push(command),
            }
        }
    }
    found
}

fn command(line: &str) -> Option<Command> {
    let (stage, overrides) = line.split_once(' ')?;
    let stages = [
        "split_data",
        "train_teachers",
        "generate_initial",
        "train_student",
    ];
    // Kept results are what experiments share; they are no part of what an experiment is.
    let (resume, overrides): (Vec<&str>, Vec<&str>) = overrides
        .split_whitespace()
        .partition(|word| *word == "resume=true");
    let is_command = stages.contains(&stage);
    assert!(!is_command || resume.len() == 1, "{line}");
    is_command.then(|| {
        (
            stage.to_owned(),
            overrides.into_iter().map(str::to_owned).collect(),
        )
    })
}

/// The parts of a config that a stage works by.
fn parts(stage: &str, config: Config) -> Config {
    let mut kept = Config {
        dataset: config.dataset.clone(),
        split: config.split.clone(),
        ..Config::default()
    };
    match stage {
        "split_data" => (),
        "train_teachers" => (kept.model, kept.teacher) = (config.model, config.teacher),
        "generate_initial" => {
            let student = kept.student;
            kept = Config { student, ..config };
        }
        _ => kept = config,
    }
    kept
}

#[test]
fn the_commands_are_the_experiments() {
    let found = experiments();
    assert!(found.len() >= 20, "{}", found.len());
    for Experiment { name, commands } in found {
        let stages: Vec<&str> = commands.iter().map(|(stage, _)| stage.as_str()).collect();
        let all = [
            "split_data",
            "train_teachers",
            "generate_initial",
            "train_student",
        ];
        // One teacher on everything needs no split.
        assert_eq!(stages, all[usize::from(name.starts_with("1_"))..], "{name}");
        for (stage, overrides) in &commands {
            let (typed, chosen) = (config(overrides), experiment(&name));
            assert_eq!(parts(stage, typed), parts(stage, chosen), "{name}: {stage}");
        }
    }
}

#[test]
fn the_table_lists_each_experiment_once() {
    let text = include_str!("../../../docs/experiments.md");
    for Experiment { name, .. } in experiments() {
        let rows = text
            .lines()
            .filter(|line| line.starts_with(&format!("| `{name}` |")));
        assert_eq!(rows.count(), 1, "{name}");
    }
}
