//! Damaged input: thousands of seeded changes to files of every kind that is read. Each gives an
//! error that names the file, or is read; no panic, no more memory than [`memory::BOUND`] and some
//! times the file, and nothing is written anywhere.

mod cases;
mod hostile;
mod memory;
mod mutate;
mod pickles;

#[path = "../common/mod.rs"]
mod common;

use cases::{Case, Reading};
use common::datasets;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Changes of each kind of file; there are twenty-five kinds.
const EACH: usize = 300;

/// Files in a place of their own, beside others that must not change.
struct Place(tempfile::TempDir);

impl Place {
    fn new(case: &Case) -> Self {
        let outer = tempfile::tempdir().unwrap();
        let place = Self(outer);
        std::fs::write(place.0.path().join("beside"), b"untouched").unwrap();
        for (name, contents) in &case.others {
            place.write(name, contents);
        }
        place
    }

    fn inside(&self) -> std::path::PathBuf {
        self.0.path().join("inside")
    }

    fn write(&self, name: &str, contents: &[u8]) {
        let path = self.inside().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
}

/// Reads `contents` as the case's file, and looks at everything that must hold.
/// Returns why it is refused; nothing where it is read.
fn refusal(case: &Case, place: &Place, contents: &[u8], what: &str) -> Option<String> {
    place.write(case.file, contents);
    let before = datasets::snapshot(place.0.path());
    memory::begin();
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.read)(&place.inside())));
    let taken = memory::taken();
    let keep = |outcome: &str| {
        let path = std::env::temp_dir().join("fed_distill_damaged_input");
        std::fs::write(&path, contents).unwrap();
        panic!(
            "{} {what}: {outcome}; the file is {}",
            case.name,
            path.display()
        );
    };
    let Ok(reading) = outcome else {
        keep("panicked")
    };
    if taken > memory::BOUND + 16 * contents.len() {
        keep(&format!("took {taken} bytes of memory"));
    }
    if datasets::snapshot(place.0.path()) != before {
        keep("wrote a file");
    }
    match reading {
        Reading::Fine => None,
        Reading::Refused(text) => {
            let name = Path::new(case.file).file_name().unwrap().to_str().unwrap();
            if case.named && !text.contains(name) {
                keep(&format!("does not name the file: {text}"));
            }
            if text
                .lines()
                .next()
                .is_none_or(|line| line.trim().len() < 10)
            {
                keep(&format!("says nothing: {text:?}"));
            }
            Some(text)
        }
    }
}

/// Reads `contents` as [`refusal`] does. Returns true where they are read.
fn check(case: &Case, place: &Place, contents: &[u8], what: &str) -> bool {
    refusal(case, place, contents, what).is_none()
}

#[test]
fn whole_files_are_read() {
    let _alone = memory::alone();
    for case in cases::all() {
        let place = Place::new(&case);
        assert!(
            check(&case, &place, &case.contents, "as it is"),
            "{} is refused whole",
            case.name
        );
    }
}

#[test]
fn damaged_files_give_an_error_or_are_read() {
    let _alone = memory::alone();
    let (mut tried, mut refused) = (0, 0);
    for (number, case) in cases::all().iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(number as u64);
        let place = Place::new(case);
        let mut fine = 0;
        for turn in 0..EACH {
            let (what, changed) = mutate::mutated(&case.contents, case.text, &mut rng);
            fine += usize::from(check(
                case,
                &place,
                &changed,
                &format!("change {turn} ({what})"),
            ));
        }
        tried += EACH;
        refused += EACH - fine;
        assert!(fine < EACH, "{}: no damage was noticed", case.name);
    }
    println!(
        "{tried} changes, {refused} refused; {} MiB at most",
        memory::peak_resident() >> 20
    );
    assert!(
        memory::peak_resident() < 3 * memory::BOUND,
        "{}",
        memory::peak_resident()
    );
}

#[test]
fn wrong_in_every_way_at_once() {
    let _alone = memory::alone();
    for case in cases::all() {
        let place = Place::new(&case);
        for (what, contents) in mutate::hostile(case.text) {
            check(&case, &place, &contents, &what);
        }
    }
}

