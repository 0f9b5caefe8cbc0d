//! Published settings, and requests that cannot be met.

use super::{balanced, counts, deal};
use crate::common::clock;
use fed_distill::Class;
use fed_distill::partition::{
    Dirichlet, DirichletEqual, Partitioner, Pathological, QuantitySkew, RandomEqual, Shards, Sizes,
    Skewed, UniformPerClass,
};
use std::time::Duration;

#[test]
fn shards_of_300_two_for_each_of_100_nodes() {
    let counts = counts(
        &Shards {
            nodes: 100,
            per_node: 2,
        },
        &balanced(10, 6000),
        10,
        1,
    );
    for node in &counts {
        assert_eq!(node.iter().sum::<u64>(), 600);
        assert!(node.iter().all(|count| count % 300 == 0), "{node:?}");
    }
    let classes = |node: &Vec<u64>| node.iter().filter(|count| **count > 0).count();
    // Two shards are of one class with chance 19/199, so of 100 nodes 10 ± 3.
    let alone = counts.iter().filter(|node| classes(node) == 1).count();
    assert!((1..=25).contains(&alone), "{alone}");
}

#[test]
fn uniform_per_class_gives_exactly_what_is_asked() {
    let kind = |per_class| UniformPerClass {
        nodes: 4,
        per_class,
    };
    let train = balanced(3, 50);
    assert_eq!(counts(&kind(Some(12)), &train, 3, 1), vec![vec![12; 3]; 4]);
    for node in counts(&kind(None), &train, 3, 1) {
        assert!(
            node.iter().all(|count| [12, 13].contains(count)),
            "{node:?}"
        );
    }
}

#[test]
fn a_rare_class_serves_all_lower_bounds() {
    let kind = Skewed {
        nodes: 4,
        major_classes: 1,
        major: [60, 110],
        minor: [1, 10],
    };
    // One node of each class needs 60 and three need 1: not one image more than there are.
    for node in counts(&kind, &balanced(4, 63), 4, 1) {
        let mut node = node;
        node.sort_unstable();
        assert_eq!(node, [1, 1, 1, 60]);
    }
    refused(
        &kind,
        &balanced(4, 62),
        4,
        &["class 0 has 62 training images", "60 to 110", "hint:"],
    );
}

/// An alpha too small for the images at hand.
#[test]
fn dirichlet_reports_short_nodes() {
    let train = balanced(10, 600);
    let skew = |sizes| QuantitySkew {
        nodes: 60,
        sizes,
        min_size: 10,
    };
    for alpha in [1e-320, 1e-9, 0.01] {
        let kind = Dirichlet {
            nodes: 60,
            alpha,
            min_size: 10,
        };
        let all: &[&str] = &[
            "fewer than 10",
            "node ",
            "came short",
            "larger `split.alpha`",
            "`split.num_nodes`",
            "`split.min_size`",
            "`seed`",
        ];
        refused(&kind, &train, 10, all);
        // With few nodes and a little patience the same alpha is possible.
        assert_eq!(
            counts(&Dirichlet { nodes: 3, ..kind }, &train, 10, 1).len(),
            3
        );
        refused(&skew(Sizes::Dirichlet(alpha)), &train, 10, all);
        assert_eq!(
            counts(&DirichletEqual { nodes: 60, alpha }, &train, 10, 1).len(),
            60
        );
    }
    let spread = skew(Sizes::LogNormal(50.0));
    refused(
        &spread,
        &train,
        10,
        &["came short", "smaller `split.sigma`"],
    );
}

/// Each class alone gives 50 of these nodes nothing.
#[test]
fn equal_mixes_have_equal_test_parts() {
    let kind = UniformPerClass {
        nodes: 150,
        per_class: Some(3),
    };
    let split = deal(&kind, &balanced(100, 500), &balanced(100, 100), 100, 1).unwrap();
    let sizes: Vec<usize> = split.nodes.iter().map(|part| part.test.len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 10_000);
    // 66.7 on average.
    assert!(
        sizes.iter().all(|size| (64..=69).contains(size)),
        "{sizes:?}"
    );
}

#[test]
fn impossible_requests_say_what_is_possible() {
    let train = balanced(5, 20);
    let pathological = |nodes, classes_per_node| Pathological {
        nodes,
        classes_per_node,
    };
    refused(
        &pathological(2, 2),
        &train,
        5,
        &[
            "2 nodes of 2 classes",
            "split.classes_per_node=3 or split.num_nodes=3",
        ],
    );
    refused(
        &pathological(2, 6),
        &train,
        5,
        &["`split.classes_per_node` is 6, but 5 classes"],
    );
    refused(
        &pathological(50, 3),
        &train,
        5,
        &["class 0 has 20 training images for 30 nodes"],
    );
    refused(
        &Shards {
            nodes: 50,
            per_node: 3,
        },
        &train,
        5,
        &["100 training images to 50 nodes", "split.shards_per_node"],
    );
    refused(
        &Shards {
            nodes: 50,
            per_node: 0,
        },
        &train,
        5,
        &["`split.shards_per_node` is 0"],
    );
    let each = |nodes, each| UniformPerClass {
        nodes,
        per_class: Some(each),
    };
    refused(
        &each(4, 6),
        &train,
        5,
        &[
            "class 0 has 20",
            "`split.images_per_class` is at most 5",
            "`split.num_nodes` is at most 3",
        ],
    );
    // None of these nodes can have as many: only the other number can be lowered.
    refused(
        &each(4, 21),
        &train,
        5,
        &["`split.images_per_class` is at most 5"],
    );
    refused(
        &Dirichlet {
            nodes: 5,
            alpha: 1.0,
            min_size: 30,
        },
        &train,
        5,
        &[
            "split.num_nodes is at most 3",
            "`split.min_size` is at most 20",
        ],
    );
    let skewed = |major: usize, minor| Skewed {
        nodes: 20,
        major_classes: 2,
        major: [major, major],
        minor: [minor, minor],
    };
    refused(
        &skewed(1, 2),
        &train,
        5,
        &["12 nodes 2 to 2 each", "`split.minor_images`"],
    );
    // Eight nodes of these would be 2^64, which a computer may take for nothing.
    refused(
        &skewed(1 << 61, 0),
        &train,
        5,
        &["class 0 has 20", "8 nodes 2305843009213693952"],
    );
    refused(
        &RandomEqual {
            nodes: 4,
            size: Some(26),
        },
        &train,
        5,
        &["at most 3", "at most 25 for 4 nodes"],
    );
    for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        refused(
            &DirichletEqual { nodes: 2, alpha },
            &train,
            5,
            &["`split.alpha`", "greater than 0"],
        );
    }
}

/// A usage error with these words, in bounded time.
fn refused(kind: &dyn Partitioner, train: &[i64], classes: usize, words: &[&str]) {
    let start = clock::used();
    // As the stage shows it.
    let error = deal(kind, train, &[], classes, 1)
        .unwrap_err()
        .within("split");
    assert!(clock::used() - start < Duration::from_secs(20));
    assert_eq!(error.class(), Class::Usage);
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
}
