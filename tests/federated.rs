//! Federated averaging against PyTorch, against the same steps written out by hand, and against itself over one rank and several.

use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::federated::fed_avg::{
    self, FedAvgSettings, Federation, NodeData, RoundReport, Rounds, Statistics, selected,
};
use fed_distill::federated::transport::{self, Transport};
use fed_distill::federated::{Direction, Kind, Ledger};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, StateDict, weighted_mean};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, CrossEntropy, EpochReport, FitSettings, FitState, Observer, OptimizerKind, OptimizerSettings,
    Position, ScheduleKind, ScheduleSettings, Shuffled, fit,
};
use fed_distill::{Error, Result};
use proptest::prelude::*;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tch::{Device, Kind as Type, Tensor};

const CLASSES: i64 = 3;

fn spec(kind: ModelKind) -> ModelSpec {
    let residual = kind == ModelKind::Resnet18;
    let model = ModelSettings {
        kind,
        width: residual.then_some(4),
        blocks: residual.then(|| vec![1]),
    };
    ModelSpec::new(&model, 1, 8, CLASSES).unwrap()
}

/// The images of the oracle's script: `count` of them from `first` on.
fn images(first: usize, count: usize) -> ImageSet {
    let pixels: Vec<u8> = (first * 64..(first + count) * 64)
        .map(|i| (i * 37 % 251) as u8)
        .collect();
    let labels = (first..first + count).map(|i| (i * 5 % 7 % 3) as i64).collect();
    ImageSet::new(Tensor::from_slice(&pixels).view([count as i64, 1, 8, 8]), labels).unwrap()
}

fn normalisation() -> Normalisation {
    Normalisation {
        mean: vec![0.5],
        std: vec![0.25],
    }
}

/// Nodes of these many images, dealt in order.
fn federation<'a>(kind: ModelKind, sizes: &[usize], normalisation: &'a Normalisation) -> Federation<'a> {
    let mut first = 0;
    let node = |&count: &usize| {
        let train = images(first, count);
        first += count;
        NodeData {
            train,
            test: images(100, 5),
        }
    };
    Federation {
        spec: spec(kind),
        device: Device::Cpu,
        nodes: sizes.iter().map(node).collect(),
        normalisation,
        seeds: Seeds::new(5),
        eval_batch_size: 64,
    }
}

fn sgd(lr: f64, momentum: f64) -> OptimizerSettings {
    OptimizerSettings {
        lr,
        momentum,
        weight_decay: 0.0,
        ..OptimizerSettings::default()
    }
}

/// One round of everybody, plain averaging, one epoch in one batch.
fn plain() -> FedAvgSettings {
    FedAvgSettings {
        rounds: 1,
        fraction: 1.0,
        epochs: 1,
        batch_size: None,
        optimizer: sgd(0.1, 0.0),
        augment: AugmentSettings { crop: 0, flip: false },
        server: sgd(1.0, 0.0),
        proximal: 0.0,
        statistics: Statistics::Average,
    }
}

/// Keeps everything.
#[derive(Default)]
struct Log {
    ledgers: Vec<Ledger>,
    nodes: Vec<Vec<usize>>,
    saved: Option<FitState>,
}

impl Rounds for Log {
    fn round(&mut self, _: &Model, report: &RoundReport) -> Result<()> {
        self.ledgers.push(report.ledger.clone());
        self.nodes.push(report.nodes.iter().map(|node| node.node).collect());
        Ok(())
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        let copy = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.copy());
        self.saved = Some(FitState {
            position: state.position,
            tensors: state.tensors.iter().map(copy).collect(),
        });
        Ok(())
    }
}

/// Runs on `ranks` ranks, on nodes of `sizes` images; the global weights and what rank 0 logged. Every rank has its own copy of the data,
/// as processes would.
fn run(
    settings: &FedAvgSettings,
    kind: ModelKind,
    sizes: &[usize],
    ranks: usize,
    start: Option<FitState>,
) -> Result<(StateDict, Log)> {
    let start = Mutex::new(start);
    let mut results = transport::run(ranks, |mut rank| {
        tch::set_num_threads(1);
        let normalisation = normalisation();
        let federation = federation(kind, sizes, &normalisation);
        let start = if rank.rank() == 0 {
            start.lock().unwrap().take()
        } else {
            None
        };
        let mut log = Log::default();
        let model = fed_avg::run(settings, &federation, &mut rank, start.as_ref(), &mut log)?;
        Ok((model.map(|model| model.state().deep_clone()), log))
    })?;
    let (state, log) = results.swap_remove(0);
    Ok((state.unwrap(), log))
}

