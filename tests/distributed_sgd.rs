//! SGD over several ranks takes the steps of one process: against the training loop, against each other, and byte by byte.

#[allow(dead_code)] // not every test file needs all of it
mod common;
#[path = "common/signals.rs"]
mod signals;

use common::Place;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::federated::distributed_sgd::{LossAt, Method, Notes, SgdSettings, Steps, Task, run, shard};
use fed_distill::federated::transport::{self, Transport};
use fed_distill::federated::{Direction, Kind, Ledger};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, StateDict};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, CrossEntropy, EpochReport, FitSettings, FitState, Observer, OptimizerSettings, ScheduleKind,
    ScheduleSettings, Shuffled, fit,
};
use fed_distill::{Error, Result};
use proptest::prelude::*;
use std::cell::Cell;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use tch::{Device, Kind as Type, Tensor};

const SIZE: i64 = 16;

fn spec() -> ModelSpec {
    let model = ModelSettings {
        kind: ModelKind::Lenet5Unpadded,
        width: None,
        blocks: None,
    };
    ModelSpec::new(&model, 1, SIZE, 5).unwrap()
}

/// Images with something to learn: a bright square in a place that the label decides, on noise.
fn images(count: usize) -> ImageSet {
    let labels: Vec<i64> = (0..count).map(|i| (i * 7 % 11 % 5) as i64).collect();
    let mut pixels = Vec::new();
    for (image, label) in labels.iter().enumerate() {
        for position in 0..SIZE * SIZE {
            let (row, column) = (position / SIZE, position % SIZE);
            let bright = row / 4 == label % 4 && column / 4 == label / 2;
            let noise = (image as i64 * 131 + position * 37) % 97;
            pixels.push((noise + if bright { 150 } else { 0 }) as u8);
        }
    }
    ImageSet::new(Tensor::from_slice(&pixels).view([count as i64, 1, SIZE, SIZE]), labels).unwrap()
}

fn normalisation() -> Normalisation {
    Normalisation {
        mean: vec![0.2],
        std: vec![0.2],
    }
}

fn settings(batch_size: usize, report_every: usize) -> SgdSettings {
    SgdSettings {
        epochs: 3,
        batch_size,
        optimizer: OptimizerSettings {
            lr: 0.01,
            momentum: 0.9,
            weight_decay: 0.0,
            ..OptimizerSettings::default()
        },
        augment: AugmentSettings { crop: 1, flip: false },
        report_every,
    }
}

/// Rank 0's result.
type Trained = (Vec<LossAt>, StateDict, Ledger);

fn trained(method: Method, ranks: usize, settings: &SgdSettings, count: usize) -> Trained {
    saved(method, ranks, settings, count, None, usize::MAX).0
}

/// Keeps a copy of the run as it is before step `at`.
struct Keeper {
    at: usize,
    step: Cell<usize>,
    kept: Option<(FitState, Notes)>,
}

impl Steps for Keeper {
    fn step(&self) {
        self.step.set(self.step.get() + 1);
    }

    fn due(&self) -> bool {
        self.step.get() == self.at
    }

    fn save(&mut self, state: &FitState, notes: &Notes) -> Result<()> {
        if self.due() {
            let copy = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.detach().copy());
            let tensors = state.tensors.iter().map(copy).collect();
            let position = state.position;
            self.kept = Some((FitState { position, tensors }, notes.clone()));
        }
        Ok(())
    }
}

/// A run from `start` on, and what is saved of it before its step `at`.
fn saved(
    method: Method,
    ranks: usize,
    settings: &SgdSettings,
    count: usize,
    start: Option<(FitState, Notes)>,
    at: usize,
) -> (Trained, Option<(FitState, Notes)>) {
    let start = Mutex::new(start);
    let results = transport::run(ranks, |mut rank| {
        tch::set_num_threads(1);
        let (set, normalisation) = (images(count), normalisation());
        let task = Task {
            spec: spec(),
            device: Device::Cpu,
            train: &set,
            normalisation: &normalisation,
            seeds: Seeds::new(3),
        };
        let mut keeper = Keeper {
            at,
            step: Cell::new(0),
            kept: None,
        };
        let start = if rank.rank() == 0 {
            start.lock().unwrap().take()
        } else {
            None
        };
        let outcome = run(method, settings, &task, &mut rank, start, &mut keeper)?;
        assert_eq!(outcome.is_some(), rank.rank() == 0);
        let outcome = outcome.map(|outcome| (outcome.losses, outcome.model.state().deep_clone(), outcome.ledger));
        Ok((outcome, keeper.kept))
    });
    let (outcome, kept) = results.unwrap().swap_remove(0);
    (outcome.unwrap(), kept)
}

