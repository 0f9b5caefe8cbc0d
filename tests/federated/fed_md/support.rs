//! Small federations, and what came of them.

pub use crate::support::*;

use crate::machine::device;
use fed_distill::Result;
use fed_distill::data::ImageSet;
use fed_distill::federated::fed_md::{
    self, Client, DigestLoss, FedMdSettings, Federation, NodeReport, RoundReport, Task,
};
use fed_distill::federated::{Ledger, Link, NodeData};
use fed_distill::model::{Model, ModelKind, Precision, StateDict};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{AugmentSettings, Callback, FitState};
use std::sync::Mutex;
use std::time::Duration;

/// What a run is of: clients of these kinds with these images (first, count), and public ones.
#[derive(Clone)]
pub struct Cast {
    pub clients: Vec<(ModelKind, (usize, usize))>,
    pub public: (usize, usize),
    /// Labels of the public images, shifted by so many classes.
    pub shift: i64,
}

pub fn cast(clients: &[(ModelKind, (usize, usize))], public: (usize, usize)) -> Cast {
    Cast {
        clients: clients.to_vec(),
        public,
        shift: 0,
    }
}

/// Nodes are numbered as the split would have it: 0, 2, 3, …; node 1 is public.
pub fn node(index: usize) -> usize {
    index + usize::from(index > 0)
}

/// One round, one epoch of each phase, whole sets as batches.
pub fn plain() -> FedMdSettings {
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
        digest_batch_size: None,
        digest_loss: DigestLoss::Absolute,
        optimizer: sgd(0.05, 0.0),
        augment: AugmentSettings {
            crop: 0,
            flip: false,
        },
        eval_every: 1,
    }
}

/// Keeps everything.
#[derive(Default)]
pub struct Log {
    pub ledgers: Vec<Ledger>,
    pub reports: Vec<Vec<NodeReport>>,
    /// Save whenever it is asked.
    pub eager: bool,
    /// How long a batch takes at least.
    pub pace: Duration,
    pub saved: Vec<FitState>,
}

impl Callback<RoundReport> for Log {
    fn step(&mut self) {
        std::thread::sleep(self.pace);
    }

    fn report(&mut self, _: Option<&Model>, report: &RoundReport) -> Result<()> {
        self.ledgers.push(report.ledger.clone());
        self.reports.push(report.nodes.clone());
        Ok(())
    }

    fn due(&self) -> bool {
        self.eager
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        self.saved.push(state.copy());
        Ok(())
    }
}

/// Every client's weights by node, in order, and what rank 0 logged. Every rank has its own copy of
/// the data, as processes would.
pub fn run(
    settings: &FedMdSettings,
    cast: &Cast,
    ranks: usize,
    start: Option<FitState>,
) -> Result<(Vec<StateDict>, Log)> {
    let start = Mutex::new(start);
    let results = on_ranks(ranks, |rank| {
        // Rank 0 alone knows where the run resumes.
        let start = start.lock().unwrap().take_if(|_| rank.number() == 0);
        let mut log = Log {
            eager: true,
            ..Log::default()
        };
        let states = part(settings, cast, rank, start.as_ref(), &mut log)?;
        let copies = states
            .into_iter()
            .map(|(node, state)| (node, state.deep_clone()));
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
pub fn part<'a>(
    settings: &FedMdSettings,
    cast: &Cast,
    link: impl Into<Link<'a>>,
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
    let labels = set
        .label_list
        .iter()
        .map(|label| (label + cast.shift) % CLASSES);
    let public = ImageSet::new(set.images, labels.collect()).unwrap();
    let test = images(200, 11);
    let task = Task {
        public: &public,
        public_normalisation: &normalisation,
        test: &test,
        normalisation: &normalisation,
        device: device(),
        precision: Precision::F32,
        seeds: Seeds::new(5),
        eval_batch_size: 4,
    };
    let federation = Federation {
        task,
        clients: cast.clients.iter().enumerate().map(client).collect(),
    };
    fed_md::run(settings, &federation, link, start, log)
}

pub fn differences(a: &[StateDict], b: &[StateDict]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| difference(a, b)).collect()
}

pub const PAIR: [(ModelKind, (usize, usize)); 2] =
    [(ModelKind::Linear, (0, 3)), (ModelKind::Lenet5, (3, 9))];
