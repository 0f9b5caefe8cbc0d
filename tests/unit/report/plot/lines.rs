//! Curves.

use super::svg::{Svg, error, names, number, saved, svg};
use fed_distill::report::{LinePlot, Series};
use std::collections::HashSet;

pub fn line_plot(log_y: bool, series: &[(&str, &[(f64, f64)])]) -> LinePlot<'static> {
    let series = series.iter().map(|(name, points)| Series {
        name: name.to_string(),
        points: points.to_vec(),
    });
    LinePlot {
        title: "Student",
        x: "epoch",
        y: "accuracy / %",
        log_x: false,
        log_y,
        series: series.collect(),
    }
}

#[test]
fn lines_follow_their_numbers() {
    let svg = svg(|path| {
        line_plot(
            false,
            &[("student", &[(0.0, 10.0), (1.0, 30.0), (4.0, 90.0)])],
        )
        .save(path)
    });
    for text in ["Student", "epoch", "accuracy / %", "student", "80"] {
        assert!(svg.has(text), "{text} in {:?}", svg.texts());
    }
    let at = &svg.curves()[0];
    assert!(((at[1].0 - at[0].0) / (at[2].0 - at[0].0) - 0.25).abs() < 0.005);
    assert!(((at[0].1 - at[1].1) / (at[0].1 - at[2].1) - 0.25).abs() < 0.005);
    assert!(at[2].1 < at[0].1, "up is more");
    assert_eq!(svg.circles(), 3);
}

#[test]
fn a_log_axis_is_even_in_powers_of_ten() {
    let points = [
        (0.0, 1000.0),
        (1.0, 10.0),
        (2.0, 0.0),
        (3.0, -5.0),
        (4.0, f64::NAN),
        (5.0, 1.0),
    ];
    let svg = svg(|path| line_plot(true, &[("loss", &points)]).save(path));
    let at = &svg.curves()[0];
    assert_eq!(at.len(), 3, "zero, negative and NaN are skipped");
    assert!(((at[1].1 - at[0].1) / (at[2].1 - at[0].1) - 2.0 / 3.0).abs() < 0.005);
    assert!(
        ["1", "10", "100", "1,000"]
            .iter()
            .all(|label| svg.has(label)),
        "{:?}",
        svg.texts()
    );
}

#[test]
fn a_log_x_is_even_in_powers_of_ten() {
    let points = [
        (0.0, 5.0),
        (0.5, 1.0),
        (5.0, 2.0),
        (500.0, 3.0),
        (-1.0, 2.0),
    ];
    let plot = LinePlot {
        log_x: true,
        ..line_plot(false, &[("bytes", &points)])
    };
    let svg = svg(|path| plot.save(path));
    let at = &svg.curves()[0];
    assert_eq!(at.len(), 3, "zero and negative are skipped");
    assert!(((at[1].0 - at[0].0) / (at[2].0 - at[0].0) - 1.0 / 3.0).abs() < 0.005);
    assert!(
        ["1", "10", "100"].iter().all(|label| svg.has(label)),
        "{:?}",
        svg.texts()
    );
}

#[test]
fn a_single_epoch_has_one_tick() {
    for epoch in [0.0, 1.0, 30.0] {
        let svg = svg(|path| line_plot(false, &[("student", &[(epoch, 97.3)])]).save(path));
        let doc = svg.doc();
        let middle = |node: &roxmltree::Node| node.attribute("text-anchor") == Some("middle");
        let texts: Vec<&str> = doc
            .descendants()
            .filter(middle)
            .filter_map(|node| node.text())
            .map(str::trim)
            .filter(|text| text.parse::<f64>().is_ok())
            .collect();
        assert_eq!(texts, [epoch.to_string()]);
    }
}

#[test]
fn ticks_stand_at_their_values() {
    for (log, low, high) in [
        (false, 0.2, 0.9),
        (true, 0.02, 70.0),
        (true, 3.0, 8.0),
        (false, -3000.0, 5e4),
    ] {
        let svg =
            svg(|path| line_plot(log, &[("a", &[(0.0, low), (1.0, high), (2.0, low)])]).save(path));
        let doc = svg.doc();
        let at = &svg.curves()[0];
        let mut labels = 0;
        for node in doc
            .descendants()
            .filter(|node| node.attribute("text-anchor") == Some("end"))
        {
            let text = node
                .text()
                .unwrap()
                .trim()
                .replace(',', "")
                .replace('−', "-");
            let value: f64 = text.parse().unwrap();
            let place = |value: f64| if log { value.log10() } else { value };
            let share = (place(value) - place(low)) / (place(high) - place(low));
            let expected = at[0].1 + share * (at[1].1 - at[0].1);
            // A text's y is the middle of its capitals, half of which `dy` lowers the baseline by.
            let size: f64 = number(node, "font-size");
            assert!((number(node, "dy") - 0.7275 / 2.0 * size).abs() < 0.01);
            let centre = number(node, "y");
            assert!(
                (centre - expected).abs() < 1.5 * svg.unit(),
                "{text}: {centre} {expected}"
            );
            labels += 1;
        }
        assert!(labels >= 3, "{labels} {:?}", svg.texts());
    }
}

