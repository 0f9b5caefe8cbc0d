//! PyTorch files whose pickle repeats one long thing very often: memory and time must follow the
//! file's length, and not the product.

use super::memory;
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

/// Returns the text of the error that a file of this pickle gives.
fn refused(pickle: &[u8], method: CompressionMethod) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made.pt");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let options = FileOptions::default().compression_method(method);
    zip.start_file("x/data.pkl", options).unwrap();
    zip.write_all(pickle).unwrap();
    zip.finish().unwrap();
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
        (nested(), "more than one state dict"),
        (calls.concat(), "an object of `x.y`"),
    ] {
        let text = refused(&pickle, CompressionMethod::Stored);
        assert!(text.contains(expected), "{text}");
    }
}
