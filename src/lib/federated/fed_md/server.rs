//! The server's part in a round: it has no model, only a mean to take.

use crate::error::{Error, Result};
use crate::model::{StateDict, weighted_mean};
use tch::{Kind, Tensor};

/// The name under which scores travel.
const NAME: &str = "scores";

/// Returns scores f32 [images, classes] as a message.
pub(super) fn message(scores: Tensor) -> StateDict {
    StateDict::new(vec![(NAME.into(), scores)])
}

/// Returns the scores of a message, which must be f32 of `shape` and finite. `who` sent it.
pub(super) fn scores(message: &StateDict, shape: [i64; 2], who: &str) -> Result<Tensor> {
    let fits = |scores: &&Tensor| scores.size() == shape && scores.kind() == Kind::Float;
    let Some(scores) = message.get(NAME).filter(fits) else {
        let text = |(name, tensor): (&str, &Tensor)| {
            format!("{name} {:?} of {:?}", tensor.size(), tensor.kind())
        };
        return Err(Error::failed(format!("the scores of {who} do not fit"))
            .note("expected", format!("{NAME} {shape:?} of Float"))
            .note(
                "found",
                message.iter().map(text).collect::<Vec<_>>().join(", "),
            ));
    };
    match bool::try_from(scores.isfinite().all())? {
        true => Ok(scores.shallow_clone()),
        false => Err(Error::failed(format!("the scores of {who} are not finite"))
            .hint("lower the learning rate (`optimizer.lr`)")),
    }
}

/// Aggregate: returns the consensus as a message, the mean of the clients' scores f32 [images,
/// classes] (Li and Wang 2019, algorithm 1), summed in their order in f64. One client's is its own
/// scores.
///
/// # Errors
/// Scores of different shapes, weights that do not fit.
pub fn consensus(scores: Vec<Tensor>, weights: Option<&[f64]>) -> Result<StateDict> {
    let messages: Vec<StateDict> = scores.into_iter().map(message).collect();
    let equal = vec![1.0; messages.len()];
    weighted_mean(
        &messages.iter().collect::<Vec<_>>(),
        weights.unwrap_or(&equal),
    )
}
