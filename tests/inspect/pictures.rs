//! `grid`, `split` and `confusion`: what they count and draw.

use crate::{copy, data, experiment, inspect, line, metrics, percent};
use fed_distill::artifact::{json, tensors};
use serde_json::Value;
use tch::{Kind, Tensor};

fn open(path: &str) -> image::RgbImage {
    image::open(experiment().path(path)).unwrap().to_rgb8()
}

#[test]
fn an_initial_batch_is_shown_by_teacher_or_by_class() {
    let by_teacher = data(&[
        "grid",
        "initial.safetensors",
        "--columns",
        "5",
        "--out",
        "a.png",
    ]);
    // Two teachers, a batch of 16 each.
    assert_eq!(
        (by_teacher["images"].as_i64(), by_teacher["shown"].as_i64()),
        (Some(32), Some(10))
    );
    let whole = data(&[
        "grid",
        "initial.safetensors",
        "--by",
        "none",
        "--out",
        "b.png",
    ]);
    assert_eq!(whole["shown"], 32);
    let by_class = data(&["grid", "students/1", "--out", "c.png"]);
    assert_eq!(by_class["images"], 32);
    // A run may have a name that is no file; the paths are as they were typed.
    let named = data(&["grid", "initial", "--columns", "5"]);
    assert_eq!(named["file"], "initial.safetensors");
    assert_eq!(named["picture"], "inspect/initial.png");
    assert_eq!(by_class["file"], "students/1/dataset.safetensors");
    // Five cells of 64 pixels with gaps of 3, beside labels and margins.
    let (a, b) = (open("a.png"), open("b.png"));
    assert!(
        a.width() > 5 * 67 && a.width() < b.width(),
        "{:?} {:?}",
        a.dimensions(),
        b.dimensions()
    );
}

/// What a stage wrote stays, whatever the name that it is given by, and the name of a picture says
/// what it is.
#[test]
fn no_picture_replaces_what_a_stage_wrote() {
    let place = copy();
    std::os::unix::fs::symlink("initial.png", place.path("link.png")).unwrap();
    for (typed, out, words) in [
        (
            "grid initial",
            "initial.safetensors",
            "a name ending in .png\n",
        ),
        ("grid initial", "initial.png", "a run of `generate_initial`"),
        (
            "grid initial",
            "initial.loss.png",
            "a run of `generate_initial`",
        ),
        ("grid initial", "link.png", "a run of `generate_initial`"),
        ("report .", "split.json", "a name ending in .html\n"),
        (
            "split split.json",
            "split.json",
            "a name ending in .svg or .png\n",
        ),
        (
            "split split.json",
            "./teachers/../split.svg",
            "a run of `split_data`",
        ),
        (
            "confusion students/1",
            "students/2/curves.png",
            "a run of `train_student`",
        ),
        (
            "compare students",
            "students/2/curves.svg",
            "a run of `train_student`",
        ),
        (
            "neighbours students/1",
            "students/1/dataset.png",
            "a run of `train_student`",
        ),
    ] {
        let before = std::fs::read(place.path(out)).unwrap();
        let arguments: Vec<&str> = typed.split(' ').collect();
        let (code, _, errors) = place.run_with("inspect", &arguments, &["--out", out]);
        assert_eq!(code, 2, "{errors}");
        let what = format!("`--out` cannot be `{out}`");
        assert!(errors.contains(&what) && errors.contains(words), "{errors}");
        assert!(std::fs::read(place.path(out)).unwrap() == before, "{out}");
    }
    // A picture of one's own may be drawn again.
    for _ in 0..2 {
        let arguments = ["grid", "initial", "--out", "own.PNG"];
        let (code, _, errors) = place.run_with("inspect", &arguments, &[]);
        assert_eq!(code, 0, "{errors}");
    }
}

