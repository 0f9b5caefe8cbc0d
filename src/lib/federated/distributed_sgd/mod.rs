//! Trains by stochastic gradient descent over several ranks: each batch is cut into a shard a rank,
//! and the shards' gradients are summed to the batch's, so that every form takes the steps of one
//! process: to float32 rounding, or to the bit where all cut batches into the same parts
//! ([`SgdSettings::parts`]).
//!
//! Networks with batch norm are an exception: each part has statistics of its own.
//!
//! [`run`] is a rank's whole part: `training` goes from batch to batch, `steps` takes the step of
//! each of the three forms ([`Method`]) and exchanges its messages, `gradients` computes a shard's
//! gradient and the sum of all. Called by the stage `distributed_sgd`.

mod gradients;
mod settings;
mod steps;
mod training;

pub use gradients::shard;
pub use settings::{Method, SgdSettings, Task};
pub use training::LossAt;

use super::ledger::Ledger;
use super::link::Link;
use super::transport::Rank;
use crate::error::{During, Result, is_whole};
use crate::model::Model;
use crate::train::{Callback, FitState};
use training::Training;

/// Holds what rank 0 has in the end.
#[derive(Debug)]
pub struct Trained {
    /// The trained model.
    pub model: Model,
    /// Number of batches of all epochs.
    pub steps: usize,
    /// What was sent and received in all steps together, as round 0; a node is a rank.
    pub ledger: Ledger,
}

/// Takes this rank's part in the run; returns `None` on other ranks than 0.
///
/// A run resumes from the `start` of rank 0; on other ranks `start` and `callback` do not matter
/// (`None`, `&mut ()`). The callback hears each mean loss as a round, and saves the run when it is
/// due, after the last batch, and when the run is stopped, as of the last whole batch.
///
/// # Errors
/// Fails when a loss is not finite (naming epoch and batch), when messages are not what they should
/// be, when ranks are lost or fail, and on Ctrl-C.
pub fn run(
    method: Method,
    settings: &SgdSettings,
    task: &Task,
    rank: &mut Rank,
    start: Option<&FitState>,
    callback: &mut dyn Callback<LossAt>,
) -> Result<Option<Trained>> {
    let link = Link::new(rank);
    if method == Method::Centralised && !link.is_server() {
        return Ok(None);
    }
    let mut training = Training::begin(method, settings, task, link, start)?;
    let result = training.train(callback);
    let is_server = training.link.is_server();
    if is_server && is_whole(&result) {
        let state = training.state()?;
        callback.save(&state).during(|| "saving the run")?;
    }
    result?;
    Ok(is_server.then(|| Trained {
        steps: training.link.complete,
        ledger: training.ledger,
        model: training.model,
    }))
}
