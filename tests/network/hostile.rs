//! Clients that send what they should not, on the loopback interface and bounded.

use super::support::{Answer, Folder, Host, answer, card, head, model, piece, teacher, until};
use fed_distill::artifact::tensors;
use fed_distill::run::weights;
use serde_json::{Value, json};
use std::io::{Read, Write};
use tch::{Kind, Tensor};

/// A safetensors file of this header, with so many zeros behind it.
fn raw(header: &str, values: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &vec![0; values]].concat()
}

/// A teacher whose tensors and card were changed.
fn changed(change: impl Fn(&mut Vec<(String, Tensor)>), recard: impl Fn(&mut Value)) -> Vec<u8> {
    let state = model(5).state();
    let copied = state
        .iter()
        .map(|(name, tensor)| (name.to_owned(), tensor.copy()));
    let mut tensors: Vec<(String, Tensor)> = copied.collect();
    change(&mut tensors);
    let mut metadata = weights::metadata(&card()).unwrap();
    let mut described: Value = serde_json::from_str(&metadata["fed_distill"]).unwrap();
    recard(&mut described);
    metadata.insert("fed_distill".into(), described.to_string());
    let pairs: Vec<(&str, &Tensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    tensors::encode(&pairs, &metadata).unwrap()
}

fn tensor<'a>(tensors: &'a mut [(String, Tensor)], end: &str) -> &'a mut Tensor {
    let found = tensors.iter_mut().find(|(name, _)| name.ends_with(end));
    &mut found.unwrap().1
}

/// What is no teacher of the task is refused with a reason, and the next upload is taken all the
/// same.
#[test]
fn wrong_files() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let token = folder.client("a");
    host.enrol(&token, 100);
    let tensors_alone = |change: fn(&mut Vec<(String, Tensor)>)| changed(change, |_| ());
    let card_alone = |change: fn(&mut Value)| changed(|_| (), change);
    let entry = |name: usize| {
        format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}")
    };
    let many: Vec<String> = (0..100_000).map(entry).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "values are not finite",
            tensors_alone(|all| {
                let _ = tensor(all, "linear.weight").fill_(f64::NAN);
            }),
        ),
        (
            "1 value is not finite",
            tensors_alone(|all| {
                let _ = tensor(all, "linear.bias")
                    .narrow(0, 3, 1)
                    .fill_(f64::NEG_INFINITY);
            }),
        ),
        (
            "1 value is negative",
            tensors_alone(|all| {
                let _ = tensor(all, "running_var").narrow(0, 0, 1).fill_(-1e-30);
            }),
        ),
        (
            "1 value is negative",
            tensors_alone(|all| {
                let _ = tensor(all, "num_batches_tracked").fill_(-1);
            }),
        ),
        (
            "1 value is too large for a counter",
            tensors_alone(|all| {
                let _ = tensor(all, "num_batches_tracked").fill_(i64::MAX);
            }),
        ),
        (
            "`extra` does not belong to it",
            tensors_alone(|all| {
                all.push((
                    "extra".into(),
                    Tensor::zeros([1], (Kind::Float, tch::Device::Cpu)),
                ));
            }),
        ),
        (
            "is missing",
            tensors_alone(|all| {
                all.pop();
            }),
        ),
        (
            "of Double",
            tensors_alone(|all| {
                let weight = tensor(all, "linear.weight");
                *weight = weight.to_kind(Kind::Double);
            }),
        ),
        (
            "found [1, 10]",
            tensors_alone(|all| {
                let bias = tensor(all, "linear.bias");
                *bias = bias.view([1, 10]);
            }),
        ),
        (
            "image shape",
            card_alone(|card| card["model"]["size"] = json!(16)),
        ),
        (
            "class 3 is `cat`",
            card_alone(|card| card["classes"][3] = json!("cat")),
        ),
        (
            "normalisation",
            card_alone(|card| card["normalisation"]["mean"] = json!([0.5])),
        ),
        (
            "architecture",
            card_alone(|card| card["model"]["model"]["width"] = json!(25)),
        ),
        (
            "out of range",
            card_alone(|card| card["model"]["model"]["width"] = json!(1_000_000)),
        ),
        (
            "more images than the client declared",
            card_alone(|card| {
                card["label_counts"][0] = json!(11);
            }),
        ),
        (
            "label count",
            card_alone(|card| card["label_counts"][0] = json!(u64::MAX)),
        ),
        (
            "cannot be read",
            card_alone(|card| *card = json!("no card")),
        ),
        ("no card", raw("{}", 0)),
        (
            "at most 1048576",
            raw(&format!("{{{}}}", many.join(",")), 0),
        ),
        ("header claims", u64::MAX.to_le_bytes().to_vec()),
        (
            "not a whole safetensors file",
            raw(
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12,
            ),
        ),
        (
            "not a whole safetensors file",
            raw(
                r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#,
                8,
            ),
        ),
        ("not a whole safetensors file", b"short".to_vec()),
        ("PyTorch file", b"PK\x03\x04 a zip archive".to_vec()),
        ("PyTorch file", b"\x80\x02}q\x00.".to_vec()),
    ];
    for (reason, bytes) in &cases {
        let shown = host.upload(&token, bytes);
        assert_eq!(shown["status"], "refused", "{reason}");
        let text = shown["reason"].as_str().unwrap();
        assert!(text.contains(reason), "{reason}: {text}");
    }
    // Other bytes than were announced.
    let good = teacher(1);
    let place = host.open(&token, &good);
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    assert_eq!(host.patch(&token, &place, 0, &other).status, 202);
    let shown = host.outcome(&token, &place);
    assert!(
        shown["reason"].as_str().unwrap().contains("was announced"),
        "{shown}"
    );
    assert_eq!(host.upload(&token, &good)["status"], "accepted");
}

