//! Tensor files: safetensors round trips and bytes, PyTorch's `.pt`, and damaged or hostile files, which must give errors and never panic.
//! `tests/data/pytorch/make.py` made the files that are read here.

use fed_distill::artifact::tensors::{read, read_state, write};
use fed_distill::model::StateDict;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn pytorch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/pytorch")
        .join(name)
}

fn assert_same(found: &StateDict, expected: &StateDict) {
    let names = |state: &StateDict| {
        state
            .iter()
            .map(|(name, _)| name.to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(found), names(expected));
    for (name, tensor) in expected.iter() {
        let other = found.get(name).unwrap();
        assert_eq!((other.kind(), other.size()), (tensor.kind(), tensor.size()), "{name}");
        assert!(other.equal(tensor), "{name}");
    }
}

fn samples() -> Vec<(&'static str, Tensor)> {
    let counted = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([4, 6]);
    vec![
        ("z.transposed", counted.tr()),
        ("b.half", counted.to_kind(Kind::Half)),
        ("b.brain", counted.to_kind(Kind::BFloat16)),
        ("a.double", counted.to_kind(Kind::Double)),
        ("count", Tensor::from(41i64)),
        ("mask", counted.gt(5)),
        ("bytes", counted.to_kind(Kind::Uint8).narrow(1, 0, 3)),
        ("empty", Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
        ("ünïcode \"quoted\"\n", Tensor::from(1.5f32)),
        ("grad", counted.copy().set_requires_grad(true)),
    ]
}

fn metadata() -> BTreeMap<String, String> {
    let entry = |i: usize| (format!("key{i}"), format!("value \"{i}\" ✓"));
    (0..20).map(entry).collect()
}

fn borrowed<'a>(tensors: &'a [(&'static str, Tensor)]) -> Vec<(&'a str, &'a Tensor)> {
    tensors.iter().map(|(name, tensor)| (*name, tensor)).collect()
}

#[test]
fn safetensors_round_trip_and_deterministic_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (tensors, metadata) = (samples(), metadata());
    let (path, again) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
    std::fs::write(&path, "was here").unwrap();
    write(&path, &borrowed(&tensors), &metadata).unwrap();
    let file = read(&path).unwrap();
    assert_eq!(file.metadata, metadata);
    assert_eq!(file.tensors.len(), tensors.len());
    for (name, tensor) in &tensors {
        let found = file.get(name).unwrap();
        assert_eq!((found.kind(), found.size()), (tensor.kind(), tensor.size()), "{name}");
        assert!(found.equal(tensor), "{name}");
    }
    let mut reversed = borrowed(&tensors);
    reversed.reverse();
    write(&again, &reversed, &metadata).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes, std::fs::read(&again).unwrap(), "the order given does not matter");
    // The reference reader agrees, and the data begins on an 8-byte boundary.
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(reference.tensor("a.double").unwrap().shape(), [4, 6]);
    assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        2,
        "no temporary file stays"
    );
}

/// Without metadata there is one canonical file: the one that PyTorch's safetensors wrote.
#[test]
fn safetensors_bytes_are_the_reference_writers() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["state_dict", "views", "kinds"] {
        let original = pytorch(&format!("{name}.safetensors"));
        let (file, copy) = (read(&original).unwrap(), folder.path().join(name));
        let tensors: Vec<_> = file.tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        write(&copy, &tensors, &BTreeMap::new()).unwrap();
        assert_eq!(std::fs::read(copy).unwrap(), std::fs::read(original).unwrap(), "{name}");
    }
}

#[cfg(unix)]
#[test]
fn written_files_have_ordinary_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (ours, ordinary) = (folder.path().join("ours"), folder.path().join("ordinary"));
    write(&ours, &[], &BTreeMap::new()).unwrap();
    std::fs::write(&ordinary, "").unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(ours), mode(ordinary));
}

#[test]
fn a_failed_write_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let one = Tensor::from(1.0f32);
    write(&path, &[("a", &one)], &BTreeMap::new()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let text = write(&path, &[("a", &one), ("a", &one)], &BTreeMap::new())
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("two entries `a`") && text.contains("a.safetensors"),
        "{text}"
    );
    assert!(write(&path, &[("__metadata__", &one)], &BTreeMap::new()).is_err());
    let complex = one.to_kind(Kind::ComplexFloat);
    assert!(
        write(&path, &[("c", &complex)], &BTreeMap::new())
            .unwrap_err()
            .to_string()
            .contains("ComplexFloat")
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let nowhere = path.join("below/a/file.safetensors");
    assert!(write(&nowhere, &[("a", &one)], &BTreeMap::new()).is_err());
}

