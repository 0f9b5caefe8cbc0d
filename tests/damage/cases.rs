//! One whole file of every kind that is read, and its reader.

use crate::common::datasets::{
    IDX_FILES, Pictures, cifar10_files, gzip, idx_files, load_cpu, pictures, settings, tar,
};
use fed_distill::Result;
use fed_distill::artifact::{json, tensors};
use fed_distill::config::{Request, compose as compose_request};
use fed_distill::data::DatasetKind;
use fed_distill::partition::{Part, Split};
use fed_distill::run::checkpoint::{Checkpoints, Identity};
use fed_distill::run::manifest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// A config file with every form of YAML that the tree uses.
const CONFIG: &[u8] = b"\
defaults:
  - teacher: mine
  - _self_

seed: 42
student: {epochs: 3, optimizer: {kind: adam, betas: [0.9, 0.99]}}
dataset:
  kind: mnist
  root: \"data/${seed}\"
";

/// What a reader made of a file.
pub enum Reading {
    Fine,
    Refused(String),
}

impl<T> From<Result<T>> for Reading {
    fn from(result: Result<T>) -> Self {
        match result {
            Ok(_) => Self::Fine,
            Err(error) => Self::Refused(error.to_string()),
        }
    }
}

/// One file of a set in which everything else is whole.
pub struct Case {
    pub name: &'static str,
    pub file: &'static str,
    pub contents: Vec<u8>,
    pub others: Vec<(&'static str, Vec<u8>)>,
    /// Reads what is in the folder.
    pub read: Box<dyn Fn(&Path) -> Reading>,
    pub text: bool,
    /// Whether every error must name the file; a split's may name the node instead.
    pub named: bool,
}

pub const OVERRIDES: [&str; 12] = [
    "seed=42",
    "+student=1_teacher_custom",
    "teacher.optimizer.lr=1e-3",
    "~dataset.root",
    "++student.class_weights=[1, 2, 3]",
    "student.model={kind: resnet18, width: 8, blocks: [1, 2]}",
    "dataset.root=${oc.env:HOME,'a b'}",
    "split.save_path='a\\'b'",
    "seed=range(0,10)",
    "seed=choice(1,2)",
    "dataset.size=${teacher.batch_size}",
    "initial.save_path=${now:%Y}",
];

pub fn compose(folder: Option<&Path>, overrides: &[String]) -> Result<()> {
    let request = Request {
        overrides: overrides.to_vec(),
        config_dir: folder.map(Path::to_path_buf),
        config_name: None,
    };
    compose_request(&request).map(drop)
}

fn case(
    name: &'static str,
    file: &'static str,
    contents: Vec<u8>,
    read: impl Fn(&Path) -> Reading + 'static,
) -> Case {
    Case {
        name,
        file,
        contents,
        others: Vec::new(),
        read: Box::new(read),
        text: false,
        named: true,
    }
}

pub fn all() -> Vec<Case> {
    let mut cases = texts();
    cases.extend(tensor_files());
    cases.extend(images());
    cases
}

fn texts() -> Vec<Case> {
    let text = |case: Case| Case { text: true, ..case };
    let project = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("config")
            .join(file);
        std::fs::read(path).unwrap()
    };
    let split: serde_json::Map<String, Value> = (0..4_u64)
        .map(|node| {
            let indices = |count: u64| {
                (0..count)
                    .map(|index| index * 4 + node)
                    .collect::<Vec<u64>>()
            };
            (
                format!("teacher{node}"),
                json!({"train": indices(50), "test": indices(12)}),
            )
        })
        .collect();
    let made = json!({
        "schema_version": 1, "stage": "split_data", "status": "done",
        "argv": ["split_data", "seed=1"],
        "overrides": ["seed=1"],
        "config": {"seed": 1, "split": {"num_nodes": 2}}, "seeds": {"seed": 1},
        "versions": {"fed_distill": "0.1.0", "libtorch": "2.11.0"},
        "device": "cpu", "threads": 2, "started": "2025-01-31T12:00:00Z",
        "ended": "2025-01-31T12:00:05Z",
        "inputs": [],
        "outputs": [{"role": "split", "path": "split.json", "bytes": 2,
            "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}],
        "facts": {"nodes": 2}, "error": null
    });
    let read_split = |root: &Path| -> Result<()> {
        let split = Split::from_json(json::read::<BTreeMap<String, Part>>(
            &root.join("split.json"),
        )?)?;
        split.check(200, 50)
    };
    vec![
        text(case("config", "config.yaml", CONFIG.to_vec(), |root| {
            compose(Some(root), &[]).into()
        }))
        .with("teacher/mine.yaml", b"epochs: 3\n".to_vec()),
        text(case(
            "config option",
            "experiment/demo.yaml",
            project("experiment/demo.yaml"),
            |root| compose(Some(root), &["+experiment=demo".into()]).into(),
        ))
        .with("config.yaml", project("config.yaml"))
        .with("dataset/digits.yaml", project("dataset/digits.yaml"))
        .with(
            "model/resnet_small.yaml",
            project("model/resnet_small.yaml"),
        )
        .unnamed(),
        text(case("split", "split.json", pretty(&split), move |root| {
            read_split(root).into()
        }))
        .unnamed(),
        text(case(
            "manifest",
            "split.manifest.json",
            pretty(&made),
            |root| manifest::existing(&root.join("split.manifest.json")).into(),
        )),
        text(case(
            "manifest to verify",
            "split.manifest.json",
            pretty(&made),
            |root| manifest::verify(&root.join("split.manifest.json")).into(),
        ))
        .with("split.json", b"{}".to_vec())
        .unnamed(),
    ]
}

impl Case {
    fn with(mut self, name: &'static str, contents: Vec<u8>) -> Self {
        self.others.push((name, contents));
        self
    }

    fn unnamed(mut self) -> Self {
        self.named = false;
        self
    }
}

fn identity() -> Identity {
    Identity {
        stage: "train_student".into(),
        version: "0.1.0".into(),
        config: json!({"seed": 1}),
        inputs: BTreeMap::from([("split".into(), ("split.json".into(), "44136fa3".into()))]),
        facts: BTreeMap::new(),
    }
}

/// The bytes of a file that `write` makes.
fn written(name: &str, write: impl Fn(&Path)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    std::fs::read(folder.path().join(name)).unwrap()
}

fn tensor_files() -> Vec<Case> {
    let (weight, count) = (
        Tensor::rand([4, 3, 3, 3], (Kind::Float, Device::Cpu)),
        Tensor::from(7_i64),
    );
    let list = [("conv.weight", &weight), ("bn.num_batches_tracked", &count)];
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let safetensors = written("a.safetensors", |folder| {
        tensors::write(&folder.join("a.safetensors"), &list, &metadata).unwrap();
    });
    let checkpoint = written("training.safetensors", |folder| {
        let checkpoints = Checkpoints::new(folder.to_path_buf(), identity());
        checkpoints
            .write(
                "training",
                &json!({"epoch": 3, "losses": [0.5, 0.25]}),
                &list,
            )
            .unwrap();
    });
    let pytorch = |name: &str| {
        std::fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/data/pytorch")
                .join(name),
        )
        .unwrap()
    };
    let state = |file: &'static str| {
        move |root: &Path| Reading::from(tensors::read_state(&root.join(file)))
    };
    vec![
        case(
            "safetensors",
            "a.safetensors",
            safetensors,
            state("a.safetensors"),
        ),
        case("checkpoint", "training.safetensors", checkpoint, |root| {
            Checkpoints::new(root.to_path_buf(), identity())
                .read::<Value>("training")
                .into()
        }),
        case("PyTorch", "a.pt", pytorch("state_dict.pt"), state("a.pt")),
        case("PyTorch, views", "a.pt", pytorch("views.pt"), state("a.pt")),
        case(
            "PyTorch, protocol 4",
            "a.pt",
            pytorch("protocol4.pt"),
            state("a.pt"),
        ),
    ]
}

