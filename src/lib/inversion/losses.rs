//! Computes the loss terms of DeepInversion and Adaptive DeepInversion (Yin et al. 2020,
//! arXiv:1912.08795, eq. 1–8), with the norms (not squared norms) and the constants of its CIFAR-10
//! release. Each function maps tensors to a scalar tensor with its graph. Called by
//! [`super::objective`].

use super::teacher::LabelMask;
use crate::model::BatchNorm;
use tch::{Kind, Reduction, Tensor};

/// The temperature of the softmaxes that [`jensen_shannon`] compares.
pub const COMPETITION_TEMPERATURE: f64 = 3.0;

/// Returns the Euclidean norm of all values.
pub fn norm(x: &Tensor) -> Tensor {
    x.norm_scalaropt_dtype(2.0, Kind::Float)
}

/// Returns the total variation of images `[N,C,H,W]` in four directions (right, down, both
/// diagonals): a sum of four norms, each over the whole batch (eq. 2).
pub fn total_variation(x: &Tensor) -> Tensor {
    let (height, width) = (x.size()[2], x.size()[3]);
    let cut = |rows: (i64, i64), columns: (i64, i64)| {
        x.slice(2, rows.0, rows.1, 1)
            .slice(3, columns.0, columns.1, 1)
    };
    let (all_rows, all_columns) = ((0, height), (0, width));
    let (top, bottom) = ((0, height - 1), (1, height));
    let (left, right) = ((0, width - 1), (1, width));
    norm(&(cut(all_rows, left) - cut(all_rows, right)))
        + norm(&(cut(top, all_columns) - cut(bottom, all_columns)))
        + norm(&(cut(bottom, left) - cut(top, right)))
        + norm(&(cut(top, left) - cut(bottom, right)))
}

/// Returns one layer's distance ‖running_var − var‖ + ‖running_mean − mean‖ (eq. 4) between the
/// running statistics and those of the layer's input `[N,C,H,W]` (or `[N,C]`) over all dimensions
/// but channels, with the biased variance, in float32.
///
/// The variance is computed around the running mean, where both moments are small differences: two
/// cheap means instead of libtorch's `var_mean`, which is ten times slower on a CPU, without the
/// cancellation of a mean of squares around zero.
pub fn feature_distance(layer: &BatchNorm, input: &Tensor) -> Tensor {
    let channels = input.size()[1];
    let mut shape = vec![1; input.dim()];
    shape[1] = channels;
    let dims: Vec<i64> = (0..input.dim() as i64).filter(|&dim| dim != 1).collect();
    let centred = input.to_kind(Kind::Float) - layer.running_mean.view(&shape[..]);
    let shift = centred.mean_dim(&dims[..], false, Kind::Float);
    let variance = centred.square().mean_dim(&dims[..], false, Kind::Float) - shift.square();
    norm(&(&layer.running_var - variance)) + norm(&shift)
}

/// Returns the mean cross-entropy of logits `[N,classes]` with labels i64 `[N]`; with a mask, over
/// its classes only and with its weights.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, mask: Option<&LabelMask>) -> Tensor {
    let Some(mask) = mask else {
        return logits.cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, 0.0);
    };
    let (indices, weights) = mask.targets(labels);
    let each = mask.columns(logits).cross_entropy_loss(
        &indices,
        None::<&Tensor>,
        Reduction::None,
        -100,
        0.0,
    );
    // PyTorch's weighted mean; a batch none of whose labels the teacher knows contributes nothing
    // instead of 0/0.
    (each * &weights).sum(Kind::Float) / weights.sum(Kind::Float).clamp_min(1e-12)
}

/// Returns the Jensen-Shannon divergence of two batches of logits `[N,classes]` at temperature 3,
/// averaged over the batch (eq. 7), as the CIFAR-10 release computes it: ½ KL(m ‖ p) + ½ KL(m ‖ q)
/// with the mean m, whose arguments eq. 7 has the other way round; probabilities and their mean are
/// clamped to 0.01..0.99, the result to 0..1, beyond which its gradient vanishes.
///
/// It is computed in float64: for predictions that are nearly equal it is a small difference of
/// logarithms, and the matrices are tiny.
pub fn jensen_shannon(teacher: &Tensor, student: &Tensor) -> Tensor {
    let soften = |logits: &Tensor| (logits / COMPETITION_TEMPERATURE).softmax(1, Kind::Double);
    let (p, q) = (soften(teacher), soften(student));
    let mean = ((&p + &q) * 0.5).clamp(0.01, 0.99);
    let (p, q) = (p.clamp(0.01, 0.99), q.clamp(0.01, 0.99));
    // kl_div(log a, b) of PyTorch is Σ b (log b − log a).
    let divergence = |a: &Tensor| {
        let rows = mean.size()[0] as f64;
        (&mean * (mean.log() - a.log())).sum(Kind::Double) / rows
    };
    ((divergence(&p) + divergence(&q)) * 0.5)
        .clamp(0.0, 1.0)
        .to_kind(Kind::Float)
}

/// Returns the Shannon entropy −Σ p log p (in nats) of softmax(logits) `[N,classes]`, averaged over
/// the batch; with a mask, over its classes only.
///
/// It is the term of the public Python project's `ADIEntropyLoss`, where p is another teacher's
/// prediction over the classes of the teacher that makes the batch, and the loss grows with the
/// entropy.
pub fn entropy(logits: &Tensor, mask: Option<&LabelMask>) -> Tensor {
    let kept = mask.map(|mask| mask.columns(logits));
    let log_probabilities = kept.as_ref().unwrap_or(logits).log_softmax(1, Kind::Float);
    let rows = logits.size()[0] as f64;
    -(log_probabilities.exp() * log_probabilities).sum(Kind::Float) / rows
}

/// Returns the highest probability in softmax(logits) `[N,classes]` of a class that is not the
/// label (i64 `[N]`), averaged over the batch. For a teacher that the batch is not made from, that
/// class is the one it finds most similar to the target. A teacher's relative probabilities of
/// wrong classes are its measure of similarity (Hinton et al. 2015, arXiv:1503.02531), which needs
/// no images and no common last layer. With a mask, only its classes count; if there are none, the
/// term is 0.
pub fn rival(logits: &Tensor, labels: &Tensor, mask: Option<&LabelMask>) -> Tensor {
    let probabilities = logits.softmax(1, Kind::Float);
    let wrong: Tensor = 1.0 - labels.one_hot(logits.size()[1]).to_kind(Kind::Float);
    let candidates: Tensor = match mask {
        Some(mask) => wrong * mask.kept(),
        None => wrong,
    };
    (probabilities * candidates)
        .amax([1i64], false)
        .mean(Kind::Float)
}