#[test]
fn pytorch_files_are_read_as_python_reads_them() {
    let names = [
        "state_dict",
        "protocol4",
        "parameters",
        "module_prefix",
        "nested",
        "nested_model",
        "views",
        "kinds",
    ];
    for name in names {
        let (found, metadata) = read_state(&pytorch(&format!("{name}.pt"))).unwrap();
        let (expected, _) = read_state(&pytorch(&format!("{name}.safetensors"))).unwrap();
        assert_same(&found, &expected);
        assert!(metadata.is_empty());
        assert!(found.iter().all(|(_, t)| t.is_contiguous() && !t.requires_grad()));
    }
    let (ordered, _) = read_state(&pytorch("state_dict.pt")).unwrap();
    let names: Vec<_> = ordered.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names[..3],
        ["conv1.weight", "bn1.weight", "bn1.bias"],
        "PyTorch's order is kept"
    );
}

#[test]
fn views_of_one_storage_become_independent() {
    let (state, _) = read_state(&pytorch("views.pt")).unwrap();
    let _ = state.get("base").unwrap().shallow_clone().zero_();
    assert!(state.get("transposed").unwrap().abs().max().double_value(&[]) > 0.0);
}

#[test]
fn what_is_no_state_dict_is_refused_with_a_reason() {
    let refused = |name: &str| read_state(&pytorch(name)).unwrap_err().to_string();
    let text = refused("malicious.pt");
    assert!(
        text.contains("`posix.system`") && text.contains("malicious.pt"),
        "{text}"
    );
    assert!(!Path::new("executed").exists());
    let text = refused("whole_module.pt");
    assert!(
        text.contains("`__main__.Small`") && text.contains("model.state_dict()"),
        "{text}"
    );
    let text = refused("legacy.pt");
    assert!(text.contains("_use_new_zipfile_serialization=True"), "{text}");
    let text = refused("not_a_tensor.pt");
    assert!(text.contains("`optimizer`") && text.contains("is a dict"), "{text}");
    let text = refused("list.pt");
    assert!(text.contains("a list"), "{text}");
    let text = refused("make.py");
    assert!(text.contains("not a whole safetensors file"), "{text}");
    assert!(refused("no_such_file.pt").contains("no_such_file.pt"));
}

/// Reads every damaged form of `name`. Cut short it must be an error; with a bit flipped it may be one, or be read.
fn damage(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let bytes = std::fs::read(pytorch(name)).unwrap();
    for length in (0..bytes.len()).step_by(100).chain([1, 4, 7, 8, 9, bytes.len() - 1]) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let text = read_state(&path).map(|_| ()).unwrap_err().to_string();
        assert!(text.contains("damaged"), "the file is named: {text}");
    }
    for position in (0..bytes.len()).step_by(3) {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position / 3 % 8);
        std::fs::write(&path, &flipped).unwrap();
        let _ = read_state(&path);
    }
}

#[test]
fn damaged_files_never_panic() {
    [
        "state_dict.safetensors",
        "kinds.safetensors",
        "state_dict.pt",
        "views.pt",
        "protocol4.pt",
    ]
    .into_iter()
    .for_each(damage);
}

/// A safetensors file of any header and `data` zero bytes.
fn with_header(header: &str, data: usize) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    std::fs::write(&path, bytes).unwrap();
    match read(&path) {
        Ok(file) => format!("read {:?}", file.tensors),
        Err(error) => error.to_string(),
    }
}

