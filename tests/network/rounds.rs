//! Rounds with clients that are processes of their own: the bytes of one process, whoever is
//! killed, is late or sends nonsense.

use super::common::datasets::png;
use super::common::{Place, TINY};
use super::support::{Answer, Folder, Host, run, said, until};
use fed_distill::artifact::{hash, tensors};
use fed_distill::federated::{Kind, label};
use fed_distill::model::{Model, ModelSpec, StateDict};
use fed_distill::runtime::seed::Seeds;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;
use tch::{Device, Tensor};

pub const AVERAGE: [&str; 7] = [
    "split.num_nodes=3",
    "fed_avg.save_folder=fed",
    "fed_avg.rounds=3",
    "fed_avg.batch_size=16",
    "fed_avg.augment.crop=1",
    "fed_avg.optimizer.momentum=0.5",
    "fed_avg.statistics=average",
];

const DISTILL: [&str; 11] = [
    "split.num_nodes=4",
    "fed_md.save_folder=fed",
    "fed_md.rounds=2",
    "fed_md.public_samples=20",
    "fed_md.public_epochs=1",
    "fed_md.private_epochs=1",
    "fed_md.revisit_epochs=1",
    "fed_md.batch_size=16",
    "fed_md.augment.crop=1",
    "fed_md.optimizer.lr=0.01",
    "fed_md.models=[{kind: resnet18, width: 4, blocks: [1]}, linear]",
];

/// A federation of three clients, of whose split one process has the parts as well.
pub struct Federation {
    place: Place,
    pub folder: Folder,
    tokens: [String; 3],
    algorithm: &'static str,
    settings: Vec<&'static str>,
}

impl Federation {
    pub fn new(algorithm: &'static str, settings: &[&'static str], more: &[&str]) -> Self {
        let place = Place::new();
        place.ok("split_data", settings);
        let settings = [TINY, settings].concat();
        let arguments = ["--algorithm", algorithm, "--clients", "3"];
        let arguments = [&arguments, more, &settings[..]].concat();
        let folder = Folder::of(&place.path(""), &arguments);
        Self {
            tokens: ["a", "b", "c"].map(|name| folder.client(name)),
            place,
            folder,
            algorithm,
            settings,
        }
    }

    pub fn serve(&self, listen: &str) -> Host {
        let arguments = [&["--listen", listen], &self.settings[..]].concat();
        self.folder.start_in(&self.place.path(""), &arguments)
    }

    /// The folder of a client.
    fn client(&self, index: usize) -> PathBuf {
        self.folder.path(&format!("client{index}"))
    }

    pub fn join(&self, host: &Host, index: usize) -> Child {
        let place = (&*self.place.path(""), &*self.client(index));
        let token = &self.tokens[index];
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path(&format!("log{index}")));
        host.take_part(self.algorithm, token, place, &self.settings)
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap()
    }

    /// Waits for clients, which must succeed.
    pub fn joined(&self, clients: Vec<Child>) {
        for mut client in clients {
            let status = client.wait().unwrap();
            assert!(status.success(), "{}", self.logs());
        }
    }

    pub fn logs(&self) -> String {
        let read = |name: &str| {
            let text = std::fs::read_to_string(self.folder.path(name)).unwrap_or_default();
            format!("{name}:\n{text}")
        };
        ["log", "log0", "log1", "log2"].map(read).concat()
    }

    /// The number of training images of a part of the split.
    fn images(&self, index: usize) -> u64 {
        let split = std::fs::read_to_string(self.place.path("split.json")).unwrap();
        let split: Value = serde_json::from_str(&split).unwrap();
        let part = split[format!("teacher{index}")]["train"].as_array();
        part.unwrap().len() as u64
    }

    /// Waits until the server says this to a client.
    fn until_said(&self, host: &Host, index: usize, words: &str) {
        until(|| {
            let next = host.get(&self.tokens[index], "/v1/next").json();
            next["message"].as_str().unwrap().contains(words)
        });
    }

    fn same(&self, ours: PathBuf, theirs: &str) {
        let (ours, theirs) = (std::fs::read(ours), std::fs::read(self.place.path(theirs)));
        assert!(ours.unwrap() == theirs.unwrap(), "{}", self.logs());
    }

    fn metrics(&self) -> Value {
        let path = self
            .folder
            .path(&format!("{}/metrics.json", self.algorithm));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    pub fn is_done(&self, host: &Host) -> bool {
        host.get(&self.tokens[0], "/v1/next").json()["action"] == "done"
    }

    /// The number of lines of the server's journal.
    fn journal(&self) -> usize {
        let text = std::fs::read_to_string(self.folder.path("journal.jsonl"));
        text.unwrap_or_default().lines().count()
    }

    /// Takes three clients through all rounds. In the first, when two of them have answered, the
    /// server and one of these are killed and started again; the third begins after that. The
    /// server is killed at three more places of its journal.
    fn run_with_crashes(&self) {
        let host = self.serve("127.0.0.1:0");
        let mut first = self.join(&host, 0);
        let second = self.join(&host, 1);
        host.enrol(&self.tokens[2], self.images(2));
        self.until_said(&host, 1, "2 of 3 clients have answered");
        first.kill().unwrap();
        first.wait().unwrap();
        let listen = host.address.clone();
        host.crash();
        let mut host = self.serve(&listen);
        let clients = vec![self.join(&host, 0), second, self.join(&host, 2)];
        for more in [1, 3, 6] {
            let enough = self.journal() + more;
            until(|| self.journal() >= enough || self.is_done(&host));
            host.crash();
            host = self.serve(&listen);
        }
        self.joined(clients);
        until(|| self.is_done(&host));
        // The same command finds all done.
        self.joined(vec![self.join(&host, 0)]);
    }
}

