//! Images, networks and numbers of small federations, and the training loop that their nodes are
//! held against.

use crate::machine::device;
use fed_distill::Result;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::federated::transport::{Rank, TIMEOUT, lead};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, StateDict};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, Callback, CrossEntropy, EpochReport, FitSettings, OptimizerSettings,
    ScheduleSettings, Shuffled, fit,
};
use std::sync::Mutex;
use tch::{Device, Kind as Type, Tensor};

pub const CLASSES: i64 = 3;

/// Runs `work` on `ranks` ranks, which are threads, and returns their results in order.
pub fn on_ranks<T: Send>(
    ranks: usize,
    work: impl Fn(&mut Rank) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let results: Vec<Mutex<Option<T>>> = (0..ranks).map(|_| Mutex::new(None)).collect();
    let work = |rank: &mut Rank| {
        let result = work(rank)?;
        *results[rank.number()].lock().unwrap() = Some(result);
        Ok(())
    };
    lead(TIMEOUT, vec![(); ranks - 1], work, |(), rank| work(rank))?;
    let results = results.into_iter();
    Ok(results
        .map(|result| result.into_inner().unwrap().unwrap())
        .collect())
}

pub fn spec(kind: ModelKind) -> ModelSpec {
    let residual = kind == ModelKind::Resnet18;
    let model = ModelSettings {
        kind,
        width: residual.then_some(4),
        blocks: residual.then(|| vec![1]),
    };
    ModelSpec::new(&model, 1, 8, CLASSES).unwrap()
}

/// The images of the oracle's script: `count` of them from `first` on.
pub fn images(first: usize, count: usize) -> ImageSet {
    let pixels: Vec<u8> = (first * 64..(first + count) * 64)
        .map(|i| (i * 37 % 251) as u8)
        .collect();
    let labels = (first..first + count)
        .map(|i| (i * 5 % 7 % 3) as i64)
        .collect();
    ImageSet::new(
        Tensor::from_slice(&pixels)
            .view([count as i64, 1, 8, 8])
            .to_device(device()),
        labels,
    )
    .unwrap()
}

pub fn normalisation() -> Normalisation {
    Normalisation {
        mean: vec![0.5],
        std: vec![0.25],
    }
}

pub fn sgd(lr: f64, momentum: f64) -> OptimizerSettings {
    OptimizerSettings::sgd(lr, momentum)
}

pub fn initial(kind: ModelKind, node: usize) -> Model {
    let mut rng = Seeds::new(5).stream("teacher/initialisation", node as u64);
    Model::new(&spec(kind), device(), &mut rng).unwrap()
}

pub fn difference(a: &StateDict, b: &StateDict) -> f64 {
    let double = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Type::Double);
    let of = |(name, tensor): (&str, &Tensor)| {
        let other = b.get(name).unwrap();
        f64::try_from((double(tensor) - double(other)).abs().max()).unwrap()
    };
    assert_eq!(a.len(), b.len());
    a.iter().map(of).fold(0.0, f64::max)
}

/// The training loop itself, at a constant rate.
pub struct Passes<'a> {
    pub epochs: usize,
    pub batch_size: usize,
    pub optimizer: &'a OptimizerSettings,
    pub augment: &'a AugmentSettings,
    pub normalisation: &'a Normalisation,
    pub seeds: Seeds,
    pub purpose: &'a str,
}

impl Passes<'_> {
    /// Trains `model`; the mean loss of each epoch.
    pub fn over(&self, set: &ImageSet, model: &mut Model) -> Vec<f64> {
        let (augment, purpose) = (self.augment.clone(), self.purpose.to_owned());
        let mut source = Shuffled::new(
            set,
            self.normalisation,
            augment,
            self.batch_size,
            self.seeds,
            purpose,
        );
        let fitting = FitSettings {
            epochs: self.epochs,
            optimizer: self.optimizer.clone(),
            schedule: ScheduleSettings::Constant,
        };
        let mut losses = Losses(Vec::new());
        fit(
            model,
            &mut source,
            &CrossEntropy::default(),
            &fitting,
            None,
            &mut losses,
        )
        .unwrap();
        losses.0
    }
}

struct Losses(Vec<f64>);

impl Callback for Losses {
    fn epoch(&mut self, _: &Model, report: &EpochReport) -> Result<()> {
        self.0.push(report.train_loss);
        Ok(())
    }
}