#[test]
fn hostile_headers_are_errors() {
    let tensor = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    assert!(with_header(&tensor("F32", "[2]", "[0,8]"), 8).starts_with("read"));
    let text = with_header(&tensor("U8", "[2305843009213693951]", "[0,2305843009213693951]"), 0);
    assert!(text.contains("do not fill it"), "nothing is allocated for it: {text}");
    for (dtype, shape, offsets, data) in [
        ("F32", "[2]", "[0,8]", 7),
        ("F32", "[2]", "[0,8]", 9),
        ("F32", "[3]", "[0,8]", 8),
        ("F32", "[2]", "[8,0]", 8),
        ("F32", "[2]", "[8,16]", 16),
        ("F32", "[4294967296,4294967296]", "[0,0]", 0),
        ("F32", "[-1]", "[0,4]", 4),
        ("F4", "[2]", "[0,1]", 1),
        ("F8_E4M3", "[2]", "[0,2]", 2),
        ("NONE", "[2]", "[0,2]", 2),
        ("F32", "[0,18446744073709551615]", "[0,0]", 0),
    ] {
        let text = with_header(&tensor(dtype, shape, offsets), data);
        assert!(!text.starts_with("read"), "{dtype} {shape} {offsets}: {text}");
    }
    assert!(with_header(&"[".repeat(100_000), 0).contains("not a whole safetensors file"));
    let ones = r#"{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#;
    assert!(with_header(ones, 1).starts_with("read"));
}

/// A `.pt` file of any pickle and one storage `0` of 16 bytes.
fn with_pickle(pickle: &[u8]) -> Result<StateDict, String> {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.pt");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("x/data.pkl", pickle), ("x/data/0", &[0; 16])] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    read_state(&path)
        .map(|(state, _)| state)
        .map_err(|error| error.to_string())
}

/// `{"a": tensor}` with the given storage length, offset, size and stride.
fn one_tensor(count: i32, offset: i32, size: &[i32], stride: &[i32]) -> Vec<u8> {
    let int = |n: &i32| [b"J".as_slice(), &n.to_le_bytes()].concat();
    let tuple = |items: &[i32]| [b"(", items.iter().flat_map(int).collect::<Vec<_>>().as_slice(), b"t"].concat();
    let mut pickle =
        b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpu");
    pickle.extend([int(&count), b"tQ".to_vec(), int(&offset), tuple(size), tuple(stride)].concat());
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    pickle
}

#[test]
fn hostile_pickles_are_errors() {
    let state = with_pickle(&one_tensor(4, 1, &[3], &[1])).unwrap();
    assert_eq!(state.get("a").unwrap().size(), [3]);
    for (count, offset, size, stride, reason) in [
        (4, 2, &[3][..], &[1][..], "beyond its storage"),
        (4, -1, &[3], &[1], "beyond its storage"),
        (4, 0, &[3], &[-1], "beyond its storage"),
        (4, 0, &[2, 2], &[1], "beyond its storage"),
        (4, 0, &[-2], &[1], "beyond its storage"),
        (4, 0, &[2, 2], &[i32::MAX, i32::MAX], "beyond its storage"),
        (5, 0, &[5], &[1], "does not fill its shape"),
        (-4, 0, &[0], &[1], "does not fill its shape"),
        (4, 0, &[i32::MAX], &[0], "claim far more"),
        (4, 0, &[i32::MAX; 64], &[0; 64], "beyond its storage"),
    ] {
        let text = with_pickle(&one_tensor(count, offset, size, stride)).unwrap_err();
        assert!(text.contains(reason), "{offset} {size:?} {stride:?}: {text}");
    }
    // Deep nesting, a dict that holds itself, calls of data, attributes of nothing, popping below a mark.
    let deep = [b"\x80\x02)".as_slice(), &b"\x85".repeat(1_000_000), b"."].concat();
    assert!(with_pickle(&deep).unwrap_err().contains("a tuple"));
    assert!(
        with_pickle(b"\x80\x02}q\0X\x01\0\0\0ah\0s.")
            .unwrap_err()
            .contains("`a`")
    );
    for pickle in [
        &b"\x80\x02}}R."[..],
        b"N}b.",
        b"}(s.",
        b"}a.",
        b".",
        b"",
        b"h\x07.",
        b"X\xff\xff\xff\xff.",
        b"\x8a\xff1.",
    ] {
        assert!(with_pickle(pickle).unwrap_err().contains("damaged"), "{pickle:?}");
    }
    assert!(with_pickle(b"i__builtin__\neval\n.").unwrap_err().contains("0x69"));
    assert!(
        with_pickle(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.")
            .unwrap_err()
            .contains("`builtins.eval`")
    );
    let text = with_pickle(b"}(X\x01\0\0\0aNX\x01\0\0\0bNu.").unwrap_err();
    assert!(text.contains("`a` of the state dict is None"), "{text}");
    assert!(
        with_pickle(b"}K\x01Ns.")
            .unwrap_err()
            .contains("an integer, not a string")
    );
    assert!(with_pickle(b"}.").unwrap_err().contains("empty"));
}