/// Of a vertical axis: the heights of its labels.
fn labels(svg: &Svg) -> Vec<f64> {
    let doc = svg.doc();
    let texts = doc
        .descendants()
        .filter(|node| node.attribute("text-anchor") == Some("end"));
    texts.map(|node| number(node, "y")).collect()
}

#[test]
fn few_values_lie_between_labels_and_have_three() {
    for (low, high) in [
        (93.1, 97.8),
        (97.3, 98.2),
        (0.0, 104.3),
        (100.0, 100.0),
        (0.0, 0.0),
        (41.7, 41.7),
        (1.0, 13.6),
    ] {
        let svg = svg(|path| {
            line_plot(false, &[("a", &[(0.0, low), (1.0, high), (2.0, low)])]).save(path)
        });
        let labels = labels(&svg);
        assert!(labels.len() >= 3, "{low} to {high}: {:?}", svg.texts());
        let top = labels.iter().copied().fold(f64::MAX, f64::min);
        let bottom = labels.iter().copied().fold(0.0, f64::max);
        for (_, y) in svg.curves().into_iter().flatten() {
            assert!(
                (top - svg.unit()..=bottom + svg.unit()).contains(&y),
                "{low} to {high}: {y}, {top}..{bottom}"
            );
        }
    }
}

#[test]
fn a_short_logarithmic_axis_has_three_labels() {
    for (low, high) in [
        (0.957, 5.76),
        (1.6, 32.0),
        (2.01, 10.2),
        (3.0, 3.2),
        (0.12, 6.4),
    ] {
        let plot = LinePlot {
            log_x: true,
            ..line_plot(false, &[("a", &[(low, 1.0), (high, 2.0)])])
        };
        let svg = svg(|path| plot.save(path));
        let texts = svg.texts();
        let below = texts
            .iter()
            .filter(|text| text.replace(',', "").parse::<f64>().is_ok())
            .count()
            - labels(&svg).len();
        assert!(below >= 3, "{low} to {high}: {texts:?}");
    }
}

#[test]
fn odd_series_are_drawn() {
    let long: Vec<(f64, f64)> = (0..5000)
        .map(|i| (f64::from(i), f64::from(i % 7)))
        .collect();
    let cases: Vec<(Vec<(f64, f64)>, bool)> = vec![
        (vec![(3.0, 0.5)], false),
        (vec![(0.0, 1e-4), (1.0, 1e-4), (2.0, 1e-4)], false),
        (vec![(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)], false),
        (vec![(0.0, 1.0), (1.0, 1.0 + 3e-16), (2.0, 1.0)], false),
        (vec![(0.0, -1e99), (1.0, 1e99), (2.0, f64::MAX)], false),
        (vec![(0.0, 5e-324), (1.0, 1e-320), (2.0, 1e-310)], false),
        (
            vec![(1e9, 12.0), (1e9 + 1.0, 13.0), (1e9 + 2.0, 12.0)],
            false,
        ),
        (vec![(0.0, 3.0), (1.0, 3.1), (2.0, 3.2)], true),
        (vec![(0.0, 7.0)], true),
        (vec![(0.0, 1e-90), (1.0, 1e90)], true),
        (long, false),
    ];
    for (points, log) in cases {
        let plot = line_plot(log, &[("odd", &points)]);
        let svg = svg(|path| plot.save(path));
        assert!(svg.has("odd"));
        assert!(svg.texts().len() >= 6, "there are ticks: {:?}", svg.texts());
        let png = saved("plot.png", |path| plot.save(path)).unwrap();
        let width = image::load_from_memory(&png).unwrap().width();
        assert_eq!(f64::from(width), 2.0 * svg.size().0);
    }
}

#[test]
fn single_points_and_missing_values_are_named() {
    let series: [(&str, &[(f64, f64)]); 3] = [
        ("one", &[(2.0, 0.5)]),
        ("none", &[(1.0, f64::NAN)]),
        ("empty", &[]),
    ];
    let svg = svg(|path| line_plot(false, &series).save(path));
    assert!(
        svg.has("one") && svg.has("none (no values)") && svg.has("empty (no values)"),
        "{:?}",
        svg.texts()
    );
    assert_eq!(svg.circles(), 2, "the point and its sample in the legend");
}

