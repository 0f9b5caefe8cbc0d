//! What every partitioner promises, whatever it is asked: a valid split or a usage error, the same
//! again for the same seed.

use super::deal;
use fed_distill::partition::{
    Dirichlet, DirichletEqual, Iid, Part, Partitioner, Pathological, QuantitySkew, RandomEqual,
    RandomUnequal, Shards, Sizes, Skewed, UniformPerClass, label_counts,
};
use proptest::prelude::*;

const CLASSES: usize = 7;

/// A request of arbitrary numbers, read by each kind as it needs.
#[derive(Clone, Debug)]
struct Asked {
    nodes: usize,
    /// Logarithm of a Dirichlet alpha.
    log_alpha: f64,
    least: usize,
    per: usize,
    some: Option<usize>,
    major: [usize; 2],
    minor: [usize; 2],
}

fn asked() -> impl Strategy<Value = Asked> {
    let range = |low| (low..8usize, 0usize..8).prop_map(|(least, more)| [least, least + more]);
    let numbers = (
        1usize..12,
        -700.0f64..7.0,
        1usize..15,
        1usize..9,
        prop::option::of(1usize..30),
    );
    (numbers, range(1), range(0)).prop_map(
        |((nodes, log_alpha, least, per, some), major, minor)| Asked {
            nodes,
            log_alpha,
            least,
            per,
            some,
            major,
            minor,
        },
    )
}

/// A partitioner and its promises for a request.
struct Promise {
    kind: Box<dyn Partitioner>,
    /// No image is left out.
    complete: bool,
    /// Smallest size.
    least: usize,
    /// Sizes differ by one at most.
    even: bool,
    /// It must not refuse.
    possible: bool,
}

