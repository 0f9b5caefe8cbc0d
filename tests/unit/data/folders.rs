//! Image folders as people have them: other names of the splits, no splits, formats and endings,
//! empty classes, broken files, links in archives.

use super::images::{colour, files, folder_settings, pack};
use crate::common::datasets::*;
use fed_distill::Class;
use fed_distill::data::{Dataset, DatasetSettings};
use image::ImageFormat;
use std::path::Path;

type Files = Vec<(String, Vec<u8>)>;

fn unpack(folder: &Path, files: &Files) {
    for (name, contents) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
}

fn zip(files: &Files) -> Vec<u8> {
    use std::io::Write as _;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (at, (name, contents)) in files.iter().enumerate() {
        let method = match at % 2 {
            0 => zip::CompressionMethod::Stored,
            _ => zip::CompressionMethod::Deflated,
        };
        let options = zip::write::FileOptions::default().compression_method(method);
        zip.start_file(name, options).unwrap();
        zip.write_all(contents).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Loads the files as a folder, a tar and a zip, which must hold the same set.
fn load_all(files: &Files, change: impl Fn(&mut DatasetSettings)) -> Dataset {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("folder");
    unpack(&folder, files);
    std::fs::write(root.path().join("set.tar.gz"), gzip(&pack(files))).unwrap();
    std::fs::write(root.path().join("set.zip"), zip(files)).unwrap();
    // Without an ending, it is known by its contents.
    std::fs::write(root.path().join("set"), zip(files)).unwrap();
    let mut sets = ["folder", "set.tar.gz", "set.zip", "set"].map(|name| {
        let mut settings = folder_settings(&root.path().join(name));
        change(&mut settings);
        load_cpu(&settings).unwrap_or_else(|error| panic!("{name}: {error}"))
    });
    for set in &sets {
        assert_eq!(set.fingerprint, sets[0].fingerprint);
        assert_eq!(set.classes, sets[0].classes);
    }
    sets.reverse();
    let [.., folder] = sets;
    folder
}

/// The set of [`files`] with other names for its splits.
fn renamed(train: &str, test: &str) -> Files {
    let split = |name: &str| name.replacen("train/", &format!("{train}/"), 1);
    let split = |name: &str| split(name).replacen("test/", &format!("{test}/"), 1);
    files()
        .into_iter()
        .map(|(name, file)| (split(&name), file))
        .collect()
}

#[test]
fn splits_have_many_names() {
    let plain = load_all(&files(), |_| {}).fingerprint;
    for (train, test) in [
        ("train", "val"),
        ("train", "valid"),
        ("Train", "Validation"),
        ("Train", "Test"),
        ("TRAINING", "Testing"),
        ("a/b/train", "a/b/val"),
    ] {
        let set = load_all(&renamed(train, test), |_| {});
        assert_eq!(set.fingerprint, plain, "{train} {test}");
    }
}

/// `val` has other images, which are not read.
#[test]
fn test_comes_before_validation() {
    let plain = load_all(&files(), |_| {}).fingerprint;
    let mut both = files();
    both.push(("val/ant/1.png".into(), b"no image".to_vec()));
    assert_eq!(load_all(&both, |_| {}).fingerprint, plain);
    // Where test images have no classes, as in Tiny ImageNet, `val` is taken.
    let mut secret = renamed("train", "val");
    secret.push(("test/images/1.png".into(), png(10, 10, 3, &colour(9))));
    assert_eq!(load_all(&secret, |_| {}).fingerprint, plain);
}

/// Ten images of one class, five of the other.
fn flat(top: &str) -> Files {
    let image = |at: u32| {
        let class = if at.is_multiple_of(3) { "dog" } else { "cat" };
        let name = format!("{top}{class}/{at:02}.png");
        (name, png(10, 10, 3, &colour(at)))
    };
    (0..15).map(image).collect()
}

#[test]
fn classes_at_the_top_are_divided() {
    let divided = |seed| {
        move |settings: &mut DatasetSettings| {
            settings.test_share = Some(0.2);
            settings.test_seed = seed;
        }
    };
    let set = load_all(&flat(""), divided(0));
    assert_eq!(set.classes, ["cat", "dog"]);
    assert_eq!(set.train.counts(2), [8, 4]);
    assert_eq!(set.test.counts(2), [2, 1]);
    // No image is lost or there twice.
    let mut all = [pixels(&set.train), pixels(&set.test)].concat();
    let mut expected: Vec<u8> = flat("")
        .iter()
        .flat_map(|(_, file)| image::load_from_memory(file).unwrap().to_rgb8().into_raw())
        .collect();
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
    let same = load_all(&flat("Pets/images/"), divided(0));
    assert_eq!(same.fingerprint, set.fingerprint);
    let others: Vec<String> = (1..4)
        .map(|seed| load_all(&flat(""), divided(seed)).fingerprint)
        .collect();
    assert!(others.iter().all(|other| *other != set.fingerprint));
    // The same from `train` alone.
    let train = load_all(&flat("train/"), divided(0));
    assert_eq!(train.fingerprint, set.fingerprint);
}

/// A server tests on all that it has: in file order, whatever would draw a share, and on a class of
/// one image too.
#[test]
fn all_images_are_for_testing() {
    let all = |seed| {
        move |settings: &mut DatasetSettings| {
            settings.test_share = Some(1.0);
            settings.test_seed = seed;
        }
    };
    let set = load_all(&flat(""), all(0));
    assert_eq!((set.train.len(), set.test.counts(2)), (0, vec![10, 5]));
    assert_eq!(load_all(&flat(""), all(7)).fingerprint, set.fingerprint);
    let [cat, dog] = ["cat/04.png", "dog/03.png"].map(|wanted| {
        let files = flat("").into_iter();
        files.filter(|(name, _)| name == wanted).collect::<Files>()
    });
    let singles = load_all(&[cat, dog].concat(), all(0));
    assert_eq!(singles.test.counts(2), [1, 1]);
}

/// Its folder is named like that of the training images, and holds no folders.
#[test]
fn a_class_may_be_called_train() {
    let files = flat("").into_iter();
    let named = files.map(|(name, file)| (name.replace("dog/", "train/"), file));
    let set = load_all(&named.collect(), |settings| settings.test_share = Some(0.2));
    assert_eq!(set.classes, ["cat", "train"]);
    assert_eq!(
        (set.train.counts(2), set.test.counts(2)),
        (vec![8, 4], vec![2, 1])
    );
}

#[test]
fn an_archive_beside_class_folders_is_another_set() {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &flat(""));
    std::fs::write(root.path().join("old_backup.zip"), zip(&flat(""))).unwrap();
    let mut settings = folder_settings(root.path());
    settings.test_share = Some(0.2);
    let text = failure(&settings).to_string();
    assert!(
        text.contains("holds several sets") && text.contains("old_backup.zip"),
        "{text}"
    );
}

#[test]
fn classes_at_the_top_need_a_share() {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &flat(""));
    let text = failure(&folder_settings(root.path())).to_string();
    for expected in ["cat/ (10), dog/ (5)", "hint: `test_share=0.2`"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    for share in [0.0, 1.5, -0.5, f64::NAN] {
        let mut settings = folder_settings(root.path());
        settings.test_share = Some(share);
        assert_eq!(failure(&settings).class(), Class::Usage);
    }
}

#[test]
fn missing_splits_list_what_there_is() {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &flat("train/"));
    unpack(root.path(), &flat("images/"));
    let text = failure(&folder_settings(root.path())).to_string();
    assert!(
        text.contains("there are no images in `test`") && text.contains("train/ (15)"),
        "{text}"
    );
    assert!(text.contains("hint: `test_share=0.2`"), "{text}");
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &vec![("data/notes.txt".into(), b"x".to_vec())]);
    let text = failure(&folder_settings(root.path())).to_string();
    assert!(
        text.contains("available: data/") && text.contains("1 .txt"),
        "{text}"
    );
    let text = failure(&folder_settings(&root.path().join("dat"))).to_string();
    assert!(text.contains("available: data/"), "{text}");
}

