//! Image grids: every source pixel is found as one square of its colour, in its place.

use fed_distill::report::{Grid, GridRow};
use image::RgbImage;
use tch::{Device, Kind, Tensor};

/// Pixels [n,c,h,w] that all differ and are never white or, with 3 channels, grey as text is.
fn distinct(n: i64, c: i64, h: i64, w: i64) -> Tensor {
    let index = Tensor::arange(n * h * w, (Kind::Int64, Device::Cpu)).view([n, 1, h, w]);
    assert!(n * h * w <= if c == 1 { 255 } else { 4000 });
    let planes = if c == 1 {
        vec![index]
    } else {
        vec![
            index.remainder(64),
            index.divide_scalar_mode(64, "floor"),
            Tensor::full_like(&index, 200),
        ]
    };
    Tensor::cat(&planes, 1).to_kind(Kind::Uint8)
}

fn zeros(shape: &[i64]) -> Tensor {
    Tensor::zeros(shape, (Kind::Uint8, Device::Cpu))
}

fn grid(title: &str, rows: Vec<(&str, Tensor)>) -> Grid {
    let rows = rows.into_iter();
    Grid {
        title: title.into(),
        rows: rows
            .map(|(label, pixels)| GridRow {
                label: label.into(),
                pixels,
            })
            .collect(),
    }
}

/// Left, top, width and height of a colour in the picture; it fills that rectangle.
fn place(picture: &RgbImage, colour: [u8; 3]) -> (u32, u32, u32, u32) {
    let pixels = picture
        .enumerate_pixels()
        .filter(|(_, _, pixel)| pixel.0 == colour);
    let at: Vec<(u32, u32)> = pixels.map(|(x, y, _)| (x, y)).collect();
    let (x0, x1) = (
        at.iter().map(|a| a.0).min().unwrap(),
        at.iter().map(|a| a.0).max().unwrap(),
    );
    let (y0, y1) = (
        at.iter().map(|a| a.1).min().unwrap(),
        at.iter().map(|a| a.1).max().unwrap(),
    );
    assert_eq!(
        at.len() as u32,
        (x1 - x0 + 1) * (y1 - y0 + 1),
        "{colour:?} is one rectangle"
    );
    (x0, y0, x1 - x0 + 1, y1 - y0 + 1)
}

fn colour(pixels: &Tensor, image: i64, y: i64, x: i64) -> [u8; 3] {
    let channels = pixels.size()[1];
    [0, 1, 2].map(|c| pixels.int64_value(&[image, c.min(channels - 1), y, x]) as u8)
}

#[test]
fn pixels_are_copied_as_squares_in_place() {
    for (channels, size, cell) in [(3, 16, 64), (3, 28, 56), (3, 32, 64), (1, 9, 63)] {
        let pixels = distinct(3, channels, size, size);
        let label = if channels == 1 { "" } else { "row" };
        let picture = grid(label, vec![(label, pixels.shallow_clone())])
            .render()
            .unwrap();
        let factor = cell / size as u32;
        let origins: Vec<_> = (0..3)
            .map(|image| place(&picture, colour(&pixels, image, 0, 0)))
            .collect();
        for image in 0..3 {
            let (left, top, ..) = origins[image as usize];
            for (y, x) in [(0, 0), (0, size - 1), (size / 2, 1), (size - 1, size - 1)] {
                let expected = (
                    left + x as u32 * factor,
                    top + y as u32 * factor,
                    factor,
                    factor,
                );
                assert_eq!(place(&picture, colour(&pixels, image, y, x)), expected);
            }
        }
        let step = origins[1].0 - origins[0].0;
        assert!(
            step > cell && step < cell + 8,
            "images stand close but apart: {step}"
        );
        assert_eq!(origins[2].0 - origins[1].0, step);
        assert!(origins.iter().all(|origin| origin.1 == origins[0].1));
    }
}