/// The server is killed as soon as its journal has a new line, again and again.
#[test]
fn crash_at_each_step() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=1";
    let federation = Federation::new("fed_avg", &settings, &[]);
    federation.place.ok("fed_avg", &settings);
    let mut host = federation.serve("127.0.0.1:0");
    let listen = host.address.clone();
    let clients = [0, 1, 2].map(|index| federation.join(&host, index)).into();
    let mut crashes = 0;
    while !federation.is_done(&host) {
        let seen = federation.journal();
        until(|| federation.journal() > seen || federation.is_done(&host));
        host.crash();
        crashes += 1;
        host = federation.serve(&listen);
    }
    federation.joined(clients);
    // Enrolments, the question, answers and the end each have lines.
    assert!(crashes >= 4, "{crashes}");
    assert_eq!(
        tensors_of(federation.folder.path("fed_avg/global.safetensors")),
        tensors_of(federation.place.path("fed/global.safetensors")),
    );
    for file in ["metrics.json", "metrics.jsonl"] {
        let ours = federation.folder.path(&format!("fed_avg/{file}"));
        federation.same(ours, &format!("fed/{file}"));
    }
}

fn tensors_of(path: PathBuf) -> Vec<(String, Tensor)> {
    tensors::read(&path).unwrap().tensors
}

/// Batch norm's statistics that stay at the clients come from their own folders after a crash.
#[test]
fn averaging_gives_the_bytes_of_one_process() {
    for statistics in ["fed_avg.statistics=average", "fed_avg.statistics=local"] {
        let mut settings = AVERAGE;
        settings[6] = statistics;
        let federation = Federation::new("fed_avg", &settings, &[]);
        federation.place.ok("fed_avg", &settings);
        federation.run_with_crashes();
        let ours = federation.folder.path("fed_avg/global.safetensors");
        // The server does not know how many images of each class there are.
        assert_eq!(
            tensors_of(ours.clone()),
            tensors_of(federation.place.path("fed/global.safetensors")),
        );
        for file in ["metrics.json", "metrics.jsonl"] {
            let ours = federation.folder.path(&format!("fed_avg/{file}"));
            federation.same(ours, &format!("fed/{file}"));
        }
        for client in 0..3 {
            let fetched = federation.client(client).join("global.safetensors");
            assert!(std::fs::read(fetched).unwrap() == std::fs::read(&ours).unwrap());
        }
        let blobs = std::fs::read_dir(federation.folder.path("blobs")).unwrap();
        // The answers of the last round, what it handed out, and the result.
        assert!(blobs.count() <= 5);
    }
}

#[test]
fn distilling_gives_the_bytes_of_one_process() {
    let federation = Federation::new("fed_md", &DISTILL, &[]);
    federation.place.ok("fed_md", &DISTILL);
    federation.run_with_crashes();
    // Transfer learning is round 0, as in the metrics.
    let logs = federation.logs();
    assert!(
        logs.contains("round 0: the server has the answer"),
        "{logs}"
    );
    assert!(!logs.contains("round 3"), "{logs}");
    for file in ["metrics.json", "metrics.jsonl"] {
        federation.same(
            federation.folder.path(&format!("fed_md/{file}")),
            &format!("fed/{file}"),
        );
    }
    for client in 0..3 {
        let ours = federation.client(client).join("model.safetensors");
        federation.same(ours, &format!("fed/model_node{client}.safetensors"));
    }
}