fn farthest(a: &StateDict, b: &StateDict) -> f64 {
    let of = |((_, a), (_, b)): ((&str, &Tensor), (&str, &Tensor))| f64::try_from((a - b).abs().max()).unwrap();
    a.iter().zip(b.iter()).map(of).fold(0.0, f64::max)
}

#[test]
fn a_run_that_goes_on_ends_as_one_that_was_not_stopped() {
    let settings = settings(25, 3);
    for (method, ranks) in [
        (Method::Centralised, 1),
        (Method::AllReduce, 3),
        (Method::ParameterServer, 3),
    ] {
        // 100 images are four batches an epoch: in the middle of the second epoch, and of a mean of three losses.
        let ((losses, weights, ledger), kept) = saved(method, ranks, &settings, 100, None, 5);
        let kept = kept.unwrap();
        // As it is in a file.
        let notes = serde_json::to_string(&kept.1).unwrap();
        let kept = (kept.0, serde_json::from_str(&notes).unwrap());
        let ((others, other, bytes), _) = saved(method, ranks, &settings, 100, Some(kept), usize::MAX);
        assert_eq!(losses, others, "{method:?}");
        assert_eq!(farthest(&weights, &other), 0.0, "{method:?}");
        assert_eq!(ledger, bytes, "{method:?}");
    }
}

#[test]
fn both_forms_take_the_steps_of_one_process() {
    // 230 images: batches of 25 divide neither by the ranks nor the set, those of 3 leave ranks without an image.
    for (batch_size, every, windows) in [(25, 3, 9), (3, 20, 9)] {
        let settings = settings(batch_size, every);
        let (central, weights, nothing) = trained(Method::Centralised, 1, &settings, 230);
        assert_eq!(central.len(), windows);
        assert!(
            central[windows - 1].loss < 0.95 * central[0].loss,
            "it must move far more than the tolerance below: {central:?}"
        );
        assert_eq!(nothing, Ledger::default());
        for method in [Method::AllReduce, Method::ParameterServer] {
            for ranks in [1, 2, 4] {
                let (losses, others, _) = trained(method, ranks, &settings, 230);
                for (ours, wanted) in losses.iter().zip(&central) {
                    assert_eq!((ours.epoch, ours.batch), (wanted.epoch, wanted.batch));
                    let apart = (ours.loss - wanted.loss).abs() / wanted.loss;
                    assert!(apart < 1e-5, "{method:?}, {ranks} ranks: {ours:?} for {wanted:?}");
                }
                assert_eq!(losses.len(), windows);
                let apart = farthest(&others, &weights);
                assert!(apart < 1e-5, "{method:?}, {ranks} ranks: weights differ by {apart}");
            }
        }
    }
}

#[test]
fn the_forms_agree_to_the_bit_on_equally_many_ranks() {
    let settings = settings(25, 3);
    let (losses, weights, _) = trained(Method::AllReduce, 4, &settings, 100);
    let (others, other, _) = trained(Method::ParameterServer, 4, &settings, 100);
    assert_eq!(losses, others);
    assert_eq!(farthest(&weights, &other), 0.0);
}

/// Mean training loss of each epoch.
#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn epoch(&mut self, _: &Model, report: &EpochReport) -> Result<()> {
        self.0.push(report.train_loss);
        Ok(())
    }
}

