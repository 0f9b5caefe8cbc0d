//! Each pass of the fused engine against libtorch's own operations and autograd, in float64: within
//! 1e-5 of the largest value.

use fed_distill::inversion::fused::kernels::{self, Branch, Shortcut};
use fed_distill::inversion::fused::norm::{DistanceGradient, Norm};
use fed_distill::inversion::fused::winograd::{Tile, Winograd};
use fed_distill::inversion::{PixelAdam, PixelOptimizer};
use tch::{Device, Kind, Reduction, Tensor};

/// Rows that do not divide by the blocks or threads, channels that do and do not divide by the
/// lanes.
const SHAPES: [[i64; 4]; 4] = [[3, 5, 7, 16], [1, 1, 1, 3], [2, 9, 9, 37], [130, 1, 1, 48]];

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn double(tensor: &Tensor) -> Tensor {
    tensor.detach().to_kind(Kind::Double).copy()
}

fn near(ours: &Tensor, exact: &Tensor, what: &str) {
    assert_eq!(ours.size(), exact.size(), "{what}");
    let number = |tensor: Tensor| f64::try_from(tensor.abs().max()).unwrap();
    let (off, largest) = (number(double(ours) - exact), number(exact.shallow_clone()));
    assert!(
        off <= 1e-5 * largest.max(1e-3),
        "{what}: {off} off in {largest}"
    );
}

fn norm(channels: i64) -> Norm {
    let values = || Vec::<f32>::try_from(random(&[channels])).unwrap();
    let mut scale = values();
    scale[0] = 0.0;
    Norm {
        scale,
        shift: values(),
        mean: values(),
        var: values().iter().map(|value| value * value + 0.1).collect(),
    }
}

fn channelwise(values: &[f32]) -> Tensor {
    Tensor::from_slice(values).to_kind(Kind::Double)
}

fn affine(x: &Tensor, norm: &Norm) -> Tensor {
    x * channelwise(&norm.scale) + channelwise(&norm.shift)
}

/// A layer's distance as the paper states it, with the biased variance.
fn distance(x: &Tensor, norm: &Norm) -> Tensor {
    let rows = x.flatten(0, 2);
    let (mean, var) = (
        rows.mean_dim(0i64, false, None),
        rows.var_dim(0i64, false, false),
    );
    (channelwise(&norm.mean) - mean).norm() + (channelwise(&norm.var) - var).norm()
}

fn gradient(loss: &Tensor, of: &Tensor) -> Tensor {
    Tensor::run_backward(&[loss], &[of], false, false).remove(0)
}

#[test]
fn forward_with_and_without_statistics() {
    for shape in SHAPES {
        let (x, side) = (random(&shape), random(&shape));
        let (main, other) = (norm(shape[3]), norm(shape[3]));
        let (x64, side64) = (double(&x), double(&side));
        let alone = affine(&x64, &main);
        for (side, exact) in [
            (Shortcut::None, alone.relu()),
            (Shortcut::Identity(&side), (&alone + &side64).relu()),
            (
                Shortcut::Projection(&side, &other),
                (&alone + affine(&side64, &other)).relu(),
            ),
        ] {
            let normed = matches!(side, Shortcut::Projection(..));
            let (output, moments, side_moments) = kernels::forward(&x, &main, side, true);
            near(&output, &exact, "observed");
            assert!(
                (moments.unwrap().distance(&main) / f64::try_from(distance(&x64, &main)).unwrap()
                    - 1.0)
                    .abs()
                    < 1e-5
            );
            assert_eq!(side_moments.is_some(), normed);
            if let Some(moments) = side_moments {
                let exact = f64::try_from(distance(&side64, &other)).unwrap();
                assert!((moments.distance(&other) / exact - 1.0).abs() < 1e-5);
            }
        }
        let own = x.copy();
        let (output, moments, _) = kernels::forward(&own, &main, Shortcut::Identity(&side), false);
        near(&output, &(&alone + &side64).relu(), "unobserved");
        assert_eq!(output.data_ptr(), own.data_ptr(), "in place");
        assert!(moments.is_none());
    }
}