/// A client that does not answer is left out when the host says so, and named; its answer then
/// comes too late. It takes part in the next round.
#[test]
fn late_client() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=2";
    let federation = Federation::new("fed_avg", &settings, &["--min-clients", "2"]);
    let admin = federation.folder.admin();
    let host = federation.serve("127.0.0.1:0");
    host.enrol(&federation.tokens[2], federation.images(2));
    let refused = host.send(&admin, "POST", "/v1/admin/close", &json!({}));
    assert_eq!(refused.status, 409, "{refused:?}");
    let clients = [0, 1].map(|index| federation.join(&host, index));
    federation.until_said(&host, 2, "train");
    until(|| {
        let closed = host.send(&admin, "POST", "/v1/admin/close", &json!({}));
        closed.status == 200
    });
    let at = |next: &Value| next["at"]["round"].as_u64();
    until(|| at(&host.get(&federation.tokens[2], "/v1/next").json()) == Some(1));
    let late = announce(&host, &federation.tokens[2], b"anything", 0);
    assert_eq!((late.status, late.code()), (409, "late".into()));
    assert!(
        federation.folder.log().contains("missing: c"),
        "{}",
        federation.logs()
    );
    let third = federation.join(&host, 2);
    let [first, second] = clients;
    federation.joined(vec![first, second, third]);
    let rounds = federation.metrics()["rounds"].clone();
    let nodes = |round: usize| rounds[round]["nodes"].as_array().unwrap().len();
    assert_eq!((nodes(0), nodes(1)), (2, 3));
    let page = String::from_utf8(host.get(&admin, "/").body).unwrap();
    assert!(page.contains("accuracy in each round"), "{page}");
}

/// Too few answers move the deadline once; then the server stops, saved. With more time it resumes
/// to the bytes of one process.
#[test]
fn deadline() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=1";
    let federation = Federation::new("fed_avg", &settings, &["--round-seconds", "1"]);
    federation.place.ok("fed_avg", &settings);
    let host = federation.serve("127.0.0.1:0");
    for index in 0..3 {
        host.enrol(&federation.tokens[index], federation.images(index));
    }
    until(|| host.get(&federation.tokens[0], "/v1/next").json()["action"] == "failed");
    let log = federation.folder.log();
    for words in [
        "waiting as long again",
        "0 answers at the deadline, and 3 needed",
        "a, b, c",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let mut client = federation.join(&host, 0);
    assert!(!client.wait().unwrap().success());
    let said = std::fs::read_to_string(federation.folder.path("log0")).unwrap();
    assert!(
        said.contains("could not finish") && said.contains("at the deadline"),
        "{said}"
    );
    host.crash();
    let path = federation.folder.path("task.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let more = text.replace("\"round_seconds\": 1,", "\"round_seconds\": 600,");
    assert_ne!(text, more);
    std::fs::write(&path, more).unwrap();
    let host = federation.serve("127.0.0.1:0");
    federation.joined([0, 1, 2].map(|index| federation.join(&host, index)).into());
    federation.same(
        federation.folder.path("fed_avg/metrics.json"),
        "fed/metrics.json",
    );
}

/// A client whose token is revoked is not waited for; the others still wait the least time.
#[test]
fn revoked_client() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=1";
    let more = ["--min-clients", "2", "--min-seconds", "3"];
    let federation = Federation::new("fed_avg", &settings, &more);
    let host = federation.serve("127.0.0.1:0");
    host.enrol(&federation.tokens[2], federation.images(2));
    let clients = [0, 1].map(|index| federation.join(&host, index));
    federation.until_said(&host, 2, "train");
    let revoked = run(
        "serve",
        &["client", "revoke", federation.folder.text(), "c"],
    );
    assert!(revoked.status.success(), "{}", said(&revoked));
    federation.joined(clients.into());
    let nodes = federation.metrics()["rounds"][0]["nodes"].clone();
    assert_eq!(nodes.as_array().unwrap().len(), 2, "{}", federation.logs());
    let journal = std::fs::read_to_string(federation.folder.path("journal.jsonl")).unwrap();
    let lines = journal
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    let find = |kind: &str| {
        lines
            .iter()
            .find(|line| line["event"]["kind"] == kind)
            .unwrap()
    };
    let closed: Timestamp = find("answered")["time"].as_str().unwrap().parse().unwrap();
    let asked = find("asked")["event"]["since"].as_i64().unwrap();
    assert!(closed.as_second() >= asked + 3, "{journal}");
}

