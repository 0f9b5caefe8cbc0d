//! Generators, the teachers' learnt weights and the perturbation of images against PyTorch in
//! float64 (`tests/data/pytorch/generator.py`), and what holds for every batch of a generator.

use crate::common::machine::{checkout, device};
use crate::model::oracle::{fill, relative, wave};
use fed_distill::data::Normalisation;
use fed_distill::distill::{Perturbation, TeacherWeightSettings, TeacherWeights};
use fed_distill::generator::{
    Generator, GeneratorLabels, GeneratorLoss, GeneratorObjective, GeneratorSettings,
    GeneratorSynthesizer, Training,
};
use fed_distill::inversion::objective::Terms;
use fed_distill::inversion::{
    BatchStore, Ensemble, EnsembleKind, MemoryStore, Origin, StoredBatch, Synthesizer,
    SyntheticBatch, Teacher,
};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, StateDict};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{AdamMoments, AugmentSettings, OptimizerKind, OptimizerSettings};
use serde_json::Value;
use tch::{Kind, Tensor, no_grad};

const CLASSES: i64 = 4;
const SIZE: i64 = 8;
const IMAGES: i64 = 6;
const NOISE: i64 = 5;

fn expected() -> Value {
    let path = checkout().join("tests/data/pytorch/generator.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Tensor {
    let values = value.as_array().unwrap().iter();
    let values: Vec<f64> = values.map(|n| n.as_f64().unwrap()).collect();
    Tensor::from_slice(&values)
}

fn labels() -> Tensor {
    Tensor::from_slice(&[0i64, 3, 1, 2, 2, 0]).to_device(device())
}

fn normalisation(channels: usize) -> Normalisation {
    Normalisation {
        mean: vec![0.5; channels],
        std: vec![1.5; channels],
    }
}

fn generator(width: i64, size: i64, channels: i64) -> Generator {
    let normalisation = normalisation(channels as usize);
    let generator =
        Generator::new(NOISE, width, (channels, size), &normalisation, device()).unwrap();
    let tensors = generator.state();
    let filled = tensors.iter().enumerate();
    let filled = filled.map(|(i, (name, t))| (name.to_owned(), fill(name, i, &t.size())));
    generator
        .load_state(&StateDict::new(filled.collect()))
        .unwrap();
    generator
}

/// A ResNet with the weights that the script gives the one of this offset.
fn classifier(offset: usize) -> Model {
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(2),
        blocks: Some(vec![1]),
    };
    let spec = ModelSpec::new(&settings, 1, SIZE, CLASSES).unwrap();
    let outline = Model::outline(&spec).unwrap().into_iter().enumerate();
    let tensor = |(i, (name, shape, _)): (usize, (String, Vec<i64>, Kind))| {
        let filled = fill(&name, offset + i, &shape);
        match name == "linear.weight" {
            true => (name, filled * 0.25),
            false => (name, filled),
        }
    };
    Model::from_state(
        &spec,
        &StateDict::new(outline.map(tensor).collect()),
        device(),
    )
    .unwrap()
}

fn teachers(counts: [[u64; 4]; 2]) -> [Teacher; 2] {
    let teacher = |i: usize| Teacher::new(classifier(100 * (i + 1)), counts[i].to_vec()).unwrap();
    [teacher(0), teacher(1)]
}

const EVEN: [[u64; 4]; 2] = [[1; 4]; 2];

/// The sum 0.3 z₀ + 0.6 z₁ of the script.
fn weighted(teachers: &[&Teacher]) -> Ensemble {
    let weights = Tensor::from_slice(&[0.3f32, 0.6]).to_device(device());
    Ensemble::new(EnsembleKind::WeightedLogits, teachers, device()).with_weights(&weights)
}

fn noise() -> Tensor {
    wave(1000, &[IMAGES, NOISE]).to_device(device())
}

