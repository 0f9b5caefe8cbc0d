//! Holds what partitioners share: Dirichlet weights, dealing by counts or sizes, and drawing again
//! a bounded number of times.

use super::demand;
use crate::error::{Error, Result, parameter};
use crate::runtime::seed::Rng;
use rand::Rng as _;
use rand::distr::{Distribution, OpenClosed01};
use rand::seq::SliceRandom;
use rand_distr::Gamma;

/// Number of draws after which a partitioner fails.
pub const DRAWS: usize = 1000;

/// Returns start and end of the `part`-th of `parts` nearly equal runs of 0..`total`.
pub fn run(total: usize, parts: usize, part: usize) -> (usize, usize) {
    (total * part / parts, total * (part + 1) / parts)
}

/// Returns the sizes of `parts` nearly equal runs of `total`.
pub fn even(total: usize, parts: usize) -> Vec<usize> {
    let size = |part| {
        let (start, end) = run(total, parts, part);
        end - start
    };
    (0..parts).map(size).collect()
}

/// Cuts all of `total` things in proportion to `weights` (0 or more, not all 0).
pub fn cut(total: usize, weights: &[f64]) -> Vec<usize> {
    cut_lifted(total, weights, 0.5)
}

/// Cuts as [`cut`] does, but rounds running shares up from a fraction of 1 − `lift` on (0 < `lift`
/// < 1). With the same lift for every class the same nodes would have what rounding gives.
pub fn cut_lifted(total: usize, weights: &[f64], lift: f64) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    let (mut given, mut start) = (0.0, 0);
    let mut sizes = Vec::with_capacity(weights.len());
    for weight in weights {
        given += weight;
        // Rounding the running share, not each node's, deals everything exactly once.
        let end = match given < sum {
            true => total.min((total as f64 * given / sum + lift) as usize),
            false => total,
        };
        sizes.push(end - start);
        start = end;
    }
    sizes
}

/// Returns the logarithms of `count` draws from Gamma(`alpha`, 1): divided by their sum, the draws
/// are Dirichlet(`alpha`).
///
/// They are logarithms because below an `alpha` of about 0.01 most draws are too small for a float:
/// Gamma(α) = Gamma(α + 1) · U^(1/α).
///
/// # Errors
/// Fails at an `alpha` that is not a finite number greater than 0.
pub fn log_gammas(alpha: f64, count: usize, rng: &mut Rng) -> Result<Vec<f64>> {
    let wrong = || {
        let found = format!(" is {alpha}, not a finite number greater than 0");
        Error::usage(parameter("alpha") + found)
            .hint("a Dirichlet alpha of 0.1 is very uneven, 100 nearly even")
    };
    if !(alpha.is_finite() && alpha > 0.0) {
        return Err(wrong());
    }
    let larger = Gamma::new(alpha + 1.0, 1.0).map_err(|_| wrong())?;
    // Smaller ones would overflow the logarithm, and give the same: everything to one.
    let alpha = alpha.max(1e-300);
    let draw = |_| {
        let uniform: f64 = OpenClosed01.sample(rng);
        let gamma: f64 = larger.sample(rng);
        gamma.ln() + uniform.ln() / alpha
    };
    Ok((0..count).map(draw).collect())
}

/// Returns weights in proportion to exp(`logs`), the largest 1, those outside `open` 0. They sum to
/// more than 0 if any is open.
pub fn weights(logs: &[f64], open: &[bool]) -> Vec<f64> {
    let kept = |&(_, open): &(&f64, &bool)| *open;
    let pairs = || logs.iter().zip(open);
    let largest = pairs()
        .filter(kept)
        .map(|(log, _)| *log)
        .fold(f64::NEG_INFINITY, f64::max);
    pairs()
        .map(|(log, open)| if *open { (log - largest).exp() } else { 0.0 })
        .collect()
}

/// Returns the images of each class, ascending.
pub fn by_class(labels: &[i64], classes: usize) -> Vec<Vec<usize>> {
    let mut images = vec![Vec::new(); classes];
    for (image, &label) in labels.iter().enumerate() {
        images[label as usize].push(image);
    }
    images
}

/// Deals each class at random: `counts[node][class]` images, together at most those there are. The
/// rest is left out.
pub fn deal_counts(
    labels: &[i64],
    counts: &[Vec<usize>],
    classes: usize,
    rng: &mut Rng,
) -> Vec<Vec<usize>> {
    let mut parts = vec![Vec::new(); counts.len()];
    for (class, mut images) in by_class(labels, classes).into_iter().enumerate() {
        images.shuffle(rng);
        let mut rest = images.as_slice();
        for (part, counts) in parts.iter_mut().zip(counts) {
            let (own, others) = rest.split_at(counts[class]);
            part.extend_from_slice(own);
            rest = others;
        }
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    parts
}

/// Deals `images` images at random, `sizes[node]` to each node, together at most `images`. The rest
/// is left out.
pub fn deal_sizes(images: usize, sizes: &[usize], rng: &mut Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..images).collect();
    order.shuffle(rng);
    let mut rest = order.as_slice();
    let take = |&size: &usize| {
        let (own, others) = rest.split_at(size);
        rest = others;
        let mut own = own.to_vec();
        own.sort_unstable();
        own
    };
    sizes.iter().map(take).collect()
}

