//! State dicts in memory: strict loading and the weighted mean.

use crate::common::child;
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec, StateDict, weighted_mean};
use fed_distill::runtime::seed::Seeds;
use tch::{Device, Kind, Tensor};

fn spec() -> ModelSpec {
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(2),
        blocks: Some(vec![1, 1]),
    };
    ModelSpec::new(&settings, 3, 8, 4).unwrap()
}

fn model(seed: u64) -> Model {
    Model::new(
        &spec(),
        Device::Cpu,
        &mut Seeds::new(seed).stream("test", 0),
    )
    .unwrap()
}

/// The state of `model(1)` with its tensors changed by `change` (`None` drops one).
fn changed(change: impl Fn(&str, &Tensor) -> Option<Tensor>) -> StateDict {
    let state = model(1).state();
    let tensors = state
        .iter()
        .filter_map(|(name, t)| Some((name.to_string(), change(name, t)?)));
    StateDict::new(tensors.collect())
}

fn same(a: &StateDict, b: &StateDict) -> bool {
    a.len() == b.len()
        && a.iter()
            .zip(b.iter())
            .all(|((n, x), (m, y))| n == m && x.equal(y))
}

#[test]
fn a_state_goes_round() {
    let (first, mut second) = (model(1), model(2));
    let handle = second.parameters();
    assert!(!same(&first.state(), &second.state()));
    second.load_state(&first.state()).unwrap();
    assert!(same(&first.state(), &second.state()));
    assert!(
        handle[0].equal(&first.parameters()[0]),
        "copied in place: optimisers keep their parameters"
    );
    assert!(handle[0].requires_grad());
    assert_eq!(
        first.state().bytes(),
        4 * first.parameter_count() + running_bytes(&first)
    );
}

/// Buffers: two floats a channel and an eight-byte counter a layer.
fn running_bytes(model: &Model) -> u64 {
    let state = model.state();
    let buffers = state
        .iter()
        .filter(|(name, _)| name.contains("running") || name.contains("num_batches"));
    buffers
        .map(|(name, t)| t.numel() as u64 * if name.contains("num") { 8 } else { 4 })
        .sum()
}

#[test]
fn views_follow_and_copies_do_not() {
    let model = model(1);
    let (view, copy) = (model.state(), model.state().deep_clone());
    let _ = tch::no_grad(|| model.parameters()[0].shallow_clone().zero_());
    assert_eq!(
        view.get("conv1.weight")
            .unwrap()
            .abs()
            .max()
            .double_value(&[]),
        0.0
    );
    assert!(
        copy.get("conv1.weight")
            .unwrap()
            .abs()
            .max()
            .double_value(&[])
            > 0.0
    );
    assert!(copy.iter().all(|(_, t)| !t.requires_grad()));
}

#[test]
fn other_float_types_are_converted() {
    for kind in [Kind::Double, Kind::Half, Kind::BFloat16] {
        let state = changed(|_, t| {
            Some(if t.kind() == Kind::Float {
                t.to_kind(kind)
            } else {
                t.shallow_clone()
            })
        });
        let model = Model::from_state(&spec(), &state, Device::Cpu).unwrap();
        for (name, tensor) in model
            .state()
            .iter()
            .filter(|(_, t)| t.kind() != Kind::Int64)
        {
            assert_eq!(tensor.kind(), Kind::Float);
            assert!(
                tensor.equal(&state.get(name).unwrap().to_kind(Kind::Float)),
                "{name}"
            );
        }
    }
}

/// The error of loading `state`, after checking that the model stayed as it was.
fn refused(state: &StateDict) -> String {
    let mut target = model(3);
    let before = target.state().deep_clone();
    let error = target.load_state(state).unwrap_err();
    assert!(
        same(&before, &target.state()),
        "changed in spite of: {error}"
    );
    error.to_string()
}

#[test]
fn names_must_match_exactly() {
    let text = refused(&changed(|name, t| {
        (name != "linear.bias").then(|| t.shallow_clone())
    }));
    assert!(text.contains("missing: `linear.bias`"), "{text}");

    let state = model(1).state();
    let mut tensors: Vec<_> = state
        .iter()
        .map(|(n, t)| (n.to_string(), t.shallow_clone()))
        .collect();
    tensors.push(("surplus".into(), Tensor::from(1.0)));
    let text = refused(&StateDict::new(tensors));
    assert!(
        text.contains("unexpected: `surplus`") && !text.contains("missing"),
        "{text}"
    );

    let renamed = state
        .iter()
        .map(|(n, t)| (n.replace("shortcut", "skip"), t.shallow_clone()));
    let text = refused(&StateDict::new(renamed.collect()));
    assert!(
        text.contains("`layer2.0.skip.0.weight`") && text.contains("and 1 more"),
        "{text}"
    );
    assert!(text.contains("hint: is `layer2.0.skip."), "{text}");
}