#[test]
fn nothing_to_draw_is_an_error() {
    let refused = [
        line_plot(false, &[]),
        line_plot(false, &[("a", &[])]),
        line_plot(true, &[("a", &[(0.0, -1.0)])]),
        line_plot(false, &[("a", &[(f64::INFINITY, 1.0)])]),
    ];
    for plot in refused {
        let error = error("a.svg", |path| plot.save(path));
        assert!(
            error.contains("`Student` has nothing to draw") && error.contains("expected"),
            "{error}"
        );
    }
}

#[test]
fn many_lines_are_told_apart() {
    for count in [3, 12, 40] {
        let series = names("teacher ", count).into_iter().map(|name| Series {
            name,
            points: vec![(0.0, 0.1), (1.0, 0.5), (2.0, 0.5)],
        });
        let plot = LinePlot {
            series: series.collect(),
            ..line_plot(false, &[])
        };
        let svg = svg(|path| plot.save(path));
        let doc = svg.doc();
        let curves = doc
            .descendants()
            .filter(|node| node.has_tag_name("polyline"));
        let colours: HashSet<_> = curves.filter_map(|node| node.attribute("stroke")).collect();
        assert_eq!(colours.len(), count);

        let texts = doc.descendants().filter(|node| node.has_tag_name("text"));
        let named = texts.filter(|node| node.text().unwrap_or_default().contains("teacher"));
        let mut heights: Vec<f64> = named.map(|node| number(node, "y")).collect();
        heights.sort_by(f64::total_cmp);
        assert!(heights.len() >= count.min(8));
        let apart = |pair: &[f64]| pair[1] - pair[0] >= 12.0 * svg.unit();
        assert!(
            heights.windows(2).all(apart),
            "names of equal ends stand apart: {heights:?}"
        );
        assert!(
            heights
                .iter()
                .all(|&y| y > 0.0 && y < svg.size().1 * svg.unit())
        );
    }
}

#[test]
fn lines_on_each_other_are_all_to_be_seen() {
    let line = |heights: [f64; 4]| -> Vec<(f64, f64)> {
        let points = heights.into_iter().enumerate();
        points.map(|(x, y)| (x as f64, y)).collect()
    };
    let (flat, rising, apart) = (
        line([0.0; 4]),
        line([0.0, 0.0, 0.5, 1.0]),
        line([1.0, 0.9, 0.8, 0.7]),
    );
    let all: [(&str, &[(f64, f64)]); 4] =
        [("a", &flat), ("b", &apart), ("c", &rising), ("d", &flat)];
    let svg = svg(|path| line_plot(false, &all).save(path));
    let doc = svg.doc();
    let widths: Vec<f64> = doc
        .descendants()
        .filter(|node| node.has_tag_name("polyline"))
        .map(|node| number(node, "stroke-width"))
        .collect();
    // The first in two pieces, one below two others and one below the last; the third alone where
    // it rises.
    let [below_two, below_one, apart, third, rising, last] = widths[..6] else {
        panic!("{widths:?}")
    };
    assert!(below_two > third && third > last, "{widths:?}");
    assert!(
        below_one == third && apart == last && rising == last,
        "{widths:?}"
    );
}

/// The last would hide the others.
#[test]
fn single_points_at_one_place_are_all_to_be_seen() {
    let largest = |series: &[(&str, &[(f64, f64)])]| {
        let svg = svg(|path| line_plot(false, series).save(path));
        let doc = svg.doc();
        let circles = doc.descendants().filter(|node| node.has_tag_name("circle"));
        let radii = circles.map(|node| number(node, "r"));
        radii.fold(0.0, f64::max) / svg.unit()
    };
    let (tie, other) = ([(2.0, 0.5)], [(2.0, 0.1)]);
    let alone = largest(&[("student", &tie), ("average", &other)]);
    let tied = largest(&[("student", &tie), ("average", &other), ("ensemble", &tie)]);
    // The mark on top reaches as far as the one alone.
    assert!(tied > 1.5 * alone, "{tied} and {alone}");
    let all = largest(&[("student", &tie), ("average", &tie), ("ensemble", &tie)]);
    assert!(all > tied, "{all} and {tied}");
}

#[test]
fn wrong_paths_are_errors() {
    let plot = line_plot(false, &[("a", &[(0.0, 1.0)])]);
    for name in ["plot.pdf", "plot"] {
        let text = error(name, |path| plot.save(path));
        assert!(
            text.contains(".svg or .png") && text.contains(name),
            "{text}"
        );
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let inside = file.path().join("a.svg");
    let text = plot.save(&inside).unwrap_err().to_string();
    assert!(text.contains("is a file, not a folder"), "{text}");
}
