//! Takes the server's part in a round: it has no model, only a mean to take.

use crate::error::{Error, Result};
use crate::federated::link::Answers;
use crate::federated::lower_rate;
use crate::model::{StateDict, weighted_mean};
use crate::runtime::read;
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
    match read(&scores.isfinite().all())? {
        true => Ok(scores.shallow_clone()),
        false => {
            Err(Error::failed(format!("the scores of {who} are not finite")).hint(lower_rate()))
        }
    }
}

/// Aggregate: returns the consensus as a message, the mean of the clients' scores f32 [images,
/// classes] (Li and Wang 2019, algorithm 1), summed in their order in f64. One client's is its own
/// scores.
///
/// # Errors
/// Fails when scores do not fit or are not finite (naming the node), and when there is not one
/// weight for each client.
pub(super) fn consensus(
    messages: &Answers<1>,
    shape: [i64; 2],
    weights: Option<&[f64]>,
) -> Result<StateDict> {
    let checked = |(node, [sent]): (&usize, &[StateDict; 1])| {
        let scores = scores(sent, shape, &format!("node {node}"))?;
        Ok(message(scores))
    };
    let checked: Vec<StateDict> = messages.iter().map(checked).collect::<Result<_>>()?;
    let equal = vec![1.0; checked.len()];
    weighted_mean(
        &checked.iter().collect::<Vec<_>>(),
        weights.unwrap_or(&equal),
    )
}
