//! One whole file of every kind that is read, and its reader.

use super::support::{IDX_FILES, encode, gzip, idx, idx_files, load_cpu, noise, png, settings, tar};
use fed_distill::artifact::checkpoint::{Checkpoints, Identity};
use fed_distill::artifact::{json, manifest, tensors};
use fed_distill::config::{Request, compose as compose_request};
use fed_distill::data::DatasetKind;
use fed_distill::model::{Model, ModelSettings, ModelSpec, StateDict};
use fed_distill::partition::{Part, Split};
use fed_distill::runtime::seed::Seeds;
use fed_distill::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Kind, Tensor};

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

fn case(name: &'static str, file: &'static str, contents: Vec<u8>, read: impl Fn(&Path) -> Reading + 'static) -> Case {
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
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config").join(file);
        std::fs::read(path).unwrap()
    };
    let split: serde_json::Map<String, Value> = (0..4_u64)
        .map(|node| {
            let indices = |count: u64| (0..count).map(|index| index * 4 + node).collect::<Vec<u64>>();
            (
                format!("teacher{node}"),
                json!({"train": indices(50), "test": indices(12)}),
            )
        })
        .collect();
    let made = json!({
        "schema_version": 1, "stage": "split_data", "status": "done", "argv": ["split_data", "seed=1"], "overrides": ["seed=1"],
        "config": {"seed": 1, "split": {"num_nodes": 2}}, "seeds": {"seed": 1}, "versions": {"fed_distill": "0.1.0", "libtorch": "2.11.0"},
        "device": "cpu", "threads": 2, "started": "2025-01-31T12:00:00Z", "ended": "2025-01-31T12:00:05Z", "inputs": [],
        "outputs": [{"role": "split", "path": "split.json", "bytes": 2, "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}],
        "facts": {"nodes": 2}, "error": null
    });
    let read_split = |root: &Path| -> Result<()> {
        let split = Split::from_json(json::read::<BTreeMap<String, Part>>(&root.join("split.json"))?)?;
        split.check(200, 50)
    };
    vec![
        text(case("config", "config.yaml", b"defaults:\n  - teacher: mine\n  - _self_\n\nseed: 42\nstudent: {epochs: 3, optimizer: {lr: 0.1, betas: [0.9, 0.99]}}\ndataset:\n  root: \"data/${seed}\"\n".to_vec(), |root| {
            compose(Some(root), &[]).into()
        }))
        .with("teacher/mine.yaml", b"epochs: 3\n".to_vec()),
        text(case("config option", "experiment/demo.yaml", project("experiment/demo.yaml"), |root| {
            compose(Some(root), &["+experiment=demo".into()]).into()
        }))
        .with("config.yaml", project("config.yaml"))
        .with("dataset/digits.yaml", project("dataset/digits.yaml"))
        .with("model/resnet_small.yaml", project("model/resnet_small.yaml"))
        .unnamed(),
        text(case("split", "split.json", serde_json::to_vec_pretty(&split).unwrap(), move |root| read_split(root).into())).unnamed(),
        text(case("manifest", "split.manifest.json", serde_json::to_vec_pretty(&made).unwrap(), |root| {
            manifest::existing(&root.join("split.manifest.json")).into()
        })),
        text(case("manifest to verify", "split.manifest.json", serde_json::to_vec_pretty(&made).unwrap(), |root| {
            manifest::verify(&root.join("split.manifest.json")).into()
        }))
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
            .write("training", &json!({"epoch": 3, "losses": [0.5, 0.25]}), &list)
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
    let state = |file: &'static str| move |root: &Path| Reading::from(tensors::read_state(&root.join(file)));
    vec![
        case("safetensors", "a.safetensors", safetensors, state("a.safetensors")),
        case("checkpoint", "training.safetensors", checkpoint, |root| {
            Checkpoints::new(root.to_path_buf(), identity())
                .read::<Value>("training")
                .into()
        }),
        case("PyTorch", "a.pt", pytorch("state_dict.pt"), state("a.pt")),
        case("PyTorch, views", "a.pt", pytorch("views.pt"), state("a.pt")),
        case("PyTorch, protocol 4", "a.pt", pytorch("protocol4.pt"), state("a.pt")),
    ]
}

fn set(kind: DatasetKind) -> impl Fn(&Path) -> Reading {
    move |root| load_cpu(&settings(kind, root)).into()
}

fn images() -> Vec<Case> {
    let idx = idx_files(20, 10);
    let rest = |skip: usize| {
        let others = IDX_FILES.into_iter().zip(idx.clone()).enumerate();
        others
            .filter(move |(at, _)| *at != skip)
            .map(|(_, file)| file)
            .collect::<Vec<_>>()
    };
    let record = |label: u8| [vec![label], noise(3072, label.into())].concat();
    let names = [
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
        "test_batch.bin",
    ];
    let batches: Vec<(&'static str, Vec<u8>)> = names.into_iter().zip((0..6).map(record)).collect();
    let (png, jpeg) = (
        png(9, 9, 3, &noise(243, 1)),
        encode(9, 9, 3, &noise(243, 2), image::ImageFormat::Jpeg),
    );
    let folder = tar(&[
        ("train/a/1.png", png.clone()),
        ("train/b/1.jpg", jpeg.clone()),
        ("test/a/1.png", png.clone()),
    ]);
    let pictures = vec![("train/a/1.png", png.clone()), ("test/a/1.png", png.clone())];
    let with = |case: Case, others: Vec<(&'static str, Vec<u8>)>| Case { others, ..case };
    use DatasetKind::{Cifar10, ImageFolder, Mnist};
    vec![
        with(case("IDX images", IDX_FILES[0], idx[0].clone(), set(Mnist)), rest(0)),
        with(case("IDX labels", IDX_FILES[1], idx[1].clone(), set(Mnist)), rest(1)),
        with(
            case("IDX, gzip", "train-images-idx3-ubyte.gz", gzip(&idx[0]), set(Mnist)),
            rest(0),
        ),
        with(
            case("CIFAR", names[2], batches[2].1.clone(), set(Cifar10)),
            [&batches[..2], &batches[3..]].concat(),
        ),
        case(
            "CIFAR, tar",
            "cifar-10-binary.tar.gz",
            gzip(&tar(&batches)),
            set(Cifar10),
        )
        .unnamed(),
        case("tar", "set.tar", folder.clone(), set(ImageFolder)),
        case("tar, gzip", "set.tar.gz", gzip(&folder), set(ImageFolder)),
        case(
            "tar, zstd",
            "set.tar.zst",
            zstd::encode_all(folder.as_slice(), 1).unwrap(),
            set(ImageFolder),
        ),
        with(case("PNG", "train/b/1.png", png, set(ImageFolder)), pictures.clone()),
        with(case("JPEG", "train/b/1.jpg", jpeg, set(ImageFolder)), pictures).unnamed(),
    ]
}

/// Archives that decompress to far more than they are, or want to write outside.
pub fn bombs() -> Vec<(Case, Vec<u8>, &'static str)> {
    let zeros = |count: usize| vec![0_u8; count];
    let images = || images().into_iter();
    let take = |name: &str| images().find(|case| case.name == name).unwrap();
    let [train, ..] = idx_files(20, 10);
    let png = png(9, 9, 3, &noise(243, 1));
    let escaping = |name: &'static str| {
        tar(&[
            ("train/a/1.png", png.clone()),
            (name, png.clone()),
            ("test/a/1.png", png.clone()),
        ])
    };
    // The size field of the first entry says 8 GiB.
    let mut huge = tar(&[("train/a/1.png", png.clone())]);
    huge[124..136].copy_from_slice(b"77777777777\0");
    let sum: u32 = huge[..512]
        .iter()
        .enumerate()
        .map(|(at, &byte)| u32::from(if (148..156).contains(&at) { b' ' } else { byte }))
        .sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut wide = encode(4096, 4096, 1, &zeros(4096 * 4096), image::ImageFormat::Png);
    // Width and height of the header say 65,536.
    wide[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
    vec![
        (
            take("IDX, gzip"),
            gzip(&[train, zeros(300 << 20)].concat()),
            "more behind the images than the header says",
        ),
        (
            take("IDX, gzip"),
            gzip(&idx(&[4_000_000_000, 12, 12], &zeros(64 << 20))),
            "four billion images",
        ),
        (take("CIFAR, tar"), gzip(&zeros(512 << 20)), "half a gigabyte of zeros"),
        (
            take("tar, zstd"),
            zstd::encode_all(zeros(512 << 20).as_slice(), 1).unwrap(),
            "zeros for an archive",
        ),
        (
            take("tar, gzip"),
            gzip(&tar(&[("train/a/1.png", zeros(200 << 20))])),
            "an image of 200 MiB",
        ),
        (take("tar"), huge, "an entry of 8 GiB"),
        (take("PNG"), wide, "an image of 65,536 pixels a side"),
        (
            take("PNG"),
            encode(4096, 4096, 3, &zeros(3 * 4096 * 4096), image::ImageFormat::Png),
            "one image much larger than the others",
        ),
        (take("tar"), escaping("../escaped.png"), "a name that climbs"),
        (take("tar"), escaping("/tmp/escaped.png"), "an absolute name"),
        (
            take("tar"),
            escaping("train/../../../escaped.png"),
            "a name that climbs later",
        ),
    ]
}

/// Files that are whole, with tensors that no model can take.
pub fn weights() {
    let spec = ModelSpec::new(
        &ModelSettings {
            width: Some(4),
            blocks: Some(vec![1]),
            ..ModelSettings::default()
        },
        1,
        8,
        10,
    )
    .unwrap();
    let model = Model::new(&spec, Device::Cpu, &mut Seeds::new(1).stream("test", 0)).unwrap();
    type Change = fn(&Tensor) -> Tensor;
    let changes: [(&str, Change); 6] = [
        ("one NaN", |tensor| tensor + Tensor::full_like(tensor, f64::NAN)),
        ("infinite", |tensor| tensor + Tensor::full_like(tensor, f64::INFINITY)),
        ("another shape", |tensor| tensor.unsqueeze(0)),
        ("fewer values", |tensor| tensor.flatten(0, -1).narrow(0, 0, 1)),
        ("integers", |tensor| tensor.to_kind(Kind::Int)),
        ("nothing", |_| Tensor::zeros([0], (Kind::Float, Device::Cpu))),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let state = model.state();
    let mut tried = 0;
    for (at, (name, _)) in state
        .iter()
        .enumerate()
        .filter(|(_, (name, _))| !name.ends_with("num_batches_tracked"))
    {
        for (what, change) in changes {
            let changed = |(index, (name, tensor)): (usize, (&str, &Tensor))| {
                (
                    name.to_owned(),
                    if index == at {
                        change(tensor)
                    } else {
                        tensor.shallow_clone()
                    },
                )
            };
            let list: Vec<(String, Tensor)> = state.iter().enumerate().map(changed).collect();
            let named: Vec<(&str, &Tensor)> = list.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            tensors::write(&path, &named, &BTreeMap::new()).unwrap();
            let (read, _) = tensors::read_state(&path).unwrap();
            let error: Error = Model::from_state(&spec, &read, Device::Cpu).expect_err(what);
            assert!(error.to_string().contains(name), "{what} of {name}: {error}");
            tried += 1;
        }
    }
    assert!(tried > 50, "{tried}");
    let missing = StateDict::new(Vec::new());
    assert!(Model::from_state(&spec, &missing, Device::Cpu).is_err());
}
