//! Teachers that `join` converts before it sends them, and those that it does not send at all.

use super::support::{Folder, card, model, said, teacher};
use fed_distill::artifact::tensors;
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::run::weights;
use fed_distill::runtime::seed::Seeds;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor};

const COUNTS: &str = "10,20,30,0,0,0,0,0,0,5";

/// The teacher that the server laid out, once it is there.
fn laid_out(folder: &Folder) -> PathBuf {
    let path = folder.path("teachers/model_teacher0.safetensors");
    super::support::until(|| folder.path("teachers/clients.json").exists());
    path
}

/// PyTorch's own file of a state dict: the server gets its weights under the task's card.
#[test]
fn pytorch_file() {
    let folder = Folder::new(1);
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(4),
        blocks: Some(vec![1, 2, 1]),
    };
    let spec = ModelSpec::new(&settings, 1, 8, 10).unwrap();
    let other = Model::new(&spec, Device::Cpu, &mut Seeds::new(3).stream("test", 0)).unwrap();
    let mut card = card();
    card.model = spec;
    weights::save(&folder.path("other.safetensors"), &other.state(), &card).unwrap();
    folder.retask(&folder.path("other.safetensors"), "1");
    let case = super::common::machine::checkout().join("tests/data/cases/gray");
    let bytes = std::fs::read(case.join("teacher.pt")).unwrap();
    let file = folder.file("teacher.pt", &bytes);
    let (host, token) = (folder.serve(&[]), folder.client("a"));

    let output = host.join(&token, &file, &["--no-wait"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("--label-counts"),
        "{}",
        said(&output)
    );
    let counts = ["--no-wait", "--label-counts", COUNTS];
    let output = host.join(&token, &file, &counts).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));

    let sent = tensors::read(&laid_out(&folder)).unwrap();
    let wanted = tensors::read(&case.join("teacher.safetensors")).unwrap();
    for (name, tensor) in &wanted.tensors {
        assert_eq!(sent.get(name).unwrap(), tensor, "{name}");
    }
    let card = weights::card(&sent.metadata).unwrap().unwrap();
    assert_eq!(
        card.label_counts,
        Some(vec![10, 20, 30, 0, 0, 0, 0, 0, 0, 5])
    );
    assert_eq!(card.classes, super::support::card().classes);
}

/// A file with a card whose values are of another float type is converted as well.
#[test]
fn other_float_type() {
    let folder = Folder::new(1);
    let state = model(4).state();
    let halved: Vec<(&str, Tensor)> = state
        .iter()
        .map(|(name, tensor)| match tensor.kind() {
            Kind::Float => (name, tensor.to_kind(Kind::Double)),
            _ => (name, tensor.shallow_clone()),
        })
        .collect();
    let pairs: Vec<(&str, &Tensor)> = halved
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    let file = folder.path("teacher.safetensors");
    tensors::write(&file, &pairs, &weights::metadata(&card()).unwrap()).unwrap();
    let (host, token) = (folder.serve(&[]), folder.client("a"));
    let output = host.join(&token, &file, &["--no-wait"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let exact = folder.path("exact.safetensors");
    weights::save(&exact, &state, &card()).unwrap();
    let (sent, exact) = (
        std::fs::read(laid_out(&folder)).unwrap(),
        std::fs::read(exact).unwrap(),
    );
    assert!(sent == exact);
}

/// What is not of the task is found before anything is sent.
#[test]
fn not_of_the_task() {
    let folder = Folder::new(1);
    let mut other = card();
    other.classes[2] = "cat".into();
    let file = folder.path("teacher.safetensors");
    weights::save(&file, &model(1).state(), &other).unwrap();
    let (host, token) = (folder.serve(&[]), folder.client("a"));
    let output = host.join(&token, &file, &["--no-wait"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("class 2 is `cat`"),
        "{}",
        said(&output)
    );
    let journal = std::fs::read_to_string(folder.path("journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 1, "{journal}");
}

/// Tokens do not travel in the open by mistake, and wrong ones end the work at once.
#[test]
fn tokens() {
    let folder = Folder::new(1);
    let file = folder.file("teacher.safetensors", teacher(1));
    let mut host = folder.serve(&[]);
    let output = host
        .join("fd_wrong", &file, &["--no-wait"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("serve client add"),
        "{}",
        said(&output)
    );
    assert!(!said(&output).contains("trying again"), "{}", said(&output));
    for url in [
        "http://server.example:8443",
        "http://10.0.0.1",
        "server.example",
    ] {
        host.url = url.into();
        let output = host
            .join("fd_right", &file, &["--no-wait"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("https://"), "{}", said(&output));
    }
}
