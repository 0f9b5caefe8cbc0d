//! The confusion matrix.

use super::svg::{names, svg};
use fed_distill::report::confusion;

#[test]
fn confusion_counts_and_shares() {
    let classes = ["benign".to_owned(), "malignant".into(), "unseen".into()];
    let counts = [vec![75, 25, 0], vec![1, 999, 0], vec![0, 0, 0]];
    let owners = [
        "teacher 0".to_owned(),
        "teacher 0".into(),
        "teacher 1".into(),
    ];
    let svg = svg(|path| confusion(path, "Who is who", &classes, &counts, Some(&owners)));
    let expected = [
        "Who is who",
        "true class",
        "predicted class",
        "75%",
        "25%",
        "75",
        "<1%",
        ">99%",
        "999",
        "teacher 1",
    ];
    for text in expected {
        assert!(svg.has(text), "{text} in {:?}", svg.texts());
    }
    // (75 + 999) / 1,100
    assert!(
        svg.has("accuracy 97.6% of 1,100 images"),
        "{:?}",
        svg.texts()
    );
    assert_eq!(svg.starting("benign"), 2);
    assert_eq!(
        svg.starting("teacher 0"),
        1,
        "one bracket for both classes of an owner"
    );
}

#[test]
fn confusion_colours_are_row_shares() {
    // Rows of the same shares have the same colours, whatever their counts.
    let svg = svg(|path| {
        confusion(
            path,
            "t",
            &names("", 2),
            &[vec![900, 100], vec![1, 9]],
            None,
        )
    });
    let mut cells = svg.rects();
    cells.retain(|(_, [_, _, width, height])| width == height && *width > 40.0 * svg.unit());
    // The first is the whole matrix.
    let colours: Vec<&str> = cells.iter().skip(1).map(|cell| cell.0.as_str()).collect();
    let [a, b, c, d] = colours[..] else {
        panic!("{cells:?}")
    };
    assert!(a == d && b == c, "{colours:?}");
    let light = |colour: &str| i64::from_str_radix(&colour[1..3], 16).unwrap();
    assert!(light(a) < light(b), "more is darker: {colours:?}");
}

#[test]
fn confusion_of_any_size() {
    let sizes = [
        (1, 250.0, 400.0),
        (2, 250.0, 450.0),
        (10, 600.0, 1000.0),
        (100, 700.0, 1100.0),
        (300, 700.0, 1100.0),
    ];
    for (classes, least, most) in sizes {
        let mut counts = vec![vec![1; classes]; classes];
        (0..classes).for_each(|class| counts[class][class] = u64::MAX);
        let owners = names("teacher ", classes);
        let svg =
            svg(|path| confusion(path, "t", &names("class", classes), &counts, Some(&owners)));
        assert!(
            svg.size().0 > least && svg.size().0 < most,
            "{classes}: {:?}",
            svg.size()
        );
        assert!(svg.texts().len() < 600, "{classes}: {}", svg.texts().len());
    }
}
