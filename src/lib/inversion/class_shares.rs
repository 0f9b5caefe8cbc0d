//! Estimates how large a part each class had in a teacher's training images, from its weights
//! alone. Called by the server's stages for clients that keep their label counts to themselves, or
//! for all if the config asks no card.

use crate::error::{Error, Result};
use crate::model::Model;
use tch::Kind;

/// The power of the norms that is taken for the shares: 4 to 8 were alike on held-out images.
const POWER: f64 = 6.0;
/// Keeps the sum of the powers above zero.
const SHORTEST: f64 = 1e-30;

/// Returns the estimated share of each class in a teacher's training images; they add up to one.
///
/// The last layer has a row of weights for each class. Each image of a class pulls its row away
/// from those of the others, so that rows of frequent classes are long (Kang et al. 2020,
/// *Decoupling Representation and Classifier for Long-Tailed Recognition*, arXiv:1910.09217), and
/// the row of a class that was never there keeps about the length that it was initialised with. The
/// share of class c is taken as ‖w_c‖⁶ over the sum of all. A teacher that has hardly been trained
/// gives equal shares, as one whose rows are all zero does.
///
/// # Errors
/// Fails when no layer of the model has a row of weights for each class.
///
/// ```
/// use fed_distill::inversion::estimate_class_shares;
/// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use tch::Device;
///
/// # fn main() -> fed_distill::Result<()> {
/// let settings = ModelSettings { kind: ModelKind::Linear, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 3)?;
/// let mut rng = Seeds::new(42).stream("initialisation", 0);
/// let shares = estimate_class_shares(&Model::new(&spec, Device::Cpu, &mut rng)?)?;
/// assert_eq!(shares.len(), 3);
/// assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
pub fn estimate_class_shares(model: &Model) -> Result<Vec<f64>> {
    let (state, classes) = (model.state(), model.spec().classes);
    let rows = |size: &[i64]| matches!(size, [rows, _] if *rows == classes);
    let last = state
        .iter()
        .filter(|(_, tensor)| rows(&tensor.size()))
        .last();
    let Some((_, weights)) = last else {
        return Err(Error::failed(format!(
            "no layer of {} has a row of weights for each class",
            model.spec().model
        )));
    };
    let norms = weights
        .to_kind(Kind::Double)
        .norm_scalaropt_dim(2.0, [1i64], false);
    let powers = norms.clamp_min(SHORTEST).pow_tensor_scalar(POWER);
    Ok(Vec::try_from(&powers / powers.sum(Kind::Double))?)
}
