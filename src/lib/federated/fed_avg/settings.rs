//! How federated averaging goes, and what it goes on with.

use crate::data::Normalisation;
use crate::federated::NodeData;
use crate::model::ModelSpec;
use crate::runtime::seed::Seeds;
use crate::train::{AugmentSettings, OptimizerSettings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Device;

/// What becomes of batch norm's running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Statistics {
    /// Averaged with the weights.
    Average,
    /// Each node keeps its own, and they do not travel (after FedBN, Li et al. 2021,
    /// arXiv:2102.07623, which keeps weight and bias of batch norm as well). The global model then
    /// has no statistics to be tested with.
    Local,
}

/// The algorithm's settings.
#[derive(Clone, Debug)]
pub struct FedAvgSettings {
    pub rounds: usize,
    /// C: the share of nodes that take part in a round, at least one.
    pub fraction: f64,
    /// E: epochs of a node in a round.
    pub epochs: usize,
    /// B: images in a node's batch; `None`: all it has.
    pub batch_size: Option<usize>,
    /// The nodes' optimiser, which starts afresh in each round.
    pub optimizer: OptimizerSettings,
    pub augment: AugmentSettings,
    /// The server's optimiser: its gradient is the weights minus the nodes' mean. SGD at rate 1
    /// without momentum is plain averaging, with momentum FedAvgM, Adam FedAdam.
    pub server: OptimizerSettings,
    /// μ of FedProx; 0: none.
    pub proximal: f64,
    pub statistics: Statistics,
}

/// All that the ranks share from the start.
#[derive(Debug)]
pub struct Federation<'a> {
    pub spec: ModelSpec,
    pub device: Device,
    pub nodes: Vec<NodeData>,
    pub normalisation: &'a Normalisation,
    pub seeds: Seeds,
    pub eval_batch_size: usize,
}