/// Every partitioner for a request on images of which there are `totals[class]`.
fn promises(asked: &Asked, totals: &[usize]) -> Vec<Promise> {
    let Asked {
        nodes,
        least,
        per,
        some,
        ..
    } = *asked;
    let alpha = asked.log_alpha.exp();
    let images: usize = totals.iter().sum();
    let present: Vec<usize> = totals.iter().copied().filter(|total| *total > 0).collect();
    let rarest = *present.iter().min().unwrap();
    let each_has = |size: usize| nodes * size <= images;
    // Nodes that share a class when classes are spread evenly over nodes.
    let sharing = (nodes * per).div_ceil(present.len());
    let promise = |kind: Box<dyn Partitioner>, complete, least, even, possible| Promise {
        kind,
        complete,
        least,
        even,
        possible,
    };
    let sized = |sizes| {
        Box::new(QuantitySkew {
            nodes,
            sizes,
            min_size: least,
        })
    };
    let shards = Shards {
        nodes,
        per_node: per,
    };
    let pathological = Pathological {
        nodes,
        classes_per_node: per,
    };
    let fits = per <= present.len();
    let most = asked.major[0].max(asked.minor[0]);
    let skewed = Skewed {
        nodes,
        major_classes: per,
        major: asked.major,
        minor: asked.minor,
    };
    vec![
        promise(Box::new(Iid { nodes }), true, 1, true, each_has(1)),
        promise(
            Box::new(Dirichlet {
                nodes,
                alpha,
                min_size: least,
            }),
            true,
            least,
            false,
            nodes == 1 && each_has(least),
        ),
        promise(
            Box::new(DirichletEqual { nodes, alpha }),
            true,
            1,
            true,
            each_has(1),
        ),
        promise(Box::new(shards), true, per, false, each_has(per)),
        promise(
            Box::new(pathological),
            true,
            per,
            false,
            fits && nodes * per >= present.len() && rarest >= sharing,
        ),
        promise(
            sized(Sizes::Dirichlet(alpha)),
            true,
            least,
            false,
            nodes == 1 && each_has(least),
        ),
        promise(
            sized(Sizes::LogNormal(alpha.min(100.0))),
            true,
            least,
            false,
            nodes == 1 && each_has(least),
        ),
        promise(
            Box::new(UniformPerClass {
                nodes,
                per_class: some,
            }),
            some.is_none(),
            some.map_or(1, |each| each * present.len()),
            true,
            each_has(1) && some.is_none_or(|each| nodes * each <= rarest),
        ),
        promise(
            Box::new(RandomEqual { nodes, size: some }),
            some.is_none(),
            some.unwrap_or(1),
            true,
            each_has(some.unwrap_or(1)),
        ),
        promise(
            Box::new(RandomUnequal {
                nodes,
                min_size: least,
            }),
            true,
            least,
            false,
            each_has(least),
        ),
        promise(
            Box::new(skewed),
            false,
            per * asked.major[0],
            false,
            fits && nodes * most <= rarest,
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_valid_split_or_a_usage_error(
        asked in asked(),
        train in prop::collection::vec(0i64..CLASSES as i64, 12..300),
        test in prop::collection::vec(0i64..CLASSES as i64, 0..60),
        seed: u64,
    ) {
        let total = |class| train.iter().filter(|&&label| label == class).count();
        let totals: Vec<usize> = (0..CLASSES as i64).map(total).collect();
        for (kind, promise) in promises(&asked, &totals).into_iter().enumerate() {
            let [first, again] = [0, 1].map(|_| deal(&*promise.kind, &train, &test, CLASSES, seed));
            let split = match first {
                Ok(split) => split,
                Err(error) => {
                    prop_assert!(!promise.possible, "kind {kind}: {error}");
                    prop_assert_eq!(error.class(), fed_distill::Class::Usage);
                    prop_assert_eq!(error.to_string(), again.unwrap_err().to_string());
                    continue;
                }
            };
            prop_assert_eq!(&split, &again.unwrap(), "kind {}", kind);
            prop_assert_eq!(split.nodes.len(), asked.nodes);
            // Disjoint, in range, no node without training images.
            split.check(train.len(), test.len()).unwrap();
            prop_assert_eq!(
                split.nodes.iter().map(|part| part.test.len()).sum::<usize>(),
                test.len(),
            );
            let sizes: Vec<usize> = split.nodes.iter().map(|part| part.train.len()).collect();
            let (least, most) = (*sizes.iter().min().unwrap(), *sizes.iter().max().unwrap());
            prop_assert!(least >= promise.least, "kind {kind}: {sizes:?}");
            prop_assert!(!promise.even || most - least <= 1, "kind {kind}: {sizes:?}");
            prop_assert!(!promise.complete || sizes.iter().sum::<usize>() == train.len(), "kind \
                {kind}: {sizes:?}");
            for part in &split.nodes {
                prop_assert!(part.train.is_sorted() && part.test.is_sorted(), "kind {kind}");
            }
        }
    }

    #[test]
    fn pathological_and_skewed_hold_what_they_say(
        asked in asked(),
        train in prop::collection::vec(0i64..CLASSES as i64, 200..600),
        seed: u64,
    ) {
        let Asked { nodes, per, major, minor, .. } = asked;
        let held = |kind: &dyn Partitioner| -> Option<Vec<Vec<u64>>> {
            let split = deal(kind, &train, &[], CLASSES, seed).ok()?;
            let counts = |part: &Part| label_counts(&part.train, &train, CLASSES);
            Some(split.nodes.iter().map(counts).collect())
        };
        if let Some(counts) = held(&Pathological { nodes, classes_per_node: per }) {
            let mut holders = [0; CLASSES];
            for node in &counts {
                prop_assert_eq!(node.iter().filter(|count| **count > 0).count(), per);
                (0..CLASSES).for_each(|class| holders[class] += usize::from(node[class] > 0));
            }
            prop_assert!(
                holders.iter().max().unwrap() - holders.iter().min().unwrap() <= 1,
                "{holders:?}",
            );
            for class in 0..CLASSES {
                let own: Vec<u64> =
                    counts.iter().map(|node| node[class]).filter(|count| *count > 0).collect();
                prop_assert!(own.iter().max().unwrap() - own.iter().min().unwrap() <= 1, "{own:?}");
            }
        }
        // Ranges that do not overlap, so that a count tells which one it is from.
        let major = major.map(|bound| bound + 20);
        if let Some(counts) = held(&Skewed { nodes, major_classes: per, major, minor }) {
            for node in &counts {
                let within = |count: &u64, [least, most]: [usize; 2]| {
                    (least..=most).contains(&(*count as usize))
                };
                prop_assert_eq!(node.iter().filter(|count| within(count, major)).count(), per);
                prop_assert_eq!(
                    node.iter().filter(|count| within(count, minor)).count(),
                    CLASSES - per,
                );
            }
        }
    }

    /// A node is full at an even share of the images.
    #[test]
    fn full_dirichlet_node_takes_no_further_class(
        nodes in 2usize..8,
        log_alpha in -3.0f64..3.0,
        train in prop::collection::vec(0i64..CLASSES as i64, 100..400),
        seed: u64,
    ) {
        let kind = Dirichlet { nodes, alpha: log_alpha.exp(), min_size: 1 };
        if let Ok(split) = deal(&kind, &train, &[], CLASSES, seed) {
            for part in &split.nodes {
                let counts = label_counts(&part.train, &train, CLASSES);
                let last = counts.iter().rposition(|count| *count > 0).unwrap();
                let before: u64 = counts[..last].iter().sum();
                prop_assert!((before as usize) * nodes < train.len(), "{counts:?}");
            }
        }
    }
}
