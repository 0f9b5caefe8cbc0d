//! Two rounds as PyTorch computes them.

use super::support::*;
use fed_distill::federated::fed_md::{DigestLoss, FedMdSettings};
use fed_distill::model::StateDict;
use fed_distill::train::{FitState, Position};
use tch::{Device, Kind as Type, Tensor};

/// A softmax regression and a LeNet-5 with given weights, after transfer learning.
fn given() -> FitState {
    let mut tensors = Vec::new();
    for (index, (kind, _)) in PAIR.into_iter().enumerate() {
        let node = node(index);
        for (k, (name, tensor)) in initial(kind, 0).state().iter().enumerate() {
            let values = (Tensor::arange(tensor.numel() as i64, (Type::Double, Device::Cpu)) * 0.7
                + k as f64)
                .cos()
                * 0.15;
            let values = values.to_kind(Type::Float).view(&tensor.size()[..]);
            tensors.push((format!("model.{node}.{name}"), values));
        }
        tensors.push((format!("report.{node}"), Tensor::from_slice(&[-1.0; 8])));
    }
    FitState {
        position: Position {
            epoch: 1,
            ..Position::default()
        },
        tensors,
    }
}

/// ```python
/// import torch, torch.nn.functional as F
/// torch.set_default_dtype(torch.float64)
/// linear = [("fc1", (3, 64))]
/// lenet = [("conv1", (6, 1, 5, 5)), ("conv2", (16, 6, 5, 5)), ("fc1", (120, 64)),
///          ("fc2", (84, 120)), ("fc3", (3, 84))]
/// def weights(shapes):
///     w, k = {}, 0
///     for name, shape in shapes:
///         for key, s in ((".weight", shape), (".bias", shape[:1])):
///             n = torch.Size(s).numel()
///             values = torch.cos(torch.arange(n) * 0.7 + k) * 0.15
///             w[name + key] = values.view(s).requires_grad_(); k += 1
///     return w
/// def net(p, x):
///     for c in ("conv1", "conv2"):
///         if c + ".weight" in p:
///             x = F.conv2d(x, p[c + ".weight"], p[c + ".bias"], padding=2)
///             x = F.max_pool2d(F.relu(x), 2)
///     x, last = x.flatten(1), sum(n.startswith("fc") for n in p) // 2
///     for i in range(1, last + 1):
///         x = F.linear(x, p[f"fc{i}.weight"], p[f"fc{i}.bias"])
///         x = F.relu(x) if i < last else x
///     return x
/// def images(first, count):
///     pixels = (torch.arange(first * 64, (first + count) * 64) * 37 % 251).view(count, 1, 8, 8)
///     return (pixels / 255 - 0.5) / 0.25, torch.arange(first, first + count) * 5 % 7 % 3
/// def train(p, loss):
///     opt = torch.optim.SGD(p.values(), lr=0.05, momentum=0.9)
///     for _ in range(2):
///         opt.zero_grad(); loss().backward(); opt.step()
/// for distance in (F.l1_loss, F.mse_loss):
///     parties = [(weights(linear), *images(0, 3)), (weights(lenet), *images(3, 9))]
///     public, _ = images(20, 7)
///     for _ in range(2):
///         shares = zip((0.25, 0.75), parties)
///         consensus = sum(w * net(p, public).detach() for w, (p, _, _) in shares)
///         for p, x, y in parties:
///             train(p, lambda: distance(net(p, public), consensus))
///             train(p, lambda: F.cross_entropy(net(p, x), y))
///     print(parties[0][0]["fc1.bias"].tolist(), parties[1][0]["fc3.bias"].tolist())
///     print([float(a.detach().square().sum()) for p, _, _ in parties for a in p.values()])
/// ```
#[test]
fn two_rounds_of_two_architectures_as_in_pytorch() {
    let absolute = (
        [
            0.12005062179597144,
            -0.1001316311268835,
            -0.06404747150247769,
        ],
        [
            -0.11784110783609336,
            -0.11023899282570332,
            -0.13232990444778095,
        ],
        [
            2.3288984457961237,
            0.028540573951590327,
            1.6998804086179475,
            0.057786924439530166,
            27.00950305727929,
            0.19414592618216178,
            86.39972518117422,
            1.3733536163461504,
            113.41860728481143,
            0.8787227479342721,
            2.806200956786923,
            0.043550365846422086,
        ],
    );
    let squared = (
        [
            0.13875708376344462,
            -0.11724154765237992,
            -0.09141292005057837,
        ],
        [
            -0.11883641661957292,
            -0.11172214532036011,
            -0.12848893076585668,
        ],
        [
            2.599785059210517,
            0.041355430742634286,
            1.703368661598109,
            0.05686252717692766,
            27.01214246757226,
            0.19303065374301695,
            86.40111820157011,
            1.374729012094795,
            113.4213200381904,
            0.8809590062391526,
            2.8061606963216716,
            0.04311333699931748,
        ],
    );
    for (digest_loss, (linear, lenet, squares)) in [
        (DigestLoss::Absolute, absolute),
        (DigestLoss::Squared, squared),
    ] {
        let settings = FedMdSettings {
            rounds: 2,
            weights: Some(vec![1.0, 3.0]),
            digest_epochs: 2,
            revisit_epochs: 2,
            optimizer: sgd(0.05, 0.9),
            digest_loss,
            ..plain()
        };
        let (states, _) = run(&settings, &cast(&PAIR, (20, 7)), 1, Some(given())).unwrap();
        for (state, name, wanted) in [
            (&states[0], "fc1.bias", linear),
            (&states[1], "fc3.bias", lenet),
        ] {
            let ours =
                Vec::<f64>::try_from(state.get(name).unwrap().to_kind(Type::Double)).unwrap();
            for (ours, wanted) in ours.into_iter().zip(wanted) {
                assert!(
                    (ours - wanted).abs() < 2e-5,
                    "{digest_loss:?} {name}: {ours} for {wanted}"
                );
            }
        }
        let tensors = states.iter().flat_map(StateDict::iter);
        for ((name, tensor), wanted) in tensors.zip(squares) {
            let ours =
                f64::try_from(tensor.to_kind(Type::Double).square().sum(Type::Double)).unwrap();
            assert!(
                (ours / wanted - 1.0).abs() < 1e-4,
                "{digest_loss:?} {name}: {ours} for {wanted}"
            );
        }
    }
}