#[test]
fn the_network_is_that_of_pytorch() {
    tch::set_num_threads(1);
    for case in expected()["forward"].as_array().unwrap() {
        let number = |key: &str| case[key].as_i64().unwrap();
        let generator = generator(number("width"), number("size"), number("channels"));
        let state = generator.state();
        let names: Vec<&str> = state.iter().map(|(name, _)| name).collect();
        let shapes: Vec<Vec<i64>> = state.iter().map(|(_, tensor)| tensor.size()).collect();
        assert_eq!(serde_json::json!(names), case["names"]);
        assert_eq!(serde_json::json!(shapes), case["shapes"]);
        let images = generator.forward(&noise());
        let shape = [IMAGES, number("channels"), number("size"), number("size")];
        assert_eq!(images.size(), shape);
        let error = relative(&images.flatten(0, -1), &numbers(&case["images"]));
        assert!(error < 1e-5, "{error}");
    }
}

/// Sizes that 4 does not divide.
#[test]
fn images_of_any_size() {
    for size in 5..9 {
        let images = generator(2, size, 3).forward(&noise());
        assert_eq!(images.size(), [IMAGES, 3, size, size]);
    }
}

#[test]
fn new_weights_are_drawn_as_the_authors_draw_them() {
    let generator = Generator::new(64, 32, (1, 16), &normalisation(1), device()).unwrap();
    let draw = |seed: u64| {
        generator
            .initialise(&mut Seeds::new(seed).stream("test", 0))
            .unwrap();
        generator.state().map(Tensor::copy)
    };
    let (first, other, again) = (draw(1), draw(2), draw(1));
    for (name, tensor) in first.iter().filter(|(name, _)| !name.contains("running")) {
        assert_eq!(Some(tensor), again.get(name), "{name}");
        let deviation = |tensor: &Tensor| tensor.std(false).double_value(&[]);
        if name.ends_with("bias") {
            assert_eq!(tensor.abs().max().double_value(&[]), 0.0, "{name}");
        } else if name.ends_with("weight") {
            assert_ne!(Some(tensor), other.get(name), "{name}");
            // The smallest has 32 values: five standard errors.
            assert!((deviation(tensor) - 0.02).abs() < 0.0125, "{name}");
            let wanted = if tensor.dim() == 1 { 1.0 } else { 0.0 };
            let mean = tensor.mean(Kind::Float).double_value(&[]);
            assert!((mean - wanted).abs() < 0.02, "{name}: {mean}");
        }
    }
}

fn settings(case: &Value) -> GeneratorSettings {
    let moments = AdamMoments {
        betas: [0.5, 0.999],
        eps: 1e-2,
    };
    GeneratorSettings {
        optimizer: OptimizerSettings {
            kind: OptimizerKind::Adam(moments),
            clip_norm: case["clip"].as_f64(),
            ..OptimizerSettings::adam(1e-2)
        },
        loss: serde_json::from_value(case["settings"].clone()).unwrap(),
        ..GeneratorSettings::default()
    }
}

fn check_terms(terms: &Terms, wanted: &Value, loss: &GeneratorLoss, name: &str) {
    let close = |key: &str, found: &Tensor| {
        let (found, wanted) = (found.double_value(&[]), wanted[key].as_f64().unwrap());
        let error = (found - wanted).abs() / wanted.abs().max(1e-3);
        assert!(error < 1e-4, "{name}: {key} is {found} for {wanted}");
    };
    close("total", &terms.total);
    close("cross_entropy", &terms.cross_entropy);
    if loss.batch_norm != 0.0 {
        close("batch_norm", &terms.batch_norm);
    }
    for (key, scale, found) in [
        ("divergence", loss.divergence, &terms.divergence),
        ("activation", loss.activation, &terms.activation),
        ("information", loss.information, &terms.information),
    ] {
        assert_eq!(found.is_some(), scale != 0.0, "{name}: {key}");
        if let Some(found) = found {
            close(key, found);
        }
    }
}

