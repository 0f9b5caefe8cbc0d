//! FedMD against PyTorch, against itself over one rank and several, and in cases whose outcome is known.

use fed_distill::Result;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::federated::fed_md::{
    self, Client, DigestLoss, FedMdSettings, Federation, NodeReport, RoundReport, Rounds, drawn,
};
use fed_distill::federated::transport::{self, LocalRank};
use fed_distill::federated::{Direction, Kind, Ledger, Link, NodeData};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, StateDict};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, CrossEntropy, EpochReport, FitSettings, FitState, Observer, OptimizerSettings, Position,
    ScheduleKind, ScheduleSettings, Shuffled, fit,
};
use std::sync::Mutex;
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

/// What a run is of: clients of these kinds with these images (first, count), and public ones.
#[derive(Clone)]
struct Cast {
    clients: Vec<(ModelKind, (usize, usize))>,
    public: (usize, usize),
    /// Labels of the public images, shifted by so many classes.
    shift: i64,
}

fn cast(clients: &[(ModelKind, (usize, usize))], public: (usize, usize)) -> Cast {
    Cast {
        clients: clients.to_vec(),
        public,
        shift: 0,
    }
}

/// Nodes are numbered as the split would have it: 0, 2, 3, …; node 1 is public.
fn node(index: usize) -> usize {
    index + usize::from(index > 0)
}

fn sgd(lr: f64, momentum: f64) -> OptimizerSettings {
    OptimizerSettings {
        lr,
        momentum,
        weight_decay: 0.0,
        ..OptimizerSettings::default()
    }
}

/// One round, one epoch of each phase, whole sets as batches.
fn plain() -> FedMdSettings {
    FedMdSettings {
        rounds: 1,
        public_samples: None,
        weights: None,
        shared_initialisation: false,
        public_epochs: 1,
        private_epochs: 1,
        digest_epochs: 1,
        revisit_epochs: 1,
        batch_size: 64,
        digest_batch_size: 64,
        digest_loss: DigestLoss::Absolute,
        optimizer: sgd(0.05, 0.0),
        augment: AugmentSettings { crop: 0, flip: false },
        eval_every: 1,
    }
}

/// Keeps everything.
#[derive(Default)]
struct Log {
    ledgers: Vec<Ledger>,
    reports: Vec<Vec<NodeReport>>,
    /// Save whenever it is asked.
    eager: bool,
    saved: Vec<FitState>,
}

impl Rounds for Log {
    fn round(&mut self, report: &RoundReport) -> Result<()> {
        self.ledgers.push(report.ledger.clone());
        self.reports.push(report.nodes.clone());
        Ok(())
    }

    fn due(&self) -> bool {
        self.eager
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        self.saved.push(copy(state));
        Ok(())
    }
}

fn copy(state: &FitState) -> FitState {
    let copy = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.copy());
    FitState {
        position: state.position,
        tensors: state.tensors.iter().map(copy).collect(),
    }
}

/// Every client's weights by node, in order, and what rank 0 logged. Every rank has its own copy of the data, as processes would.
fn run(settings: &FedMdSettings, cast: &Cast, ranks: usize, start: Option<FitState>) -> Result<(Vec<StateDict>, Log)> {
    let start = Mutex::new(start);
    let results = transport::run(ranks, |mut rank| {
        let start = start.lock().unwrap().take();
        let mut log = Log {
            eager: true,
            ..Log::default()
        };
        let states = part(settings, cast, &mut rank, start.as_ref(), &mut log)?;
        let copies = states.into_iter().map(|(node, state)| (node, state.deep_clone()));
        Ok((copies.collect::<Vec<_>>(), log))
    })?;
    let (mut states, mut logs) = (Vec::new(), Vec::new());
    for (own, log) in results {
        states.extend(own);
        logs.push(log);
    }
    states.sort_by_key(|(node, _)| *node);
    let nodes: Vec<usize> = states.iter().map(|(node, _)| *node).collect();
    assert_eq!(nodes, (0..cast.clients.len()).map(node).collect::<Vec<_>>());
    let first = logs.swap_remove(0);
    Ok((states.into_iter().map(|(_, state)| state).collect(), first))
}

