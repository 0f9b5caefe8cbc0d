//! How weights move.

use super::close;
use crate::common::machine::device;
use fed_distill::train::{AdamMoments, Optimizer, OptimizerKind, OptimizerSettings, SgdMomentum};
use tch::{Kind, Tensor};

/// SGD with Nesterov's momentum of 0.9.
fn nesterov() -> OptimizerKind {
    OptimizerKind::Sgd(SgdMomentum {
        momentum: 0.9,
        nesterov: true,
    })
}

/// Four steps on the loss of the script below, from its starting point.
fn stepped(settings: &OptimizerSettings, kind: Kind) -> Vec<f64> {
    let tensor = |values: &[f64]| Tensor::from_slice(values).to_device(device());
    let parameter = tensor(&[0.5, -1.0, 2.0])
        .to_kind(kind)
        .set_requires_grad(true);
    let mut optimizer = Optimizer::new(settings, vec![parameter.shallow_clone()]);
    let (centre, weight) = (tensor(&[1.0, 0.3, -0.7]), tensor(&[0.5, 1.0, 3.0]));
    for step in 0..4 {
        let loss = ((&parameter - &centre).square() * &weight).sum(Kind::Double)
            + (&parameter * f64::from(step + 1)).sin().sum(Kind::Double);
        let gradients = Tensor::run_backward(&[&loss], &[&parameter], false, false);
        optimizer.apply(&gradients, settings.lr);
    }
    Vec::try_from(parameter.detach()).unwrap()
}

/// ```python
/// def steps(make):
///     p = torch.tensor([0.5, -1.0, 2.0], requires_grad=True)
///     opt = make([p])
///     for t in range(4):
///         opt.zero_grad()
///         loss = ((p - torch.tensor([1.0, 0.3, -0.7])) ** 2 * torch.tensor([0.5, 1.0, 3.0])).sum()
///         (loss + torch.sin(p * (t + 1)).sum()).backward()
///         opt.step()
///     return p.tolist()
/// o = torch.optim
/// print(steps(lambda p: o.SGD(p, lr=0.05)))
/// print(steps(lambda p: o.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4)))
/// print(steps(lambda p: o.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01, nesterov=True)))
/// print(steps(lambda p: o.Adam(p, lr=0.05)))
/// print(steps(lambda p: o.Adam(p, lr=0.05, betas=(0.5, 0.9), eps=1e-4, weight_decay=0.01)))
/// ```
#[test]
fn optimisers() {
    let base = OptimizerSettings::sgd(0.05, 0.0);
    let momentum = OptimizerSettings {
        weight_decay: 5e-4,
        ..OptimizerSettings::sgd(0.05, 0.9)
    };
    let nesterov = OptimizerSettings {
        kind: nesterov(),
        weight_decay: 0.01,
        ..base.clone()
    };
    let adam = OptimizerSettings::adam(0.05);
    let adam_decay = OptimizerSettings {
        kind: OptimizerKind::Adam(AdamMoments {
            betas: [0.5, 0.9],
            eps: 1e-4,
        }),
        weight_decay: 0.01,
        ..adam.clone()
    };
    for (settings, wanted) in [
        (
            base,
            [
                0.5134291783090523,
                -0.34823166200228156,
                0.03018458719165276,
            ],
        ),
        (
            momentum,
            [0.346556497170961, 0.019666137616326802, -2.70109493960587],
        ),
        (
            nesterov,
            [0.1358040711857728, -0.16100302126983618, -1.998647308450308],
        ),
        (
            adam,
            [0.3128866190003251, -0.8034616363327869, 1.8000019865654087],
        ),
        (
            adam_decay,
            [0.3179279007346344, -0.7869412981781461, 1.79805058007403],
        ),
    ] {
        // Libtorch's operations in float64, and the single pass over float32.
        for (kind, within) in [(Kind::Double, 1e-10), (Kind::Float, 2e-6)] {
            for (ours, wanted) in stepped(&settings, kind).into_iter().zip(wanted) {
                close(ours, wanted, within, &format!("{kind:?} {settings:?}"));
            }
        }
    }
}

/// Weights and gradients in any order of memory, more of them than a thread takes alone: the single
/// pass against float64. No gradient is near zero, where Adam divides a sum that cancels by its own
/// size and float32 has no digits left.
#[test]
fn a_step_takes_tensors_as_they_lie() {
    let wave = |frequency: f64| {
        let values = Tensor::arange(30_000, (Kind::Float, device())) * frequency;
        values.sin().view([40, 30, 5, 5])
    };
    let (weights, gradient) = (wave(0.37), wave(1.3));
    let gradient = &gradient + gradient.sign() * 0.1;
    let channels_last = |tensor: &Tensor| {
        let permuted = tensor.permute([0, 2, 3, 1]).contiguous();
        permuted.permute([0, 3, 1, 2])
    };
    let gapped = |tensor: &Tensor| Tensor::cat(&[tensor, tensor], 3).narrow(3, 0, 5);
    let sgd = OptimizerSettings {
        kind: nesterov(),
        ..OptimizerSettings::default()
    };
    let adam = OptimizerSettings {
        kind: OptimizerKind::Adam(AdamMoments::default()),
        ..OptimizerSettings::default()
    };
    for settings in [sgd, adam] {
        let after_two = |weights: Tensor, gradient: &Tensor| {
            let mut optimizer = Optimizer::new(&settings, vec![weights.shallow_clone()]);
            optimizer.apply(&[gradient.shallow_clone()], 0.1);
            optimizer.apply(&[gradient * 0.5], 0.1);
            weights
        };
        let exact = after_two(
            weights.to_kind(Kind::Double),
            &gradient.to_kind(Kind::Double),
        );
        for (ours, gradient) in [
            (weights.copy(), gradient.copy()),
            (channels_last(&weights), gradient.copy()),
            (weights.copy(), channels_last(&gradient)),
            (gapped(&weights), gapped(&gradient)),
        ] {
            let moved = after_two(ours, &gradient);
            let off = f64::try_from((moved.to_kind(Kind::Double) - &exact).abs().max()).unwrap();
            assert!(
                off < 1e-5,
                "{off} with {:?} {:?} {settings:?}",
                moved.stride(),
                gradient.stride()
            );
        }
    }
}
