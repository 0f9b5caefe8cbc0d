//! Damaged and hostile files.

use super::pytorch;
use fed_distill::artifact::tensors::{read, read_state};
use fed_distill::model::StateDict;

/// Reads every damaged form of `name`. Cut short it must be an error; with a bit flipped it may be
/// one, or be read.
fn damage(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let bytes = std::fs::read(pytorch(name)).unwrap();
    for length in (0..bytes.len())
        .step_by(100)
        .chain([1, 4, 7, 8, 9, bytes.len() - 1])
    {
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
    let text = with_header(
        &tensor("U8", "[2305843009213693951]", "[0,2305843009213693951]"),
        0,
    );
    assert!(
        text.contains("do not fill it"),
        "nothing is allocated for it: {text}"
    );
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
        assert!(
            !text.starts_with("read"),
            "{dtype} {shape} {offsets}: {text}"
        );
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
    let options =
        zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
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
    let tuple = |items: &[i32]| {
        [
            b"(",
            items.iter().flat_map(int).collect::<Vec<_>>().as_slice(),
            b"t",
        ]
        .concat()
    };
    let mut pickle =
        b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n\
            FloatStorage\n"
            .to_vec();
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpu");
    pickle.extend(
        [
            int(&count),
            b"tQ".to_vec(),
            int(&offset),
            tuple(size),
            tuple(stride),
        ]
        .concat(),
    );
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
        assert!(
            text.contains(reason),
            "{offset} {size:?} {stride:?}: {text}"
        );
    }
    // Deep nesting, a dict that holds itself, calls of data, attributes of nothing, popping below a
    // mark.
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
        assert!(
            with_pickle(pickle).unwrap_err().contains("damaged"),
            "{pickle:?}"
        );
    }
    assert!(
        with_pickle(b"i__builtin__\neval\n.")
            .unwrap_err()
            .contains("0x69")
    );
    assert!(
        with_pickle(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.")
            .unwrap_err()
            .contains("the name `builtins.eval`, not a state dict")
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
