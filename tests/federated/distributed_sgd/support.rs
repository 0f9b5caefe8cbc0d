//! Something to learn on several ranks, and what came of it.

use crate::machine::device;
pub use crate::support::on_ranks;
use fed_distill::Result;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::federated::Ledger;
use fed_distill::federated::distributed_sgd::{LossAt, Method, SgdSettings, Task, Trained, run};
use fed_distill::federated::transport::Rank;
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, Precision, StateDict};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{AugmentSettings, Callback, FitState, OptimizerSettings};
use std::sync::Mutex;
use tch::Tensor;

pub const SIZE: i64 = 16;

pub fn spec() -> ModelSpec {
    let model = ModelSettings {
        kind: ModelKind::Lenet5Unpadded,
        width: None,
        blocks: None,
    };
    ModelSpec::new(&model, 1, SIZE, 5).unwrap()
}

/// Images with something to learn: a bright square in a place that the label decides, on noise.
pub fn images(count: usize) -> ImageSet {
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
    ImageSet::new(
        Tensor::from_slice(&pixels)
            .view([count as i64, 1, SIZE, SIZE])
            .to_device(device()),
        labels,
    )
    .unwrap()
}

pub fn normalisation() -> Normalisation {
    Normalisation {
        mean: vec![0.2],
        std: vec![0.2],
    }
}

pub fn settings(batch_size: usize, report_every: usize) -> SgdSettings {
    SgdSettings {
        epochs: 3,
        batch_size,
        parts: 1,
        optimizer: OptimizerSettings::sgd(0.01, 0.9),
        augment: AugmentSettings {
            crop: 1,
            flip: false,
        },
        report_every,
    }
}

/// Decides weights and batches.
pub fn seeds() -> Seeds {
    Seeds::new(3)
}

/// With the weights that every run begins with.
pub fn initial() -> Model {
    Model::new(
        &spec(),
        device(),
        &mut seeds().stream("teacher/initialisation", 0),
    )
    .unwrap()
}

/// One rank's part, on its own copy of `count` images, as processes would.
pub fn part(
    spec: &ModelSpec,
    method: Method,
    settings: &SgdSettings,
    count: usize,
    rank: &mut Rank,
    start: Option<&FitState>,
    callback: &mut dyn Callback<LossAt>,
) -> Result<Option<Trained>> {
    let (set, normalisation) = (images(count), normalisation());
    let task = Task {
        spec: spec.clone(),
        device: device(),
        precision: Precision::F32,
        train: &set,
        normalisation: &normalisation,
        seeds: seeds(),
    };
    run(method, settings, &task, rank, start, callback)
}

/// Rank 0's losses, weights and bytes.
pub type Result0 = (Vec<LossAt>, StateDict, Ledger);

pub fn trained(method: Method, ranks: usize, settings: &SgdSettings, count: usize) -> Result0 {
    saved(&spec(), method, ranks, settings, count, None, usize::MAX).0
}

/// Keeps the losses, and a copy of the run as it is before step `at`.
struct Keeper {
    at: usize,
    step: usize,
    losses: Vec<LossAt>,
    kept: Option<FitState>,
}

impl Callback<LossAt> for Keeper {
    fn step(&mut self) {
        self.step += 1;
    }

    fn report(&mut self, _: Option<&Model>, at: &LossAt) -> Result<()> {
        self.losses.push(*at);
        Ok(())
    }

    fn due(&self) -> bool {
        self.step == self.at
    }

    fn save(&mut self, state: &FitState) -> Result<()> {
        if self.due() {
            self.kept = Some(state.copy());
        }
        Ok(())
    }
}

/// A run from `start` on, and what is saved of it before its step `at`.
pub fn saved(
    spec: &ModelSpec,
    method: Method,
    ranks: usize,
    settings: &SgdSettings,
    count: usize,
    start: Option<FitState>,
    at: usize,
) -> (Result0, Option<FitState>) {
    let start = Mutex::new(start);
    let results = on_ranks(ranks, |rank| {
        tch::set_num_threads(1);
        let mut keeper = Keeper {
            at,
            step: 0,
            losses: Vec::new(),
            kept: None,
        };
        let start = if rank.number() == 0 {
            start.lock().unwrap().take()
        } else {
            None
        };
        let start = start.as_ref();
        let outcome = part(spec, method, settings, count, rank, start, &mut keeper)?;
        assert_eq!(outcome.is_some(), rank.number() == 0);
        let outcome = outcome.map(|outcome| {
            (
                keeper.losses,
                outcome.model.state().deep_clone(),
                outcome.ledger,
            )
        });
        Ok((outcome, keeper.kept))
    });
    let (outcome, kept) = results.unwrap().swap_remove(0);
    (outcome.unwrap(), kept)
}