/// Both in a format that compresses without loss.
#[test]
fn other_formats_are_read_under_any_ending() {
    let formats = [
        ImageFormat::Png,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Tiff,
    ];
    let encoded = |format| encode(10, 10, 3, &colour(1), format);
    let expected = load_all(&files(), |_| {}).train;
    for format in formats {
        for ending in ["jpg", "WEBP", "bmp", "gif", "tif", "tiff", "jfif"] {
            let mut set = files();
            set.retain(|(name, _)| name != "train/zebra/10.png");
            set.push((format!("train/zebra/10.{ending}"), encoded(format)));
            let read = load_all(&set, |_| {}).train;
            assert_eq!(pixels(&read), pixels(&expected), "{format:?} {ending}");
        }
    }
    // GIF has 256 colours.
    let grey = [7_u8; 300];
    let mut set = files();
    let frame = image::RgbaImage::from_pixel(10, 10, image::Rgba([7, 7, 7, 255]));
    let mut gif = std::io::Cursor::new(Vec::new());
    frame.write_to(&mut gif, ImageFormat::Gif).unwrap();
    set.push(("train/ant/0.jpg".into(), gif.into_inner()));
    assert_eq!(pixels(&load_all(&set, |_| {}).train)[..300], grey);
}

/// The labels of the others stay.
#[test]
fn empty_classes_keep_their_place() {
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &files());
    std::fs::create_dir_all(root.path().join("train/bird")).unwrap();
    std::fs::create_dir_all(root.path().join("train/.cache")).unwrap();
    let set = load_cpu(&folder_settings(root.path())).unwrap();
    assert_eq!(set.classes, ["ant", "bird", "zebra"]);
    assert_eq!(set.train.label_list, [0, 0, 2, 2]);
    assert_eq!(set.test.label_list, [0, 2]);
}