/// One rank's part.
fn part(
    settings: &FedMdSettings,
    cast: &Cast,
    rank: &mut LocalRank,
    start: Option<&FitState>,
    log: &mut Log,
) -> Result<Vec<(usize, StateDict)>> {
    tch::set_num_threads(1);
    let normalisation = normalisation();
    let client = |(index, &(kind, (first, count))): (usize, &(ModelKind, (usize, usize)))| Client {
        node: node(index),
        spec: spec(kind),
        data: NodeData {
            train: images(first, count),
            test: images(100, 5),
        },
    };
    let set = images(cast.public.0, cast.public.1);
    let labels = set.label_list.iter().map(|label| (label + cast.shift) % CLASSES);
    let public = ImageSet::new(set.images, labels.collect()).unwrap();
    let test = images(200, 11);
    let federation = Federation {
        clients: cast.clients.iter().enumerate().map(client).collect(),
        public: &public,
        public_normalisation: &normalisation,
        test: &test,
        normalisation: &normalisation,
        device: Device::Cpu,
        seeds: Seeds::new(5),
        eval_batch_size: 4,
    };
    fed_md::run(settings, &federation, rank, start, log)
}

fn difference(a: &StateDict, b: &StateDict) -> f64 {
    let of = |(name, tensor): (&str, &Tensor)| {
        let other = b.get(name).unwrap();
        f64::try_from((tensor.to_kind(Type::Double) - other.to_kind(Type::Double)).abs().max()).unwrap()
    };
    assert_eq!(a.len(), b.len());
    a.iter().map(of).fold(0.0, f64::max)
}

fn differences(a: &[StateDict], b: &[StateDict]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| difference(a, b)).collect()
}

fn initial(kind: ModelKind, node: usize) -> Model {
    let mut rng = Seeds::new(5).stream("teacher/initialisation", node as u64);
    Model::new(&spec(kind), Device::Cpu, &mut rng).unwrap()
}

const PAIR: [(ModelKind, (usize, usize)); 2] = [(ModelKind::Linear, (0, 3)), (ModelKind::Lenet5, (3, 9))];

/// A softmax regression and a LeNet-5 with given weights, after transfer learning.
fn given() -> FitState {
    let mut tensors = Vec::new();
    for (index, (kind, _)) in PAIR.into_iter().enumerate() {
        let node = node(index);
        for (k, (name, tensor)) in initial(kind, 0).state().iter().enumerate() {
            let values =
                (Tensor::arange(tensor.numel() as i64, (Type::Double, Device::Cpu)) * 0.7 + k as f64).cos() * 0.15;
            let values = values.to_kind(Type::Float).view(&tensor.size()[..]);
            tensors.push((format!("model.{node}.{name}"), values));
        }
        tensors.push((format!("report.{node}"), Tensor::from_slice(&[-1.0; 8])));
    }
    FitState {
        position: Position {
            epoch: 1,
            ..Position::default()
        },
        tensors,
    }
}

