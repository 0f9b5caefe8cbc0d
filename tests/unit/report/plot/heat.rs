//! Heat maps of shares over time.

use super::svg::{error, svg};
use fed_distill::report::{HeatMap, Series};

fn map(rows: &[(&str, &[(f64, f64)])]) -> HeatMap<'static> {
    let rows = rows.iter().map(|(name, points)| Series {
        name: name.to_string(),
        points: points.to_vec(),
    });
    HeatMap {
        title: "Classes",
        x: "epoch",
        y: "class",
        rows: rows.collect(),
    }
}

/// Colour and place of the cells: all rectangles between the ground and the bar.
fn cells(map: &HeatMap) -> Vec<(String, [f64; 4])> {
    let svg = svg(|path| map.save(path));
    // Picture and ground.
    let rects = svg.rects();
    rects[2..rects.len() - 50].to_vec()
}

#[test]
fn rows_and_columns_follow_the_names_and_the_epochs() {
    let map = map(&[
        ("cat", &[(0.0, 0.0), (5.0, 0.5), (10.0, 1.0)]),
        ("dog", &[(5.0, 0.5)]),
    ]);
    let svg = svg(|path| map.save(path));
    for text in [
        "Classes", "epoch", "class", "cat", "dog", "0", "5", "10", "100%",
    ] {
        assert!(svg.has(text), "{text} in {:?}", svg.texts());
    }
    let cells: Vec<_> = cells(&map)
        .into_iter()
        .filter(|cell| cell.1[3] > 8.0 * svg.unit())
        .collect();
    assert_eq!(cells.len(), 4, "none where there is no value: {cells:?}");
    let [first, second, third, below] = &cells[..] else {
        unreachable!()
    };
    assert!(first.1[0] < second.1[0] && second.1[0] < third.1[0] && first.1[1] == third.1[1]);
    assert!(
        below.1[0] == second.1[0] && below.1[1] > second.1[1],
        "the second row begins at its epoch"
    );
    assert!(second.0 == below.0 && first.0 != second.0 && second.0 != third.0);
}

#[test]
fn more_epochs_than_columns_are_means_of_neighbours() {
    // 0 and 1 in turn: every mean of two is a half.
    let points: Vec<(f64, f64)> = (0..300).map(|i| (f64::from(i), f64::from(i % 2))).collect();
    let map = map(&[("all", &points)]);
    let svg = svg(|path| map.save(path));
    assert!(svg.has("epoch (means of 2)"), "{:?}", svg.texts());
    let cells = cells(&map);
    assert_eq!(cells.len(), 150);
    assert!(cells.iter().all(|cell| cell.0 == cells[0].0), "{cells:?}");
}

#[test]
fn nothing_to_draw_is_an_error() {
    for rows in [&[][..], &[("a", &[][..])]] {
        let error = error("a.svg", |path| map(rows).save(path));
        assert!(error.contains("`Classes` has nothing to draw"), "{error}");
    }
}
