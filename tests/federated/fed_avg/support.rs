//! Small federations, and what came of them.

pub use crate::support::*;

use crate::machine::device;
use fed_distill::Result;
use fed_distill::data::Normalisation;
use fed_distill::federated::Ledger;
use fed_distill::federated::fed_avg::{
    self, FedAvgSettings, Federation, NodeData, RoundReport, Statistics, Task,
};
use fed_distill::model::{Model, ModelKind, Precision, StateDict};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{AugmentSettings, Callback, FitState};
use std::sync::Mutex;

/// Nodes of these many images, dealt in order.
pub fn federation<'a>(
    kind: ModelKind,
    sizes: &[usize],
    normalisation: &'a Normalisation,
) -> Federation<'a> {
    let mut first = 0;
    let node = |&count: &usize| {
        let train = images(first, count);
        first += count;
        NodeData {
            train,
            test: images(100, 5),
        }
    };
    let task = Task {
        spec: spec(kind),
        device: device(),
        precision: Precision::F32,
        normalisation,
        seeds: Seeds::new(5),
        eval_batch_size: 64,
    };
    Federation {
        task,
        nodes: sizes.iter().map(node).collect(),
    }
}

/// One round of everybody, plain averaging, one epoch in one batch.
pub fn plain() -> FedAvgSettings {
    FedAvgSettings {
        rounds: 1,
        fraction: 1.0,
        epochs: 1,
        batch_size: None,
        optimizer: sgd(0.1, 0.0),
        augment: AugmentSettings {
            crop: 0,
            flip: false,
        },
        server: sgd(1.0, 0.0),
        proximal: 0.0,
        statistics: Statistics::Average,
    }
}

/// Keeps everything.
#[derive(Default)]
pub struct Log {
    pub ledgers: Vec<Ledger>,
    pub nodes: Vec<Vec<usize>>,
    pub saved: Option<FitState>,
}

impl Callback<RoundReport> for Log {
    fn report(&mut self, _: Option<&Model>, report: &RoundReport) -> Result<()> {
        self.ledgers.push(report.ledger.clone());
        self.nodes
            .push(report.nodes.iter().map(|node| node.node).collect());
        Ok(())
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        self.saved = Some(state.copy());
        Ok(())
    }
}

/// Runs on `ranks` ranks, on nodes of `sizes` images; the global weights and what rank 0 logged.
/// Every rank has its own copy of the data, as processes would.
pub fn run(
    settings: &FedAvgSettings,
    kind: ModelKind,
    sizes: &[usize],
    ranks: usize,
    start: Option<FitState>,
) -> Result<(StateDict, Log)> {
    let start = Mutex::new(start);
    let mut results = on_ranks(ranks, |rank| {
        tch::set_num_threads(1);
        let normalisation = normalisation();
        let federation = federation(kind, sizes, &normalisation);
        let start = if rank.number() == 0 {
            start.lock().unwrap().take()
        } else {
            None
        };
        let mut log = Log::default();
        let model = fed_avg::run(settings, &federation, rank, start.as_ref(), &mut log)?;
        Ok((model.map(|model| model.state().deep_clone()), log))
    })?;
    let (state, log) = results.swap_remove(0);
    Ok((state.unwrap(), log))
}