#[test]
fn all_broken_images_are_named() {
    let mut broken = files();
    for at in 0..30 {
        broken.push((format!("train/ant/x{at:02}.jpg"), vec![at; 40]));
    }
    for archive in [false, true] {
        let root = tempfile::tempdir().unwrap();
        match archive {
            false => unpack(root.path(), &broken),
            true => std::fs::write(root.path().join("a.tar"), pack(&broken)).unwrap(),
        }
        let mut settings = folder_settings(root.path());
        let text = failure(&settings).to_string();
        for expected in [
            "30 of 36 images cannot be read",
            "found: train/ant/x00.jpg: ",
            "found: train/ant/x19.jpg: ",
            "found: 10 more",
            "hint: `skip_broken=true`",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains("x20.jpg"), "{text}");
        settings.skip_broken = true;
        let set = load_cpu(&settings).unwrap();
        assert_eq!(set.broken.len(), 30);
        assert_eq!(set.broken[0], "train/ant/x00.jpg");
        assert_eq!(set.fingerprint, load_all(&files(), |_| {}).fingerprint);
    }
}

/// As GNU tar packs a folder with links: nothing is lost.
#[test]
fn links_in_archives_are_read() {
    let entry = |builder: &mut tar::Builder<Vec<u8>>, kind, name: &str, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, name, target).unwrap();
    };
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in files() {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        builder
            .append_data(&mut header, name, contents.as_slice())
            .unwrap();
    }
    let (hard, symbolic) = (tar::EntryType::Link, tar::EntryType::Symlink);
    entry(&mut builder, hard, "train/ant/c.png", "train/ant/a.png");
    entry(&mut builder, symbolic, "train/ant/d.png", "../zebra/2.png");
    entry(&mut builder, symbolic, "train/ant/e.png", "d.png");
    entry(&mut builder, symbolic, "train/ant/f.png", "/etc/passwd");
    entry(
        &mut builder,
        symbolic,
        "train/ant/g.png",
        "../../../../etc/passwd",
    );
    let root = tempfile::tempdir().unwrap();
    let archive = builder.into_inner().unwrap();
    std::fs::write(root.path().join("a.tar"), archive).unwrap();
    let linked = load_cpu(&folder_settings(root.path())).unwrap();
    let mut copied = files();
    for (name, seed) in [("c", 3), ("d", 2), ("e", 2)] {
        copied.push((
            format!("train/ant/{name}.png"),
            png(10, 10, 3, &colour(seed)),
        ));
    }
    assert_eq!(linked.fingerprint, load_all(&copied, |_| {}).fingerprint);
}