/// Draws until each node has `min_size` images, at most [`DRAWS`] times. `draw` returns a draw and
/// its sizes.
///
/// # Errors
/// Fails when `draw` does, and when no draw gave each node enough: it names the nodes with too few
/// images in the draw that has the fewest of them.
pub fn again<T>(
    what: &str,
    min_size: usize,
    rng: &mut Rng,
    mut draw: impl FnMut(&mut Rng) -> Result<(T, Vec<usize>)>,
) -> Result<T> {
    let mut best: Option<Vec<(usize, usize)>> = None;
    for _ in 0..DRAWS {
        let (drawn, sizes) = draw(rng)?;
        let short: Vec<_> = sizes
            .into_iter()
            .enumerate()
            .filter(|(_, size)| *size < min_size)
            .collect();
        if short.is_empty() {
            return Ok(drawn);
        }
        if best.as_ref().is_none_or(|best| short.len() < best.len()) {
            best = Some(short);
        }
    }
    Err(demand::short(what, min_size, &best.unwrap_or_default()))
}

/// Draws `per` distinct classes for each node, such that every class of `classes` has nearly as
/// many nodes: their numbers differ by one at most. `per` is at most the number of classes.
pub fn spread(nodes: usize, per: usize, classes: &[usize], rng: &mut Rng) -> Vec<Vec<usize>> {
    // Nodes take from one random order of the classes after another.
    let mut order: Vec<usize> = Vec::new();
    let mut held = Vec::with_capacity(nodes);
    for _ in 0..nodes {
        let left = order.len().min(per);
        let mut own = order.split_off(order.len() - left);
        if own.len() < per {
            order = classes.to_vec();
            order.shuffle(rng);
            // What this node has already is left for those that follow.
            order.sort_by_key(|class| !own.contains(class));
            own.extend(order.split_off(order.len() - (per - left)));
        }
        held.push(own);
    }
    // The order of taking would pair neighbours.
    held.shuffle(rng);
    held
}

/// Draws `parts` sizes of together `total`, cut at uniformly random points.
pub fn random_cuts(total: usize, parts: usize, rng: &mut Rng) -> Vec<usize> {
    let mut cuts: Vec<usize> = (1..parts).map(|_| rng.random_range(0..=total)).collect();
    cuts.sort_unstable();
    cuts.push(total);
    let mut start = 0;
    let size = |end| {
        let size = end - start;
        start = end;
        size
    };
    cuts.into_iter().map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn dirichlet_weights_are_as_concentrated_as_alpha_says() {
        let mut rng = Rng::seed_from_u64(5);
        for alpha in [1e-320, 1e-3, 0.1, 1.0, 30.0] {
            let draws = 4000;
            let mut sum = 0.0;
            for _ in 0..draws {
                let weights = weights(&log_gammas(alpha, 4, &mut rng).unwrap(), &[true; 4]);
                let total: f64 = weights.iter().sum();
                sum += weights
                    .iter()
                    .map(|weight| (weight / total).powi(2))
                    .sum::<f64>();
            }
            // E Σp² = (α + 1) / (4α + 1); Σp² is in 1/4..1, so its deviation is 3/8 at most.
            let expected = (alpha + 1.0) / (4.0 * alpha + 1.0);
            let found = sum / f64::from(draws);
            let tolerance = 5.0 * 0.375 / f64::from(draws).sqrt();
            assert!(
                (found - expected).abs() < tolerance,
                "{found} for {expected} at {alpha}"
            );
        }
    }

    #[test]
    fn cuts_are_complete_and_in_proportion() {
        assert_eq!(cut(10, &[1.0, 0.0, 3.0]), [3, 0, 7]);
        assert_eq!(cut(7, &[1e-300, 1e-300]).iter().sum::<usize>(), 7);
        assert_eq!(cut(0, &[1.0, 2.0]), [0, 0]);
        for lift in [0.01, 0.3, 0.99] {
            assert_eq!(
                cut_lifted(10, &[0.1, 0.2, 0.0, 0.7, 0.0], lift)
                    .iter()
                    .sum::<usize>(),
                10
            );
            assert_eq!(cut_lifted(8, &[1.0, 1.0, 2.0], lift)[2], 4);
        }
        assert_eq!(cut_lifted(1, &[1.0, 1.0], 0.4), [0, 1]);
        assert_eq!(cut_lifted(1, &[1.0, 1.0], 0.6), [1, 0]);
    }
}