fn difference(a: &StateDict, b: &StateDict) -> f64 {
    let of = |(name, tensor): (&str, &Tensor)| {
        let other = b.get(name).unwrap();
        f64::try_from((tensor.to_kind(Type::Double) - other.to_kind(Type::Double)).abs().max()).unwrap()
    };
    assert_eq!(a.len(), b.len());
    a.iter().map(of).fold(0.0, f64::max)
}

fn initial(kind: ModelKind) -> Model {
    let mut rng = Seeds::new(5).stream("teacher/initialisation", 0);
    Model::new(&spec(kind), Device::Cpu, &mut rng).unwrap()
}

/// ```python
/// import torch, torch.nn.functional as F
/// torch.set_default_dtype(torch.float64)
/// shapes = [("conv1", (6, 1, 5, 5)), ("conv2", (16, 6, 5, 5)), ("fc1", (120, 64)), ("fc2", (84, 120)), ("fc3", (3, 84))]
/// w, k = {}, 0
/// for name, shape in shapes:
///     for key, s in ((".weight", shape), (".bias", shape[:1])):
///         n = torch.Size(s).numel()
///         w[name + key] = (torch.cos(torch.arange(n) * 0.7 + k) * 0.15).view(s); k += 1
/// def net(p, x):
///     for c in ("conv1", "conv2"):
///         x = F.max_pool2d(F.relu(F.conv2d(x, p[c + ".weight"], p[c + ".bias"], padding=2)), 2)
///     x = x.flatten(1)
///     for i in (1, 2, 3):
///         x = F.linear(x, p[f"fc{i}.weight"], p[f"fc{i}.bias"])
///         x = F.relu(x) if i < 3 else x
///     return x
/// pixels = (torch.arange(12 * 64) * 37 % 251).view(12, 1, 8, 8)
/// x, y = (pixels / 255 - 0.5) / 0.25, torch.arange(12) * 5 % 7 % 3
/// m = {n: torch.zeros_like(t) for n, t in w.items()}; v = {n: torch.zeros_like(t) for n, t in w.items()}
/// for t in (1, 2):
///     mean = {n: torch.zeros_like(p) for n, p in w.items()}
///     for part in (slice(0, 3), slice(3, 12)):
///         p = {n: a.clone().requires_grad_() for n, a in w.items()}
///         opt = torch.optim.SGD(p.values(), lr=0.1, momentum=0.9)
///         for _ in range(2):
///             opt.zero_grad()
///             prox = sum(((p[n] - w[n]) ** 2).sum() for n in w)
///             (F.cross_entropy(net(p, x[part]), y[part]) + 0.3 / 2 * prox).backward()
///             opt.step()
///         for n in w: mean[n] += p[n].detach() * len(y[part]) / 12
///     for n in w:
///         g = w[n] - mean[n]
///         m[n] = 0.9 * m[n] + 0.1 * g; v[n] = 0.99 * v[n] + 0.01 * g * g
///         w[n] = w[n] - 0.02 * (m[n] / (1 - 0.9**t)) / ((v[n] / (1 - 0.99**t)).sqrt() + 1e-3)
/// for n in ("conv1.bias", "fc3.bias"): print(n, w[n].tolist())
/// print([float(a.square().sum()) for a in w.values()])
/// ```
#[test]
fn two_rounds_of_fed_adam_with_a_proximal_term() {
    let model = initial(ModelKind::Lenet5);
    let mut tensors = Vec::new();
    for (k, (name, shape)) in model
        .state()
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.size()))
        .enumerate()
    {
        let count: i64 = shape.iter().product();
        let values = (Tensor::arange(count, (Type::Double, Device::Cpu)) * 0.7 + k as f64).cos() * 0.15;
        tensors.push((format!("model.{name}"), values.to_kind(Type::Float).view(&shape[..])));
    }
    for prefix in ["first", "second"] {
        for (index, parameter) in model.parameters().iter().enumerate() {
            tensors.push((format!("{prefix}.{index}"), parameter.detach().zeros_like()));
        }
    }
    let start = FitState {
        position: Position::default(),
        tensors,
    };
    let settings = FedAvgSettings {
        rounds: 2,
        epochs: 2,
        optimizer: sgd(0.1, 0.9),
        server: OptimizerSettings {
            kind: OptimizerKind::Adam,
            betas: [0.9, 0.99],
            eps: 1e-3,
            ..sgd(0.02, 0.0)
        },
        proximal: 0.3,
        ..plain()
    };
    let (state, _) = run(&settings, ModelKind::Lenet5, &[3, 9], 1, Some(start)).unwrap();
    let values = |name: &str| Vec::<f64>::try_from(state.get(name).unwrap().to_kind(Type::Double)).unwrap();
    for (name, wanted) in [
        (
            "conv1.bias",
            vec![
                0.06565663100103683,
                -0.010042055166800014,
                -0.11661503631703174,
                -0.15016624137857995,
                -0.1410692966879191,
                -0.0397876503919819,
            ],
        ),
        (
            "fc3.bias",
            vec![-0.0987879869299001, -0.13186910841102956, -0.11357725018960224],
        ),
    ] {
        for (ours, wanted) in values(name).into_iter().zip(wanted) {
            assert!((ours - wanted).abs() < 2e-5, "{name}: {ours} for {wanted}");
        }
    }
    let squares = [
        1.7306444247512691,
        0.062044206403110654,
        27.242896687258604,
        0.21637114036126712,
        86.53437116132525,
        1.3528926946942081,
        114.02695960439016,
        0.9345679998280325,
        2.801676825149523,
        0.040048319875413484,
    ];
    for ((name, tensor), wanted) in state.iter().zip(squares) {
        let ours = f64::try_from(tensor.to_kind(Type::Double).square().sum(Type::Double)).unwrap();
        assert!((ours / wanted - 1.0).abs() < 1e-4, "{name}: {ours} for {wanted}");
    }
}

