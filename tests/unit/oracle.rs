//! The numbers of DeepInversion against a float64 PyTorch oracle: every case folder under
//! `FED_DISTILL_FIXTURES` (default: the two small cases committed under `tests/data/cases`) is
//! checked through the library's own engine.
//!
//! A case folder holds a teacher and a student network, inputs, and expected values; its
//! `case.json` names the loss scales, the label mask and class weights, Adam's rate and the jitter
//! offsets. Tolerances: logits and loss terms 1e-4 relative, input gradients and optimised inputs
//! and parameters 1e-3 relative in norm.

use crate::common::machine::{checkout, device};
use fed_distill::artifact::tensors;
use fed_distill::inversion::engine::{Draw, Inversion};
use fed_distill::inversion::objective::{Combination, Loss, Terms, observe};
use fed_distill::inversion::{LabelMask, LossScales, PixelAdam, PixelOptimizer, Teacher};
use fed_distill::model::{Masks, Model, ModelKind, ModelSettings, ModelSpec, StateDict};
use fed_distill::train::{Batch, CrossEntropy, Objective, Optimizer, OptimizerSettings};
use serde_json::Value;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

/// Without and with the fused passes.
const ENGINES: [bool; 2] = [false, true];

#[derive(Clone)]
struct Case {
    folder: PathBuf,
    json: Value,
    tensors: std::rc::Rc<StateDict>,
}

impl Case {
    fn all() -> Vec<Self> {
        let default = checkout().join("tests/data/cases");
        let root = std::env::var_os("FED_DISTILL_FIXTURES").map_or(default, PathBuf::from);
        let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
            .unwrap_or_else(|error| panic!("{}: {error}", root.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("case.json").exists())
            .collect();
        folders.sort();
        assert!(!folders.is_empty(), "no cases under {}", root.display());
        folders.into_iter().map(Self::open).collect()
    }

    fn open(folder: PathBuf) -> Self {
        let json =
            serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap();
        let tensors = tensors::read_state(&folder.join("tensors.safetensors"))
            .unwrap()
            .0;
        Self {
            folder,
            json,
            tensors: tensors.into(),
        }
    }

    fn tensor(&self, name: &str) -> Tensor {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no `{name}`"))
            .to_device(device())
    }

    fn number(&self, pointer: &str) -> f64 {
        self.json
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("no {pointer}"))
    }

    fn integers(&self, pointer: &str) -> Option<Vec<i64>> {
        self.json
            .pointer(pointer)?
            .as_array()?
            .iter()
            .map(Value::as_i64)
            .collect()
    }

    fn model(&self, file: &str) -> Model {
        let settings = ModelSettings {
            kind: ModelKind::Resnet18,
            width: Some(self.number("/model/width") as i64),
            blocks: self.integers("/model/blocks"),
        };
        let size = self.tensor("inputs").size()[2];
        let spec = ModelSpec::new(
            &settings,
            self.number("/model/channels") as i64,
            size,
            self.number("/model/num_classes") as i64,
        )
        .unwrap();
        let state = tensors::read_state(&self.folder.join(file)).unwrap().0;
        Model::from_state(&spec, &state, device()).unwrap()
    }

    fn teacher(&self, file: &str) -> Teacher {
        let model = self.model(file);
        let classes = model.spec().classes as usize;
        Teacher::new(model, vec![1; classes]).unwrap()
    }

    fn mask(&self) -> Option<LabelMask> {
        let total = self.number("/model/num_classes") as i64;
        let weights: Option<Vec<f64>> = self
            .json
            .pointer("/loss/weights")
            .and_then(|w| w.as_array()?.iter().map(Value::as_f64).collect());
        let classes = self.integers("/loss/classes");
        if classes.is_none() && weights.is_none() {
            return None;
        }
        let classes = classes.unwrap_or_else(|| (0..total).collect());
        Some(LabelMask::new(
            &classes,
            total,
            weights.as_deref(),
            device(),
        ))
    }

    fn scales(&self) -> LossScales {
        LossScales {
            l2_scale: self.number("/loss/l2_scale"),
            var_scale: self.number("/loss/var_scale"),
            bn_scale: self.number("/loss/bn_scale"),
            comp_scale: self.number("/loss/comp_scale"),
        }
    }

    /// Terms and input gradient by one of the two engines.
    fn loss(&self, fused: bool, teacher: &Teacher, student: Option<&Model>) -> (Terms, Tensor) {
        let (masks, scales) = ([self.mask()], self.scales());
        let inversion = Inversion {
            teachers: &[teacher],
            loss: Loss {
                combination: Combination::Separate(&masks),
                scales: &scales,
            },
            student,
            steps: 1,
            fused,
        };
        inversion
            .differentiate(&self.tensor("inputs"), &self.tensor("targets"), &[0])
            .unwrap()
    }

    /// Fails unless `ours` is within `tolerance` relative of the expected number at `pointer`.
    fn close(&self, ours: &Tensor, pointer: &str, tolerance: f64) {
        let (ours, wanted) = (f64::try_from(ours).unwrap(), self.number(pointer));
        let allowed = tolerance * wanted.abs();
        assert!(
            (ours - wanted).abs() <= allowed,
            "{}{pointer}: {ours} for {wanted}",
            self.folder.display()
        );
    }

    /// Fails unless `ours` is within `tolerance` of the expected tensor, relative in norm.
    fn near(&self, ours: &Tensor, name: &str, tolerance: f64) {
        near(
            ours,
            &self.tensor(name),
            tolerance,
            &format!("{}/{name}", self.folder.display()),
        );
    }
}

