//! Tensor files: safetensors round trips and bytes, PyTorch's `.pt`, and damaged or hostile files,
//! which must give errors and never panic. `tests/data/pytorch/make.py` made the files that are
//! read here.

mod hostile;

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
        assert_eq!(
            (other.kind(), other.size()),
            (tensor.kind(), tensor.size()),
            "{name}"
        );
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
        ("ünïcode \"quoted\"", Tensor::from(1.5f32)),
        ("grad", counted.copy().set_requires_grad(true)),
    ]
}

fn metadata() -> BTreeMap<String, String> {
    let entry = |i: usize| (format!("key{i}"), format!("value \"{i}\" ✓"));
    (0..20).map(entry).collect()
}

fn borrowed<'a>(tensors: &'a [(&'static str, Tensor)]) -> Vec<(&'a str, &'a Tensor)> {
    tensors
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect()
}

#[test]
fn safetensors_round_trip_and_deterministic_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (tensors, metadata) = (samples(), metadata());
    let (path, again) = (
        folder.path().join("a.safetensors"),
        folder.path().join("b.safetensors"),
    );
    std::fs::write(&path, "was here").unwrap();
    write(&path, &borrowed(&tensors), &metadata).unwrap();
    let file = read(&path).unwrap();
    assert_eq!(file.metadata, metadata);
    assert_eq!(file.tensors.len(), tensors.len());
    for (name, tensor) in &tensors {
        let found = file.get(name).unwrap();
        assert_eq!(
            (found.kind(), found.size()),
            (tensor.kind(), tensor.size()),
            "{name}"
        );
        assert!(found.equal(tensor), "{name}");
    }
    let mut reversed = borrowed(&tensors);
    reversed.reverse();
    write(&again, &reversed, &metadata).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        bytes,
        std::fs::read(&again).unwrap(),
        "the order given does not matter"
    );
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
        assert_eq!(
            std::fs::read(copy).unwrap(),
            std::fs::read(original).unwrap(),
            "{name}"
        );
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
        assert!(
            found
                .iter()
                .all(|(_, t)| t.is_contiguous() && !t.requires_grad())
        );
    }
    let (ordered, _) = read_state(&pytorch("state_dict.pt")).unwrap();
    let names: Vec<_> = ordered.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names[..3],
        ["conv1.weight", "bn1.weight", "bn1.bias"],
        "PyTorch's order is kept"
    );
}

/// Training scripts save the state dict under a key of their own, beside other objects, and with
/// prefixes before the names.
#[test]
fn checkpoints_of_training_scripts_are_read() {
    let (expected, _) = read_state(&pytorch("state_dict.safetensors")).unwrap();
    for name in [
        "net",
        "model_state_dict",
        "checkpoint",
        "any_key",
        "moving_average",
        "compiled_parallel",
        "lightning",
        "protocol5",
    ] {
        let (found, _) = read_state(&pytorch(&format!("checkpoint_{name}.pt"))).unwrap();
        assert_same(&found, &expected);
    }
}

#[test]
fn views_of_one_storage_become_independent() {
    let (state, _) = read_state(&pytorch("views.pt")).unwrap();
    let _ = state.get("base").unwrap().shallow_clone().zero_();
    assert!(
        state
            .get("transposed")
            .unwrap()
            .abs()
            .max()
            .double_value(&[])
            > 0.0
    );
}

/// What a download leaves in place of the weights is named.
#[test]
fn pointers_and_web_pages_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model_teacher0.pt");
    for (content, expected) in [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3712\n",
            "a Git LFS pointer",
        ),
        (
            "<!DOCTYPE html><html><title>Virus scan warning</title></html>",
            "a web page",
        ),
        ("\n <?xml version=\"1.0\"?><Error/>", "a web page or XML"),
    ] {
        std::fs::write(&path, content).unwrap();
        let text = read_state(&path).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("file: "), "{text}");
    }
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
        text.contains("`__main__.Small`") && !text.contains("weights_only"),
        "{text}"
    );
    let text = refused("legacy.pt");
    assert!(
        text.contains("_use_new_zipfile_serialization=True"),
        "{text}"
    );
    let text = refused("not_a_tensor.pt");
    assert!(
        text.contains("`optimizer`") && text.contains("is a dict"),
        "{text}"
    );
    let text = refused("list.pt");
    assert!(
        text.contains("a list") && text.contains("`torch.save(model.state_dict(), path)`"),
        "{text}"
    );
    for (name, expected) in [
        (
            "two_state_dicts.pt",
            "more than one state dict\n  available: `first`, `second`\n",
        ),
        (
            "two_state_dicts.pt",
            "weights_only=False)[\"first\"], \"state_two_state_dicts.pt\")",
        ),
        ("list_of_state_dicts.pt", "weights_only=False)[0], "),
        ("list_of_state_dicts.pt", "if you trust who made it"),
        ("module_in_checkpoint.pt", "an object of `__main__.Small`"),
        ("module_in_checkpoint.pt", ")[\"model\"].state_dict(), "),
        // Whoever sent it may have put anything there: it is not loaded here.
        (
            "whole_module.pt",
            "where the model was made: `torch.save(model.state_dict(), path)`",
        ),
    ] {
        let text = refused(name);
        assert!(text.contains(expected), "{text}");
    }
    let text = refused("make.py");
    assert!(text.contains("not a whole safetensors file"), "{text}");
    assert!(refused("no_such_file.pt").contains("no_such_file.pt"));
}

/// The length of a header is eight bytes, which may begin as a pickle or a web page does.
#[test]
fn headers_of_any_length_are_told_from_other_formats() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let tensor = Tensor::from(1.5f32);
    let mut starts = std::collections::BTreeSet::new();
    for long in (0..600).step_by(8).chain((15_000..15_500).step_by(8)) {
        let metadata = BTreeMap::from([("note".to_owned(), "x".repeat(long))]);
        write(&path, &[("x", &tensor)], &metadata).unwrap();
        starts.insert(std::fs::read(&path).unwrap()[..2].to_vec());
        let (state, found) = read_state(&path).unwrap();
        assert_eq!((state.len(), found), (1, metadata));
    }
    assert!(starts.contains([0x80, 2].as_slice()) && starts.contains(b" <".as_slice()));
}

/// A name of several lines could pass for a message of this program.
#[test]
fn odd_names_and_shapes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    let forged = "x`\nhint: run this";
    let long = "n".repeat(5000);
    for (name, words) in [(forged, "`x`\\nhint: run this`"), (&long, "is very long")] {
        write(&path, &[(name, &Tensor::from(1.5f32))], &BTreeMap::new()).unwrap();
        let text = read(&path).unwrap_err().to_string();
        assert!(text.contains(words) && text.len() < 400, "{text}");
    }
    let deep = Tensor::from(1.5f32).reshape([1_i64; 65].as_slice());
    write(&path, &[("deep", &deep)], &BTreeMap::new()).unwrap();
    let text = read(&path).unwrap_err().to_string();
    assert!(text.contains("has 65 dimensions"), "{text}");
}
