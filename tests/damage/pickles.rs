//! PyTorch files whose pickle repeats one long thing very often: memory and time must follow the
//! file's length, and not the product.

use super::{hostile, memory};
use crate::common::clock;
use fed_distill::artifact::tensors::read_state;
use std::io::Write;
use std::time::Duration;
use zip::CompressionMethod;
use zip::write::FileOptions;

/// Most memory that reading one of these files takes.
const BOUND: usize = 100 << 20;
/// Most processor time.
const TIME: Duration = Duration::from_secs(5);

/// A string of a pickle.
fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

/// A pickle that puts a tensor of one value under memo 1; its storage's name is 20,000 long, and
/// the description of the storage is under memo 0.
fn tensor() -> Vec<u8> {
    let long = "k".repeat(20_000);
    [
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(&long),
        text("cpu"),
        b"K\x01tq\x00QK\x00K\x01\x85K\x01\x85tRq\x01".to_vec(),
    ]
    .concat()
}

/// A PyTorch file of this pickle, without storages.
fn zipped(pickle: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = FileOptions::default().compression_method(method);
    zip.start_file("x/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    zip.finish().unwrap().into_inner()
}

/// Returns the text of the error that a file of this pickle gives.
fn refused(pickle: &[u8], method: CompressionMethod) -> String {
    refused_file(&zipped(pickle, method))
}

/// Returns the text of the error that a file gives.
fn refused_file(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.pt");
    std::fs::write(&path, bytes).unwrap();
    memory::begin();
    let before = clock::used();
    let text = read_state(&path).map(|_| ()).unwrap_err().to_string();
    let (time, taken) = (clock::used() - before, memory::taken());
    assert!(
        taken < BOUND && time < TIME,
        "{taken} bytes, {time:?}: {text}"
    );
    text
}

/// The same file with an end record in the 64-bit format that claims so many `entries`, a locator
/// that says where it is, and a comment.
fn with_record(file: &[u8], entries: u64, at: Option<u64>, comment: &[u8]) -> Vec<u8> {
    let (body, end) = file.split_at(file.len() - 22);
    let directory: [u64; 2] = [&end[12..16], &end[16..20]]
        .map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()).into());
    let counts = [entries, entries, directory[0], directory[1]].map(u64::to_le_bytes);
    let sizes = [44_u64.to_le_bytes(), [45, 0, 45, 0, 0, 0, 0, 0], [0; 8]];
    let sizes = &sizes.concat()[..20];
    let record = [&b"PK\x06\x06"[..], sizes, &counts.concat()].concat();
    let at = at.unwrap_or(body.len() as u64).to_le_bytes();
    let locator = [&b"PK\x06\x07\0\0\0\0"[..], &at, &[1, 0, 0, 0]].concat();
    let length = (comment.len() as u16).to_le_bytes();
    [body, &record, &locator, &end[..20], &length, comment].concat()
}

/// Memory is taken for as many entries as the directory claims.
#[test]
fn false_directories_of_archives() {
    let _alone = memory::alone();
    let file = zipped(b"N.", CompressionMethod::Stored);
    let text = refused_file(&with_record(&file, 1, None, b"true"));
    assert!(text.contains("holds None, not a state dict"), "{text}");
    let many = 1 << 40;
    for (made, expected) in [
        (
            with_record(&file, many, None, b""),
            "it claims 1099511627776 entries",
        ),
        (
            with_record(&file, many, None, b"PK\x05\x06"),
            "it claims 1099511627776 entries",
        ),
        (
            with_record(&file, 1, Some(0), b""),
            "its directory is not where it says",
        ),
        (
            with_record(&file, 1, Some(u64::MAX), b""),
            "its directory is not where it says",
        ),
    ] {
        let text = refused_file(&made);
        assert!(
            text.contains("not a whole PyTorch file") && text.contains(expected),
            "{text}"
        );
    }
}

#[test]
fn a_deflated_pickle_is_too_large() {
    let _alone = memory::alone();
    let text = refused(
        &[b"N".repeat(4_000_000), b".".to_vec()].concat(),
        CompressionMethod::Deflated,
    );
    assert!(
        text.contains("`data.pkl` of the file is too large"),
        "{text}"
    );
}

/// `zip` panics at such an entry, where it is not given a password.
#[test]
fn an_entry_that_is_said_to_be_encrypted() {
    let _alone = memory::alone();
    let text = refused_file(&hostile::zip_said_to_be_encrypted("x/data.pkl", b"N."));
    assert!(text.contains("an entry is encrypted"), "{text}");
}

/// A string of Python 2 is bytes, which are text only if they are UTF-8: a long one that is the key
/// of many entries must not be looked through for each.
#[test]
fn a_long_key_of_python_2_costs_no_time() {
    let _alone = memory::alone();
    let long = "k".repeat(1 << 20);
    let key = [
        b"T",
        &(long.len() as u32).to_le_bytes()[..],
        long.as_bytes(),
    ]
    .concat();
    let entries = b"h\x02h\x01".repeat(60_000);
    let pickle = [
        tensor(),
        b"0".to_vec(),
        key,
        b"q\x020}(".to_vec(),
        entries,
        b"u.".to_vec(),
    ];
    let text = refused(&pickle.concat(), CompressionMethod::Stored);
    assert!(
        text.contains("a name in the state dict is a byte string"),
        "{text}"
    );
}

#[test]
fn repetition_costs_no_memory() {
    let _alone = memory::alone();
    let entries = |count: u32| {
        let entry = |i: u32| [text(&format!("n{i}")), b"h\x01".to_vec()].concat();
        let entries = (0..count).flat_map(entry).collect();
        [tensor(), b"0}(".to_vec(), entries, b"u.".to_vec()].concat()
    };
    // A dict of many tensors, which is the value of as many keys of the root.
    let nested = || {
        let name = [&b"0"[..], &text("n"), b"q\x020"].concat();
        let inside = [&b"}q\x03("[..], &b"h\x02h\x01".repeat(400_000), b"u0"].concat();
        let root = [&b"}("[..], &b"h\x02h\x03".repeat(400_000), b"u."].concat();
        [tensor(), name, inside, root].concat()
    };
    let calls = [
        &b"\x80\x02cx\ny\nq\x00("[..],
        &b"N".repeat(300_000),
        b"tq\x01",
        &b"h\x00h\x01R0".repeat(300_000),
        b"h\x00h\x01R.",
    ];
    for (pickle, expected) in [
        (b"N".repeat(4_000_000), "it ends too early"),
        (
            [&b"("[..], &b"N".repeat(4_000_000)].concat(),
            "ends too early",
        ),
        (entries(60_000), "reading tensor `n0`"),
        (entries(100_000), "has 100000 entries"),
        (
            [tensor(), b"h\x00Q0".repeat(300_000), b".".to_vec()].concat(),
            "a tensor, not a state dict",
        ),
        (nested(), "has 400000 entries"),
        (calls.concat(), "an object of `x.y`"),
    ] {
        let text = refused(&pickle, CompressionMethod::Stored);
        assert!(text.contains(expected), "{text}");
    }
}