/// Announcements and pieces that do not fit what the server takes.
#[test]
fn wrong_requests() {
    let folder = Folder::with(&[
        "--clients",
        "2",
        "--max-megabytes",
        "1",
        "--max-images",
        "1000",
    ]);
    let host = folder.serve(&["--quota-megabytes", "1"]);
    let (token, other, bytes) = (folder.client("a"), folder.client("b"), teacher(1));
    assert_eq!(host.enrol(&token, 0).status, 422);
    assert_eq!(host.enrol(&token, 1001).status, 422);
    let task = json!({"images": 1, "task": "another"});
    assert_eq!(
        host.send(&token, "PUT", "/v1/clients/me", &task).code(),
        "other_task"
    );
    host.enrol(&token, 100);
    host.enrol(&other, 100);
    let hash = "0".repeat(64);
    let announce = |token: &str, body: Value| host.send(token, "POST", "/v1/uploads", &body);
    let large = |bytes: u64| json!({"kind": "teacher", "bytes": bytes, "sha256": hash});
    assert_eq!(announce(&token, large(1_000_001)).status, 413);
    assert_eq!(announce(&token, large(0)).status, 422);
    let path = json!({"kind": "teacher", "bytes": 1, "sha256": "../../etc/passwd"});
    assert_eq!(announce(&token, path).status, 422);
    assert_eq!(announce(&token, json!({"kind": "teacher"})).status, 400);
    assert_eq!(announce(&token, json!([1])).status, 400);
    assert_eq!(announce(&token, large(600_000)).status, 201);
    let full = announce(&other, large(600_000));
    assert_eq!((full.status, full.code().as_str()), (507, "disk_full"));
    // The one that it replaces gives its place back.
    let larger = json!({"kind": "teacher", "bytes": 900_000, "sha256": "1".repeat(64)});
    assert_eq!(announce(&token, larger).status, 201);
    let place = host.open(&token, &bytes);

    let with = |headers: &[(&str, String)]| {
        host.request(&token, "PATCH", &place, headers, b"12345")
            .status
    };
    let whole = piece(0, 5);
    assert_eq!(with(&whole[1..]), 415);
    assert_eq!(with(&[whole[0].clone(), whole[2].clone()]), 400);
    assert_eq!(
        with(&[
            whole[0].clone(),
            ("Upload-Offset", "-1".into()),
            whole[2].clone()
        ]),
        400
    );
    let chunked = ("Transfer-Encoding", "chunked".to_owned());
    assert_eq!(
        with(&[whole[0].clone(), whole[1].clone(), chunked.clone()]),
        411
    );
    let long = piece(0, bytes.len() + 1);
    assert_eq!(with(&long), 413);
    // A length that two proxies would read differently.
    assert_eq!(
        with(&[
            whole[0].clone(),
            whole[1].clone(),
            whole[2].clone(),
            ("Content-Length", "6".into())
        ]),
        400
    );
    assert!(matches!(
        with(&[
            whole[0].clone(),
            whole[1].clone(),
            whole[2].clone(),
            chunked
        ]),
        400 | 411
    ));
    for id in [
        "..",
        "../../task.json",
        "%2e%2e%2ftask.json",
        "x/../../task.json",
        "",
    ] {
        let answer = host.get(&token, &format!("/v1/uploads/{id}"));
        assert!(matches!(answer.status, 404 | 405), "{id}: {answer:?}");
    }
    assert_eq!(host.offset(&token, &place), 0, "none of these wrote a byte");
}

/// Heads that are too long, or no HTTP.
#[test]
fn wrong_heads() {
    let folder = Folder::new(2);
    let host = folder.serve(&[]);
    let token = folder.client("a");
    let long = [("X-Long", "x".repeat(20_000))];
    let status = |answer: Option<Answer>| answer.map(|answer| answer.status);
    let text = head(&token, "GET", "/v1/task", &long);
    assert!(matches!(
        status(answer(&host.raw(text.as_bytes()))),
        Some(431) | None
    ));
    let many: Vec<_> = (0..200).map(|_| ("X", "x".to_owned())).collect();
    let text = head(&token, "GET", "/v1/task", &many);
    assert!(matches!(
        status(answer(&host.raw(text.as_bytes()))),
        Some(431) | None
    ));
    assert!(matches!(
        status(answer(&host.raw(b"\x16\x03\x01 no HTTP\r\n\r\n"))),
        Some(400) | None
    ));
    assert_eq!(host.get(&token, "/v1/task").status, 200);
}

