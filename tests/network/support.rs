//! A server in a folder of its own, requests to it, and teachers to send.

use fed_distill::artifact::hash;
use fed_distill::data::Normalisation;
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::run::weights::{self, Card};
use fed_distill::runtime::seed::Seeds;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tch::Device;
use tempfile::TempDir;

/// How long anything may take on a busy machine before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A residual network of one narrow block on 8×8 images: 60 kB with batch norm.
pub fn spec() -> ModelSpec {
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(24),
        blocks: Some(vec![1]),
    };
    ModelSpec::new(&settings, 1, 8, 10).unwrap()
}

pub fn model(seed: u64) -> Model {
    Model::new(
        &spec(),
        Device::Cpu,
        &mut Seeds::new(seed).stream("test", 0),
    )
    .unwrap()
}

/// The card of a teacher of 100 images, ten a class.
pub fn card() -> Card {
    let card = json!({
        "model": spec(), "dataset": "digits", "dataset_fingerprint": "f",
        "classes": (0..10).map(|class| class.to_string()).collect::<Vec<_>>(),
        "normalisation": Normalisation { mean: vec![0.3], std: vec![0.4] },
        "label_counts": vec![10; 10],
    });
    let text = BTreeMap::from([("fed_distill".to_owned(), card.to_string())]);
    weights::card(&text).unwrap().unwrap()
}

/// The bytes of a good teacher.
pub fn teacher(seed: u64) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    weights::save(&path, &model(seed).state(), &card()).unwrap();
    std::fs::read(path).unwrap()
}

/// Runs a binary to its end.
pub fn run(binary: &str, arguments: &[&str]) -> Output {
    command(binary).args(arguments).output().unwrap()
}

pub fn command(binary: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin(binary));
    for name in [
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(name);
    }
    command.env("FED_DISTILL_LOG", "info");
    crate::common::signals::heard(&mut command);
    command
}

/// The folder of a server.
pub struct Folder(TempDir);

impl Folder {
    /// A folder whose task waits for `clients` teachers like [`teacher`].
    pub fn new(clients: usize) -> Self {
        Self::with(&["--clients", &clients.to_string()])
    }

    /// The same with other arguments for `serve task`.
    pub fn with(arguments: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let first = folder.file("first.safetensors", teacher(0));
        folder.task(&first, arguments);
        folder
    }

    /// A folder whose task these arguments describe; paths are those of `place`.
    pub fn of(place: &Path, arguments: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let mut serve = command("serve");
        serve.args(["task", folder.text()]).args(arguments);
        let output = serve.current_dir(place).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        folder
    }

    /// Starts a server whose paths are those of `place`.
    pub fn start_in(&self, place: &Path, more: &[&str]) -> Host {
        let mut serve = command("serve");
        serve.current_dir(place);
        self.start_with(serve, more)
    }

    /// Gives it the task of another teacher.
    pub fn retask(&self, from: &Path, clients: &str) {
        self.task(from, &["--overwrite", "--clients", clients]);
    }

    fn task(&self, from: &Path, arguments: &[&str]) {
        let from = ["task", self.text(), "--from", from.to_str().unwrap()];
        let output = run("serve", &[&from, arguments].concat());
        assert!(output.status.success(), "{}", said(&output));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The token of a new client.
    pub fn client(&self, name: &str) -> String {
        self.token(&["client", "add", self.text(), name])
    }

    /// The token of a new host.
    pub fn admin(&self) -> String {
        self.token(&["client", "add", self.text(), "host", "--admin"])
    }

    fn token(&self, arguments: &[&str]) -> String {
        let output = run("serve", arguments);
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Starts a server that only collects.
    pub fn serve(&self, more: &[&str]) -> Host {
        let collect = [&["--collect-only"], more].concat();
        self.start(&collect)
    }

    pub fn start(&self, more: &[&str]) -> Host {
        self.start_with(command("serve"), more)
    }

    /// What a server says that only collects and ends at once; its exit code.
    pub fn refused(&self) -> (Option<i32>, String) {
        let listen = ["--listen", "127.0.0.1:0"];
        let collect = ["run", self.text(), "--collect-only"];
        let output = run("serve", &[&collect[..], &listen].concat());
        (output.status.code(), said(&output))
    }

    /// Starts a server whose files may have so many blocks of 512 bytes, as on a disk that is full.
    pub fn serve_limited(&self, blocks: u64) -> Host {
        let mut shell = Command::new("sh");
        let serve = assert_cmd::cargo::cargo_bin("serve");
        let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script]).arg(serve);
        self.start_with(shell, &["--collect-only"])
    }

    /// Starts a server as a script does in the background: it ignores Ctrl-C.
    pub fn start_in_background(&self, more: &[&str]) -> Host {
        let mut shell = Command::new("sh");
        let script = "trap '' INT; exec \"$0\" \"$@\"";
        shell
            .args(["-c", script])
            .arg(assert_cmd::cargo::cargo_bin("serve"));
        self.start_with(shell, more)
    }