/// A file that Python made.
fn made(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    std::fs::read(folder.join(name)).unwrap()
}

fn set(kind: DatasetKind) -> impl Fn(&Path) -> Reading {
    move |root| load_cpu(&settings(kind, root)).into()
}

pub fn images() -> Vec<Case> {
    let idx = idx_files(20, 10);
    let rest = |skip: usize| {
        let others = IDX_FILES.into_iter().zip(idx.clone()).enumerate();
        others
            .filter(move |(at, _)| *at != skip)
            .map(|(_, file)| file)
            .collect::<Vec<_>>()
    };
    let batches = cifar10_files();
    let Pictures {
        png,
        jpeg,
        tar: folder,
        others,
    } = pictures();
    let with = |case: Case, others: Vec<(&'static str, Vec<u8>)>| Case { others, ..case };
    use DatasetKind::{Cifar10, ImageFolder, Mnist};
    vec![
        with(
            case("IDX images", IDX_FILES[0], idx[0].clone(), set(Mnist)),
            rest(0),
        ),
        with(
            case("IDX labels", IDX_FILES[1], idx[1].clone(), set(Mnist)),
            rest(1),
        ),
        with(
            case(
                "IDX, gzip",
                "train-images-idx3-ubyte.gz",
                gzip(&idx[0]),
                set(Mnist),
            ),
            rest(0),
        ),
        with(
            case("CIFAR", batches[2].0, batches[2].1.clone(), set(Cifar10)),
            [&batches[..2], &batches[3..]].concat(),
        ),
        case(
            "CIFAR, tar",
            "cifar-10-binary.tar.gz",
            gzip(&tar(&batches)),
            set(Cifar10),
        )
        .unnamed(),
        case("CIFAR, pickle", "train", made("cifar/batch_python2"), {
            set(DatasetKind::Cifar100)
        })
        .with("test", made("cifar/batch_protocol2"))
        .with("meta", made("cifar/meta_python2")),
        case(
            "npz",
            "mnist.npz",
            made("archives/deflated.npz"),
            set(Mnist),
        ),
        case("zip", "set.zip", made("archives/set.zip"), set(ImageFolder)).unnamed(),
        case(
            "tar, xz",
            "set.tar.xz",
            made("archives/set.tar.xz"),
            set(ImageFolder),
        ),
        case(
            "tar, bzip2",
            "set.tar.bz2",
            made("archives/set.tar.bz2"),
            set(ImageFolder),
        ),
        case("tar", "set.tar", folder.clone(), set(ImageFolder)),
        case("tar, gzip", "set.tar.gz", gzip(&folder), set(ImageFolder)),
        case(
            "tar, zstd",
            "set.tar.zst",
            zstd::encode_all(folder.as_slice(), 1).unwrap(),
            set(ImageFolder),
        ),
        with(
            case("PNG", "train/b/1.png", png, set(ImageFolder)),
            others.clone(),
        ),
        with(
            case("JPEG", "train/b/1.jpg", jpeg, set(ImageFolder)),
            others,
        )
        .unnamed(),
    ]
}

fn pretty(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap()
}
