//! `tensors` and `verify`.

use crate::common::signals;
use crate::{copy, data, experiment, inspect, line};
use fed_distill::artifact::{hash, tensors};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn tensors_are_listed_with_their_ranges() {
    let path = experiment().path("students/1/dataset.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let images = file.tensor("images").unwrap();
    let values: Vec<f32> = images
        .data()
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    let listed = data(&["tensors", "students/1/dataset.safetensors"]);
    let entry = &listed["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["name"] == "images")
        .unwrap();
    let fold = |pick: fn(f32, f32) -> f32| f64::from(values.iter().copied().reduce(pick).unwrap());
    assert_eq!(entry["least"].as_f64().unwrap(), fold(f32::min));
    assert_eq!(entry["greatest"].as_f64().unwrap(), fold(f32::max));
    assert_eq!(entry["shape"], serde_json::json!(images.shape()));
    assert_eq!(
        (entry["type"].as_str(), entry["not_finite"].as_i64()),
        (Some("f32"), Some(0))
    );
    assert_eq!(listed["sha256"], hash::file(&path).unwrap().1);
    assert_eq!(listed["card"]["dataset"], "digits");
}

#[test]
fn a_file_of_pytorch_is_listed_like_its_safetensors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pytorch");
    let of =
        |name: &str| data(&["tensors", folder.join(name).to_str().unwrap()])["tensors"].clone();
    let sorted = |list: serde_json::Value| {
        let mut list = list.as_array().unwrap().clone();
        list.sort_by_key(|entry| entry["name"].to_string());
        list
    };
    let (ours, theirs) = (sorted(of("kinds.safetensors")), sorted(of("kinds.pt")));
    assert!(ours.len() > 5 && ours == theirs, "{ours:?}\n{theirs:?}");
}

#[test]
fn values_that_are_no_numbers_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd.safetensors");
    let odd = tch::Tensor::from_slice(&[1.5f32, f32::NAN, f32::INFINITY, -2.0]);
    let all = tch::Tensor::from_slice(&[f32::NAN]);
    tensors::write(&path, &[("odd", &odd), ("all", &all)], &Default::default()).unwrap();
    let table = inspect(&["tensors", path.to_str().unwrap()]);
    assert_eq!(
        line(&table, "odd"),
        ["odd", "f32", "[4]", "4", "-2", "1.500", "-0.2500", "2"]
    );
    assert_eq!(
        line(&table, "all"),
        ["all", "f32", "[1]", "1", "–", "–", "–", "1"]
    );
}

/// A subcommand without safe points ends at once, even while nobody reads what it prints.
#[test]
fn ctrl_c_ends_a_listing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.safetensors");
    let one = tch::Tensor::from_slice(&[1f32]);
    let names: Vec<String> = (0..2000).map(|index| format!("tensor{index}")).collect();
    let list: Vec<_> = names.iter().map(|name| (name.as_str(), &one)).collect();
    tensors::write(&path, &list, &Default::default()).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("inspect"));
    command.args(["tensors", "--json"]).arg(&path);
    command.stdout(Stdio::piped());
    let mut child = signals::heard(&mut command).spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    // From its first byte on it prints, and that is more than a pipe holds.
    out.read_exact(&mut [0]).unwrap();
    // SAFETY: a signal to a process that this test started and has not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    out.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGINT));
}

#[test]
fn an_untouched_experiment_is_verified() {
    let text = inspect(&["verify", "."]);
    assert!(
        text.contains("7 runs") && text.contains("all unchanged"),
        "{text}"
    );
    let one = inspect(&["verify", "students/1"]);
    assert!(one.starts_with("1 run, "), "{one}");
}

