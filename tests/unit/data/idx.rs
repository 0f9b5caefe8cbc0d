//! IDX: the same set plain, compressed, and where torchvision keeps it; errors name the file and
//! what is wrong.

use crate::common::datasets::*;
use fed_distill::data::DatasetKind::{Digits, FashionMnist, Kmnist, Mnist};

/// Plain files, gzip, and torchvision's folders.
#[test]
fn all_folder_forms_hold_the_same_set() {
    let files = idx_files(40, 20);
    for (kind, folder, compressed) in [
        (Mnist, "", false),
        (Mnist, "", true),
        (Mnist, "MNIST/raw", false),
        (FashionMnist, "FashionMNIST/raw", true),
        (Kmnist, "raw", true),
    ] {
        let root = tempfile::tempdir().unwrap();
        write_idx(&root.path().join(folder), &files, compressed);
        let set = load_cpu(&settings(kind, root.path())).unwrap();
        assert_eq!(set.train.images.size(), [40, 1, 12, 12]);
        assert_eq!(pixels(&set.train), files[0][16..]);
        assert_eq!(pixels(&set.test), files[2][16..]);
        let labels: Vec<i64> = files[3][8..]
            .iter()
            .map(|&label| i64::from(label))
            .collect();
        assert_eq!(set.test.label_list, labels);
        assert_eq!(Vec::<i64>::try_from(&set.test.labels).unwrap(), labels);
        assert_eq!((set.name, set.classes.len()), (kind.to_string(), 10));
    }
}

/// Dots for dashes, a folder around each file, folders above: the same set.
#[test]
fn files_have_many_names_and_places() {
    let files = idx_files(40, 20);
    let expected = {
        let root = tempfile::tempdir().unwrap();
        write_idx(root.path(), &files, false);
        load_cpu(&settings(Mnist, root.path())).unwrap().fingerprint
    };
    let dotted = |name: &str| name.replace("-idx", ".idx");
    let kaggle = |name: &str| format!("{name}/{name}");
    let kaggle_dotted = |name: &str| format!("archive/{0}/{0}", name.replace("-idx", ".idx"));
    let packed = |name: &str| format!("{}.gz", name.replace("-idx", ".idx"));
    let upper = |name: &str| format!("mnist/MNIST/raw/{name}");
    let deep = |name: &str| format!("a/b/{}", name.to_uppercase());
    // The files of the other set have the same names.
    let beside = |name: &str| format!("mnist/{name}");
    let ways: [&dyn Fn(&str) -> String; 7] = [
        &dotted,
        &kaggle,
        &kaggle_dotted,
        &packed,
        &upper,
        &deep,
        &beside,
    ];
    for way in ways {
        let root = tempfile::tempdir().unwrap();
        let others = idx_files(30, 10);
        write_idx(&root.path().join("FashionMNIST/raw"), &others, true);
        for (name, file) in IDX_FILES.iter().zip(&files) {
            let path = root.path().join(way(name));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let is_packed = path.extension().is_some_and(|ending| ending == "gz");
            let file = if is_packed { gzip(file) } else { file.clone() };
            std::fs::write(path, file).unwrap();
        }
        let set = load_cpu(&settings(Mnist, root.path())).unwrap();
        assert_eq!(set.fingerprint, expected, "{}", way("NAME"));
    }
}

#[test]
fn two_sets_and_files_as_root_are_told() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["a", "b"] {
        write_idx(&root.path().join(folder), &idx_files(40, 20), true);
    }
    let text = failure(&settings(Mnist, root.path())).to_string();
    assert!(text.contains("`mnist` is there twice"), "{text}");
    let file = root.path().join("a/train-images-idx3-ubyte.gz");
    let text = failure(&settings(Mnist, &file)).to_string();
    assert!(text.contains("`root` is a file, not a folder"), "{text}");
    let text = failure(&settings(Mnist, &root.path().join("c"))).to_string();
    assert!(text.contains("there is no folder"), "{text}");
}

#[test]
fn damaged_files_are_named() {
    let good = idx_files(40, 20);
    let header = |bytes: [u8; 4], at: usize, file: &[u8]| {
        let mut file = file.to_vec();
        file[at..at + 4].copy_from_slice(&bytes);
        file
    };
    let mut label_10 = good[1].clone();
    label_10[8 + 3] = 10;
    let cases: Vec<(usize, Vec<u8>, &str)> = vec![
        (0, Vec::new(), "no IDX header"),
        (0, good[0][..10].to_vec(), "no IDX header"),
        (0, good[0][..100].to_vec(), "its length does not fit"),
        (2, [&good[2][..], b"x"].concat(), "more than 2880"),
        (0, good[1].clone(), "00000803"),
        (1, good[0].clone(), "00000801"),
        (0, header([0, 0, 0x0d, 3], 0, &good[0]), "00000d03"),
        (0, header([0xff; 4], 4, &good[0]), "its header says"),
        (
            0,
            header([0x00, 0xff, 0xff, 0xff], 8, &good[0]),
            "its header says",
        ),
        (0, header([0; 4], 4, &good[0]), "its header says"),
        (1, label_10, "label 10 at position 3"),
        (3, idx(&[19], &[1; 19]), "19 labels for 20 images"),
        (
            1,
            header([0x07, 0xff, 0xff, 0xff], 4, &good[1]),
            "its length does not fit",
        ),
        (0, b"<html>not found</html>".repeat(300), "3c68746d"),
    ];
    for (which, contents, expected) in cases {
        for compressed in [false, true] {
            let root = tempfile::tempdir().unwrap();
            let mut files = good.clone();
            files[which] = contents.clone();
            write_idx(root.path(), &files, compressed);
            let text = failure(&settings(Mnist, root.path())).to_string();
            assert!(text.contains(expected), "{expected}: {text}");
            assert!(text.contains(IDX_FILES[which]), "{text}");
        }
    }
}

