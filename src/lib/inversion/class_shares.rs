//! Estimates how large a part each class had in a teacher's training images, from its answers
//! alone. Called by the server's stages for clients that keep their label counts to themselves.

use super::start;
use super::teacher_cache::Loaded;
use crate::data::Normalisation;
use crate::error::Result;
use crate::runtime::seed::Seeds;
use tch::{Kind, Tensor};

/// Number of pictures that a teacher is asked for.
const PICTURES: usize = 1024;
/// Pictures in a batch of them.
const BATCH: usize = 128;

/// Returns the estimated share of each class in a teacher's training images; they add up to one.
///
/// It is the mean of the teacher's softmaxes over pictures of shapes (see
/// [`Start::Shapes`](super::Start)). Over the images that a teacher was trained on the mean of
/// p(c|x) is the prior of class c; pictures of shapes show nothing of any class, and on them it
/// comes near. The pictures are the same for all teachers of one shape, and in all runs.
///
/// # Errors
/// Fails as libtorch does.
///
/// ```
/// use fed_distill::data::Normalisation;
/// use fed_distill::inversion::{Loaded, estimate_class_shares};
/// use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use tch::Device;
///
/// # fn main() -> fed_distill::Result<()> {
/// let settings = ModelSettings { kind: ModelKind::Linear, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 3)?;
/// let mut rng = Seeds::new(42).stream("initialisation", 0);
/// let teacher = Loaded::new(Model::new(&spec, Device::Cpu, &mut rng)?);
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let shares = estimate_class_shares(&teacher, &normalisation)?;
/// assert_eq!(shares.len(), 3);
/// assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
pub fn estimate_class_shares(teacher: &Loaded, normalisation: &Normalisation) -> Result<Vec<f64>> {
    let (spec, device) = (teacher.model.spec(), teacher.model.device());
    let mut rng = Seeds::new(0).stream("class_shares", 0);
    let mut sum = Tensor::zeros([spec.classes], (Kind::Double, device));
    for _ in 0..PICTURES / BATCH {
        let pictures = start::pictures(BATCH, spec, normalisation, device, &mut rng);
        let softmax = teacher.predict(&pictures).softmax(1, Kind::Double);
        sum += softmax.sum_dim_intlist(0i64, false, Kind::Double);
    }
    Ok(Vec::try_from(sum / PICTURES as f64)?)
}