/// One flipped bit, what cannot be read, a missing file and a damaged manifest.
#[test]
fn verify_finds_damage() {
    let place = copy();
    let weights = place.path("teachers/model_teacher1.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let (code, out, errors) = place.run_with("inspect", &[], &["verify", "."]);
    assert_eq!(code, 1);
    // As the output of its own run, and as an input of the initial batches and of three students.
    let named: Vec<&str> = out
        .lines()
        .filter(|line| line.contains("model_teacher1.safetensors"))
        .collect();
    assert!(
        named.len() == 5 && named.iter().all(|line| line.contains("changed")),
        "{out}"
    );
    assert!(
        out.contains(&hash::file(&weights).unwrap().1[..12]),
        "{out}"
    );
    assert!(!out.contains(".."), "{out}");
    assert!(
        errors.contains("error: one file is missing, changed or damaged"),
        "{errors}"
    );

    // The others are checked all the same.
    std::fs::remove_file(&weights).unwrap();
    std::fs::create_dir(&weights).unwrap();
    let (code, out, errors) = place.run_with("inspect", &[], &["verify", "."]);
    assert_eq!(code, 1);
    let unread = |line: &&str| line.contains("model_teacher1") && line.contains("not readable");
    assert_eq!(out.lines().filter(unread).count(), 5, "{out}");
    assert_eq!(out.matches("Is a directory").count(), 1, "{out}");
    assert!(
        errors.contains("error: one file is missing, changed or damaged"),
        "{errors}"
    );

    std::fs::remove_dir(&weights).unwrap();
    std::fs::write(
        place.path("split.manifest.json"),
        "{\"schema_version\": 1, \"stage\"",
    )
    .unwrap();
    let (code, out, errors) = place.run_with("inspect", &[], &["verify", "."]);
    assert_eq!(code, 1);
    assert!(
        out.contains("missing") && out.contains("split.manifest.json"),
        "{out}"
    );
    assert!(
        errors.contains("error: 2 files are missing, changed or damaged"),
        "{errors}"
    );
    let (code, out, errors) = place.run_with("inspect", &[], &["runs", "."]);
    assert_eq!(
        code, 1,
        "a damaged manifest is said, and the rest is listed"
    );
    assert!(
        out.contains("students/1") && errors.contains("split.manifest.json"),
        "{out}\n{errors}"
    );
}

/// Whoever clears away what was an input alone learns that nobody looked at it, and that the rest
/// is well.
#[test]
fn inputs_that_are_gone_are_not_vouched_for() {
    let place = copy();
    for name in [
        "split.json",
        "split.manifest.json",
        "split.png",
        "split.svg",
    ] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    let said = |arguments: &[&str]| {
        let (code, out, errors) = place.run_with("inspect", &[], arguments);
        assert_eq!(code, 0, "{errors}");
        out
    };
    let found: serde_json::Value = serde_json::from_str(&said(&["verify", ".", "--json"])).unwrap();
    let files = found["files"].as_u64().unwrap();
    // Of two teachers and three students.
    let gone = found["inputs_gone"].as_array().unwrap();
    assert!(
        gone.len() == 5 && gone.iter().all(|input| input["role"] == "split"),
        "{found}"
    );
    assert_eq!(found["checked"], files - 5);
    let text = said(&["verify", "."]);
    let wanted = format!(
        "6 runs, {files} recorded files: {} checked, all unchanged; 5 inputs no longer there",
        files - 5
    );
    assert!(text.contains(&wanted), "{wanted} in {text}");
    said(&["report", "."]);
    let html = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(html.contains(&format!("{} recorded files hashed again", files - 5)));
    assert!(html.contains("Not checked: 5 inputs that are no longer there."));
}

#[test]
fn a_run_without_a_process_was_killed() {
    let place = copy();
    let manifest = place.path("students/1/manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(
        &manifest,
        text.replace("\"status\": \"done\"", "\"status\": \"running\""),
    )
    .unwrap();
    let lock = std::fs::File::create(place.path("students/1/.manifest.json.lock")).unwrap();
    let says = |status: &str| {
        let said = |arguments: &[&str]| place.run_with("inspect", &[], arguments).1;
        assert!(line(&said(&["runs", "."]), "students/1").contains(&status.to_owned()));
        assert_eq!(
            line(&said(&["show", "students/1"]), "status"),
            ["status", status]
        );
        let verified = said(&["verify", "."]);
        assert!(
            verified.contains(&format!("not finished: students/1 ({status})")),
            "{verified}"
        );
    };
    says("killed");
    lock.lock().unwrap();
    says("running");
}