/// ```python
/// import torch, torch.nn.functional as F
/// torch.set_default_dtype(torch.float64)
/// linear = [("fc1", (3, 64))]
/// lenet = [("conv1", (6, 1, 5, 5)), ("conv2", (16, 6, 5, 5)), ("fc1", (120, 64)), ("fc2", (84, 120)), ("fc3", (3, 84))]
/// def weights(shapes):
///     w, k = {}, 0
///     for name, shape in shapes:
///         for key, s in ((".weight", shape), (".bias", shape[:1])):
///             n = torch.Size(s).numel()
///             w[name + key] = (torch.cos(torch.arange(n) * 0.7 + k) * 0.15).view(s).requires_grad_(); k += 1
///     return w
/// def net(p, x):
///     for c in ("conv1", "conv2"):
///         if c + ".weight" in p: x = F.max_pool2d(F.relu(F.conv2d(x, p[c + ".weight"], p[c + ".bias"], padding=2)), 2)
///     x, last = x.flatten(1), sum(n.startswith("fc") for n in p) // 2
///     for i in range(1, last + 1):
///         x = F.linear(x, p[f"fc{i}.weight"], p[f"fc{i}.bias"])
///         x = F.relu(x) if i < last else x
///     return x
/// def images(first, count):
///     pixels = (torch.arange(first * 64, (first + count) * 64) * 37 % 251).view(count, 1, 8, 8)
///     return (pixels / 255 - 0.5) / 0.25, torch.arange(first, first + count) * 5 % 7 % 3
/// def train(p, loss):
///     opt = torch.optim.SGD(p.values(), lr=0.05, momentum=0.9)
///     for _ in range(2):
///         opt.zero_grad(); loss().backward(); opt.step()
/// for distance in (F.l1_loss, F.mse_loss):
///     parties = [(weights(linear), *images(0, 3)), (weights(lenet), *images(3, 9))]
///     public, _ = images(20, 7)
///     for _ in range(2):
///         consensus = sum(w * net(p, public).detach() for w, (p, _, _) in zip((0.25, 0.75), parties))
///         for p, x, y in parties:
///             train(p, lambda: distance(net(p, public), consensus))
///             train(p, lambda: F.cross_entropy(net(p, x), y))
///     print(parties[0][0]["fc1.bias"].tolist(), parties[1][0]["fc3.bias"].tolist())
///     print([float(a.detach().square().sum()) for p, _, _ in parties for a in p.values()])
/// ```
#[test]
fn two_rounds_of_two_architectures_as_in_pytorch() {
    let absolute = (
        [0.12005062179597144, -0.1001316311268835, -0.06404747150247769],
        [-0.11784110783609336, -0.11023899282570332, -0.13232990444778095],
        [
            2.3288984457961237,
            0.028540573951590327,
            1.6998804086179475,
            0.057786924439530166,
            27.00950305727929,
            0.19414592618216178,
            86.39972518117422,
            1.3733536163461504,
            113.41860728481143,
            0.8787227479342721,
            2.806200956786923,
            0.043550365846422086,
        ],
    );
    let squared = (
        [0.13875708376344462, -0.11724154765237992, -0.09141292005057837],
        [-0.11883641661957292, -0.11172214532036011, -0.12848893076585668],
        [
            2.599785059210517,
            0.041355430742634286,
            1.703368661598109,
            0.05686252717692766,
            27.01214246757226,
            0.19303065374301695,
            86.40111820157011,
            1.374729012094795,
            113.4213200381904,
            0.8809590062391526,
            2.8061606963216716,
            0.04311333699931748,
        ],
    );
    for (digest_loss, (linear, lenet, squares)) in [(DigestLoss::Absolute, absolute), (DigestLoss::Squared, squared)] {
        let settings = FedMdSettings {
            rounds: 2,
            weights: Some(vec![1.0, 3.0]),
            digest_epochs: 2,
            revisit_epochs: 2,
            optimizer: sgd(0.05, 0.9),
            digest_loss,
            ..plain()
        };
        let (states, _) = run(&settings, &cast(&PAIR, (20, 7)), 1, Some(given())).unwrap();
        for (state, name, wanted) in [(&states[0], "fc1.bias", linear), (&states[1], "fc3.bias", lenet)] {
            let ours = Vec::<f64>::try_from(state.get(name).unwrap().to_kind(Type::Double)).unwrap();
            for (ours, wanted) in ours.into_iter().zip(wanted) {
                assert!(
                    (ours - wanted).abs() < 2e-5,
                    "{digest_loss:?} {name}: {ours} for {wanted}"
                );
            }
        }
        let tensors = states.iter().flat_map(StateDict::iter);
        for ((name, tensor), wanted) in tensors.zip(squares) {
            let ours = f64::try_from(tensor.to_kind(Type::Double).square().sum(Type::Double)).unwrap();
            assert!(
                (ours / wanted - 1.0).abs() < 1e-4,
                "{digest_loss:?} {name}: {ours} for {wanted}"
            );
        }
    }
}

/// Ends nothing, hears nothing.
struct Deaf;

impl Observer for Deaf {
    fn epoch(&mut self, _: &Model, _: &EpochReport) -> Result<()> {
        Ok(())
    }
}

/// The training loop itself, on images with their labels.
fn trained(model: &mut Model, set: &ImageSet, settings: &FedMdSettings, epochs: usize, purpose: &str) {
    let normalisation = normalisation();
    let (augment, batch) = (settings.augment.clone(), settings.batch_size);
    let mut source = Shuffled::new(set, &normalisation, augment, batch, Seeds::new(5), purpose.into());
    let fitting = FitSettings {
        epochs,
        optimizer: settings.optimizer.clone(),
        schedule: ScheduleSettings {
            kind: ScheduleKind::Constant,
            ..ScheduleSettings::default()
        },
    };
    fit(model, &mut source, &CrossEntropy::default(), &fitting, None, &mut Deaf).unwrap();
}