/// Classes without images take no row.
#[test]
fn classes_beyond_the_rows_of_a_grid_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.safetensors");
    let labels: Vec<i64> = (0..120).map(|class| 2 * class).collect();
    let labels = Tensor::from_slice(&labels);
    let images = Tensor::rand([120, 1, 8, 8], (Kind::Float, tch::Device::Cpu));
    let list = [("images", &images), ("labels", &labels)];
    tensors::write(&path, &list, &Default::default()).unwrap();
    let arguments = ["grid", path.to_str().unwrap(), "--min-max", "--json"];
    let (code, out, errors) = experiment().run_with("inspect", &[], &arguments);
    assert_eq!(code, 0, "{errors}");
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(found["shown"], 100);
    let left_out = "left out: 20 classes beyond the first 100";
    assert!(errors.contains(left_out), "{errors}");
}

#[test]
fn min_max_stretches_each_image_over_its_own_range() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.safetensors");
    // Two images of far apart ranges, 0..63 scaled.
    let ramp = Tensor::arange(64, (Kind::Float, tch::Device::Cpu)).view([1, 1, 8, 8]);
    let images = Tensor::cat(&[&ramp * 0.001 + 5.0, &ramp * -40.0], 0);
    let labels = Tensor::from_slice(&[0i64, 1]);
    tensors::write(
        &path,
        &[("images", &images), ("labels", &labels)],
        &Default::default(),
    )
    .unwrap();
    let file = path.to_str().unwrap();
    let (code, _, errors) = experiment().run_with("inspect", &[], &["grid", file]);
    assert!(
        code == 1
            && errors.contains("how its images were normalised")
            && errors.contains("--min-max"),
        "{errors}"
    );
    // A label that no row can be of.
    let odd = folder.path().join("odd.safetensors");
    let huge = Tensor::from_slice(&[0i64, 1_000_000_000_000]);
    tensors::write(
        &odd,
        &[("images", &images), ("labels", &huge)],
        &Default::default(),
    )
    .unwrap();
    let arguments = ["grid", odd.to_str().unwrap(), "--min-max"];
    let (code, _, errors) = experiment().run_with("inspect", &[], &arguments);
    assert!(
        code == 1 && errors.contains("0 to 1000000000000"),
        "{errors}"
    );
    let picture = data(&["grid", file, "--min-max"])["picture"]
        .as_str()
        .unwrap()
        .to_owned();
    let picture = image::open(picture).unwrap().to_luma8();
    for descending in [false, true] {
        let level = |place: u32| {
            (255.0 * f64::from(if descending { 63 - place } else { place }) / 63.0).round() as i32
        };
        // Pixels are drawn 8 wide.
        let fits = |left: u32, top: u32| {
            (0..64).all(|place| {
                let (x, y) = (left + 8 * (place % 8) + 4, top + 8 * (place / 8) + 4);
                (i32::from(picture.get_pixel(x, y).0[0]) - level(place)).abs() <= 1
            })
        };
        let (wide, high) = (picture.width() - 64, picture.height() - 64);
        assert!(
            (0..wide).any(|x| (0..high).any(|y| fits(x, y))),
            "descending: {descending}"
        );
    }
}

#[test]
fn a_split_is_counted_and_measured() {
    let split = data(&["split", "split.json", "--out", "split_again.svg"]);
    // The picture is that of `split_data`.
    let drawn = |name: &str| std::fs::read_to_string(experiment().path(name)).unwrap();
    assert_eq!(drawn("split_again.svg"), drawn("split.svg"));
    let counts: Vec<Vec<f64>> = serde_json::from_value(split["counts"].clone()).unwrap();
    for (node, counts) in counts.iter().enumerate() {
        let own: Value =
            json::read(&experiment().path(&format!("teachers/metrics_teacher{node}.json")))
                .unwrap();
        assert_eq!(
            own["label_counts"],
            serde_json::json!(counts.iter().map(|&count| count as u64).collect::<Vec<_>>())
        );
    }
    let all: Vec<f64> = (0..10)
        .map(|class| counts[0][class] + counts[1][class])
        .collect();
    let share = |counts: &[f64], class: usize| counts[class] / counts.iter().sum::<f64>();
    let (mut variation, mut divergence) = (0.0, 0.0);
    for node in &counts {
        // What two distributions share, and the mean of two Kullback-Leibler divergences.
        variation += (1.0
            - (0..10)
                .map(|class| share(node, class).min(share(&all, class)))
                .sum::<f64>())
            / 2.0;
        for class in 0..10 {
            let (p, q) = (share(node, class), share(&all, class));
            let m = (p + q) / 2.0;
            let term = |x: f64| if x > 0.0 { x * (x / m).log2() } else { 0.0 };
            divergence += (term(p) + term(q)) / 2.0 / 2.0;
        }
    }
    assert!((split["skew"]["total_variation"].as_f64().unwrap() - variation).abs() < 1e-12);
    assert!((split["skew"]["jensen_shannon"].as_f64().unwrap() - divergence).abs() < 1e-12);
    assert!(variation > 0.4, "two disjoint nodes");
    let table = inspect(&["split", "split.json", "--out", "split_again.png"]);
    assert_eq!(
        line(&table, "total variation, mean")[1],
        format!("{variation:.3}")
    );
    assert!(
        experiment().path("split_again.svg").exists()
            && experiment().path("split_again.png").exists()
    );
}