/// Ends nothing, hears nothing.
struct Deaf;

impl Observer for Deaf {
    fn epoch(&mut self, _: &Model, _: &EpochReport) -> Result<()> {
        Ok(())
    }
}

/// The training loop itself, on some images at once.
fn trained(model: &mut Model, set: &ImageSet, batch_size: usize, purpose: &str, optimizer: &OptimizerSettings) {
    let normalisation = normalisation();
    let augment = AugmentSettings { crop: 0, flip: false };
    let mut source = Shuffled::new(set, &normalisation, augment, batch_size, Seeds::new(5), purpose.into());
    let fitting = FitSettings {
        epochs: 1,
        optimizer: optimizer.clone(),
        schedule: ScheduleSettings {
            kind: ScheduleKind::Constant,
            ..ScheduleSettings::default()
        },
    };
    fit(model, &mut source, &CrossEntropy::default(), &fitting, None, &mut Deaf).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// One epoch of one batch each, everybody, plain SGD: a gradient step on the union.
    #[test]
    fn one_step_of_everybody_is_a_central_step(sizes in prop::collection::vec(1usize..9, 1..5), rounds in 1usize..4) {
        let settings = FedAvgSettings { rounds, ..plain() };
        let (state, _) = run(&settings, ModelKind::Lenet5, &sizes, 1, None).unwrap();
        let mut central = initial(ModelKind::Lenet5);
        let union = images(0, sizes.iter().sum());
        for _ in 0..rounds {
            trained(&mut central, &union, union.len(), "any order", &settings.optimizer);
        }
        let start = initial(ModelKind::Lenet5);
        let apart = difference(&state, &central.state());
        let moved = difference(&start.state(), &central.state());
        prop_assert!(apart < 1e-6 && moved > 1e-3, "{} after moving {}", apart, moved);
    }
}

