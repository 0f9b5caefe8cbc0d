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

/// Holds the algorithm's settings.
#[derive(Clone, Debug)]
pub struct FedAvgSettings {
    /// Number of rounds.
    pub rounds: usize,
    /// C: the share of clients that take part in a round, at least one.
    pub fraction: f64,
    /// E: number of epochs of a client in a round.
    pub epochs: usize,
    /// B: number of images in a client's batch; with `None` all it has.
    pub batch_size: Option<usize>,
    /// The clients' optimiser, which starts afresh in each round.
    pub optimizer: OptimizerSettings,
    /// Random changes of training images.
    pub augment: AugmentSettings,
    /// The server's optimiser: its gradient is the weights minus the clients' mean. SGD at rate 1
    /// without momentum is plain averaging, with momentum FedAvgM, Adam FedAdam.
    pub server: OptimizerSettings,
    /// μ of FedProx; 0 leaves the term out.
    pub proximal: f64,
    /// What becomes of batch norm's running statistics.
    pub statistics: Statistics,
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
    /// Returns the model that everyone begins with. The shared seed draws it, so it costs no byte.
    pub(super) fn initial(&self) -> Result<Model> {
        let mut rng = self.seeds.stream("teacher/initialisation", 0);
        let model = Model::new(&self.spec, self.device, &mut rng)?;
        Ok(model.with_precision(self.precision))
    }
}
