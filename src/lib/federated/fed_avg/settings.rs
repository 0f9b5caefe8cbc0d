//! Defines the settings of federated averaging, and what it works on.

use crate::data::Normalisation;
use crate::error::Result;
use crate::federated::NodeData;
use crate::federated::node::parameters_and_buffers;
use crate::model::{Model, ModelSpec, Precision, StateDict};
use crate::runtime::seed::Seeds;
use crate::train::{AugmentSettings, OptimizerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

/// What becomes of batch norm's running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// They are averaged with the weights.
    Average,
    /// Each client keeps its own, and they do not travel (after FedBN, Li et al. 2021,
    /// arXiv:2102.07623, which keeps weight and bias of batch norm as well). The global model then
    /// has no statistics to be tested with.
    Local,
}

impl Statistics {
    /// Divides the state of `model` into what travels and what a client keeps, as views.
    pub(super) fn divide(self, model: &Model) -> (StateDict, StateDict) {
        match self {
            Self::Average => (model.state(), StateDict::default()),
            Self::Local => parameters_and_buffers(model),
        }
    }
}

/// Holds the algorithm's settings. E, B and C are the letters of McMahan et al. 2017.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct FedAvgSettings {
    /// Number of communication rounds.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rounds: usize,
    /// Share of the clients that take part in a round, at least one client (C).
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub fraction: f64,
    /// Passes of a client over its images in a round (E).
    #[schemars(range(min = 1))]
    pub epochs: usize,
    /// Images in a client's batch (B); `null`: all it has.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub batch_size: Option<usize>,
    /// The clients' optimiser; its moments start afresh in each round.
    pub optimizer: OptimizerSettings,
    /// Augmentation of the clients' images.
    pub augment: AugmentSettings,
    /// The server's optimiser, whose gradient is the weights minus the clients' mean: `sgd` at rate
    /// 1 without momentum is plain averaging, with momentum FedAvgM, `adam` FedAdam.
    pub server: OptimizerSettings,
    /// Weight μ of FedProx's term μ/2·‖w − w₀‖²; 0 leaves it out.
    #[schemars(range(min = 0))]
    pub proximal: f64,
    /// Batch norm's running statistics: averaged with the weights, or each client's own.
    pub statistics: Statistics,
}

impl Default for FedAvgSettings {
    fn default() -> Self {
        Self {
            rounds: 10,
            fraction: 1.0,
            epochs: 1,
            batch_size: Some(64),
            optimizer: OptimizerSettings::sgd(0.1, 0.0),
            augment: AugmentSettings::default(),
            server: OptimizerSettings::sgd(1.0, 0.0),
            proximal: 0.0,
            statistics: Statistics::Average,
        }
    }
}

/// Holds what server and clients must agree on beside the settings.
#[derive(Debug)]
pub struct Task<'a> {
    /// The models' architecture.
    pub spec: ModelSpec,
    /// Where the models compute.
    pub device: Device,
    /// What the models' convolutions are computed in.
    pub precision: Precision,
    /// Normalisation of the images.
    pub normalisation: &'a Normalisation,
    /// Source of all random numbers.
    pub seeds: Seeds,
    /// Number of images that are evaluated at a time.
    pub eval_batch_size: usize,
}

/// Holds a federation in simulation.
#[derive(Debug)]
pub struct Federation<'a> {
    /// What all agree on.
    pub task: Task<'a>,
    /// The images of all clients, by node.
    pub nodes: Vec<NodeData>,
}

impl Task<'_> {
    /// Returns the model that everyone begins with. All parties could draw it from the shared seed;
    /// it is handed out in the first round nevertheless, and counted.
    pub(super) fn initial(&self) -> Result<Model> {
        let mut rng = self.seeds.stream("teacher/initialisation", 0);
        let model = Model::new(&self.spec, self.device, &mut rng)?;
        Ok(model.with_precision(self.precision))
    }
}