/// Who has not called for longer than a lease is not asked.
#[test]
fn absent_client() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=1";
    let more = ["--min-clients", "2", "--lease-seconds", "2"];
    let federation = Federation::new("fed_avg", &settings, &more);
    let host = federation.serve("127.0.0.1:0");
    host.enrol(&federation.tokens[2], federation.images(2));
    std::thread::sleep(Duration::from_secs(4));
    federation.joined([0, 1].map(|index| federation.join(&host, index)).into());
    let nodes = federation.metrics()["rounds"][0]["nodes"].clone();
    assert_eq!(nodes.as_array().unwrap().len(), 2, "{}", federation.logs());
}

/// The server needs no time to know that a client is absent when it started after it: those that
/// are there are enough at the deadline, though the lease is longer.
#[test]
fn client_absent_since_the_start() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=1";
    let more = ["--min-clients", "2", "--round-seconds", "3"];
    let federation = Federation::new("fed_avg", &settings, &more);
    let host = federation.serve("127.0.0.1:0");
    host.enrol(&federation.tokens[2], federation.images(2));
    host.crash();
    let host = federation.serve("127.0.0.1:0");
    federation.joined([0, 1].map(|index| federation.join(&host, index)).into());
    let nodes = federation.metrics()["rounds"][0]["nodes"].clone();
    assert_eq!(nodes.as_array().unwrap().len(), 2, "{}", federation.logs());
}

/// A client that has answered this round of an earlier federation, on the same task, does not send
/// that answer to the next one.
#[test]
fn another_federation_of_the_task() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=2";
    let more = ["--min-clients", "2"];
    let earlier = Federation::new("fed_avg", &settings, &more);
    let host = earlier.serve("127.0.0.1:0");
    earlier.joined([0, 1, 2].map(|index| earlier.join(&host, index)).into());
    host.crash();
    let federation = Federation::new("fed_avg", &settings, &more);
    std::fs::rename(earlier.client(0), federation.client(0)).unwrap();
    let host = federation.serve("127.0.0.1:0");
    host.enrol(&federation.tokens[0], federation.images(0));
    let others = [1, 2].map(|index| federation.join(&host, index));
    // Without the first client in the first round, the second begins with another model.
    let admin = federation.folder.admin();
    let is_asked = |round: usize| {
        let next = host.get(&federation.tokens[0], "/v1/next").json();
        next["at"]["round"] == round
    };
    until(|| is_asked(0));
    until(|| {
        let closed = host.request(&admin, "POST", "/v1/admin/close", &[], b"");
        closed.status == 200
    });
    until(|| is_asked(1));
    let status = federation.join(&host, 0).wait().unwrap();
    let logs = federation.logs();
    assert_eq!(status.code(), Some(1), "{logs}");
    assert!(
        logs.contains("with other values than it did before"),
        "{logs}"
    );
    for mut other in others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

/// In one process no node trains on its own public images either.
#[test]
fn the_public_part_is_nobodys_own() {
    let mut settings = DISTILL.to_vec();
    settings[0] = "split.num_nodes=3";
    let federation = Federation::new("fed_md", &settings, &[]);
    let host = federation.serve("127.0.0.1:0");
    let mut client = federation.join(&host, 2);
    assert_eq!(client.wait().unwrap().code(), Some(2));
    let logs = federation.logs();
    assert!(
        logs.contains("part 2 of the split is the public one"),
        "{logs}"
    );
    let clients = host
        .get(&federation.folder.admin(), "/v1/admin/clients")
        .json();
    assert_eq!(clients[2]["images"], Value::Null, "{clients}");
}

