//! Stochastic gradient descent over several ranks: each batch is cut into a shard a rank, and the
//! shards' gradients are summed to the batch's, so that every form takes the steps of one process:
//! to float32 rounding, or to the bit where all cut batches into the same parts
//! ([`SgdSettings::parts`]).
//!
//! Networks with batch norm are an exception: each part has statistics of its own.
//!
//! [`run`] is a rank's whole part. Its course from batch to batch, with losses, saving and going
//! on, is in `course`; the step that a rank takes in each of the three forms ([`Method`]) and what
//! it sends and receives there, in `rank`; a shard's gradient and the sum of all, in `gradients`.
//! Called by the stage `distributed_sgd`.

mod course;
mod gradients;
mod rank;
mod settings;

pub use course::{LossAt, Notes};
pub use gradients::shard;
pub use settings::{Method, SgdSettings, Task};

use super::ledger::Ledger;
use super::link::Link;
use super::transport::Transport;
use crate::error::{During, Result, is_whole};
use crate::model::Model;
use crate::train::FitState;
use course::Course;

/// What rank 0 has in the end.
#[derive(Debug)]
pub struct Outcome {
    pub model: Model,
    /// Batches of all epochs.
    pub steps: usize,
    pub losses: Vec<LossAt>,
    /// All steps together, as round 0; a node is a rank.
    pub ledger: Ledger,
}

/// What listens to rank 0.
pub trait Steps {
    /// After each batch.
    fn step(&self) {}

    /// After each mean loss.
    ///
    /// # Errors
    /// Ends the run.
    fn loss(&mut self, at: LossAt) -> Result<()> {
        let _ = at;
        Ok(())
    }

    /// Whether the run should be saved now; asked before each batch.
    fn due(&self) -> bool {
        false
    }

    /// Saves the run: when it is due, when the user interrupts it and when all batches are done.
    ///
    /// # Errors
    /// Ends the run.
    fn save(&mut self, state: &FitState, notes: &Notes) -> Result<()> {
        let _ = (state, notes);
        Ok(())
    }
}

/// Hears nothing, saves nothing.
impl Steps for () {}

/// Runs this rank's part; `None` on other ranks than 0. A run goes on from the `start` of rank 0;
/// on other ranks `start` and `observer` do not matter (`None`, `&mut ()`).
///
/// # Errors
/// A loss that is not finite (names epoch and batch), messages that are not what they should be,
/// ranks that are gone or fail, Ctrl-C (both saved as of the last batch).
pub fn run(
    method: Method,
    settings: &SgdSettings,
    task: &Task,
    transport: &mut dyn Transport,
    start: Option<(FitState, Notes)>,
    observer: &mut dyn Steps,
) -> Result<Option<Outcome>> {
    let link = Link::new(transport);
    if method == Method::Centralised && !link.is_server() {
        return Ok(None);
    }
    let mut course = Course::begin(method, settings, task, link, start)?;
    let outcome = course.train(observer);
    if course.leads() && is_whole(&outcome) {
        course.save(observer).during(|| "saving the run")?;
    }
    outcome?;
    Ok(course.leads().then(|| course.end()))
}
