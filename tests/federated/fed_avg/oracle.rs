//! Two rounds as PyTorch computes them.

use super::support::*;
use fed_distill::federated::fed_avg::FedAvgSettings;
use fed_distill::model::ModelKind;
use fed_distill::train::{AdamMoments, FitState, OptimizerKind, OptimizerSettings, Position};
use tch::{Device, Kind as Type, Tensor};

/// ```python
/// import torch, torch.nn.functional as F
/// torch.set_default_dtype(torch.float64)
/// shapes = [("conv1", (6, 1, 5, 5)), ("conv2", (16, 6, 5, 5)), ("fc1", (120, 64)),
///           ("fc2", (84, 120)), ("fc3", (3, 84))]
/// w, k = {}, 0
/// for name, shape in shapes:
///     for key, s in ((".weight", shape), (".bias", shape[:1])):
///         n = torch.Size(s).numel()
///         w[name + key] = (torch.cos(torch.arange(n) * 0.7 + k) * 0.15).view(s); k += 1
/// def net(p, x):
///     for c in ("conv1", "conv2"):
///         x = F.max_pool2d(F.relu(F.conv2d(x, p[c + ".weight"], p[c + ".bias"], padding=2)), 2)
///     x = x.flatten(1)
///     for i in (1, 2, 3):
///         x = F.linear(x, p[f"fc{i}.weight"], p[f"fc{i}.bias"])
///         x = F.relu(x) if i < 3 else x
///     return x
/// pixels = (torch.arange(12 * 64) * 37 % 251).view(12, 1, 8, 8)
/// x, y = (pixels / 255 - 0.5) / 0.25, torch.arange(12) * 5 % 7 % 3
/// m = {n: torch.zeros_like(t) for n, t in w.items()}
/// v = {n: torch.zeros_like(t) for n, t in w.items()}
/// for t in (1, 2):
///     mean = {n: torch.zeros_like(p) for n, p in w.items()}
///     for part in (slice(0, 3), slice(3, 12)):
///         p = {n: a.clone().requires_grad_() for n, a in w.items()}
///         opt = torch.optim.SGD(p.values(), lr=0.1, momentum=0.9)
///         for _ in range(2):
///             opt.zero_grad()
///             prox = sum(((p[n] - w[n]) ** 2).sum() for n in w)
///             (F.cross_entropy(net(p, x[part]), y[part]) + 0.3 / 2 * prox).backward()
///             opt.step()
///         for n in w: mean[n] += p[n].detach() * len(y[part]) / 12
///     for n in w:
///         g = w[n] - mean[n]
///         m[n] = 0.9 * m[n] + 0.1 * g; v[n] = 0.99 * v[n] + 0.01 * g * g
///         w[n] = w[n] - 0.02 * (m[n] / (1 - 0.9**t)) / ((v[n] / (1 - 0.99**t)).sqrt() + 1e-3)
/// for n in ("conv1.bias", "fc3.bias"): print(n, w[n].tolist())
/// print([float(a.square().sum()) for a in w.values()])
/// ```
#[test]
fn two_rounds_of_fed_adam_with_a_proximal_term() {
    let model = initial(ModelKind::Lenet5, 0);
    let mut tensors = Vec::new();
    for (k, (name, shape)) in model
        .state()
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.size()))
        .enumerate()
    {
        let count: i64 = shape.iter().product();
        let values =
            (Tensor::arange(count, (Type::Double, Device::Cpu)) * 0.7 + k as f64).cos() * 0.15;
        tensors.push((
            format!("model.{name}"),
            values.to_kind(Type::Float).view(&shape[..]),
        ));
    }
    for prefix in ["first", "second"] {
        for (index, parameter) in model.parameters().iter().enumerate() {
            tensors.push((format!("{prefix}.{index}"), parameter.detach().zeros_like()));
        }
    }
    let start = FitState {
        position: Position::default(),
        tensors,
    };
    let settings = FedAvgSettings {
        rounds: 2,
        epochs: 2,
        optimizer: sgd(0.1, 0.9),
        server: OptimizerSettings {
            kind: OptimizerKind::Adam(AdamMoments {
                betas: [0.9, 0.99],
                eps: 1e-3,
            }),
            ..OptimizerSettings::adam(0.02)
        },
        proximal: 0.3,
        ..plain()
    };
    let (state, _) = run(&settings, ModelKind::Lenet5, &[3, 9], 1, Some(start)).unwrap();
    let values =
        |name: &str| Vec::<f64>::try_from(state.get(name).unwrap().to_kind(Type::Double)).unwrap();
    for (name, wanted) in [
        (
            "conv1.bias",
            vec![
                0.06565663100103683,
                -0.010042055166800014,
                -0.11661503631703174,
                -0.15016624137857995,
                -0.1410692966879191,
                -0.0397876503919819,
            ],
        ),
        (
            "fc3.bias",
            vec![
                -0.0987879869299001,
                -0.13186910841102956,
                -0.11357725018960224,
            ],
        ),
    ] {
        for (ours, wanted) in values(name).into_iter().zip(wanted) {
            assert!((ours - wanted).abs() < 2e-5, "{name}: {ours} for {wanted}");
        }
    }
    let squares = [
        1.7306444247512691,
        0.062044206403110654,
        27.242896687258604,
        0.21637114036126712,
        86.53437116132525,
        1.3528926946942081,
        114.02695960439016,
        0.9345679998280325,
        2.801676825149523,
        0.040048319875413484,
    ];
    for ((name, tensor), wanted) in state.iter().zip(squares) {
        let ours = f64::try_from(tensor.to_kind(Type::Double).square().sum(Type::Double)).unwrap();
        assert!(
            (ours / wanted - 1.0).abs() < 1e-4,
            "{name}: {ours} for {wanted}"
        );
    }
}