/// They may never end.
#[test]
fn pipes_and_devices_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let pipe = root.path().join("pipe.tar");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: the name ends in a zero byte and lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    use fed_distill::data::DatasetKind::{Cifar10, ImageFolder, Mnist};
    for kind in [ImageFolder, Cifar10, Mnist] {
        for (path, expected) in [(pipe.as_path(), "pipe"), (Path::new("/dev/zero"), "device")] {
            let text = failure(&settings(kind, path)).to_string();
            let is_named = text.contains(expected) || text.contains("is a file, not a folder");
            assert!(is_named, "{text}");
        }
    }
    // One among the images is left out.
    unpack(root.path(), &files());
    std::fs::rename(&pipe, root.path().join("train/ant/pipe.png")).unwrap();
    let plain = load_all(&files(), |_| {}).fingerprint;
    let set = load_cpu(&folder_settings(root.path())).unwrap();
    assert_eq!(set.fingerprint, plain);
}

#[test]
fn parquet_says_how_to_export() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("train.parquet");
    std::fs::write(&file, b"PAR1 and more").unwrap();
    for path in [file.as_path(), root.path()] {
        let text = failure(&folder_settings(path)).to_string();
        assert!(text.to_lowercase().contains("parquet"), "{text}");
        assert!(text.contains("load_dataset"), "{text}");
    }
}

/// `tests/data/archives/make.py` packs them with Python and GNU tar.
#[test]
fn archives_of_other_programs_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/archives");
    for name in ["set.tar.gz", "set.tar.xz", "set.tar.bz2", "set.zip"] {
        let set = load_cpu(&folder_settings(&folder.join(name)))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let image = |at: usize| (0..64).map(move |i| ((7 * i + at) % 251) as u8);
        let images = |range: std::ops::Range<usize>| range.flat_map(image).collect::<Vec<u8>>();
        assert_eq!(pixels(&set.train), images(0..2), "{name}");
        assert_eq!(pixels(&set.test), images(2..4), "{name}");
        assert_eq!(set.classes, ["a", "b"]);
        // Cut off in the middle.
        let whole = std::fs::read(folder.join(name)).unwrap();
        let root = tempfile::tempdir().unwrap();
        let cut = root.path().join(name);
        std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
        let text = failure(&folder_settings(&cut)).to_string();
        assert!(text.contains(&format!("cannot read `{name}`")), "{text}");
    }
    let sparse = load_cpu(&folder_settings(&folder.join("sparse_gnu.tar"))).unwrap();
    assert_eq!(sparse.train.images.size(), [2, 3, 128, 128]);
    assert!(pixels(&sparse.train).iter().all(|&pixel| pixel == 0));
    let text = failure(&folder_settings(&folder.join("sparse_posix.tar"))).to_string();
    assert!(
        text.contains("found: 3 links to nothing, sparse files"),
        "{text}"
    );
}

