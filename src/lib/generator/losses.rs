//! Computes the terms of a generator's loss that inversion does not have. Each function maps
//! tensors to a scalar tensor with its graph. Called by
//! [`GeneratorObjective`](super::GeneratorObjective).

use tch::{Kind, Tensor, no_grad};

/// Returns the cross-entropy of `joint`, log-probabilities f32 `[N,classes]`, with `labels` i64
/// `[N]`, a mean over images of which each is weighted with (1 − p)^`hardness`, where p is the
/// probability of its label, taken as a constant (Dai et al. 2024, arXiv:2402.15070, eq. 8).
pub fn cross_entropy(joint: &Tensor, labels: &Tensor, hardness: f64) -> Tensor {
    if hardness == 0.0 {
        return joint.nll_loss(labels);
    }
    let own = joint.gather(1, &labels.unsqueeze(1), false).squeeze_dim(1);
    let weights = no_grad(|| {
        let missing: Tensor = 1.0 - own.exp();
        missing.clamp_min(0.0).pow_tensor_scalar(hardness)
    });
    -(own * weights).mean(Kind::Float)
}

/// Returns T² · KL(joint ‖ student) at temperature T, a mean over images: `joint` are
/// log-probabilities f32 `[N,classes]` at that temperature, and `student` logits. With
/// `disagreeing`, an image counts only if the two predict different classes, and the mean is still
/// over all images (Zhang et al. 2022, arXiv:2112.12371, eq. 4).
pub fn divergence(joint: &Tensor, student: &Tensor, temperature: f64, disagreeing: bool) -> Tensor {
    let log_student = (student / temperature).log_softmax(1, Kind::Float);
    let each = (joint.exp() * (joint - log_student)).sum_dim_intlist(1i64, false, Kind::Float);
    let counted = match disagreeing {
        true => {
            let differs = joint.argmax(1, false).ne_tensor(&student.argmax(1, false));
            each * differs.to_kind(Kind::Float)
        }
        false => each,
    };
    counted.mean(Kind::Float) * (temperature * temperature)
}

/// Returns the mean absolute value of `features` f32 `[N,F]` (Chen et al. 2019, arXiv:1904.01186,
/// eq. 4: images of classes that a network knows excite its filters).
pub fn activation(features: &Tensor) -> Tensor {
    features.abs().mean(Kind::Float)
}

/// Returns the entropy −Σ p̄ log p̄, in nats, of the mean p̄ over images of `joint`,
/// log-probabilities f32 `[N,classes]` (Chen et al. 2019, arXiv:1904.01186, eq. 5).
pub fn information(joint: &Tensor) -> Tensor {
    let mean = joint.exp().mean_dim(0i64, false, Kind::Float);
    -(&mean * mean.clamp_min(1e-12).log()).sum(Kind::Float)
}