/// Connections that send half a head, or bytes too slowly, are ended by the server.
#[test]
fn slow() {
    let folder = Folder::new(2);
    let host = folder.serve(&["--head-seconds", "1", "--grace-seconds", "1"]);
    let (token, bytes) = (folder.client("a"), teacher(1));
    host.enrol(&token, 100);
    let place = host.open(&token, &bytes);
    let mut half = host.connect();
    half.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        .unwrap();
    let mut body = host.connect();
    let text = head(&token, "PATCH", &place, &piece(0, bytes.len()));
    body.write_all(text.as_bytes()).unwrap();
    body.write_all(&bytes[..10]).unwrap();
    let mut json = host.connect();
    let text = head(
        &token,
        "POST",
        "/v1/uploads",
        &[("Content-Length", "100".into())],
    );
    json.write_all(text.as_bytes()).unwrap();
    let mut told = Vec::new();
    half.read_to_end(&mut told).unwrap();
    for mut stream in [body, json] {
        let mut told = Vec::new();
        let _ = stream.read_to_end(&mut told);
        assert_eq!(answer(&told).unwrap().status, 408);
    }
    host.until_offset(&token, &place, 10);
    assert_eq!(host.patch(&token, &place, 10, &bytes[10..]).status, 202);
}

/// More connections than the server takes wait until one ends, and more uploads are asked to come
/// back.
#[test]
fn too_many() {
    let folder = Folder::new(3);
    let host = folder.serve(&[
        "--uploads",
        "1",
        "--connections",
        "3",
        "--head-seconds",
        "1",
    ]);
    let (one, other, bytes) = (folder.client("a"), folder.client("b"), teacher(1));
    for token in [&one, &other] {
        host.enrol(token, 100);
    }
    let (first, second) = (host.open(&one, &bytes), host.open(&other, &bytes));
    let mut stream = host.connect();
    let text = head(&one, "PATCH", &first, &piece(0, bytes.len()));
    stream.write_all(text.as_bytes()).unwrap();
    stream.write_all(&bytes[..100]).unwrap();
    host.until_offset(&one, &first, 100);
    let busy = host.patch(&other, &second, 0, &bytes);
    assert_eq!((busy.status, busy.code().as_str()), (429, "busy"));
    assert!(busy.headers.contains_key("retry-after"));
    // The others say nothing, and make room after a second.
    let _idle: Vec<_> = (0..10).map(|_| host.connect()).collect();
    assert_eq!(host.get(&other, "/v1/next").json()["action"], "upload");
    stream.write_all(&bytes[100..]).unwrap();
    let mut told = Vec::new();
    stream.read_to_end(&mut told).unwrap();
    assert_eq!(answer(&told).unwrap().status, 202);
    until(|| host.patch(&other, &second, 0, &bytes).status == 202);
}

/// Thousands of connections that say nothing keep nobody out for longer than a handshake may take,
/// and leave nothing behind.
#[test]
fn thousands_of_connections() {
    let folder = Folder::new(2);
    let host = folder.serve(&["--head-seconds", "1"]);
    let token = folder.client("a");
    host.enrol(&token, 100);
    let descriptors = || {
        let folder = format!("/proc/{}/fd", host.child.id());
        std::fs::read_dir(folder).unwrap().count()
    };
    let before = descriptors();
    let idle: Vec<_> = (0..2000).map(|_| host.connect()).collect();
    assert_eq!(host.get(&token, "/v1/next").json()["action"], "upload");
    drop(idle);
    until(|| descriptors() <= before);
    assert_eq!(host.upload(&token, &teacher(1))["status"], "accepted");
}

/// What clients call themselves is text on the page, and nothing else; the page is whole and loads
/// nothing.
#[test]
fn page() {
    let folder = Folder::with(&["--clients", "2", "--name", "<b>ours</b> & theirs"]);
    let token = folder.client("<script>alert(1)</script>");
    let admin = folder.admin();
    let host: Host = folder.serve(&[]);
    host.enrol(&token, 100);
    host.upload(&token, b"PK\x03\x04");
    let page = host.get(&admin, "/");
    let text = String::from_utf8(page.body).unwrap();
    assert!(
        text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
        "{text}"
    );
    assert!(
        !text.contains("<script") && !text.contains("<b>ours"),
        "{text}"
    );
    assert!(
        text.contains("refused") && text.contains("PyTorch file"),
        "{text}"
    );
    let body = text.split_once("<!DOCTYPE html>").unwrap().1;
    fed_distill_xml(body);
    assert!(page.headers["content-security-policy"].contains("default-src 'none'"));
    assert!(!text.contains(&token) && !folder.log().contains(&token));
}

/// Fails unless the page is well-formed XML as well.
fn fed_distill_xml(body: &str) {
    let document = roxmltree::Document::parse(body.trim());
    assert!(document.is_ok(), "{document:?}");
}