#[test]
fn without_a_proximal_term_and_with_a_server_rate_of_one_it_is_the_mean_weighted_by_images() {
    let settings = FedAvgSettings {
        rounds: 2,
        batch_size: Some(4),
        optimizer: sgd(0.05, 0.9),
        ..plain()
    };
    for kind in [ModelKind::Lenet5, ModelKind::Resnet18] {
        let sizes = [7, 12];
        let (state, _) = run(&settings, kind, &sizes, 1, None).unwrap();
        let mut global = initial(kind);
        for round in 0..2 {
            let part = |node: usize, set: &ImageSet| {
                let mut model = Model::from_state(&spec(kind), &global.state(), Device::Cpu).unwrap();
                let purpose = format!("fed_avg/{node}/{round}/batches");
                trained(&mut model, set, 4, &purpose, &settings.optimizer);
                model.state().deep_clone()
            };
            let parts = [part(0, &images(0, 7)), part(1, &images(7, 12))];
            global
                .load_state(&weighted_mean(&[&parts[0], &parts[1]], &[7.0, 12.0]).unwrap())
                .unwrap();
        }
        assert!(difference(&state, &global.state()) < 1e-6, "{kind:?}");
        let other = FedAvgSettings {
            proximal: 1.0,
            ..settings.clone()
        };
        let (other, _) = run(&other, kind, &sizes, 1, None).unwrap();
        assert!(difference(&other, &global.state()) > 1e-5, "{kind:?}");
    }
}

#[test]
fn every_byte_is_in_the_ledger() {
    let sizes = [4, 5, 6, 7];
    for (statistics, rounds) in [(Statistics::Average, 3), (Statistics::Local, 2)] {
        let settings = FedAvgSettings {
            rounds,
            fraction: 0.5,
            statistics,
            ..plain()
        };
        let (state, log) = run(&settings, ModelKind::Resnet18, &sizes, 1, None).unwrap();
        let buffer = |name: &str| name.contains("running_") || name.ends_with("num_batches_tracked");
        let travels = |name: &str| statistics == Statistics::Average || !buffer(name);
        let size = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        let model: u64 = state
            .iter()
            .filter(|(name, _)| travels(name))
            .map(|(_, tensor)| size(tensor))
            .sum();
        for (round, (ledger, nodes)) in log.ledgers.iter().zip(&log.nodes).enumerate() {
            assert_eq!(nodes.len(), 2);
            for direction in [Direction::Upload, Direction::Download] {
                for node in 0..sizes.len() {
                    let mine = ledger.sum(|e| {
                        e.round == round && e.node == node && e.kind == Kind::Model && e.direction == direction
                    });
                    let wanted = if nodes.contains(&node) { model } else { 0 };
                    assert_eq!(mine.values, wanted);
                    // Names, shapes and the envelope: about a hundred bytes a tensor.
                    let framing = mine.bytes - mine.values;
                    assert!(
                        framing == 0 && wanted == 0 || (100..150 * state.len() as u64).contains(&framing),
                        "{framing}"
                    );
                }
            }
            // 2·P·N a round, and 32 bytes of report from each node.
            assert_eq!(ledger.sum(|e| e.kind == Kind::Model).values, 2 * 2 * model);
            assert_eq!(ledger.sum(|e| e.kind == Kind::Report).values, 2 * 32);
        }
        assert_eq!(log.ledgers.len(), rounds);
    }
}

/// Two tests in one, since both need the run of one rank: the number of ranks, and going on from a saved round.
#[test]
fn ranks_and_interruptions_change_no_bit() {
    let sizes = [4, 9, 5, 6, 3];
    for statistics in [Statistics::Average, Statistics::Local] {
        let settings = FedAvgSettings {
            rounds: 4,
            fraction: 0.6,
            batch_size: Some(4),
            optimizer: sgd(0.05, 0.9),
            server: OptimizerSettings {
                kind: OptimizerKind::Adam,
                ..sgd(0.01, 0.0)
            },
            statistics,
            ..plain()
        };
        let (state, log) = run(&settings, ModelKind::Resnet18, &sizes, 1, None).unwrap();
        for ranks in [2, 3, 7] {
            let (other, others) = run(&settings, ModelKind::Resnet18, &sizes, ranks, None).unwrap();
            assert_eq!(difference(&state, &other), 0.0, "{ranks} ranks, {statistics:?}");
            assert_eq!(log.ledgers, others.ledgers);
        }
        let half = FedAvgSettings {
            rounds: 2,
            ..settings.clone()
        };
        for (before, after) in [(1, 1), (3, 2), (2, 1)] {
            let (_, first) = run(&half, ModelKind::Resnet18, &sizes, before, None).unwrap();
            let (resumed, rest) = run(&settings, ModelKind::Resnet18, &sizes, after, first.saved).unwrap();
            let case = format!("resumed on {after} ranks after {before}, {statistics:?}");
            assert_eq!(difference(&state, &resumed), 0.0, "{case}");
            assert_eq!(log.nodes[2..], rest.nodes, "{case}");
            assert_eq!(log.ledgers[2..], rest.ledgers, "{case}");
        }
    }
}