#[test]
fn backward_through_relu_norm_and_statistics() {
    for shape in SHAPES {
        let (x, upstream, other) = (random(&shape), random(&shape), random(&shape));
        let norm = norm(shape[3]);
        let x64 = double(&x).set_requires_grad(true);
        let output = affine(&x64, &norm).relu();
        for (second, both) in [
            (None, double(&upstream)),
            (Some(&other), double(&upstream) + double(&other)),
        ] {
            let exact = gradient(
                &((affine(&x64, &norm).relu() * &both).sum(Kind::Double)
                    + distance(&x64, &norm) * 7.0),
                &x64,
            );
            let (_, moments, _) = kernels::forward(&x, &norm, Shortcut::None, true);
            let distance_gradient = moments.unwrap().distance_gradient(&norm, 7.0);
            let ours = upstream.copy();
            kernels::backward(&x, &norm, Some(&distance_gradient), &ours, second);
            near(&ours, &exact, "with statistics");

            let exact = gradient(
                &(affine(&x64, &norm).relu() * &both).sum(Kind::Double),
                &x64,
            );
            let ours = upstream.copy();
            kernels::backward(
                &output.detach().to_kind(Kind::Float),
                &norm,
                None,
                &ours,
                second,
            );
            near(&ours, &exact, "without");
        }
    }
}

#[test]
fn backward_at_the_end_of_a_block() {
    for shape in SHAPES {
        let (x, side, upstream, other) = (
            random(&shape),
            random(&shape),
            random(&shape),
            random(&shape),
        );
        let (main, across) = (norm(shape[3]), norm(shape[3]));
        for (normed, statistics, two) in
            (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0))
        {
            let (x64, side64) = (
                double(&x).set_requires_grad(true),
                double(&side).set_requires_grad(true),
            );
            let added = if normed {
                affine(&side64, &across)
            } else {
                side64.shallow_clone()
            };
            let output = (affine(&x64, &main) + added).relu();
            let both = if two {
                double(&upstream) + double(&other)
            } else {
                double(&upstream)
            };
            let by = if statistics { 3.0 } else { 0.0 };
            let mut loss = (&output * both).sum(Kind::Double) + distance(&x64, &main) * by;
            if normed {
                loss += distance(&side64, &across) * by;
            }
            let exact = Tensor::run_backward(&[&loss], &[&x64, &side64], false, false);

            let distance_gradient = |x: &Tensor, norm: &Norm| -> Option<DistanceGradient> {
                let (_, moments, _) = kernels::forward(x, norm, Shortcut::None, true);
                statistics.then(|| moments.unwrap().distance_gradient(norm, by))
            };
            let body = Branch {
                input: &x,
                norm: &main,
                distance_gradient: distance_gradient(&x, &main),
            };
            let second = normed.then(|| Branch {
                input: &side,
                norm: &across,
                distance_gradient: distance_gradient(&side, &across),
            });
            let (ours, output) = (upstream.copy(), output.detach().to_kind(Kind::Float));
            let down = kernels::branch(
                &output,
                &body,
                second.as_ref(),
                &ours,
                two.then_some(&other),
            );
            near(&down, &exact[0], "the body's");
            near(&ours, &exact[1], "the side's");
        }
    }
}

#[test]
fn the_stem_s_images() {
    for (images, inputs, outputs, height, width) in [
        (3, 3, 16, 8, 9),
        (2, 1, 20, 11, 8),
        (1, 3, 5, 8, 8),
        (4, 1, 64, 12, 12),
    ] {
        let weight = random(&[outputs, inputs, 3, 3]);
        let upstream = random(&[images, height, width, outputs]);
        let x = Tensor::zeros([images, inputs, height, width], (Kind::Double, Device::Cpu))
            .set_requires_grad(true);
        let output = x.conv2d(&double(&weight), None::<&Tensor>, 1, 1, 1, 1);
        let exact = gradient(
            &(output * double(&upstream).permute([0, 3, 1, 2])).sum(Kind::Double),
            &x,
        );
        let ours = kernels::stem(&upstream, &kernels::stem_weight(&weight));
        near(&ours, &exact.permute([0, 2, 3, 1]), "images");
    }
}