#[test]
fn compressed_files_are_checked_to_their_end() {
    let files = idx_files(40, 20);
    let packed = gzip(&files[0]);
    let mut wrong_checksum = packed.clone();
    let at = wrong_checksum.len() - 6;
    wrong_checksum[at] ^= 1;
    // Ten megabytes after what the header announces: only the first of them is ever unpacked.
    let bomb = gzip(&[&files[0][..], &vec![0; 10 << 20]].concat());
    for damaged in [wrong_checksum, packed[..packed.len() - 9].to_vec(), bomb] {
        let root = tempfile::tempdir().unwrap();
        write_idx(root.path(), &files, true);
        std::fs::write(root.path().join("train-images-idx3-ubyte.gz"), damaged).unwrap();
        let text = failure(&settings(Mnist, root.path())).to_string();
        assert!(
            text.contains("cannot read `train-images-idx3-ubyte.gz`"),
            "{text}"
        );
    }
}

/// The error says where to get it and where to put it.
#[test]
fn missing_file_has_instructions() {
    let root = tempfile::tempdir().unwrap();
    write_idx(root.path(), &idx_files(40, 20), false);
    std::fs::remove_file(root.path().join(IDX_FILES[2])).unwrap();
    let text = failure(&settings(Mnist, root.path())).to_string();
    let path = root.path().join("t10k-images-idx3-ubyte.gz");
    for expected in [
        "available: t10k-labels-idx1-ubyte, train-images-idx3-ubyte, train-labels-idx1-ubyte in",
        "`mnist` is not complete: `t10k-images-idx3-ubyte.gz` is missing",
        "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        path.to_str().unwrap(),
        "`download=true`",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// All of them at once, with and without downloads: a machine without a network is told once what
/// to bring.
#[test]
fn all_missing_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    write_idx(root.path(), &idx_files(40, 20), false);
    for name in [IDX_FILES[1], IDX_FILES[2], IDX_FILES[3]] {
        std::fs::remove_file(root.path().join(name)).unwrap();
    }
    let text = failure(&settings(Mnist, root.path())).to_string();
    for expected in [
        "`train-labels-idx1-ubyte.gz` is missing",
        "missing: also t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz",
        "s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz https://",
        "s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_missing_root_is_a_usage_error() {
    for kind in [Mnist, Kmnist, fed_distill::data::DatasetKind::ImageFolder] {
        let mut settings = settings(kind, std::path::Path::new(""));
        settings.root = None;
        let error = failure(&settings);
        assert_eq!(error.class(), fed_distill::Class::Usage);
        assert!(error.to_string().contains("hint: `root="), "{error}");
        settings.kind = Digits;
        assert!(load_cpu(&settings).is_ok());
    }
}

/// As NumPy writes them, stored and deflated, with labels of 64 bits.
#[test]
fn arrays_of_keras_are_read() {
    let made = |name: &str| {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/archives");
        std::fs::read(folder.join(name)).unwrap()
    };
    for (name, kind, inside) in [
        ("stored.npz", Mnist, "mnist.npz"),
        ("deflated.npz", FashionMnist, "fashion-mnist.npz"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(inside);
        std::fs::write(&file, made(name)).unwrap();
        for place in [root.path(), &file] {
            let set = load_cpu(&settings(kind, place)).unwrap();
            let image = |count: usize, start: usize| {
                let values = (0..64 * count).map(move |i| ((7 * i + start) % 251) as u8);
                values.collect::<Vec<u8>>()
            };
            assert_eq!(pixels(&set.train), image(20, 0));
            assert_eq!(pixels(&set.test), image(10, 3));
            let labels: Vec<i64> = (0..20).map(|at| at % 10).collect();
            assert_eq!(set.train.label_list, labels);
        }
        // It is the set that its name says.
        assert!(load_cpu(&settings(Kmnist, root.path())).is_err());
        let whole = made(name);
        for cut in [whole.len() / 3, whole.len() - 10] {
            std::fs::write(&file, &whole[..cut]).unwrap();
            let text = failure(&settings(kind, &file)).to_string();
            assert!(text.contains(inside), "{text}");
        }
    }
}