#[test]
fn each_round_draws_its_nodes_anew_and_the_seed_decides() {
    let draw = |seed, round| selected(&Seeds::new(seed), round, 100, 0.1);
    let mut seen = vec![0; 100];
    for round in 0..200 {
        let nodes = draw(1, round);
        assert!(nodes.len() == 10 && nodes.is_sorted_by(|a, b| a < b), "{nodes:?}");
        nodes.iter().for_each(|&node| seen[node] += 1);
    }
    // 20 expected, standard deviation 4.2.
    assert!(seen.iter().all(|&count| (3..40).contains(&count)), "{seen:?}");
    assert_eq!(draw(1, 7), draw(1, 7));
    assert_ne!(draw(1, 7), draw(2, 7));
    assert_eq!(selected(&Seeds::new(1), 0, 3, 0.01).len(), 1);
    assert_eq!(selected(&Seeds::new(1), 0, 3, 1.0), [0, 1, 2]);
}

/// What comes of it when rank 1 does this instead of its part.
fn with_a_bad_rank(bad: impl Fn(&mut dyn Transport) -> Result<()> + Sync) -> Error {
    transport::run(2, |mut rank| {
        if rank.rank() == 1 {
            return bad(&mut rank);
        }
        let normalisation = normalisation();
        let federation = federation(ModelKind::Lenet5, &[3, 4], &normalisation);
        fed_avg::run(&plain(), &federation, &mut rank, None, &mut Log::default()).map(drop)
    })
    .unwrap_err()
}

#[test]
fn a_rank_that_ends_or_talks_nonsense_is_an_error_for_all() {
    let gone = with_a_bad_rank(|_| Ok(()));
    assert!(gone.to_string().contains("rank 1 has ended"), "{gone}");
    let failed = with_a_bad_rank(|_| Err(Error::failed("no power")));
    assert!(failed.to_string().contains("no power"), "{failed}");
    for nonsense in [Vec::new(), vec![7; 100], vec![255; 16]] {
        let error = with_a_bad_rank(|rank| {
            rank.receive(0)?;
            rank.send(0, nonsense.clone())
        });
        assert!(error.to_string().contains("cannot be read"), "{error}");
        assert!(error.to_string().contains("receiving from node 1"), "{error}");
    }
    // The server's own message, sent back as it came: whole, but of a node that has not trained, and then nothing more.
    let echo = with_a_bad_rank(|rank| {
        let message = rank.receive(0)?;
        rank.send(0, message.clone())?;
        rank.send(0, message)
    });
    assert!(echo.to_string().contains("not the one expected"), "{echo}");
}

#[test]
fn a_rank_that_hangs_or_panics_is_an_error_in_time() {
    let timeout = Duration::from_millis(400);
    let begun = Instant::now();
    let heard = Mutex::new(None);
    let error = transport::lead(
        timeout,
        vec![1, 2],
        |rank| rank.receive(2).map(drop),
        |which, rank| {
            if which == 2 {
                // No sign of life from here.
                std::thread::sleep(Duration::from_secs(2));
                return Ok(());
            }
            let error = rank.receive(0).unwrap_err();
            *heard.lock().unwrap() = Some((error.to_string(), begun.elapsed()));
            Err(error)
        },
    )
    .unwrap_err();
    let words = "rank 2 has given no sign of life for 0.4 s";
    assert!(error.to_string().contains(words), "{error}");
    let (other, after) = heard.into_inner().unwrap().unwrap();
    assert!(other.contains(words), "{other}");
    assert!(after >= timeout && after < Duration::from_millis(1500), "{after:?}");

    let error = with_a_bad_rank(|_| panic!("this belongs to the test"));
    assert!(error.to_string().contains("panicked"), "{error}");
}

/// Long work is no death: a rank gives signs of life at its safe points.
#[test]
fn a_rank_that_works_long_is_waited_for() {
    let results = transport::run(2, |rank| {
        rank.set_timeout(Duration::from_millis(200));
        if rank.rank() == 1 {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(800) {
                fed_distill::runtime::interrupt::check()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            rank.send(0, vec![1])?;
            return Ok(Vec::new());
        }
        rank.receive(1)
    });
    assert_eq!(results.unwrap()[0], [1]);
}