/// Weights that do not fit the clients are refused before anybody trains.
#[test]
fn weights_that_do_not_fit() {
    let mut settings = DISTILL.to_vec();
    settings.push("fed_md.weights=[0,0,1]");
    let more = ["--min-clients", "2"];
    let federation = Federation::new("fed_md", &settings, &more);
    let host = federation.serve("127.0.0.1:0");
    for index in 0..3 {
        host.enrol(&federation.tokens[index], federation.images(index));
    }
    until(|| host.get(&federation.tokens[0], "/v1/next").json()["action"] == "failed");
    let log = federation.folder.log();
    assert!(log.contains("`fed_md.weights` does not fit"), "{log}");
    // One more client than weights could never be undone.
    let output = run(
        "serve",
        &["client", "add", federation.folder.text(), "fourth"],
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("no weight for another client"),
        "{}",
        said(&output)
    );
}

fn announce(host: &Host, token: &str, bytes: &[u8], round: usize) -> Answer {
    let body = json!({"kind": "answer", "bytes": bytes.len(), "sha256": hash::bytes(bytes),
        "at": {"round": round, "number": 0}});
    host.send(token, "POST", "/v1/uploads", &body)
}

/// The answer of client 2 with this report and model, to round `round`.
pub fn answer(round: usize, report: [f64; 4], model: &StateDict) -> Vec<u8> {
    let report = Tensor::from_slice(&report);
    let report = tensors::encode(&[("report", &report)], &label(round, Some(2), Kind::Report));
    let model: Vec<_> = model.iter().collect();
    let model = tensors::encode(&model, &label(round, Some(2), Kind::Model));
    let mut bytes = b"answer1\n".to_vec();
    for message in [report.unwrap(), model.unwrap()] {
        bytes.extend((message.len() as u64).to_le_bytes());
        bytes.extend(message);
    }
    bytes
}

/// Answers that cannot be right are refused with the reason, the run continues without them, and
/// its log names who sent them.
#[test]
fn bad_answers() {
    let mut settings = AVERAGE;
    settings[2] = "fed_avg.rounds=1";
    let federation = Federation::new("fed_avg", &settings, &["--min-clients", "2"]);
    let host = federation.serve("127.0.0.1:0");
    let (token, images) = (&federation.tokens[2], federation.images(2));
    host.enrol(token, images);
    // The first answers early: the round is open until the second has answered.
    let first = federation.join(&host, 0);
    host.enrol(&federation.tokens[1], federation.images(1));
    federation.until_said(&host, 2, "train");
    let model = |size: i64| {
        let task = host.get(token, "/v1/task").json();
        let settings = serde_json::from_value(task["task"]["models"][0].clone()).unwrap();
        let spec = ModelSpec::new(&settings, 1, size, 10).unwrap();
        let model = Model::new(&spec, Device::Cpu, &mut Seeds::new(1).stream("test", 0));
        model.unwrap().state().deep_clone()
    };
    let (good, few) = (model(8), [images as f64, 1.0, 0.5, 0.5]);
    let poisoned = |name: &str, value: f64| {
        let state = good.deep_clone();
        let mut tensor = state.get(name).unwrap().shallow_clone();
        tch::no_grad(|| drop(tensor.fill_(value)));
        state
    };
    let (name, _) = good.iter().next().unwrap();
    let short = StateDict::new(
        good.iter()
            .skip(1)
            .map(|(name, tensor)| (name.to_owned(), tensor.shallow_clone()))
            .collect(),
    );
    let variance = good.iter().find(|(name, _)| name.ends_with("running_var"));
    let mut cut = answer(0, few, &good);
    cut.pop();
    let cases = [
        (answer(0, few, &poisoned(name, f64::NAN)), "not finite"),
        (
            answer(0, few, &poisoned(variance.unwrap().0, -1.0)),
            "negative",
        ),
        (answer(0, few, &short), "is missing"),
        (answer(1, few, &good), "not the one that was asked for"),
        (
            answer(0, [1e9, 1.0, 0.5, 0.5], &good),
            "another number of images",
        ),
        (answer(0, [few[0], f64::NAN, 0.5, 0.5], &good), "report"),
        (answer(0, [few[0], -1.0, 0.5, 0.5], &good), "report"),
        (
            answer(0, [few[0], 1.0, 2.0, 0.5], &good),
            "report cannot be right",
        ),
        (cut, "ends before"),
        ([answer(0, few, &good), vec![0]].concat(), "1 bytes more"),
        (b"PK\x03\x04 and so on".to_vec(), "no answer"),
    ];
    for (bytes, words) in cases {
        let announced = announce(&host, token, &bytes, 0);
        assert_eq!(announced.status, 201, "{words}: {announced:?}");
        let place = announced.headers["location"].clone();
        assert_eq!(host.patch(token, &place, 0, &bytes).status, 202);
        let outcome = host.outcome(token, &place);
        assert_eq!(outcome["status"], "refused", "{words}: {outcome}");
        let reason = outcome["reason"].as_str().unwrap();
        assert!(reason.contains(words), "{words}: {reason}");
    }
    federation.joined(vec![first, federation.join(&host, 1)]);
    let nodes = federation.metrics()["rounds"][0]["nodes"].clone();
    assert_eq!(nodes.as_array().unwrap().len(), 2, "{}", federation.logs());
    assert!(
        federation.folder.log().contains("missing: c (refused)"),
        "{}",
        federation.logs()
    );
}