#[test]
fn long_rows_wrap_and_rows_follow_below() {
    let first = distinct(45, 3, 8, 8);
    // A colour that the first row has not.
    let second = zeros(&[1, 3, 8, 8]) + 99;
    let picture = grid(
        "",
        vec![("", first.shallow_clone()), ("", second.shallow_clone())],
    );
    let picture = picture.render().unwrap();
    assert!(picture.width() < 1500, "{}", picture.width());
    let tops = [0, 19, 20, 44].map(|image| place(&picture, colour(&first, image, 0, 0)).1);
    assert!(tops[0] == tops[1] && tops[1] < tops[2] && tops[2] < tops[3]);
    assert!(place(&picture, [99; 3]).1 > tops[3]);
}

#[test]
fn views_of_other_layouts_are_read_rightly() {
    let pixels = distinct(2, 3, 8, 8);
    let strided = pixels
        .permute([0, 2, 3, 1])
        .contiguous()
        .permute([0, 3, 1, 2]);
    assert!(!strided.is_contiguous());
    let (a, b) = (
        grid("t", vec![("l", pixels)]),
        grid("t", vec![("l", strided)]),
    );
    assert_eq!(a.render().unwrap(), b.render().unwrap());
}

#[test]
fn title_and_labels_are_drawn_on_white() {
    let draw = |title: &str, label: &str| {
        grid(title, vec![(label, distinct(2, 3, 8, 8))])
            .render()
            .unwrap()
    };
    let dark = |picture: &RgbImage| {
        picture
            .pixels()
            .filter(|p| p.0.iter().all(|&c| c < 130))
            .count()
    };
    let plain = draw("", "");
    assert_eq!(plain.get_pixel(0, 0).0, [255; 3]);
    assert!(dark(&draw("Title", "")) > dark(&plain) + 50);
    assert!(dark(&draw("", "teacher 0")) > dark(&plain) + 50);
    assert!(draw("A title that is a good deal wider than two images", "").width() > plain.width());
    assert!(
        draw("", &"long ".repeat(100)).width() < plain.width() + 220,
        "labels are cut"
    );
}

#[test]
fn saved_files_are_png_and_repeatable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grid.png");
    let grid = grid("Synthetic", vec![("0", distinct(4, 3, 16, 16))]);
    grid.save(&path).unwrap();
    let first = std::fs::read(&path).unwrap();
    assert_eq!(
        image::load_from_memory(&first).unwrap().to_rgb8(),
        grid.render().unwrap()
    );
    grid.save(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), first);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "no temporary files stay"
    );
}

#[test]
fn bad_input_is_an_error_that_says_so() {
    let message = |rows| grid("t", rows).render().unwrap_err().to_string();
    assert!(message(vec![]).contains("no images"));
    assert!(message(vec![("a", zeros(&[0, 3, 8, 8]))]).contains("no images"));
    let float = message(vec![(
        "teacher 3",
        zeros(&[1, 3, 8, 8]).to_kind(Kind::Float),
    )]);
    assert!(
        float.contains("teacher 3") && float.contains("u8") && float.contains("Float"),
        "{float}"
    );
    assert!(message(vec![("a", zeros(&[3, 8, 8]))]).contains("[N,C,H,W]"));
    assert!(message(vec![("a", zeros(&[1, 2, 8, 8]))]).contains("channels"));
    assert!(message(vec![("a", zeros(&[1, 1, 0, 8]))]).contains("expected"));
    assert!(message(vec![("a", zeros(&[60_000, 1, 28, 28]))]).contains("fewer images"));
}

#[test]
fn a_row_without_images_keeps_its_label() {
    let with = grid(
        "",
        vec![("none", zeros(&[0, 3, 8, 8])), ("b", distinct(1, 3, 8, 8))],
    )
    .render()
    .unwrap();
    let without = grid("", vec![("b", distinct(1, 3, 8, 8))])
        .render()
        .unwrap();
    assert!(with.height() > without.height());
}