    fn start_with(&self, mut serve: Command, more: &[&str]) -> Host {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("log"));
        serve.args(["run", self.text()]).args(more);
        if !more.contains(&"--listen") {
            serve.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = serve
            .stdout(Stdio::piped())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ");
        let url = url
            .unwrap_or_else(|| panic!("{line}\n{}", self.log()))
            .to_owned();
        let address = url.split("//").nth(1).unwrap().to_owned();
        Host {
            child,
            url,
            address,
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// What a process printed.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// A server that runs; it is killed in the end.
pub struct Host {
    pub child: Child,
    pub url: String,
    pub address: String,
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn offset(&self) -> u64 {
        self.headers["upload-offset"].parse().unwrap()
    }
}

impl Host {
    /// Kills it as a power cut would, as far as a process can be.
    pub fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends these bytes, and returns what comes back until the server closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    pub fn request(
        &self,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Answer {
        let mut request = head(token, method, path, headers).into_bytes();
        request.extend(body);
        answer(&self.raw(&request)).expect("an answer")
    }

    pub fn get(&self, token: &str, path: &str) -> Answer {
        self.request(token, "GET", path, &[], b"")
    }

    pub fn send(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let length = ("Content-Length", body.len().to_string());
        self.request(token, method, path, &[length], body.as_bytes())
    }

    /// Enrols with so many images.
    pub fn enrol(&self, token: &str, images: u64) -> Answer {
        let task = self.get(token, "/v1/task").json()["fingerprint"].clone();
        let body = json!({"images": images, "task": task});
        self.send(token, "PUT", "/v1/clients/me", &body)
    }

    /// Announces an upload.
    pub fn announce(&self, token: &str, bytes: &[u8]) -> Answer {
        let body = json!({"kind": "teacher", "bytes": bytes.len(), "sha256": hash::bytes(bytes)});
        self.send(token, "POST", "/v1/uploads", &body)
    }

    /// Announces an upload that is new; its path.
    pub fn open(&self, token: &str, bytes: &[u8]) -> String {
        let answer = self.announce(token, bytes);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.headers["location"].clone()
    }

    pub fn patch(&self, token: &str, place: &str, offset: u64, bytes: &[u8]) -> Answer {
        let headers = piece(offset, bytes.len());
        self.request(token, "PATCH", place, &headers, bytes)
    }

    pub fn offset(&self, token: &str, place: &str) -> u64 {
        let answer = self.request(token, "HEAD", place, &[], b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.offset()
    }

    /// Waits until an upload has so many bytes: a broken connection's last ones may be on their
    /// way.
    pub fn until_offset(&self, token: &str, place: &str, offset: u64) {
        until(|| self.offset(token, place) == offset);
    }

    /// Waits until an upload is checked; what became of it.
    pub fn outcome(&self, token: &str, place: &str) -> Value {
        let mut shown = Value::Null;
        until(|| {
            shown = self.get(token, place).json();
            shown["status"] != "checking"
        });
        shown
    }

    /// Sends a whole file that is new to the server; what became of it.
    pub fn upload(&self, token: &str, bytes: &[u8]) -> Value {
        let place = self.open(token, bytes);
        let answer = self.patch(token, &place, 0, bytes);
        assert_eq!(answer.status, 202, "{answer:?}");
        self.outcome(token, &place)
    }

    /// The command `join` with a token, to take part in rounds; paths are those of `place`.
    pub fn take_part(
        &self,
        algorithm: &str,
        token: &str,
        (place, folder): (&Path, &Path),
        more: &[&str],
    ) -> Command {
        let mut join = command("join");
        join.args([algorithm, &self.url, "--folder", folder.to_str().unwrap()])
            .args(["--retry-seconds", "0.02"])
            .args(more)
            .env("FED_DISTILL_TOKEN", token)
            .current_dir(place);
        join
    }

    /// The command `join upload` with a token.
    pub fn join(&self, token: &str, teacher: &Path, more: &[&str]) -> Command {
        let mut join = command("join");
        join.args(["upload", &self.url, teacher.to_str().unwrap()])
            .args(["--retry-seconds", "0.02"])
            .args(more)
            .env("FED_DISTILL_TOKEN", token)
            .current_dir(teacher.parent().unwrap());
        join
    }

    /// The command `join fetch` with a token.
    pub fn fetch(&self, token: &str, more: &[&str]) -> Command {
        let mut join = command("join");
        join.args(["fetch", &self.url, "--retry-seconds", "0.02"])
            .args(more)
            .env("FED_DISTILL_TOKEN", token);
        join
    }
}

/// The headers of a piece.
pub fn piece(offset: u64, length: usize) -> [(&'static str, String); 3] {
    [
        ("Content-Type", "application/offset+octet-stream".into()),
        ("Upload-Offset", offset.to_string()),
        ("Content-Length", length.to_string()),
    ]
}

/// The head of a request, after which the server closes the connection.
pub fn head(token: &str, method: &str, path: &str, headers: &[(&str, String)]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    text += &format!("Authorization: Bearer {token}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// Parses an answer; `None` where there is none.
pub fn answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Answer {
        status,
        headers: headers.collect(),
        body: bytes[end + 4..].to_vec(),
    })
}

/// Waits until something is so.
pub fn until(mut so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !so() {
        assert!(start.elapsed() < PATIENCE, "it took too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}