/// The terms of two steps of DENSE, Co-Boosting and DAFL, and weights and noise after them.
#[test]
fn steps_are_those_of_pytorch() {
    tch::set_num_threads(1);
    for case in expected()["steps"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let settings = settings(case);
        let (teachers, student) = (teachers(EVEN), classifier(300));
        let all: Vec<&Teacher> = teachers.iter().collect();
        let ensemble = match name {
            "co_boosting" => weighted(&all),
            _ => Ensemble::new(EnsembleKind::MeanLogits, &all, device()),
        };
        let objective = GeneratorObjective {
            teachers: &all,
            ensemble: &ensemble,
            loss: &settings.loss,
            student: Some(&student),
        };
        let mut training = Training::new(generator(3, SIZE, 1), &settings);
        let learnt = case["learnt"].as_bool().unwrap();
        let noise = noise().set_requires_grad(learnt);
        let mut of_noise = learnt.then(|| training.of_noise(&noise));
        let labels = case["labelled"].as_bool().unwrap().then(labels);
        for wanted in case["terms"].as_array().unwrap() {
            let view = Tensor::shallow_clone;
            let of_noise = of_noise.as_mut();
            let (terms, _) = training
                .step(&noise, labels.as_ref(), &objective, of_noise, view)
                .unwrap();
            check_terms(&terms, wanted, &settings.loss, name);
        }
        let state = training.generator.state();
        for (parameter, wanted) in case["parameters"].as_object().unwrap() {
            let found = state.get(parameter).unwrap().contiguous().flatten(0, -1);
            let error = relative(&found, &numbers(wanted));
            assert!(error < 1e-4, "{name}: {parameter} differs by {error}");
        }
        let error = relative(&noise.detach().flatten(0, -1), &numbers(&case["noise"]));
        assert!(error < 1e-4, "{name}: noise differs by {error}");
    }
}

#[test]
fn learnt_weights_are_those_of_pytorch() {
    let teachers = teachers(EVEN);
    let settings = TeacherWeightSettings {
        step: 0.1,
        decay: 0.9,
    };
    let weights = TeacherWeights::new(teachers.iter().collect(), settings);
    let images = wave(1000, &[IMAGES, 1, SIZE, SIZE]).to_device(device());
    let case = &expected()["weights"];
    let labels = numbers(&case["labels"])
        .to_kind(Kind::Int64)
        .to_device(device());
    for (epoch, wanted) in (1..).zip(case["values"].as_array().unwrap()) {
        weights.step(&images, &labels, epoch).unwrap();
        let error = relative(&weights.values, &numbers(wanted));
        assert!(error < 1e-6, "epoch {epoch}: {error}");
    }
}

#[test]
fn perturbations_go_where_pytorch_says() {
    let teachers = teachers(EVEN);
    let all: Vec<&Teacher> = teachers.iter().collect();
    let perturbation = Perturbation {
        ensemble: weighted(&all),
        teachers: all,
        size: 0.25,
    };
    let images = wave(1000, &[IMAGES, 1, SIZE, SIZE]).to_device(device());
    let labels = labels();
    let origin = Origin {
        labels: &labels,
        teachers: None,
    };
    let directions = wave(50, &[IMAGES, CLASSES]).to_device(device());
    let moved = perturbation.apply(&images, origin, &directions).unwrap();
    let gradient = numbers(&expected()["perturbation"]);
    let moved = Vec::<f64>::try_from((moved - &images).flatten(0, -1).to_kind(Kind::Double));
    let gradient = Vec::<f64>::try_from(&gradient).unwrap();
    let largest = gradient.iter().fold(0f64, |most, g| most.max(g.abs()));
    let mut checked = 0;
    for (moved, gradient) in moved.unwrap().into_iter().zip(gradient) {
        // Below that, float32 may find another sign.
        if gradient.abs() > 1e-4 * largest {
            assert!((moved - 0.25 * gradient.signum()).abs() < 1e-6);
            checked += 1;
        }
    }
    assert!(checked > 200, "{checked}");
}