/// torchvision and timm call the same tensors otherwise, and files from before PyTorch 0.4.1 do not
/// count batches.
#[test]
fn other_projects_names_are_known() {
    let state = model(1).state();
    let others = state
        .iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"));
    let others = others.map(|(name, tensor)| {
        let name = name.replace("shortcut", "downsample");
        (name.replace("linear.", "fc."), tensor.shallow_clone())
    });
    let others = StateDict::new(others.collect());
    assert!(others.get("fc.bias").is_some() && others.len() < state.len());
    let loaded = Model::from_state(&spec(), &others, Device::Cpu).unwrap();
    assert!(same(&loaded.state(), &state));

    // Both names of one tensor are one too many.
    let mut twice: Vec<_> = state
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
        .collect();
    twice.push(("fc.bias".into(), twice.last().unwrap().1.shallow_clone()));
    let text = refused(&StateDict::new(twice));
    assert!(text.contains("unexpected: `fc.bias`"), "{text}");
}

/// An uploaded file may say that it is a network of many gigabytes: it is refused for its tensors,
/// in a process that has no memory for the network.
#[test]
fn a_claim_takes_no_memory() {
    if !child::alone(a_claim_takes_no_memory) {
        return;
    }
    let state = model(1).state();
    tch::set_num_threads(1);
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
    let limit = libc::rlimit {
        rlim_cur: pages * 4096 + (200 << 20),
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: lowers a limit of this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
    for (kind, width, size) in [
        (ModelKind::Linear, None, 4096),
        (ModelKind::Lenet5, None, 4096),
        (ModelKind::Cnn5, None, 4096),
        (ModelKind::FedavgCnn, None, 4096),
        (ModelKind::Resnet50, Some(2048), 8),
    ] {
        let settings = ModelSettings {
            kind,
            width,
            blocks: None,
        };
        let spec = ModelSpec::new(&settings, 3, size, 10).unwrap();
        let error = Model::from_state(&spec, &state, Device::Cpu).unwrap_err();
        assert!(error.to_string().contains("tensor names differ"), "{error}");
    }
}

#[test]
fn shapes_and_types_must_fit() {
    let text = refused(&changed(|name, t| {
        Some(if name == "linear.weight" {
            t.narrow(0, 0, 3)
        } else {
            t.shallow_clone()
        })
    }));
    assert!(
        text.contains("`linear.weight`: expected [4, 4] of Float, found [3, 4] of Float"),
        "{text}"
    );
    // Would broadcast.
    let text = refused(&changed(|name, t| {
        Some(if name == "bn1.bias" {
            t.narrow(0, 0, 1)
        } else {
            t.shallow_clone()
        })
    }));
    assert!(text.contains("`bn1.bias`"), "{text}");
    let text = refused(&changed(|name, t| {
        Some(if name == "bn1.weight" {
            t.to_kind(Kind::Int64)
        } else {
            t.shallow_clone()
        })
    }));
    assert!(text.contains("found [2] of Int64"), "{text}");
    let counter = "bn1.num_batches_tracked";
    let text = refused(&changed(|name, t| {
        Some(if name == counter {
            t.to_kind(Kind::Float)
        } else {
            t.shallow_clone()
        })
    }));
    assert!(text.contains(counter), "{text}");
    let text = refused(&changed(|_, t| Some(t.unsqueeze(0))));
    assert!(
        text.contains("tensors of the weights") && text.matches("tensor: ").count() == 5,
        "{text}"
    );
}

#[test]
fn values_must_be_possible() {
    let with = |wanted: &'static str, value: f64| {
        refused(&changed(|name, t| {
            let copy = t.copy();
            if name == wanted {
                let _ = copy.view(-1).get(0).fill_(value);
            }
            Some(copy)
        }))
    };
    let text = with("linear.weight", f64::NAN);
    assert!(
        text.contains("`linear.weight`: 1 of 16 values are not finite"),
        "{text}"
    );
    assert!(with("bn1.running_mean", f64::INFINITY).contains("`bn1.running_mean`"));
    assert!(
        with("bn1.running_var", -0.5).contains("`bn1.running_var`: 1 of 2 values are negative")
    );
    assert!(with("bn1.num_batches_tracked", -1.0).contains("negative"));
    // Finite in f64, but not as f32.
    let text = refused(&changed(|name, t| {
        Some(if name == "conv1.weight" {
            t.to_kind(Kind::Double) * 1e300
        } else {
            t.shallow_clone()
        })
    }));
    assert!(text.contains("`conv1.weight`"), "{text}");
}