#[test]
fn one_process_is_the_training_loop() {
    let (set, normalisation, settings) = (images(225), normalisation(), settings(25, 9));
    let (losses, weights, _) = trained(Method::Centralised, 1, &settings, 225);
    let mut model = Model::new(
        &spec(),
        Device::Cpu,
        &mut Seeds::new(3).stream("teacher/initialisation", 0),
    )
    .unwrap();
    let augment = settings.augment.clone();
    let purpose = "distributed_sgd/batches".to_owned();
    let mut source = Shuffled::new(&set, &normalisation, augment, 25, Seeds::new(3), purpose);
    let fitting = FitSettings {
        epochs: 3,
        optimizer: settings.optimizer,
        schedule: ScheduleSettings {
            kind: ScheduleKind::Constant,
            ..ScheduleSettings::default()
        },
    };
    let mut wanted = Losses::default();
    fit(
        &mut model,
        &mut source,
        &CrossEntropy::default(),
        &fitting,
        None,
        &mut wanted,
    )
    .unwrap();
    let ours: Vec<f64> = losses.iter().map(|at| at.loss).collect();
    assert!(
        ours.iter().zip(&wanted.0).all(|(a, b)| (a - b).abs() < 1e-6),
        "{ours:?} {:?}",
        wanted.0
    );
    assert_eq!(farthest(&weights, &model.state()), 0.0);
}

#[test]
fn bytes_are_twice_parameters_times_ranks_times_steps() {
    let settings = settings(20, 5);
    let parameters = Model::new(&spec(), Device::Cpu, &mut Seeds::new(3).stream("x", 0))
        .unwrap()
        .parameter_count();
    let (ranks, steps) = (3, 3 * 5);
    // Each gradient travels with its loss, a float.
    let model = 4 * parameters * ranks * steps;
    let losses = 4 * ranks * steps;
    let (_, _, ledger) = trained(Method::ParameterServer, 3, &settings, 100);
    let sum = |kind, direction| {
        ledger
            .sum(|entry| entry.kind == kind && entry.direction == direction)
            .values
    };
    assert_eq!(sum(Kind::Model, Direction::Download), model);
    assert_eq!(sum(Kind::Gradient, Direction::Upload), model + losses);
    let pixels = 3 * 100 * (SIZE * SIZE) as u64;
    // Images as floats; labels and the batch's size as i64.
    assert_eq!(
        sum(Kind::Batch, Direction::Download),
        4 * pixels + 8 * (3 * 100 + ranks * steps)
    );
    let (_, _, ledger) = trained(Method::AllReduce, 3, &settings, 100);
    assert_eq!(ledger.sum(|_| true).values, 2 * (model + losses));
    assert_eq!(ledger.sum(|entry| entry.node == 2).values, 2 * (model + losses) / 3);
}

