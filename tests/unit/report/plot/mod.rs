//! Plots: what is written in them, that places follow the numbers, that SVG and PNG agree, and that
//! nothing odd panics.

mod bars;
mod confusion;
mod heat;
mod lines;
mod svg;

use self::lines::line_plot;
use self::svg::{error, names, svg};
use fed_distill::report::{confusion, confusion_svg, stacked_bars, stacked_bars_svg};
use proptest::prelude::*;

#[test]
fn wrong_shapes_are_errors() {
    let two = names("", 2);
    let bars = |nodes: &[String], classes: &[String], counts: &[Vec<u64>]| {
        error("a.svg", |path| {
            stacked_bars(path, "Split", nodes, classes, counts)
        })
    };
    assert!(bars(&[], &two, &[]).contains("at least one"));
    assert!(bars(&two, &[], &[vec![], vec![]]).contains("at least one"));
    assert!(bars(&two, &two, &[vec![1, 2]]).contains("expected: counts of 2 nodes × 2 classes"));
    assert!(bars(&two, &two, &[vec![1, 2], vec![1]]).contains("found: 2 rows of 1 to 2 counts"));
    let huge = bars(&names("", 60_000), &names("", 1), &vec![vec![1]; 60_000]);
    assert!(huge.contains("the plot `Split` would be"), "{huge}");

    let matrix = |classes: &[String], counts: &[Vec<u64>], owners: Option<&[String]>| {
        error("a.svg", |path| {
            confusion(path, "C", classes, counts, owners)
        })
    };
    assert!(matrix(&[], &[], None).contains("at least one class"));
    assert!(matrix(&two, &[vec![1, 2]], None).contains("2 × 2"));
    assert!(matrix(&two, &[vec![1, 2], vec![3, 4]], Some(&two[..1])).contains("1 owners"));
}

#[test]
fn no_images_at_all_still_draw() {
    let zeros = [vec![0, 0], vec![0, 0]];
    let bars = svg(|path| stacked_bars(path, "", &names("", 2), &names("", 2), &zeros));
    assert!(bars.has("images"));
    let matrix = svg(|path| confusion(path, "", &names("", 2), &zeros, None));
    assert!(matrix.has("no images"));
}

#[test]
fn svg_is_the_same_without_a_file() {
    let plot = line_plot(false, &[("one", &[(0.0, 1.0), (1.0, 2.0)])]);
    assert_eq!(plot.svg().unwrap(), svg(|path| plot.save(path)).0);
    let (two, counts) = (names("", 2), [vec![3, 1], vec![0, 2]]);
    let bars = svg(|path| stacked_bars(path, "Split", &two, &two, &counts));
    let again = stacked_bars_svg("Split", &two, &two, &counts);
    assert_eq!(again.unwrap(), bars.0);
    let matrix = svg(|path| confusion(path, "C", &two, &counts, None));
    let again = confusion_svg("C", &two, &counts, None);
    assert_eq!(again.unwrap(), matrix.0);
}

/// Any f64 with its NaNs and infinities, or one of a usual size.
fn coordinate() -> impl Strategy<Value = f64> {
    prop_oneof![prop::num::f64::ANY, -1e3..1e3, 0.0..1e-3, 1e6..1e12]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever numbers come, everything is placed inside of the picture.
    #[test]
    fn any_numbers_are_placed_inside(
        points in prop::collection::vec((coordinate(), coordinate()), 0..6),
        log in any::<bool>(),
    ) {
        let plot =
            line_plot(log, &[("any", &points), ("more", &[(0.0, 1.0), (1.0, 2.0), (2.0, 0.5)])]);
        let svg = svg(|path| plot.save(path));
        let (width, height) = (svg.size().0 * svg.unit(), svg.size().1 * svg.unit());
        for (x, y) in svg.curves().into_iter().flatten() {
            prop_assert!((0.0..=width).contains(&x) && (0.0..=height).contains(&y), "{x},{y}");
        }
        prop_assert!(svg.texts().len() < 60);
    }

    #[test]
    fn any_counts_and_titles_draw(
        counts in prop::collection::vec(prop::collection::vec(any::<u64>(), 3), 3),
        title in any::<String>(),
    ) {
        let bars = svg(|path| stacked_bars(path, &title, &names("", 3), &names("", 3), &counts));
        prop_assert!(bars.has("images"));
        let matrix = svg(|path| confusion(path, &title, &names("", 3), &counts, None));
        prop_assert!(matrix.has("true class"));
    }
}
