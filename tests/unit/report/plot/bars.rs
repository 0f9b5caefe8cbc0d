//! The split plot; and, with it, that PNG and SVG agree.

use super::svg::{names, saved, svg};
use fed_distill::report::stacked_bars;
use std::collections::HashSet;
use std::path::Path;

#[test]
fn bars_say_what_they_show() {
    let long = "a class with a name that nobody could read beside a plot";
    let classes = ["cat & <dog>".to_owned(), long.into()];
    let counts = [vec![30_000, 10_000], vec![0, 20_000]];
    let svg = svg(|path| {
        stacked_bars(
            path,
            "Split \"iid\"\u{1}\u{ffff}",
            &names("node", 2),
            &classes,
            &counts,
        )
    });
    let expected = [
        "Split \"iid\"",
        "images",
        "node",
        "class",
        "node0",
        "node1",
        "cat & <dog>",
        "40,000",
        "20,000",
    ];
    for text in expected {
        assert!(svg.has(text), "{text} in {:?}", svg.texts());
    }
    assert!(
        svg.texts()
            .iter()
            .any(|text| text.starts_with("a class with") && text.ends_with('…'))
    );
    assert!(svg.0.contains("sans-serif"));
}

#[test]
fn bars_are_as_high_as_their_counts() {
    let svg = svg(|path| {
        stacked_bars(
            path,
            "t",
            &names("", 2),
            &names("c", 2),
            &[vec![30, 10], vec![0, 20]],
        )
    });
    let large = 30.0 * svg.unit();
    let mut bars = svg.rects();
    bars.retain(|(colour, [_, _, width, height])| {
        colour != "#FFFFFF" && *width > large && *height > large
    });
    // A class reaches from its top to the floor; those below it are drawn over it.
    let heights: Vec<f64> = bars.iter().map(|bar| bar.1[3]).collect();
    assert_eq!(heights.len(), 3, "{bars:?}");
    for (height, count) in heights.iter().zip([40.0, 30.0, 20.0]) {
        assert!(
            (height / heights[0] - count / 40.0).abs() < 0.005,
            "{heights:?}"
        );
    }
    assert_eq!(bars[0].0, bars[2].0, "a class has one colour");
    assert_ne!(bars[0].0, bars[1].0);
}

#[test]
fn png_shows_what_svg_says_at_twice_the_size() {
    let counts = [vec![9; 4], vec![5; 4], vec![1, 0, 0, 1]];
    let draw = |path: &Path| stacked_bars(path, "t", &names("", 3), &names("c", 4), &counts);
    let svg = svg(draw);
    let png = image::load_from_memory(&saved("plot.PNG", draw).unwrap())
        .unwrap()
        .to_rgb8();
    let (width, height) = svg.size();
    assert_eq!(
        (f64::from(png.width()), f64::from(png.height())),
        (2.0 * width, 2.0 * height)
    );

    let scale = 2.0 / svg.unit();
    let mut bars = svg.rects();
    bars.retain(|(colour, place)| {
        colour != "#FFFFFF" && place[2] > 30.0 * svg.unit() && place[3] > 5.0 * svg.unit()
    });
    assert_eq!(bars.len(), 4 + 4 + 2);
    for (colour, [x, y, width, _]) in bars {
        // Near the top of the rectangle, below its white seam.
        let pixel = png
            .get_pixel(((x + width / 2.0) * scale) as u32, (y * scale) as u32 + 6)
            .0;
        assert_eq!(
            format!("#{:02X}{:02X}{:02X}", pixel[0], pixel[1], pixel[2]),
            colour,
            "at {x},{y}"
        );
    }
}

#[test]
fn png_has_text_and_is_repeatable() {
    let draw = |title: &str| {
        let counts = [vec![1, 1], vec![1, 1]];
        saved("a.png", |path| {
            stacked_bars(path, title, &names("", 2), &names("", 2), &counts)
        })
        .unwrap()
    };
    let dark = |bytes: &[u8]| {
        let picture = image::load_from_memory(bytes).unwrap().to_rgb8();
        let top = picture.rows().take(60).flatten();
        top.filter(|pixel| pixel.0.iter().all(|&c| c < 80)).count()
    };
    assert!(dark(&draw("A title")) > 200);
    assert_eq!(draw("A title"), draw("A title"));
}

#[test]
fn a_hundred_classes_get_no_list() {
    let svg = svg(|path| {
        stacked_bars(
            path,
            "t",
            &names("n", 5),
            &names("class_", 100),
            &vec![vec![7; 100]; 5],
        )
    });
    let listed = svg.starting("class_");
    assert!((3..25).contains(&listed), "{listed}");
    let colours: HashSet<_> = svg.rects().into_iter().map(|rect| rect.0).collect();
    assert!(
        colours.len() >= 100,
        "every class has its colour: {}",
        colours.len()
    );
}

/// Many nodes share labels on the axis.
#[test]
fn one_node_and_many_nodes() {
    for (nodes, limit) in [(1, 500.0), (10, 1000.0), (100, 1300.0), (3000, 7000.0)] {
        let counts = vec![vec![3; 10]; nodes];
        let svg =
            svg(|path| stacked_bars(path, "t", &names("teacher", nodes), &names("", 10), &counts));
        assert!(
            svg.size().0 > 300.0 && svg.size().0 < limit,
            "{nodes}: {:?}",
            svg.size()
        );
        let labels = svg.starting("teacher");
        assert!(labels >= nodes.min(8) && labels <= 100, "{nodes}: {labels}");
    }
}