fn near(ours: &Tensor, wanted: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(ours.size(), wanted.size(), "{what}");
    let norm = |t: &Tensor| f64::try_from(t.norm()).unwrap();
    let double = |t: &Tensor| t.to_device(Device::Cpu).to_kind(Kind::Double);
    let (ours, wanted) = (double(ours), double(wanted));
    let off = norm(&(ours - &wanted)) / norm(&wanted).max(1e-12);
    assert!(off <= tolerance, "{what}: off by {off:.2e}");
}

#[test]
fn logits_and_batch_norm_distances() {
    for case in Case::all() {
        for file in ["teacher.safetensors", "teacher.pt"] {
            let (logits, distances) = observe(&case.model(file), &case.tensor("inputs"));
            case.near(&logits, "teacher_logits", 1e-4);
            case.near(&Tensor::stack(&distances, 0), "r_feature", 1e-4);
        }
        let student = case.model("student.safetensors");
        case.near(
            &student.eval(&case.tensor("inputs")),
            "student_logits",
            1e-4,
        );
    }
}

#[test]
fn loss_terms_totals_and_input_gradients() {
    for case in Case::all() {
        let (teacher, student) = (
            case.teacher("teacher.safetensors"),
            case.model("student.safetensors"),
        );
        let losses = [("di", None), ("adi", Some(&student))];
        for ((name, student), fused) in losses
            .into_iter()
            .flat_map(|loss| ENGINES.map(|fused| (loss, fused)))
        {
            let (terms, gradient) = case.loss(fused, &teacher, student);
            case.close(&terms.total, &format!("/expected/{name}/loss"), 1e-4);
            case.close(
                &terms.cross_entropy,
                &format!("/expected/{name}/cross_entropy"),
                1e-4,
            );
            case.close(&terms.l2, &format!("/expected/{name}/l2"), 1e-4);
            case.close(
                &terms.total_variation,
                &format!("/expected/{name}/total_variation"),
                1e-4,
            );
            case.close(
                &terms.batch_norm,
                &format!("/expected/{name}/batch_norm"),
                1e-4,
            );
            assert_eq!(terms.jensen_shannon.is_some(), student.is_some());
            if let Some(divergence) = &terms.jensen_shannon {
                case.close(divergence, "/expected/adi/jensen_shannon", 1e-4);
            }
            case.near(&gradient, &format!("{name}_input_grad"), 1e-3);
        }
    }
}

/// Plays back a case's jitter offsets.
struct Recorded {
    offsets: std::vec::IntoIter<(i64, i64)>,
}

impl Draw for Recorded {
    fn teachers(&mut self) -> Vec<usize> {
        vec![0]
    }

    fn jitter(&mut self) -> (i64, i64) {
        self.offsets.next().unwrap()
    }
}

#[test]
fn jittered_adam_steps_and_the_best_batch() {
    for (case, fused) in Case::all()
        .into_iter()
        .flat_map(|case| ENGINES.map(|fused| (case.clone(), fused)))
    {
        let (teacher, student) = (
            case.teacher("teacher.safetensors"),
            case.model("student.safetensors"),
        );
        let offsets: Vec<(i64, i64)> =
            serde_json::from_value(case.json["jitter_offsets"].clone()).unwrap();
        let optimizer = PixelOptimizer {
            lr: case.number("/adam_lr"),
            ..PixelOptimizer::default()
        };
        let (start, masks, scales) = (case.tensor("inputs"), [case.mask()], case.scales());
        let inversion = Inversion {
            teachers: &[&teacher],
            loss: Loss {
                combination: Combination::Separate(&masks),
                scales: &scales,
            },
            student: Some(&student),
            steps: offsets.len(),
            fused,
        };
        let mut adam = PixelAdam::new(&optimizer);
        let mut draw = Recorded {
            offsets: offsets.into_iter(),
        };
        let made = inversion
            .run(
                &start,
                &case.tensor("targets"),
                &mut adam,
                &mut draw,
                &mut (),
            )
            .unwrap();
        let losses = case.json["expected"]["adam_losses"].as_array().unwrap();
        assert_eq!(made.history.len(), losses.len());
        for (ours, wanted) in made.history.iter().zip(losses) {
            let wanted = wanted.as_f64().unwrap();
            assert!(
                (ours.total - wanted).abs() <= 1e-4 * wanted.abs(),
                "{}: {} for {wanted}",
                case.folder.display(),
                ours.total
            );
        }
        case.near(&made.last, "adam_final_inputs", 1e-3);
        case.near(&made.best, "best_inputs", 1e-3);
    }
}

#[test]
fn two_sgd_steps_with_running_statistics() {
    for case in Case::all() {
        let model = case.model("train_before.safetensors");
        let mut optimizer = Optimizer::new(&OptimizerSettings::default(), model.parameters());
        let batch = Batch {
            images: case.tensor("inputs"),
            labels: case.tensor("targets"),
            scores: None,
            real: None,
            teachers: None,
            views: None,
        };
        for step in 0..2 {
            let loss = |logits: &Tensor| CrossEntropy::default().loss(logits, &batch);
            let taken = model.differentiate(&batch.images, Masks::default(), loss);
            let taken = taken.unwrap();
            case.close(&taken.loss, &format!("/expected/train_losses/{step}"), 1e-4);
            optimizer.apply(&taken.gradients, 0.1);
        }
        let after = tensors::read_state(&case.folder.join("train_after.safetensors"))
            .unwrap()
            .0;
        for (name, ours) in model.state().iter() {
            near(
                ours,
                after.get(name).unwrap(),
                1e-3,
                &format!("{}/{name}", case.folder.display()),
            );
        }
        assert_eq!(model.state().len(), after.len());
    }
}