/// Planes of every parity, more images than a part holds, inputs and outputs that differ.
#[test]
fn winograd_s_products() {
    for (images, inputs, outputs, height, width) in [
        (3, 16, 48, 8, 8),
        (2, 64, 64, 5, 7),
        (1, 32, 16, 1, 2),
        (40, 128, 64, 9, 16),
    ] {
        let weight = random(&[outputs, inputs, 3, 3]);
        let (x, upstream) = (
            random(&[images, height, width, inputs]),
            random(&[images, height, width, outputs]),
        );
        let first = double(&x.permute([0, 3, 1, 2])).set_requires_grad(true);
        let output = first.conv2d(&double(&weight), None::<&Tensor>, 1, 1, 1, 1);
        let exact = gradient(
            &(&output * double(&upstream).permute([0, 3, 1, 2])).sum(Kind::Double),
            &first,
        );
        let (output, exact) = (
            output.detach().permute([0, 2, 3, 1]),
            exact.permute([0, 2, 3, 1]),
        );
        for tile in [Tile::Two, Tile::Four] {
            let winograd = Winograd::of(&weight, tile);
            near(&winograd.convolve(&x), &output, "forward");
            near(&winograd.convolve_back(&upstream), &exact, "backward");
        }
    }
}

/// Norms of the differences to four neighbours (Yin et al. 2020, section 3.1, as their CIFAR-10
/// release has it); images [N,C,H,W].
fn total_variation(x: &Tensor) -> Tensor {
    let (height, width) = (x.size()[2] - 1, x.size()[3] - 1);
    let at = |row: i64, column: i64| x.narrow(2, row, height).narrow(3, column, width);
    let across = x.narrow(3, 0, width) - x.narrow(3, 1, width);
    let down = x.narrow(2, 0, height) - x.narrow(2, 1, height);
    across.norm() + down.norm() + (at(1, 0) - at(0, 1)).norm() + (at(0, 0) - at(1, 1)).norm()
}

#[test]
fn total_variation_and_norm() {
    for shape in [[2, 8, 9, 3], [1, 2, 2, 1], [5, 13, 8, 3]] {
        let x = random(&shape);
        let x64 = double(&x)
            .permute([0, 3, 1, 2])
            .contiguous()
            .set_requires_grad(true);
        let (variation, l2) = (total_variation(&x64), x64.norm());
        let norms = kernels::variation(&x);
        let ours: f64 = norms[..4].iter().sum();
        assert!((ours / f64::try_from(&variation).unwrap() - 1.0).abs() < 1e-5);
        assert!((norms[4] / f64::try_from(&l2).unwrap() - 1.0).abs() < 1e-6);
        let exact = gradient(&(variation * 0.3 + l2 * 0.7), &x64);
        near(
            &kernels::variation_gradient(&x, &norms, 0.3, 0.7),
            &exact.permute([0, 2, 3, 1]),
            "gradient",
        );
    }
    let flat = Tensor::zeros([2, 8, 8, 3], (Kind::Float, Device::Cpu));
    let gradient = kernels::variation_gradient(&flat, &kernels::variation(&flat), 1.0, 1.0);
    assert_eq!(
        f64::try_from(gradient.abs().max()).unwrap(),
        0.0,
        "no direction at zero"
    );
}

/// The pass against the same update spelt out in float64 (Kingma and Ba 2015, algorithm 1).
#[test]
fn adam_steps() {
    let settings = PixelOptimizer::default();
    let start = random(&[3, 7, 5, 3]);
    let (mut ours, mut adam) = (start.copy(), PixelAdam::new(&settings));
    let (mut exact, mut first, mut second) =
        (double(&start), double(&start) * 0.0, double(&start) * 0.0);
    for step in 1..=20 {
        let g = random(&[3, 7, 5, 3]);
        adam.step(&mut ours, &g);
        let g = double(&g);
        first = first * 0.9 + &g * 0.1;
        second = second * 0.999 + g.square() * 0.001;
        let (m, v) = (
            &first / (1.0 - 0.9f64.powi(step)),
            &second / (1.0 - 0.999f64.powi(step)),
        );
        exact -= m * settings.lr / (v.sqrt() + settings.eps);
    }
    near(&ours, &exact, "after twenty steps");
    assert!(
        f64::try_from(ours.mse_loss(&start, Reduction::Mean)).unwrap() > 0.1,
        "it moved"
    );
}