/// A longer gradient is scaled down to the limit, a shorter one is left alone.
#[test]
fn gradients_are_clipped_to_their_norm() {
    let stepped = |clip_norm: Option<f64>| {
        let settings = OptimizerSettings {
            clip_norm,
            ..OptimizerSettings::sgd(1.0, 0.0)
        };
        let parameters = [3, 2]
            .map(|count| Tensor::zeros([count], (Kind::Float, device())).set_requires_grad(true));
        let all = parameters.iter().map(Tensor::shallow_clone).collect();
        let mut optimizer = fed_distill::train::Optimizer::new(&settings, all);
        let gradients = [&[2f32, 0.0, 4.0][..], &[4.0, -8.0][..]];
        let gradients = gradients.map(|g| Tensor::from_slice(g).to_device(device()));
        optimizer.apply(&gradients, 1.0);
        let moved = Tensor::cat(&parameters, 0).detach();
        Vec::<f64>::try_from(moved.to_kind(Kind::Double)).unwrap()
    };
    let whole = [-2.0, 0.0, -4.0, -4.0, 8.0];
    assert_eq!(stepped(None), whole);
    assert_eq!(stepped(Some(11.0)), whole);
    for (found, wanted) in stepped(Some(5.0)).into_iter().zip(whole) {
        assert!((found - wanted / 2.0).abs() < 1e-5, "{found}");
    }
}

// -------------------- batches

/// A batch of a few steps.
fn small() -> GeneratorSettings {
    GeneratorSettings {
        batch_size: 8,
        noise: 6,
        width: 3,
        steps: 4,
        augment: AugmentSettings {
            crop: 1,
            flip: true,
        },
        ..GeneratorSettings::default()
    }
}

fn synthesizer<'a>(
    teachers: &'a [Teacher],
    settings: &'a GeneratorSettings,
) -> GeneratorSynthesizer<'a> {
    let all: Vec<&Teacher> = teachers.iter().collect();
    let ensemble = Ensemble::new(settings.ensemble, &all, device());
    GeneratorSynthesizer::new(all, ensemble, settings, &normalisation(1), Seeds::new(3)).unwrap()
}

fn same(a: &SyntheticBatch, b: &SyntheticBatch) -> bool {
    a.images == b.images && a.labels == b.labels && a.history == b.history
}

#[test]
fn batches_are_independent_unless_the_generator_is_persistent() {
    tch::set_num_threads(1);
    let (teachers, mut settings) = (teachers(EVEN), small());
    for persistent in [false, true] {
        settings.persistent = persistent;
        let mut maker = synthesizer(&teachers, &settings);
        assert_eq!(maker.is_independent(), !persistent);
        maker.make(0, None, &mut ()).unwrap();
        let second = maker.make(1, None, &mut ()).unwrap();
        let alone = synthesizer(&teachers, &settings)
            .make(1, None, &mut ())
            .unwrap();
        assert_eq!(same(&second, &alone), !persistent);
        let again = synthesizer(&teachers, &settings)
            .make(1, None, &mut ())
            .unwrap();
        assert!(same(&alone, &again));
    }
}