#[test]
fn a_rank_that_leaves_is_an_error() {
    for method in [Method::AllReduce, Method::ParameterServer] {
        let error: Error = transport::run(3, |mut rank| {
            if rank.rank() == 2 {
                return Ok(());
            }
            let (set, normalisation) = (images(50), normalisation());
            let task = Task {
                spec: spec(),
                device: Device::Cpu,
                train: &set,
                normalisation: &normalisation,
                seeds: Seeds::new(3),
            };
            run(method, &settings(10, 5), &task, &mut rank, None, &mut ()).map(drop)
        })
        .unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shards_lose_no_image(images in 0i64..300, ranks in 1usize..20) {
        let mut next = 0;
        for rank in 0..ranks {
            let (start, count) = shard(images, ranks, rank);
            prop_assert_eq!(start, next);
            prop_assert!((images / ranks as i64..=images / ranks as i64 + 1).contains(&count));
            next = start + count;
        }
        prop_assert_eq!(next, images);
    }
}

#[test]
fn the_tutorials_network_has_its_parameters() {
    let spec = ModelSpec::new(&spec().model, 3, 32, 10).unwrap();
    let model = Model::new(&spec, Device::Cpu, &mut Seeds::new(3).stream("x", 0)).unwrap();
    assert_eq!(model.parameter_count(), 62_006);
    let logits = model.eval(&Tensor::zeros([2, 3, 32, 32], (Type::Float, Device::Cpu)));
    assert_eq!(logits.size(), [2, 10]);
    let small = ModelSpec::new(&spec.model, 3, 15, 10).unwrap();
    let error = Model::new(&small, Device::Cpu, &mut Seeds::new(3).stream("x", 0)).unwrap_err();
    assert!(error.to_string().contains("16×16"), "{error}");
}

/// Digits, few of them, on the network of the tests above.
const DIGITS: [&str; 12] = [
    "dataset=digits",
    "dataset.size=16",
    "dataset.max_train=130",
    "dataset.max_test=50",
    "model=lenet5_unpadded",
    "distributed_sgd.save_folder=out",
    "distributed_sgd.batch_size=25",
    "distributed_sgd.report_every=2",
    "distributed_sgd.ranks=3",
    "overwrite=true",
    "threads=1",
    "device=cpu",
];

#[test]
fn the_binary_has_three_methods_with_the_same_losses() {
    let place = Place::new();
    let mut losses = Vec::new();
    for method in ["centralised", "all_reduce", "parameter_server"] {
        let (code, table, errors) = place.run_with(
            "distributed_sgd",
            &DIGITS,
            &[&format!("distributed_sgd.method={method}")],
        );
        assert_eq!(code, 0, "{errors}");
        assert!(
            table.contains("mean loss") && table.contains("test accuracy"),
            "{table}"
        );
        assert_eq!(
            table.contains("of gradient, upload"),
            method != "centralised",
            "{table}"
        );
        let text = std::fs::read_to_string(place.path("out/metrics.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // 130 images: batches of 25, 25, 25, 25, 25 and 5, thrice.
        let steps: Vec<_> = lines.iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(steps, [2, 4, 6, 8, 10, 12, 14, 16, 18]);
        losses.push(
            lines
                .iter()
                .map(|line| line["loss"].as_f64().unwrap())
                .collect::<Vec<_>>(),
        );
    }
    for others in &losses[1..] {
        for (ours, wanted) in others.iter().zip(&losses[0]) {
            assert!((ours - wanted).abs() < 1e-5 * wanted, "{losses:?}");
        }
    }
    let (code, _, errors) = place.run_with("distributed_sgd", &DIGITS, &["distributed_sgd.ranks=0"]);
    assert_eq!(code, 2, "{errors}");
    let (code, _, errors) = place.run_with("distributed_sgd", &DIGITS, &["dataset.size=8"]);
    assert!(code == 2 && errors.contains("model=lenet5"), "{errors}");
}

#[test]
fn an_interrupted_binary_goes_on_to_the_same_end() {
    let own: Vec<&str> = DIGITS
        .into_iter()
        .filter(|option| *option != "overwrite=true")
        .collect();
    for method in [
        "distributed_sgd.method=all_reduce",
        "distributed_sgd.method=parameter_server",
    ] {
        let options = [&own[..], &[method, "distributed_sgd.epochs=40"]].concat();
        let (calm, stopped) = (Place::new(), Place::new());
        let (code, table, errors) = calm.run_with("distributed_sgd", &options, &[]);
        assert_eq!(code, 0, "{errors}");
        let mut child = signals::heard(&mut Command::new(assert_cmd::cargo::cargo_bin("distributed_sgd")))
            .current_dir(stopped.path("."))
            .args(&options)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(stopped.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        // A line for every two batches: it is at work.
        while !std::fs::read_to_string(stopped.path("stderr"))
            .unwrap()
            .contains("epoch 1, ")
        {
            assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let (code, _, errors) = stopped.run_with("distributed_sgd", &options, &[]);
        assert!(code == 2 && errors.contains("resume=true"), "{errors}");
        let fewer: Vec<&str> = options
            .iter()
            .map(|option| option.replace("ranks=3", "ranks=2").leak() as &str)
            .collect();
        let (code, _, errors) = stopped.run_with("distributed_sgd", &fewer, &["resume=true"]);
        assert!(
            code == 2 && errors.contains("distributed_sgd.ranks: 3 then, 2 now"),
            "{errors}"
        );
        let (code, other, errors) = stopped.run_with("distributed_sgd", &options, &["resume=true"]);
        assert_eq!(code, 0, "{errors}");
        assert!(errors.contains("going on from epoch"), "{errors}");
        assert_eq!(table, other);
        for file in ["out/model.safetensors", "out/metrics.jsonl", "out/metrics.json"] {
            let [ours, theirs] = [&calm, &stopped].map(|place| std::fs::read(place.path(file)).unwrap());
            assert!(ours == theirs, "{file}, {method}");
        }
    }
}
