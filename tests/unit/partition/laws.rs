//! Random sizes and shares against the moments of their laws; tolerances are five standard errors
//! or more.

use super::{balanced, counts, mean, variance};
use fed_distill::partition::{Dirichlet, DirichletEqual, QuantitySkew, RandomUnequal, Sizes};

/// Share of the first node in each of `draws` deals of 2,000 images of one class, of which almost
/// no draw is refused.
fn shares(kind: &dyn fed_distill::partition::Partitioner, draws: u64) -> Vec<f64> {
    let train = vec![0; 2000];
    let share = |seed| counts(kind, &train, 1, seed)[0][0] as f64 / 2000.0;
    (0..draws).map(share).collect()
}

/// Mean and variance of one of five Dirichlet(alpha) shares, Beta(α, 4α).
fn is_dirichlet(shares: &[f64], alpha: f64) {
    let expected = 0.2 * 0.8 / (5.0 * alpha + 1.0);
    let found = variance(shares);
    assert!((mean(shares) - 0.2).abs() < 5.0 * (expected / shares.len() as f64).sqrt());
    // The standard error of a variance, for a kurtosis of up to 9.
    let error = expected * (8.0 / shares.len() as f64).sqrt();
    assert!(
        (found - expected).abs() < 5.0 * error,
        "{found} for {expected}"
    );
}

#[test]
fn dirichlet_shares_have_their_moments() {
    let (nodes, min_size) = (5, 1);
    for alpha in [1.5, 3.0] {
        is_dirichlet(
            &shares(
                &Dirichlet {
                    nodes,
                    alpha,
                    min_size,
                },
                2000,
            ),
            alpha,
        );
        let sizes = Sizes::Dirichlet(alpha);
        is_dirichlet(
            &shares(
                &QuantitySkew {
                    nodes,
                    sizes,
                    min_size,
                },
                2000,
            ),
            alpha,
        );
    }
    // Uniform cuts are Dirichlet(1).
    is_dirichlet(&shares(&RandomUnequal { nodes, min_size }, 2000), 1.0);
}

#[test]
fn log_normal_sizes_have_their_deviation() {
    let nodes = 300;
    let sizes = Sizes::LogNormal(0.5);
    let found = counts(
        &QuantitySkew {
            nodes,
            sizes,
            min_size: 1,
        },
        &vec![0; 150_000],
        1,
        4,
    );
    let logs: Vec<f64> = found.iter().map(|node| (node[0] as f64).ln()).collect();
    let deviation = variance(&logs).sqrt();
    assert!(
        (deviation - 0.5).abs() < 5.0 * 0.5 / (2.0 * nodes as f64).sqrt(),
        "{deviation}"
    );
}

/// The chance that two images of a node have one class, averaged over nodes.
fn concentration(counts: &[Vec<u64>]) -> f64 {
    let of = |node: &Vec<u64>| {
        let total: u64 = node.iter().sum();
        node.iter()
            .map(|&count| (count as f64 / total as f64).powi(2))
            .sum::<f64>()
    };
    mean(&counts.iter().map(of).collect::<Vec<_>>())
}

/// Shares of classes have the variance of a Dirichlet distribution with that alpha.
#[test]
fn mixes_follow_alpha() {
    let train = balanced(10, 6000);
    for alpha in [0.1, 0.5, 100.0] {
        let counts = counts(&DirichletEqual { nodes: 100, alpha }, &train, 10, 8);
        // E Σp² of a Dirichlet(α) over ten classes. Used-up classes move it a little.
        let expected = (alpha + 1.0) / (10.0 * alpha + 1.0);
        let found = concentration(&counts);
        assert!(
            (found - expected).abs() < 0.1,
            "{found} for {expected} at {alpha}"
        );
    }
}

#[test]
fn a_smaller_alpha_is_more_uneven() {
    let train = balanced(10, 600);
    let found: Vec<f64> = [0.1, 1.0, 100.0]
        .iter()
        .map(|&alpha| {
            concentration(&counts(
                &Dirichlet {
                    nodes: 5,
                    alpha,
                    min_size: 10,
                },
                &train,
                10,
                8,
            ))
        })
        .collect();
    assert!(
        found[0] > 1.5 * found[1] && found[1] > 1.2 * found[2],
        "{found:?}"
    );
    assert!((found[2] - 0.1).abs() < 0.02, "{found:?}");
}
