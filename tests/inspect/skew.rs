//! Measures of label skew at values known by hand, and whose a class is.

use fed_distill::partition::{owners, skew};

fn near(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-12, "{found} {wanted}");
}

#[test]
fn alike_nodes_have_none() {
    let even = skew(&[vec![5, 5, 10], vec![50, 50, 100]]);
    near(even.jensen_shannon, 0.0);
    near(even.total_variation, 0.0);
    // Shares 1/4, 1/4, 1/2 have an entropy of 1.5 bits.
    near(even.effective_classes, 2f64.powf(1.5));
    // Sizes 20 and 200: half of the mean difference over the mean, 180 / (2 · 220).
    near(even.size_gini, 180.0 / 440.0);
}

#[test]
fn disjoint_nodes_have_much() {
    let apart = skew(&[vec![8, 0], vec![0, 8]]);
    near(apart.total_variation, 0.5);
    // H(3/4, 1/4) − H(1/2, 1/2) / 2 in bits.
    near(apart.jensen_shannon, 2.0 - 0.75 * 3f64.log2() - 0.5);
    near(apart.effective_classes, 1.0);
    near(apart.size_gini, 0.0);
    assert_eq!(apart.nodes[1].classes, 1);
}

#[test]
fn nodes_without_images_are_no_error() {
    let odd = skew(&[vec![3, 1], vec![0, 0]]);
    near(odd.nodes[1].jensen_shannon, 0.0);
    near(odd.size_gini, 0.5);
    assert_eq!(skew(&[]).nodes.len(), 0);
    near(skew(&[vec![0, 0]]).size_gini, 0.0);
}

#[test]
fn a_class_belongs_to_who_holds_most_of_it() {
    assert_eq!(
        owners(&[vec![9, 5, 0], vec![1, 5, 0]]),
        [Some(0), None, None]
    );
    // Of two nodes, three quarters are needed; of three, more than a half.
    assert_eq!(owners(&[vec![7], vec![3]]), [None]);
    assert_eq!(owners(&[vec![2], vec![6], vec![2]]), [Some(1)]);
}