#[test]
fn a_split_without_a_manifest_needs_its_dataset() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("split.json");
    std::fs::copy(experiment().path("split.json"), &path).unwrap();
    let file = path.to_str().unwrap();
    let (code, _, errors) = experiment().run_with("inspect", &[], &["split", file]);
    assert!(code == 2 && errors.contains("which dataset"), "{errors}");
    let dataset = [
        "dataset=digits",
        "dataset.size=8",
        "dataset.max_train=200",
        "dataset.max_test=50",
    ];
    let told = data(&[&["split", file], &dataset[..]].concat());
    assert_eq!(told["counts"], data(&["split", "split.json"])["counts"]);
    // One that the manifest contradicts is refused.
    let (code, _, errors) =
        experiment().run_with("inspect", &[], &["split", "split.json", "dataset=digits"]);
    assert!(
        code == 1 && errors.contains("not the dataset that was used"),
        "{errors}"
    );
}

/// With recalls, precisions and the classes' owners.
#[test]
fn confusion_matrix() {
    let found = data(&["confusion", "students/1", "--out", "confusion_again.png"]);
    let counts: Vec<Vec<u64>> = serde_json::from_value(metrics(1)["confusion"].clone()).unwrap();
    assert_eq!(found["confusion"], metrics(1)["confusion"]);
    let table = inspect(&["confusion", "students/1", "--out", "confusion_again.svg"]);
    for class in 0..10 {
        let images: u64 = counts[class].iter().sum();
        let recall = counts[class][class] as f64 / images as f64;
        assert!((found["recall"][class].as_f64().unwrap() - recall).abs() < 1e-12);
        let predicted: u64 = counts.iter().map(|row| row[class]).sum();
        assert_eq!(found["precision"][class].is_null(), predicted == 0);
        // Sorted by class, the first node holds the lower classes.
        let owner = if class < 4 { "teacher 0" } else { "teacher 1" };
        if class != 4 && class != 5 {
            assert_eq!(
                line(&table, &class.to_string())[..2],
                [class.to_string(), owner.to_owned()],
                "{table}"
            );
        }
        assert_eq!(line(&table, &class.to_string())[3], percent(&recall.into()));
    }
    let svg = std::fs::read_to_string(experiment().path("confusion_again.svg")).unwrap();
    assert!(svg.contains("teacher 0") && svg.contains("teacher 1"));
}

/// The owners are those of the teachers that the student had, and not of others at their paths.
#[test]
fn teachers_that_were_made_again_own_no_classes() {
    let place = copy();
    let confusion = || {
        let (code, out, errors) =
            place.run_with("inspect", &["confusion", "students/1", "--json"], &[]);
        assert_eq!(code, 0, "{errors}");
        (serde_json::from_str::<Value>(&out).unwrap(), errors)
    };
    assert!(confusion().0["owners"].is_array());
    let weights = |node: usize| place.path(&format!("teachers/model_teacher{node}.safetensors"));
    std::fs::copy(weights(1), weights(0)).unwrap();
    let (found, errors) = confusion();
    assert!(found["owners"].is_null(), "{found}");
    let warning = "the teachers of `students/1` are gone or have changed";
    assert!(errors.contains(warning), "{errors}");
}