#[test]
fn transfer_learning_is_the_training_loop_on_public_then_private_images() {
    let settings = FedMdSettings {
        rounds: 0,
        public_epochs: 3,
        private_epochs: 2,
        batch_size: 4,
        optimizer: sgd(0.05, 0.9),
        ..plain()
    };
    let cast = cast(&[(ModelKind::Resnet18, (0, 9)), (ModelKind::Lenet5, (9, 6))], (20, 7));
    let (states, log) = run(&settings, &cast, 1, None).unwrap();
    for (index, (kind, (first, count))) in cast.clients.into_iter().enumerate() {
        let node = node(index);
        let mut model = initial(kind, node);
        trained(
            &mut model,
            &images(20, 7),
            &settings,
            3,
            &format!("fed_md/{node}/public"),
        );
        trained(
            &mut model,
            &images(first, count),
            &settings,
            2,
            &format!("fed_md/{node}/private"),
        );
        assert_eq!(difference(&states[index], &model.state()), 0.0, "{kind:?}");
    }
    assert_eq!(log.ledgers.len(), 1);
    assert!(
        log.reports[0]
            .iter()
            .all(|report| report.digest_loss.is_none() && report.test_accuracy.is_some())
    );
}

/// Clients that learn from the consensus alone, which no label can disturb.
fn listeners() -> FedMdSettings {
    FedMdSettings {
        revisit_epochs: 0,
        ..plain()
    }
}

/// What float rounding leaves of the difference has a gradient of full size under the absolute loss, so weights are compared under the other.
#[test]
fn the_consensus_of_one_client_is_its_own_opinion() {
    for kind in [ModelKind::Linear, ModelKind::Lenet5] {
        let alone = cast(&[(kind, (0, 5))], (20, 7));
        for digest_loss in [DigestLoss::Absolute, DigestLoss::Squared] {
            let settings = FedMdSettings {
                digest_loss,
                ..listeners()
            };
            let (after, log) = run(&settings, &alone, 1, None).unwrap();
            assert!(
                log.reports[1][0].digest_loss.unwrap() < 1e-6,
                "{kind:?} {digest_loss:?}"
            );
            let before = FedMdSettings { rounds: 0, ..settings };
            let (before, _) = run(&before, &alone, 1, None).unwrap();
            let moved = differences(&before, &after)[0];
            assert!(digest_loss == DigestLoss::Absolute || moved < 1e-6, "{kind:?}: {moved}");
        }
    }
}

#[test]
fn clients_that_are_the_same_stay_the_same() {
    let twins = cast(&[(ModelKind::Lenet5, (0, 5)); 3], (20, 7));
    let settings = FedMdSettings {
        rounds: 3,
        shared_initialisation: true,
        digest_loss: DigestLoss::Squared,
        ..plain()
    };
    let (states, log) = run(&settings, &twins, 1, None).unwrap();
    let moved = difference(&states[0], &initial(ModelKind::Lenet5, 0).state());
    assert!(moved > 1e-2, "{moved}");
    for other in &states[1..] {
        assert!(difference(&states[0], other) < 1e-5);
    }
    assert!(log.reports[3].iter().all(|report| report.digest_loss.unwrap() < 1e-6));
    let apart = FedMdSettings {
        shared_initialisation: false,
        ..settings
    };
    let (states, _) = run(&apart, &twins, 1, None).unwrap();
    assert!(difference(&states[0], &states[1]) > 1e-2);
}

#[test]
fn a_learning_rate_of_zero_changes_nothing() {
    let cast = cast(&PAIR, (20, 7));
    let settings = FedMdSettings {
        rounds: 2,
        optimizer: sgd(0.0, 0.9),
        ..plain()
    };
    let (states, _) = run(&settings, &cast, 1, None).unwrap();
    for (index, (kind, _)) in cast.clients.iter().enumerate() {
        assert_eq!(difference(&states[index], &initial(*kind, node(index)).state()), 0.0);
    }
}

#[test]
fn listeners_come_to_agree() {
    let settings = FedMdSettings {
        rounds: 30,
        digest_loss: DigestLoss::Squared,
        ..listeners()
    };
    let (_, log) = run(&settings, &cast(&PAIR, (20, 7)), 1, None).unwrap();
    let loss = |round: usize| log.reports[round][0].digest_loss.unwrap();
    assert!(loss(30) < 0.1 * loss(1), "{} after {}", loss(30), loss(1));
    // A client whose word alone counts hears nothing new: the other comes to it.
    let settings = FedMdSettings {
        weights: Some(vec![0.0, 1.0]),
        ..settings
    };
    let (_, log) = run(&settings, &cast(&PAIR, (20, 7)), 1, None).unwrap();
    let losses: Vec<f64> = log.reports[1]
        .iter()
        .map(|report| report.digest_loss.unwrap())
        .collect();
    assert!(losses[0] > 1e-2 && losses[1] < 1e-10, "{losses:?}");
}