#[test]
fn bombs_and_escapes_are_refused() {
    let _alone = memory::alone();
    let mut others = Vec::new();
    for (case, contents, what, words) in hostile::bombs() {
        let place = Place::new(&case);
        let text = refusal(&case, &place, &contents, what);
        let text = text.unwrap_or_else(|| panic!("{what} was read"));
        if !text.contains(words) {
            others.push(format!("{what}: {text}"));
        }
    }
    assert!(others.is_empty(), "refused for another reason: {others:#?}");
}

/// What a picture carries beside its pixels is not read, whatever it decompresses to.
#[test]
fn metadata_of_pictures_costs_no_memory() {
    let _alone = memory::alone();
    for (case, contents, what) in hostile::metadata() {
        let place = Place::new(&case);
        assert!(check(&case, &place, &contents, what), "{what} was refused");
    }
}

/// Wrong shapes, types and values.
#[test]
fn wrong_tensors_are_no_weights() {
    let _alone = memory::alone();
    hostile::weights();
}

/// Each key refers three hundred times to the one before: eight gigabytes of text.
#[test]
fn references_that_multiply_are_refused() {
    let _alone = memory::alone();
    let many = |key: &str| format!("${{{key}}}").repeat(300);
    let text = format!(
        "dataset: {{kind: mnist, root: {}}}\nsplit: {{save_path: \"{}\"}}\nteacher: {{save_folder: \
         \"{}\"}}\nstudent: {{save_folder: \"{}\"}}\n",
        "x".repeat(300),
        many("dataset.root"),
        many("split.save_path"),
        many("teacher.save_folder")
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), text).unwrap();
    memory::begin();
    let error = cases::compose(Some(folder.path()), &[])
        .unwrap_err()
        .to_string();
    assert!(memory::taken() < memory::BOUND, "{}", memory::taken());
    assert!(
        error.contains("config.yaml") && error.contains("expand to more than"),
        "{error}"
    );
}

#[test]
fn overrides_of_any_shape_are_read_or_refused() {
    let _alone = memory::alone();
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    for text in cases::OVERRIDES {
        for _ in 0..40 {
            let (_, changed) = mutate::mutated(text.as_bytes(), true, &mut rng);
            let changed = String::from_utf8_lossy(&changed).into_owned();
            let outcome = catch_unwind(|| cases::compose(None, std::slice::from_ref(&changed)));
            assert!(outcome.is_ok(), "{changed:?}");
        }
    }
    for (what, contents) in mutate::hostile(true) {
        let value = String::from_utf8_lossy(&contents);
        for text in [
            value.to_string(),
            format!("seed={value}"),
            format!("{value}=1"),
        ] {
            memory::begin();
            assert!(
                catch_unwind(|| cases::compose(None, std::slice::from_ref(&text))).is_ok(),
                "{what}"
            );
            assert!(
                memory::taken() < memory::BOUND,
                "{what}: {}",
                memory::taken()
            );
        }
    }
}

/// The pixels of a set are read into their final place, or moved there piece by piece. In a process
/// of its own, since it looks at the most that was ever resident.
#[test]
fn pixels_are_in_memory_once() {
    const BYTES: usize = 120 << 20;
    if !common::child::alone(pixels_are_in_memory_once) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, shape: &[u32]| {
        let header = datasets::idx(shape, &[]);
        let body: u64 = shape.iter().map(|&length| u64::from(length)).product();
        let mut file = std::fs::File::create(root.path().join(name)).unwrap();
        std::io::Write::write_all(&mut file, &header).unwrap();
        // A hole, which takes no memory here.
        file.set_len(header.len() as u64 + body).unwrap();
    };
    let [train, train_labels, test, test_labels] = datasets::IDX_FILES;
    let count = (BYTES / (64 * 64)) as u32;
    write(train, &[count, 64, 64]);
    write(train_labels, &[count]);
    write(test, &[8, 64, 64]);
    write(test_labels, &[8]);
    // What the library itself takes.
    let digits = fed_distill::data::DatasetSettings::default();
    datasets::load_cpu(&digits).unwrap();
    let before = memory::peak_resident();
    let kind = fed_distill::data::DatasetKind::Mnist;
    let set = datasets::load_cpu(&datasets::settings(kind, root.path())).unwrap();
    assert_eq!(set.train.images.size(), [i64::from(count), 1, 64, 64]);
    let taken = memory::peak_resident() - before;
    assert!(taken < BYTES * 3 / 2, "{taken} bytes for {BYTES} of pixels");
}