/// Links to a folder above lead around in circles: they are left out, and the set is what it is
/// without them.
#[test]
fn folders_that_link_to_themselves_are_read() {
    use std::os::unix::fs::symlink;
    let root = tempfile::tempdir().unwrap();
    let set = root.path().join("set");
    unpack(&set, &files());
    symlink(".", set.join("train/ant/self")).unwrap();
    symlink("../..", set.join("train/ant/top")).unwrap();
    symlink(&set, set.join("train/loop")).unwrap();
    // Two folders, each with a link to the other: a circle without a link to a folder above.
    std::fs::create_dir_all(root.path().join("one")).unwrap();
    std::fs::create_dir_all(root.path().join("two")).unwrap();
    symlink("../two", root.path().join("one/two")).unwrap();
    symlink("../one", root.path().join("two/one")).unwrap();
    symlink("../../../one", set.join("train/ant/one")).unwrap();
    let found = load_cpu(&folder_settings(&set)).unwrap();
    assert_eq!(found.fingerprint, load_all(&files(), |_| {}).fingerprint);
    // What is too deep without a circle says what to name.
    let deep = root.path().join("deep/train/ant/1/2/3/4/5/6/7/8");
    std::fs::create_dir_all(&deep).unwrap();
    let text = failure(&folder_settings(&root.path().join("deep"))).to_string();
    assert!(
        text.contains("nested more than 8 deep") && text.contains("hint: `root=PATH`"),
        "{text}"
    );
}

/// An archive that was cut is damaged, whatever sizes its headers name before that.
#[test]
fn cut_archive_is_damaged_before_all_else() {
    let root = tempfile::tempdir().unwrap();
    let mut large = files();
    large.insert(1, ("train/ant/large.png".into(), vec![0; 65 << 20]));
    let whole = gzip(&pack(&large));
    let path = root.path().join("set.tar.gz");
    std::fs::write(&path, &whole).unwrap();
    let text = failure(&folder_settings(&path)).to_string();
    assert!(text.contains("an image file of more than 64 MiB"), "{text}");
    std::fs::write(&path, &whole[..whole.len() - 400]).unwrap();
    let text = failure(&folder_settings(&path)).to_string();
    assert!(
        text.contains("cannot read `set.tar.gz`") && text.contains("incomplete or damaged"),
        "{text}"
    );
}

/// The error's command makes a set of it that is read.
#[test]
fn tiny_imagenet_says_how_to_sort_its_validation_images() {
    let file = |name: &str, seed| (name.to_owned(), png(10, 10, 3, &colour(seed)));
    let set: Files = vec![
        file("train/n01/images/n01_0.JPEG", 1),
        file("train/n02/images/n02_0.JPEG", 2),
        file("val/images/val_0.JPEG", 3),
        file("val/images/val_1.JPEG", 4),
        file("test/images/test_0.JPEG", 5),
        (
            "val/val_annotations.txt".into(),
            b"val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n".to_vec(),
        ),
    ];
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("tiny-imagenet-200");
    unpack(&folder, &set);
    std::fs::write(root.path().join("tiny.tar"), pack(&set)).unwrap();
    let text = failure(&folder_settings(&root.path().join("tiny.tar"))).to_string();
    assert!(text.contains("unpack the archive"), "{text}");
    for path in [root.path().join("tiny-imagenet-200"), folder.clone()] {
        let text = failure(&folder_settings(&path)).to_string();
        assert!(
            text.contains("lie in no class folders") && text.contains("test_share=0.2"),
            "{text}"
        );
    }
    let text = failure(&folder_settings(&folder)).to_string();
    let command = text
        .lines()
        .find_map(|line| line.split_once("`val` type: "));
    let done = std::process::Command::new("bash")
        .args(["-c", command.unwrap().1])
        .current_dir(folder.join("val"))
        .status();
    assert!(done.unwrap().success());
    let set = load_cpu(&folder_settings(&folder)).unwrap();
    assert_eq!(set.classes, ["n01", "n02"]);
    assert_eq!((set.train.len(), set.test.label_list), (2, vec![0, 1]));
}

/// The root is right, and the images in it are not sorted.
#[test]
fn images_without_class_folders_are_to_be_moved() {
    let root = tempfile::tempdir().unwrap();
    unpack(
        root.path(),
        &vec![("1.png".into(), png(10, 10, 3, &colour(1)))],
    );
    let text = failure(&folder_settings(root.path())).to_string();
    assert!(
        text.contains("lie in no class folders") && text.contains("into a folder of its name"),
        "{text}"
    );
    assert!(!text.contains("hint: `root="), "{text}");
}