#[test]
fn labels_of_the_public_set_count_in_transfer_learning_alone() {
    let mut cast = cast(&PAIR, (20, 7));
    for (public_epochs, matters) in [(0, false), (1, true)] {
        let settings = FedMdSettings {
            rounds: 2,
            public_epochs,
            ..plain()
        };
        cast.shift = 0;
        let (states, log) = run(&settings, &cast, 1, None).unwrap();
        cast.shift = 1;
        let (others, other) = run(&settings, &cast, 1, None).unwrap();
        assert!(
            differences(&states, &others)
                .iter()
                .all(|apart| (*apart > 0.0) == matters)
        );
        let public = |log: &Log| {
            log.reports
                .iter()
                .flatten()
                .map(|report| report.public_accuracy)
                .collect::<Vec<_>>()
        };
        assert_ne!(public(&log), public(&other));
    }
}

#[test]
fn each_round_draws_its_images_anew_and_the_seed_decides() {
    let draw = |seed, round| drawn(&Seeds::new(seed), round, 1000, 50);
    let mut seen = vec![0; 1000];
    for round in 1..=200 {
        let images = draw(1, round);
        assert!(images.len() == 50 && images.is_sorted_by(|a, b| a < b), "{images:?}");
        images.iter().for_each(|&image| seen[image] += 1);
    }
    // 10 expected, standard deviation 3.1.
    assert!(seen.iter().all(|&count| (1..30).contains(&count)), "{seen:?}");
    assert_eq!(draw(1, 7), draw(1, 7));
    assert_ne!(draw(1, 7), draw(2, 7));
    assert_eq!(drawn(&Seeds::new(1), 1, 5, 9), [0, 1, 2, 3, 4]);
}

/// Three architectures, one with batch norm; some public images a round, batches that do not divide.
fn motley() -> (FedMdSettings, Cast) {
    let settings = FedMdSettings {
        rounds: 3,
        public_samples: Some(6),
        batch_size: 4,
        digest_batch_size: 3,
        optimizer: sgd(0.05, 0.9),
        augment: AugmentSettings { crop: 1, flip: true },
        ..plain()
    };
    let clients = [
        (ModelKind::Resnet18, (0, 9)),
        (ModelKind::Linear, (9, 4)),
        (ModelKind::Lenet5, (13, 6)),
        (ModelKind::Resnet18, (19, 5)),
    ];
    (settings, cast(&clients, (40, 13)))
}

#[test]
fn every_byte_is_in_the_ledger() {
    let (settings, cast) = motley();
    let (_, log) = run(&settings, &cast, 1, None).unwrap();
    assert_eq!(log.ledgers.len(), 4);
    for (round, ledger) in log.ledgers.iter().enumerate() {
        for index in 0..cast.clients.len() {
            for (kind, direction) in [
                (Kind::Scores, Direction::Upload),
                (Kind::Consensus, Direction::Download),
            ] {
                let mine = ledger
                    .sum(|e| e.round == round && e.node == node(index) && e.kind == kind && e.direction == direction);
                // Six images, a score of four bytes for each of three classes; nothing in transfer learning.
                let wanted = if round == 0 { 0 } else { 6 * 3 * 4 };
                assert_eq!(mine.values, wanted, "round {round}, {kind:?}");
                let framing = mine.bytes - mine.values;
                assert!(round == 0 && framing == 0 || (50..300).contains(&framing), "{framing}");
            }
        }
        // 2·S·K·4 for each client, and 64 bytes of report; no weights, nothing else.
        let all = ledger.sum(|_| true).values;
        assert_eq!(all, 4 * 64 + if round == 0 { 0 } else { 2 * 6 * 3 * 4 * 4 });
        assert_eq!(ledger.sum(|e| e.kind == Kind::Report).values, 4 * 64);
    }
}

#[test]
fn ranks_and_interruptions_change_no_bit() {
    let (settings, cast) = motley();
    let (states, log) = run(&settings, &cast, 1, None).unwrap();
    for ranks in [2, 3, 7] {
        let (others, other) = run(&settings, &cast, ranks, None).unwrap();
        assert_eq!(differences(&states, &others), [0.0; 4], "{ranks} ranks");
        assert_eq!(
            (&log.ledgers, &log.reports),
            (&other.ledgers, &other.reports),
            "{ranks} ranks"
        );
    }
    // Every state that was saved: between clients of transfer learning, after it, after rounds, at the end.
    let rounds: Vec<usize> = log.saved.iter().map(|state| state.position.epoch).collect();
    assert_eq!(rounds, [0, 0, 0, 0, 1, 2, 3, 4, 4]);
    for state in &log.saved {
        let (others, rest) = run(&settings, &cast, 1, Some(copy(state))).unwrap();
        assert_eq!(
            differences(&states, &others),
            [0.0; 4],
            "from round {}",
            state.position.epoch
        );
        assert_eq!(
            log.reports[state.position.epoch..],
            rest.reports,
            "from round {}",
            state.position.epoch
        );
    }
}

