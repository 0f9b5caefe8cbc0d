//! Forward passes against PyTorch: the numeric cases (float64 oracle), and every architecture
//! filled with known values. `tests/data/cases/README.md` and `tests/data/pytorch/make.py` say how
//! the expected numbers were made.

use crate::common::machine::{checkout, device};
use fed_distill::artifact::tensors;
use fed_distill::model::{
    BatchNorm, Masks, Model, ModelKind, ModelSettings, ModelSpec, Pass, StateDict,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn data(folder: &str) -> PathBuf {
    checkout().join("tests/data").join(folder)
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Folders with a `case.json`.
fn cases() -> Vec<PathBuf> {
    let root =
        std::env::var_os("FED_DISTILL_FIXTURES").map_or_else(|| data("cases"), PathBuf::from);
    let folders = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let folders: Vec<_> = folders
        .filter(|folder| folder.join("case.json").exists())
        .collect();
    assert!(!folders.is_empty());
    folders
}

fn integers(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_i64().unwrap())
        .collect()
}

/// Largest difference over the largest expected magnitude.
pub fn relative(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let double = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double);
    let (found, expected) = (double(found), double(expected));
    ((&found - &expected).abs().max() / expected.abs().max()).double_value(&[])
}

#[test]
fn cases_logits_and_feature_distances() {
    tch::set_num_threads(1);
    for folder in cases() {
        let case = json(&folder.join("case.json"));
        let tensors = tensors::read(&folder.join("tensors.safetensors")).unwrap();
        let inputs = &tensors.get("inputs").unwrap().to_device(device());
        let settings = ModelSettings {
            kind: ModelKind::Resnet18,
            width: case["model"]["width"].as_i64(),
            blocks: Some(integers(&case["model"]["blocks"])),
        };
        let (_, channels, size, _) = inputs.size4().unwrap();
        let spec = ModelSpec::new(
            &settings,
            channels,
            size,
            case["model"]["num_classes"].as_i64().unwrap(),
        )
        .unwrap();
        for (who, logits) in [("teacher", "teacher_logits"), ("student", "student_logits")] {
            let (state, _) =
                tensors::read_state(&folder.join(format!("{who}.safetensors"))).unwrap();
            let model = Model::from_state(&spec, &state, device()).unwrap();
            let error = relative(&model.eval(inputs), tensors.get(logits).unwrap());
            assert!(
                error < 1e-4,
                "{}: {logits} differ by {error}",
                folder.display()
            );
        }
        let (state, _) = tensors::read_state(&folder.join("teacher.pt")).unwrap();
        let (same, _) = tensors::read_state(&folder.join("teacher.safetensors")).unwrap();
        assert_eq!(state.len(), same.len());
        for (name, tensor) in state.iter() {
            assert!(
                tensor.equal(same.get(name).unwrap()),
                "{name} differs between teacher.pt and teacher.safetensors"
            );
        }
        let teacher = Model::from_state(&spec, &state, device()).unwrap();
        let mut distances = Vec::new();
        let mut observe = |layer: &BatchNorm, input: &Tensor| {
            let (var, mean) = input.var_mean_dim([0i64, 2, 3].as_slice(), false, false);
            let distance = (&layer.running_var - var).norm() + (&layer.running_mean - mean).norm();
            distances.push(distance.double_value(&[]));
        };
        let observed = teacher.forward(inputs, &mut Pass::Observe(&mut observe));
        assert!(
            observed.equal(&teacher.eval(inputs)),
            "observing changes nothing"
        );
        assert_eq!(distances.len(), teacher.batch_norms());
        let error = relative(
            &Tensor::from_slice(&distances),
            tensors.get("r_feature").unwrap(),
        );
        assert!(
            error < 1e-4,
            "{}: r_feature differs by {error}",
            folder.display()
        );
    }
}

/// sin(index + 0.7·i), as `make.py` has it.
pub fn wave(index: usize, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| (index as f64 + 0.7 * i as f64).sin() as f32)
        .collect();
    Tensor::from_slice(&values).view(shape)
}

pub fn fill(name: &str, index: usize, shape: &[i64]) -> Tensor {
    let wave = || wave(index, shape).to_kind(Kind::Double);
    if name.ends_with("num_batches_tracked") {
        return Tensor::from(0i64);
    }
    if name.ends_with("running_var") || (shape.len() == 1 && name.ends_with("weight")) {
        return wave() * 0.5 + 1.0;
    }
    if shape.len() == 1 {
        return wave() * 0.1;
    }
    let fan_in: i64 = shape[1..].iter().product();
    wave() / (fan_in as f64 / 4.0).sqrt()
}

fn matrix(value: &Value) -> Tensor {
    let rows: Vec<Tensor> = value.as_array().unwrap().iter().map(vector).collect();
    Tensor::stack(&rows, 0)
}

fn vector(value: &Value) -> Tensor {
    let numbers: Vec<f64> = value
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_f64().unwrap())
        .collect();
    Tensor::from_slice(&numbers)
}

fn spec_of(case: &Value) -> ModelSpec {
    let settings = ModelSettings {
        kind: serde_json::from_value(case["kind"].clone()).unwrap(),
        width: case["width"].as_i64(),
        blocks: case["blocks"].is_array().then(|| integers(&case["blocks"])),
    };
    let number = |key: &str| case[key].as_i64().unwrap();
    ModelSpec::new(
        &settings,
        number("channels"),
        number("size"),
        number("classes"),
    )
    .unwrap()
}

/// Names, order, shapes, parameter counts, logits in both modes, and the running statistics after
/// one training pass.
#[test]
fn every_architecture_as_in_pytorch() {
    tch::set_num_threads(1);
    for case in json(&data("pytorch/networks.json")).as_array().unwrap() {
        let spec = spec_of(case);
        let names: Vec<&str> = case["names"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_str().unwrap())
            .collect();
        let shapes: Vec<Vec<i64>> = case["shapes"]
            .as_array()
            .unwrap()
            .iter()
            .map(integers)
            .collect();
        let tensors = names.iter().zip(&shapes).enumerate();
        let tensors = tensors.map(|(i, (name, shape))| (name.to_string(), fill(name, i, shape)));
        let model = Model::from_state(&spec, &StateDict::new(tensors.collect()), device()).unwrap();
        let state = model.state();
        assert_eq!(
            state.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            names,
            "{spec:?}"
        );
        assert_eq!(
            model.parameter_count(),
            case["parameters"].as_u64().unwrap(),
            "{spec:?}"
        );

        let images = wave(1000, &[3, spec.channels, spec.size, spec.size]).to_device(device());
        let error = relative(&model.eval(&images), &matrix(&case["eval_logits"]));
        assert!(error < 1e-4, "{spec:?}: eval logits differ by {error}");
        let error = relative(
            &model.forward(&images, &mut Pass::Train(Masks::default())),
            &matrix(&case["train_logits"]),
        );
        assert!(error < 1e-3, "{spec:?}: train logits differ by {error}");
        for (name, expected) in case["running_after"].as_object().unwrap() {
            let found = state.get(name).unwrap();
            let expected = if expected.is_array() {
                vector(expected)
            } else {
                Tensor::from(expected.as_f64().unwrap())
            };
            let error = relative(found, &expected);
            assert!(error < 1e-4, "{spec:?}: {name} differs by {error}");
        }
    }
}
