//! The uniform-share split: sized as asked, from sorted to mixed.

use super::{balanced, classes_of};
use fed_distill::partition::{Split, UniformShare};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn deal(
    nodes: usize,
    share: f64,
    train: &[i64],
    test: &[i64],
    classes: usize,
    seed: u64,
) -> fed_distill::Result<Split> {
    super::deal(&UniformShare { nodes, share }, train, test, classes, seed)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_image_is_dealt_exactly_once(
        nodes in 1usize..12,
        share in 0.0f64..=1.0,
        train in prop::collection::vec(0i64..7, 12..300),
        test in prop::collection::vec(0i64..7, 0..100),
        seed: u64,
    ) {
        let split = deal(nodes, share, &train, &test, 7, seed).unwrap();
        split.check(train.len(), test.len()).unwrap();
        prop_assert_eq!(split.nodes.len(), nodes);
        let count = |of: fn(&fed_distill::partition::Part) -> usize| {
            split.nodes.iter().map(of).sum::<usize>()
        };
        prop_assert_eq!(count(|part| part.train.len()), train.len());
        prop_assert_eq!(count(|part| part.test.len()), test.len());

        let sizes: Vec<usize> = split.nodes.iter().map(|part| part.train.len()).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        prop_assert_eq!(&split, &deal(nodes, share, &train, &test, 7, seed).unwrap());
    }
}

/// In the test parts too.
#[test]
fn share_zero_gives_disjoint_classes() {
    let (train, test) = (balanced(10, 50), balanced(10, 7));
    for nodes in [2, 5, 10] {
        let split = deal(nodes, 0.0, &train, &test, 10, 3).unwrap();
        for (node, part) in split.nodes.iter().enumerate() {
            let own: BTreeSet<i64> = (node * 10 / nodes..(node + 1) * 10 / nodes)
                .map(|class| class as i64)
                .collect();
            assert_eq!(classes_of(&part.train, &train), own);
            assert_eq!(classes_of(&part.test, &test), own);
            assert_eq!(part.test.len(), 70 / nodes);
        }
    }
}

#[test]
fn share_one_is_close_to_class_balance_everywhere() {
    let train = balanced(10, 1000);
    let split = deal(10, 1.0, &train, &[], 10, 3).unwrap();
    for part in &split.nodes {
        for class in 0..10 {
            let count = part
                .train
                .iter()
                .filter(|&&image| train[image] == class)
                .count();
            // Hypergeometric with mean 100 and standard deviation 9: five of them.
            assert!((55..=145).contains(&count), "{count} of class {class}");
        }
    }
}

#[test]
fn another_seed_deals_otherwise() {
    let train = balanced(10, 50);
    assert_ne!(
        deal(5, 1.0, &train, &[], 10, 1).unwrap(),
        deal(5, 1.0, &train, &[], 10, 2).unwrap()
    );
}

#[test]
fn impossible_requests_are_usage_errors() {
    let train = balanced(2, 3);
    for (nodes, share, message) in [
        (7, 1.0, "6 training images to 7 nodes"),
        (0, 1.0, "num_nodes"),
        (2, 1.5, "outside 0..1"),
        (2, f64::NAN, "outside 0..1"),
    ] {
        let error = deal(nodes, share, &train, &[], 2, 0).unwrap_err();
        assert_eq!(error.class(), fed_distill::Class::Usage);
        assert!(error.to_string().contains(message), "{error}");
    }
}