#[test]
fn accuracies_are_measured_when_they_are_due() {
    let (settings, cast) = motley();
    let settings = FedMdSettings {
        rounds: 5,
        eval_every: 2,
        ..settings
    };
    let (states, log) = run(&settings, &cast, 1, None).unwrap();
    let has = |report: &NodeReport| {
        let all = [
            report.local_accuracy,
            report.public_accuracy,
            report.own_test_accuracy,
            report.test_accuracy,
        ];
        assert!(all.iter().all(|accuracy| accuracy.is_some() == all[0].is_some()));
        all[0].is_some()
    };
    let measured: Vec<bool> = log.reports.iter().map(|reports| reports.iter().all(has)).collect();
    assert_eq!(measured, [true, false, true, false, true, true]);
    let model = Model::from_state(&spec(ModelKind::Linear), &states[1], Device::Cpu).unwrap();
    for (set, accuracy) in [
        (images(9, 4), log.reports[5][1].local_accuracy),
        (images(40, 13), log.reports[5][1].public_accuracy),
        (images(100, 5), log.reports[5][1].own_test_accuracy),
        (images(200, 11), log.reports[5][1].test_accuracy),
    ] {
        let said = model.eval(&normalisation().apply(&set.images)).argmax(1, false);
        let right = f64::try_from(said.eq_tensor(&set.labels).to_kind(Type::Double).mean(Type::Double)).unwrap();
        assert!((right - accuracy.unwrap()).abs() < 1e-12);
    }
}

#[test]
fn a_training_that_diverges_names_node_and_round() {
    let cast = cast(&[(ModelKind::Lenet5, (0, 5))], (20, 7));
    let error = |settings: &FedMdSettings| run(settings, &cast, 1, None).map(drop).unwrap_err().to_string();
    let settings = FedMdSettings {
        optimizer: sgd(1e30, 0.0),
        ..plain()
    };
    let before = error(&settings);
    assert!(before.contains("training node 0 before round 1"), "{before}");
    let within = error(&FedMdSettings {
        public_epochs: 0,
        private_epochs: 0,
        revisit_epochs: 2,
        ..settings
    });
    assert!(within.contains("training node 0 in round 1"), "{within}");
}

#[test]
fn scores_that_cannot_be_meant_are_refused_by_name() {
    let settings = plain();
    let cast = cast(
        &[
            (ModelKind::Linear, (0, 3)),
            (ModelKind::Linear, (3, 3)),
            (ModelKind::Linear, (6, 3)),
        ],
        (20, 7),
    );
    let says = |scores: &(dyn Fn() -> Tensor + Sync)| {
        let error = transport::run(2, |mut rank| {
            if transport::Transport::rank(&rank) == 0 {
                return part(&settings, &cast, &mut rank, None, &mut Log::default()).map(drop);
            }
            // Rank 1 hosts node 3 alone.
            let mut link = Link::new(&mut rank);
            let message = |name: &str, tensor| StateDict::new(vec![(name.to_owned(), tensor)]);
            link.upload(0, 3, Kind::Report, &message("report", Tensor::from_slice(&[3.0; 8])))?;
            link.upload(1, 3, Kind::Scores, &message("scores", scores()))
        });
        error.unwrap_err().to_string()
    };
    let float = (Type::Float, Device::Cpu);
    let error = says(&|| Tensor::zeros([7, 4], float));
    assert!(
        error.contains("scores of node 3 do not fit") && error.contains("[7, 3]"),
        "{error}"
    );
    let error = says(&|| Tensor::zeros([7, 3], (Type::Double, Device::Cpu)));
    assert!(error.contains("scores of node 3 do not fit"), "{error}");
    let error = says(&|| Tensor::full([7, 3], f64::NAN, float));
    assert!(
        error.contains("scores of node 3 are not finite") && error.contains("round 1"),
        "{error}"
    );
    let error = says(&|| Tensor::zeros([7, 3], float));
    assert!(error.contains("rank 1 has ended"), "{error}");
}