/// What does not belong together is told before anything is trained.
#[test]
fn mistakes() {
    let federation = Federation::new("fed_avg", &AVERAGE, &[]);
    let folder = federation.folder.text();
    let output = run(
        "serve",
        &["run", folder, "dataset=none", "fed_avg.eval_train=true"],
    );
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(
        said(&output).contains("needs the clients' images"),
        "{}",
        said(&output)
    );
    let host = federation.serve("127.0.0.1:0");
    let place = federation.place.path("");
    let folder = federation.client(0);
    let fails = |algorithm: &str, more: &[&str]| {
        let settings = [&federation.settings, more].concat();
        let join = host
            .take_part(
                algorithm,
                &federation.tokens[0],
                (&place, &folder),
                &settings,
            )
            .output()
            .unwrap();
        assert!(!join.status.success(), "{}", said(&join));
        said(&join)
    };
    for (algorithm, more, words) in [
        ("fed_md", vec![], "`join fed_avg`"),
        (
            "fed_avg",
            vec!["fed_avg.epochs=7"],
            "another than the task's",
        ),
        ("fed_avg", vec!["seed=7"], "another than the task's"),
        ("fed_avg", vec!["dataset.size=16"], "differ in image shape"),
        ("fed_avg", vec!["--part", "5"], "has no part 5"),
        (
            "fed_avg",
            vec!["dataset.mean=[0.1]", "dataset.std=[0.1]"],
            "normalisation",
        ),
    ] {
        let said = fails(algorithm, &more);
        assert!(
            said.contains(words) && said.contains("hint: "),
            "{words}: {said}"
        );
    }
    // The folder of a stage's run is none of a client's.
    let teachers = federation.place.path("teachers");
    std::fs::create_dir_all(&teachers).unwrap();
    std::fs::write(teachers.join("manifest_teacher0.json"), "{}").unwrap();
    let output = host
        .take_part(
            "fed_avg",
            &federation.tokens[0],
            (&place, &teachers),
            &federation.settings,
        )
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("is the folder of another run"));
    // What a folder of images leaves open, the task has.
    for class in ["0", "1"] {
        let own = place.join("own").join(class);
        std::fs::create_dir_all(&own).unwrap();
        for name in ["a.png", "b.png"] {
            std::fs::write(own.join(name), png(20, 20, 3, &[9; 1200])).unwrap();
        }
    }
    let own = [
        "dataset=image_folder",
        "dataset.root=own",
        "dataset.test_share=0.5",
    ];
    for (more, words) in [
        (
            ["--part", "1"],
            &[
                "of 1×8×8, 10 classes",
                "`--part` is for images that are split",
            ],
        ),
        (
            ["model=resnet34", "threads=1"],
            &["found: resnet34", "command line `model=resnet34`"],
        ),
    ] {
        let settings = [&own[..], &more].concat();
        let token = &federation.tokens[0];
        let mut join = host.take_part("fed_avg", token, (&place, &folder), &settings);
        let errors = said(&join.output().unwrap());
        assert!(words.iter().all(|words| errors.contains(words)), "{errors}");
    }
    // Which images are this client's is never guessed.
    let nameless = host
        .take_part("fed_avg", &federation.tokens[0], (&place, &folder), &[])
        .output()
        .unwrap();
    let errors = said(&nameless);
    assert_eq!(nameless.status.code(), Some(2), "{errors}");
    assert!(errors.contains("dataset.root=FOLDER"), "{errors}");
    assert!(!folder.exists());
    let teacher = federation.folder.file("teacher.safetensors", b"");
    let upload = host
        .join(&federation.tokens[0], &teacher, &[])
        .output()
        .unwrap();
    assert!(
        said(&upload).contains("`join fed_avg`"),
        "{}",
        said(&upload)
    );
}