#[test]
fn weighted_mean_is_the_mean() {
    let weights = [3.0, 0.0, 1.5, 1e-3];
    let models: Vec<_> = (0..4).map(model).collect();
    for (i, model) in models.iter().enumerate() {
        let _ = model
            .state()
            .get("bn1.num_batches_tracked")
            .unwrap()
            .shallow_clone()
            .fill_(100 * i as i64 + 1);
    }
    let states: Vec<_> = models.iter().map(Model::state).collect();
    let dicts: Vec<_> = states.iter().collect();
    let mean = weighted_mean(&dicts, &weights).unwrap();
    let total: f64 = weights.iter().sum();
    for (name, found) in mean.iter() {
        let values = |state: &StateDict| {
            Vec::<f64>::try_from(state.get(name).unwrap().to_kind(Kind::Double).reshape(-1))
                .unwrap()
        };
        let columns: Vec<Vec<f64>> = states.iter().map(values).collect();
        for (i, found) in values(&mean).into_iter().enumerate() {
            let sum: f64 = columns
                .iter()
                .zip(weights)
                .map(|(column, w)| w * column[i])
                .sum();
            let expected = if name.contains("num_batches") {
                (sum / total).round()
            } else {
                f64::from((sum / total) as f32)
            };
            assert!(
                (found - expected).abs() <= 1e-7 * expected.abs(),
                "{name}[{i}]: {found} for {expected}"
            );
        }
        assert_eq!(found.kind(), states[0].get(name).unwrap().kind());
    }
    Model::from_state(&spec(), &mean, Device::Cpu).unwrap();
}

#[test]
fn weighted_mean_of_extreme_weights() {
    let (a, b) = (model(1).state(), model(2).state());
    let huge = weighted_mean(&[&a, &b], &[f64::MAX, f64::MAX]).unwrap();
    assert!(
        same(&huge, &weighted_mean(&[&a, &b], &[1.0, 1.0]).unwrap()),
        "the sum of the weights overflows"
    );
    let tiny = weighted_mean(&[&a, &b], &[5e-324, 0.0]).unwrap();
    assert!(same(&tiny, &a));
    // Order does not matter, names do.
    let mut reversed: Vec<_> = b
        .iter()
        .map(|(n, t)| (n.to_string(), t.shallow_clone()))
        .collect();
    reversed.reverse();
    let reversed = StateDict::new(reversed);
    assert!(same(
        &weighted_mean(&[&a, &reversed], &[1.0, 2.0]).unwrap(),
        &weighted_mean(&[&a, &b], &[1.0, 2.0]).unwrap()
    ));
}

#[test]
fn weighted_mean_refuses_nonsense() {
    let (a, b) = (model(1).state(), model(2).state());
    assert!(weighted_mean(&[], &[]).is_err());
    for weights in [
        &[1.0][..],
        &[1.0, -1.0],
        &[0.0, 0.0],
        &[f64::NAN, 1.0],
        &[f64::INFINITY, 1.0],
    ] {
        let text = weighted_mean(&[&a, &b], weights).unwrap_err().to_string();
        assert!(text.contains("weights of a mean"), "{text}");
    }
    let fewer = changed(|name, t| (name != "bn1.bias").then(|| t.shallow_clone()));
    for pair in [[&a, &fewer], [&fewer, &a]] {
        let text = weighted_mean(&pair, &[1.0, 1.0]).unwrap_err().to_string();
        assert!(text.contains("`bn1.bias` is in only one"), "{text}");
    }
    let other_shape = changed(|name, t| {
        Some(if name == "bn1.bias" {
            t.narrow(0, 0, 1)
        } else {
            t.shallow_clone()
        })
    });
    let text = weighted_mean(&[&a, &other_shape], &[1.0, 1.0])
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("`bn1.bias` differs between state dicts 0 and 1"),
        "{text}"
    );
}
