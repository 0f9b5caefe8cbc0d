//! The cases of `benches/cases.json`, which the Python side reads as well, and the weights and
//! images of a case.

use fed_distill::artifact::tensors;
use fed_distill::inversion::LossScales;
use fed_distill::model::{Model, ModelSettings, ModelSpec, Precision, StateDict};
use fed_distill::runtime::seed::{Rng, Seeds};
use fed_distill::{Error, Result};
use rand::Rng as _;
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor, no_grad};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Inversion,
    Training,
}

/// Which engine computes inversion steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Engine {
    Plain,
    Fused,
}

/// One entry of `steps`.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    pub task: Task,
    pub network: String,
    /// Images in a batch.
    pub batch: i64,
    /// Whether a student competes.
    pub student: bool,
    /// Learning rate of training; the optimiser's own default if none.
    pub lr: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Image {
    channels: i64,
    size: i64,
    classes: i64,
}

#[derive(Debug, Deserialize)]
struct Loss {
    l2_scale: f64,
    var_scale: f64,
    bn_scale: f64,
    comp_scale: f64,
}

#[derive(Debug, Deserialize)]
pub struct Cases {
    networks: BTreeMap<String, ModelSettings>,
    image: Image,
    loss: Loss,
    /// The cases of `make bench`.
    pub steps: BTreeMap<String, Case>,
    /// Those of `make gpu-check`.
    gpu: BTreeMap<String, Case>,
}

impl Cases {
    /// The cases of the file beside this folder.
    pub fn read() -> Result<Self> {
        serde_json::from_str(include_str!("../cases.json"))
            .map_err(|error| Error::failed(format!("benches/cases.json: {error}")))
    }

    pub fn get(&self, name: &str) -> Result<&Case> {
        let case = self.steps.get(name).or_else(|| self.gpu.get(name));
        case.ok_or_else(|| {
            let names = self.steps.keys().chain(self.gpu.keys());
            let names: Vec<_> = names.map(String::as_str).collect();
            Error::usage(format!("there is no case `{name}`")).note("available", names.join(", "))
        })
    }

    pub fn scales(&self) -> LossScales {
        LossScales {
            l2_scale: self.loss.l2_scale,
            var_scale: self.loss.var_scale,
            bn_scale: self.loss.bn_scale,
            comp_scale: self.loss.comp_scale,
        }
    }

    fn spec(&self, case: &Case) -> Result<ModelSpec> {
        let settings = self.networks.get(&case.network).ok_or_else(|| {
            Error::failed(format!(
                "benches/cases.json has no network `{}`",
                case.network
            ))
        })?;
        ModelSpec::new(
            settings,
            self.image.channels,
            self.image.size,
            self.image.classes,
        )
    }

    /// What a case computes on, in the host's memory. The same for every caller.
    pub fn make(&self, case: &Case) -> Result<Material> {
        let (spec, seeds) = (self.spec(case)?, Seeds::new(1));
        let mut rng = seeds.stream("benchmark/data", 0);
        let shape = [case.batch, spec.channels, spec.size, spec.size];
        let count = shape.iter().product::<i64>() as usize;
        let noise: Vec<f32> = StandardNormal.sample_iter(&mut rng).take(count).collect();
        let pixels: Vec<u8> = (0..count).map(|_| rng.random()).collect();
        let labels: Vec<i64> = (0..case.batch)
            .map(|_| rng.random_range(0..spec.classes))
            .collect();
        Ok(Material {
            teacher: lively(&spec, &mut seeds.stream("benchmark/teacher", 0))?,
            student: lively(&spec, &mut seeds.stream("benchmark/student", 0))?,
            images: Tensor::from_slice(&noise).view(shape),
            pixels: Tensor::from_slice(&pixels).view(shape),
            labels,
        })
    }
}

/// Networks and images of a case.
pub struct Material {
    pub teacher: Model,
    pub student: Model,
    /// f32 [N,C,H,W], standard normal.
    pub images: Tensor,
    /// u8 [N,C,H,W].
    pub pixels: Tensor,
    pub labels: Vec<i64>,
}

impl Material {
    /// Copies everything but the labels to `device`.
    ///
    /// # Errors
    /// What libtorch reports, such as too little memory.
    pub fn on(self, device: Device, precision: Precision) -> Result<Self> {
        let moved = |model: Model| {
            let model = Model::from_state(model.spec(), &model.state(), device)?;
            Ok::<_, fed_distill::Error>(model.with_precision(precision))
        };
        Ok(Self {
            teacher: moved(self.teacher)?,
            student: moved(self.student)?,
            images: self.images.f_to_device(device)?,
            pixels: self.pixels.f_to_device(device)?,
            labels: self.labels,
        })
    }

    /// Writes everything to `folder` as safetensors, for the Python side.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let none = BTreeMap::new();
        for (name, model) in [("teacher", &self.teacher), ("student", &self.student)] {
            let state: StateDict = model.state();
            let entries: Vec<_> = state.iter().collect();
            tensors::write(&folder.join(format!("{name}.safetensors")), &entries, &none)?;
        }
        let labels = Tensor::from_slice(&self.labels);
        let data = [
            ("images", &self.images),
            ("pixels", &self.pixels),
            ("labels", &labels),
        ];
        tensors::write(&folder.join("data.safetensors"), &data, &none)
    }
}

/// A random network whose batch norms scale, shift and remember something, as a trained one's do.
fn lively(spec: &ModelSpec, rng: &mut Rng) -> Result<Model> {
    let model = Model::new(spec, Device::Cpu, rng)?;
    let norms: Vec<String> = model
        .state()
        .iter()
        .filter_map(|(name, _)| name.strip_suffix(".running_mean").map(str::to_owned))
        .collect();
    let state = model.state();
    for norm in norms {
        for (field, centre, spread) in [
            ("weight", 1.0, 0.3),
            ("bias", 0.0, 0.3),
            ("running_mean", 0.0, 0.5),
            ("running_var", 1.0, 0.5),
        ] {
            let Some(tensor) = state.get(&format!("{norm}.{field}")) else {
                continue;
            };
            let values: Vec<f32> = (0..tensor.numel())
                .map(|_| centre + rng.random_range(-spread..spread))
                .collect();
            no_grad(|| tensor.shallow_clone().f_copy_(&Tensor::from_slice(&values)))?;
        }
    }
    Ok(model)
}