/// A persistent generator resumes where another process stopped, also if that one died between the
/// state after a batch and the batch.
#[test]
fn a_persistent_generator_survives_the_process() {
    tch::set_num_threads(1);
    let teachers = teachers(EVEN);
    let settings = GeneratorSettings {
        persistent: true,
        ..small()
    };
    let store = MemoryStore::default();
    let mut maker = synthesizer(&teachers, &settings);
    let mut make =
        |index, store: &dyn BatchStore| maker.make_or_load(index, None, store, &mut ()).unwrap();
    make(0, &store);
    make(1, &store);
    struct Dies<'a>(&'a MemoryStore);
    impl BatchStore for Dies<'_> {
        fn get(&self, index: usize) -> fed_distill::Result<Option<StoredBatch>> {
            self.0.get(index)
        }
        fn put(&self, _: usize, _: &StoredBatch) -> fed_distill::Result<()> {
            Ok(())
        }
        fn get_state(&self, i: usize) -> fed_distill::Result<Option<fed_distill::train::FitState>> {
            self.0.get_state(i)
        }
        fn put_state(
            &self,
            index: usize,
            state: &fed_distill::train::FitState,
        ) -> fed_distill::Result<()> {
            self.0.put_state(index, state)
        }
    }
    let third = make(2, &Dies(&store));
    let mut resumed = synthesizer(&teachers, &settings);
    for index in 0..2 {
        assert!(resumed.load(index, &store).unwrap().is_some());
    }
    assert!(resumed.load(2, &store).unwrap().is_none());
    let again = resumed.make_or_load(2, None, &store, &mut ()).unwrap();
    assert!(same(&third, &again));
    // Without its state the next batch would be another.
    struct Without<'a>(&'a MemoryStore);
    impl BatchStore for Without<'_> {
        fn get(&self, index: usize) -> fed_distill::Result<Option<StoredBatch>> {
            self.0.get(index)
        }
        fn put(&self, index: usize, stored: &StoredBatch) -> fed_distill::Result<()> {
            self.0.put(index, stored)
        }
    }
    let mut lost = synthesizer(&teachers, &settings);
    lost.load(2, &store).unwrap();
    let error = lost
        .make_or_load(3, None, &Without(&store), &mut ())
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("state after synthetic batch 2 is gone"),
        "{error}"
    );
}

#[test]
fn labels_are_drawn_from_seen_classes_or_predicted() {
    tch::set_num_threads(1);
    let teachers = teachers([[5, 0, 3, 0], [0, 0, 2, 0]]);
    for labels in [
        GeneratorLabels::Random,
        GeneratorLabels::Balanced,
        GeneratorLabels::TeacherShare,
    ] {
        let settings = GeneratorSettings { labels, ..small() };
        let batch = synthesizer(&teachers, &settings)
            .make(0, None, &mut ())
            .unwrap();
        let drawn = Vec::<i64>::try_from(&batch.labels).unwrap();
        assert!(
            drawn.iter().all(|label| [0, 2].contains(label)),
            "{labels:?}: {drawn:?}"
        );
        if labels == GeneratorLabels::Balanced {
            assert_eq!(drawn.iter().filter(|&&label| label == 0).count(), 4);
        }
    }
    let settings = GeneratorSettings {
        labels: GeneratorLabels::Predicted,
        learn_noise: false,
        ..small()
    };
    let batch = synthesizer(&teachers, &settings)
        .make(0, None, &mut ())
        .unwrap();
    let logits = teachers
        .each_ref()
        .map(|t| t.loaded().unwrap().predict(&batch.images));
    let joint = no_grad(|| (&logits[0] + &logits[1]).argmax(1, false));
    assert_eq!(batch.labels, joint);
}

/// The batch that is kept has the lowest loss of its steps, and the loss falls.
#[test]
fn the_lowest_loss_is_kept() {
    tch::set_num_threads(1);
    let teachers = teachers(EVEN);
    let settings = GeneratorSettings {
        steps: 40,
        optimizer: OptimizerSettings::adam(0.02),
        augment: AugmentSettings {
            crop: 0,
            flip: false,
        },
        ..small()
    };
    let batch = synthesizer(&teachers, &settings)
        .make(0, None, &mut ())
        .unwrap();
    let totals: Vec<f64> = batch.history.iter().map(|at| at.total).collect();
    assert_eq!(totals.len(), 40);
    let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
    assert_eq!(batch.best_loss, least);
    assert!(least < 0.9 * totals[0], "{totals:?}");
}

/// Teachers whose weights are not finite are told of, not put into images.
#[test]
fn a_loss_that_is_not_finite_is_an_error() {
    let teachers = teachers(EVEN);
    let state = teachers[0].loaded().unwrap().model.state();
    no_grad(|| {
        let _ = state
            .get("linear.bias")
            .unwrap()
            .shallow_clone()
            .fill_(f64::NAN);
    });
    let settings = small();
    let error = synthesizer(&teachers, &settings)
        .make(0, None, &mut ())
        .unwrap_err();
    assert!(
        error.to_string().contains("NaN or infinite (step 0)"),
        "{error}"
    );
}
