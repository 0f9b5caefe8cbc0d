//! What the baselines' tests share: reading a run's folder, and stopping a run.

use crate::common::signals;
use crate::common::stop::{caught, stop};
use crate::common::{Place, TINY};
use serde_json::Value;
use std::process::{Command, Stdio};

pub fn with<'a>(base: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    base.iter().chain(more).copied().collect()
}

pub fn json(place: &Place, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path(file)).unwrap()).unwrap()
}

/// Of `metrics.jsonl`, without the part of a line that a killed process leaves at the end.
pub fn lines(place: &Place) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path("fed/metrics.jsonl")).unwrap();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Training images of all classes, as a weights file's metadata have them.
pub fn images(metadata: &std::collections::BTreeMap<String, String>) -> u64 {
    let card: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
    let counts = card["label_counts"].as_array().unwrap();
    counts.iter().map(|count| count.as_u64().unwrap()).sum()
}

/// Bytes up and down in a round's line: those of its nodes' traffic, each of which `look` sees.
pub fn bytes(round: &Value, look: &dyn Fn(&Value)) -> (u64, u64) {
    let mut sum = (0, 0);
    let nodes = round["nodes"].as_array().unwrap();
    for part in nodes
        .iter()
        .flat_map(|node| node["traffic"].as_array().unwrap())
    {
        look(part);
        match part["direction"].as_str().unwrap() {
            "upload" => sum.0 += part["bytes"].as_u64().unwrap(),
            _ => sum.1 += part["bytes"].as_u64().unwrap(),
        }
    }
    let said = (&round["upload_bytes"], &round["download_bytes"]);
    assert_eq!(said, (&Value::from(sum.0), &Value::from(sum.1)));
    sum
}

pub fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}

/// Two runs have the same files.
pub fn same(a: &Place, b: &Place, files: &[&str], case: &str) {
    for file in files {
        let [ours, theirs] = [a, b].map(|place| std::fs::read(place.path(file)).unwrap());
        assert!(ours == theirs, "{file} differs: {case}");
    }
}

/// A signal to a run, as soon as a file of it has so many bytes.
pub struct Stop<'a> {
    pub signal: i32,
    pub file: &'a str,
    pub bytes: u64,
    /// Returns true for what a run leaves that was stopped where it should be.
    pub caught: fn(&Place) -> bool,
}

impl Stop<'_> {
    /// Splits the data, and stops the stage that works on it.
    pub fn stage(&self, stage: &str, options: &[&str]) -> Place {
        let place = caught(|| self.attempt(stage, options));
        let errors = place.fails(stage, options, 2);
        says(&errors, &["resume=true"]);
        place
    }

    fn attempt(&self, stage: &str, options: &[&str]) -> Option<Place> {
        let place = Place::new();
        place.ok("split_data", options);
        let mut child = signals::heard(&mut Command::new(assert_cmd::cargo::cargo_bin(stage)))
            .current_dir(place.path("."))
            .args(TINY)
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let file = place.path(self.file);
        let bytes = || std::fs::metadata(&file).map_or(0, |data| data.len());
        let stopped = stop(&mut child, self.signal, || bytes() >= self.bytes);
        (stopped && (self.caught)(&place)).then_some(place)
    }
}
