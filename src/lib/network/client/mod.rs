//! Calls a server: asks for the task, enrols, sends an upload from the offset that the server has,
//! waits, and fetches the result. Whatever fails on the way is tried again, except what cannot get
//! better: a certificate that does not hold, a token that is refused, an upload that is refused.

mod trouble;

use super::routes::{Enrol, Next};
use super::server::TlsFiles;
use super::task::Task;
use super::uploads::{Announce, LATE, Shown};
use crate::artifact::fault::explain;
use crate::artifact::{atomic, hash};
use crate::error::{Error, Result};
use crate::federated::At;
use crate::runtime::{Progress, interrupt};
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Take, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use trouble::{LOOK, Patience, Trouble, interrupt_or_sleep, refusal, trouble};
use ureq::http::{Method, Request, Response};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, SendBody};

/// How long the server holds a question for news, in seconds.
const NEWS: u64 = 25;
/// Longest JSON of an answer, in bytes.
const MOST_JSON: u64 = 16 << 20;
/// Bytes between two looks at whether to stop.
const CHUNK: usize = 64 << 10;

/// Says which server is called, and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Such as `https://server.example:8443`.
    pub server: String,
    pub token: String,
    /// Certificates of which the server must show one, in place of the public authorities'.
    pub authority: Option<PathBuf>,
    /// This client's own certificate, for servers that ask for one.
    pub identity: Option<TlsFiles>,
    /// Speaks plain HTTP with other machines.
    pub insecure: bool,
    /// The first wait after a failure; each further one is twice as long, up to a minute.
    pub first_wait: Duration,
    /// How long a server that was reached before is tried again.
    pub patience: Duration,
}

/// Calls one server with one token.
pub struct Remote {
    agent: ureq::Agent,
    settings: Settings,
    /// Turns true with the first answer.
    reached: Cell<bool>,
}

impl Remote {
    /// Prepares to call a server.
    ///
    /// # Errors
    /// Fails for an address that is none, and certificates that cannot be read (usage).
    pub fn new(settings: Settings) -> Result<Self> {
        let server = settings.server.trim_end_matches('/').to_owned();
        if !server.starts_with("https://") && !server.starts_with("http://") {
            return Err(Error::usage("the server's address is not complete")
                .note("found", settings.server)
                .hint("give it as https://server.example:8443"));
        }
        if let Some(rest) = server.strip_prefix("http://")
            && !settings.insecure
            && !is_own(rest)
        {
            return Err(Error::usage(
                "without TLS, the token and the weights could be read on the way",
            )
            .note("found", settings.server)
            .hint("give the address with https://")
            .hint("through a tunnel that keeps others out: `--insecure`"));
        }
        let mut tls = TlsConfig::builder();
        if let Some(path) = &settings.authority {
            let certificates = certificates(path)?;
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates));
        }
        if let Some(files) = &settings.identity {
            let (chain, (_, key)) = (certificates(&files.certificate)?, pem(&files.key)?);
            let key = key.ok_or_else(|| {
                Error::usage(format!("`{}` holds no private key", files.key.display()))
            })?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .timeout_per_write(Some(Duration::from_secs(60)))
            // The server closes a connection that says nothing for ten seconds.
            .max_idle_age(Duration::from_secs(5))
            .build()
            .into();
        Ok(Self {
            agent,
            settings: Settings { server, ..settings },
            reached: Cell::new(false),
        })
    }

    /// Returns the server's task and its fingerprint.
    ///
    /// # Errors
    /// Fails when the server cannot be reached for too long, and when it refuses the token.
    pub fn task(&self) -> Result<(Task, String)> {
        let (task, fingerprint, _) = self.task_and_node()?;
        Ok((task, fingerprint))
    }

    /// Returns the server's task, its fingerprint, and this client's number in its rounds.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does.
    pub fn task_and_node(&self) -> Result<(Task, String, Option<usize>)> {
        #[derive(serde::Deserialize)]
        struct Answer {
            fingerprint: String,
            task: Task,
            #[serde(default)]
            node: Option<usize>,
        }
        let answer: Answer = self.ask(Method::GET, "/v1/task", None)?;
        answer.task.check().map_err(Error::into_failed)?;
        Ok((answer.task, answer.fingerprint, answer.node))
    }

    /// Enrols with a number of training images, for the task with this fingerprint.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does, and when the server does not take the client.
    pub fn enrol(&self, images: u64, fingerprint: &str) -> Result<()> {
        let enrol = Enrol {
            images,
            task: fingerprint.to_owned(),
        };
        let _: serde_json::Value = self.ask(Method::PUT, "/v1/clients/me", Some(json(&enrol)?))?;
        Ok(())
    }

    /// Sends the file at `path`, from where an earlier attempt ended, and returns once the server
    /// has accepted it.
    ///
    /// # Errors
    /// Fails when the server refuses the file, and says why; as [`Remote::task`] does; and for a
    /// file that cannot be read.
    pub fn send(&self, path: &Path) -> Result<()> {
        match self.upload(path, "teacher", None)? {
            true => Ok(()),
            false => Err(Error::failed("the server takes no more uploads")),
        }
    }

    /// Sends the file at `path` as the answer to an exchange, as [`Remote::send`] does. Returns
    /// false if the server does not wait for it any more.
    ///
    /// # Errors
    /// Fails as [`Remote::send`] does.
    pub fn answer(&self, path: &Path, at: At) -> Result<bool> {
        self.upload(path, "answer", Some(at))
    }

    /// Asks what to do next: at once, or when there is `news`.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does.
    pub fn next(&self, news: bool) -> Result<Next> {
        let wait = if news { NEWS } else { 0 };
        self.ask(Method::GET, &format!("/v1/next?wait={wait}"), None)
    }

    /// Returns the error for a server whose work failed.
    pub fn failed(&self, next: Next) -> Error {
        Error::failed("the server could not finish its work")
            .note("reason", next.message)
            .hint("once its host has started it again, the same command goes on")
    }

    fn upload(&self, path: &Path, kind: &str, at: Option<At>) -> Result<bool> {
        let (bytes, sha256) = hash::file(path)?;
        let announce = Announce {
            kind: kind.into(),
            at,
            bytes,
            sha256,
        };
        let announce = json(&announce)?;
        let mut patience = Patience::new(&self.settings);
        let mut told = 0;
        loop {
            // An upload that the server has lost is announced again; one that it has is found.
            let attempt = self
                .call(Method::POST, "/v1/uploads", Some(announce.clone()))
                .and_then(|response| self.decoded::<Shown>(response))
                .and_then(|shown| {
                    patience.progress();
                    self.continue_upload(path, shown, &mut told, &mut patience)
                });
            match attempt {
                Ok(()) => return Ok(true),
                Err(Trouble::Late(_)) => return Ok(false),
                Err(trouble) => patience.pause(trouble, self)?,
            }
        }
    }

    /// Sends the bytes that an upload lacks, and waits until it is checked.
    fn continue_upload(
        &self,
        path: &Path,
        mut shown: Shown,
        told: &mut u64,
        patience: &mut Patience,
    ) -> Result<(), Trouble> {
        let place = format!("/v1/uploads/{}", shown.id);
        loop {
            match shown.status.as_str() {
                "accepted" => return Ok(()),
                "refused" if shown.reason.as_deref() == Some(LATE) => {
                    return Err(Trouble::Late(LATE.into()));
                }
                "refused" => {
                    let reason = shown.reason.unwrap_or_default();
                    return Err(Error::failed("the server refused the upload")
                        .note("reason", reason.replace('\n', "\n    "))
                        .note("file", path.display().to_string())
                        .into());
                }
                "open" => {
                    match shown.offset {
                        0 => tracing::info!("sending {} bytes", shown.bytes),
                        offset if *told == 0 => tracing::info!("going on after {offset} bytes"),
                        _ => {}
                    }
                    *told = shown.offset;
                    self.patch(path, &place, &shown)?;
                    patience.progress();
                }
                // Being checked.
                _ => interrupt_or_sleep(Duration::from_millis(200))?,
            }
            shown = self.decoded(self.call(Method::GET, &place, None)?)?;
        }
    }

    /// Sends the rest of a file from an offset on.
    fn patch(&self, path: &Path, place: &str, shown: &Shown) -> Result<(), Trouble> {
        let broken = |error| Trouble::Final(explain("read", path, error));
        let mut file = File::open(path).map_err(broken)?;
        file.seek(SeekFrom::Start(shown.offset)).map_err(broken)?;
        let rest = shown.bytes.saturating_sub(shown.offset);
        let request = self
            .request(Method::PATCH, place)
            .header("Content-Type", "application/offset+octet-stream")
            .header("Content-Length", rest)
            .header("Upload-Offset", shown.offset)
            .header("Tus-Resumable", "1.0.0")
            // A refusal then comes before the bytes, and not as a broken connection.
            .header("Expect", "100-continue");
        let progress = Progress::of_bytes("sending", shown.bytes);
        progress.skip(shown.offset);
        self.perform(request, Payload::File(Stoppable(file.take(rest), progress)))
            .map(drop)
    }

    /// Waits until the server is done, and returns hash and length of the result. Tells the log
    /// what the server is waiting for.
    ///
    /// # Errors
    /// Fails when the server's work failed; when it waits for this client itself, which `hint`
    /// tells what to do; as [`Remote::task`] does.
    pub fn wait(&self, hint: &str) -> Result<(String, u64)> {
        let mut told = String::new();
        loop {
            // What the server is waiting for is told at once, and then what is new.
            let next = self.next(!told.is_empty())?;
            if next.message != told {
                tracing::info!("{}", next.message);
                told = next.message.clone();
            }
            if next.action == "failed" {
                return Err(self.failed(next));
            }
            match (next.action.as_str(), next.result) {
                ("done", Some(result)) => return Ok(result),
                ("wait", _) => interrupt::check()?,
                (_, _) => {
                    return Err(Error::failed("the server waits for this client")
                        .note("reason", next.message)
                        .hint(hint));
                }
            }
        }
    }

    /// Downloads the result, which has this hash and length, to `path`.
    ///
    /// The bytes are written to `path` + `.part`, which a later call resumes, and renamed when
    /// their hash is right.
    ///
    /// # Errors
    /// Fails as [`Remote::task`] does, when the hash is another, and when the file cannot be
    /// written.
    pub fn fetch(&self, path: &Path, sha256: &str, bytes: u64) -> Result<()> {
        match self.fetch_from("/v1/result", path, sha256, bytes)? {
            true => Ok(()),
            false => Err(Error::failed("the server has no such result")),
        }
    }

    /// Downloads what is at `place` of the server, as [`Remote::fetch`] does. Returns false if it
    /// is not there any more.
    ///
    /// # Errors
    /// Fails as [`Remote::fetch`] does.
    pub fn fetch_from(&self, place: &str, path: &Path, sha256: &str, bytes: u64) -> Result<bool> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let part = path.with_file_name(format!("{name}.part"));
        let folder = crate::artifact::fault::folder_of(path);
        atomic::create_folder(folder)?;
        let mut patience = Patience::new(&self.settings);
        loop {
            let have = std::fs::metadata(&part).map_or(0, |part| part.len());
            if have > bytes {
                std::fs::remove_file(&part).map_err(|error| explain("remove", &part, error))?;
                continue;
            }
            if have == bytes {
                break;
            }
            match self.fetch_rest(place, &part, have..bytes, sha256) {
                Ok(()) => patience.progress(),
                Err(Trouble::Late(_)) => return Ok(false),
                Err(trouble) => {
                    if std::fs::metadata(&part).is_ok_and(|part| part.len() > have) {
                        patience.progress();
                    }
                    patience.pause(trouble, self)?;
                }
            }
        }
        let (_, found) = hash::file(&part)?;
        if found != sha256 {
            std::fs::remove_file(&part).map_err(|error| explain("remove", &part, error))?;
            return Err(Error::failed("what arrived is not what the server has")
                .note("expected", sha256)
                .note("found", found)
                .hint("the same command fetches it again"));
        }
        std::fs::rename(&part, path)
            .and_then(|()| atomic::sync_folder(folder))
            .map_err(|error| explain("write", path, error))?;
        Ok(true)
    }

    /// Appends to a file the bytes from where it ends.
    fn fetch_rest(
        &self,
        place: &str,
        part: &Path,
        lacking: Range<u64>,
        sha256: &str,
    ) -> Result<(), Trouble> {
        let have = lacking.start;
        let broken = |error| Trouble::Final(explain("write", part, error));
        let mut request = self.request(Method::GET, place);
        if have > 0 {
            request = request
                .header("Range", format!("bytes={have}-"))
                .header("If-Range", format!("\"{sha256}\""));
        }
        let response = self.perform(request, Payload::None)?;
        let start = match response.status().as_u16() {
            206 => have,
            _ => 0,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(part)
            .map_err(broken)?;
        file.set_len(start).map_err(broken)?;
        let progress = Progress::of_bytes("fetching", lacking.end);
        progress.skip(start);
        let mut body = Stoppable(response.into_body().into_reader(), progress);
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = body
                .read(&mut chunk)
                .map_err(|error| trouble(error.into(), &self.settings))?;
            if count == 0 {
                return file.sync_all().map_err(broken);
            }
            file.write_all(&chunk[..count]).map_err(broken)?;
        }
    }

    /// Returns the JSON that a call answers, which is repeated as long as it may work.
    fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<T> {
        let mut patience = Patience::new(&self.settings);
        loop {
            let attempt = self.call(method.clone(), path, body.clone());
            match attempt.and_then(|response| self.decoded(response)) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => patience.pause(trouble, self)?,
            }
        }
    }

    /// Returns the JSON of an answer.
    fn decoded<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T, Trouble> {
        decoded_body(&mut response, &self.settings)
    }

    fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Body>, Trouble> {
        let request = self.request(method, path);
        match body {
            None => self.perform(request, Payload::None),
            Some(bytes) => {
                let request = request
                    .header("Content-Type", "application/json")
                    .header("Content-Length", bytes.len());
                self.perform(request, Payload::Bytes(Cursor::new(bytes)))
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> ureq::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.settings.server))
            .header("Authorization", format!("Bearer {}", self.settings.token))
    }

    /// Performs a request, and sorts what can go wrong. It is performed on a thread of its own: a
    /// stop does not wait for the network.
    fn perform(
        &self,
        request: ureq::http::request::Builder,
        payload: Payload,
    ) -> Result<Response<Body>, Trouble> {
        let request = request.body(payload).map_err(|error| {
            Error::usage("the server cannot be called like this")
                .note("found", error.to_string())
                .hint("check the address and the token: both are one line of plain letters")
        })?;
        let (agent, (answers, answer)) = (self.agent.clone(), mpsc::channel());
        std::thread::spawn(move || {
            let (parts, payload) = request.into_parts();
            let body = match payload {
                Payload::None => SendBody::none(),
                Payload::Bytes(bytes) => SendBody::from_owned_reader(bytes),
                Payload::File(file) => SendBody::from_owned_reader(file),
            };
            // Nobody waits for the answer after a stop.
            let _ = answers.send(agent.run(Request::from_parts(parts, body)));
        });
        let response = loop {
            match answer.recv_timeout(LOOK) {
                Ok(response) => {
                    break response.map_err(|error| trouble(error, &self.settings))?;
                }
                Err(mpsc::RecvTimeoutError::Timeout) => interrupt::check()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::failed("a request ended without an answer").into());
                }
            }
        };
        self.reached.set(true);
        match response.status().is_success() {
            true => Ok(response),
            false => Err(refusal(response, &self.settings)),
        }
    }
}

/// What a request sends.
enum Payload {
    None,
    Bytes(Cursor<Vec<u8>>),
    File(Stoppable<Take<File>>),
}

/// Reports whether an address without its scheme is on this machine.
fn is_own(address: &str) -> bool {
    let authority = address.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    host == "localhost" || address.is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Returns the JSON of an answer.
fn decoded_body<T: DeserializeOwned>(
    response: &mut Response<Body>,
    settings: &Settings,
) -> Result<T, Trouble> {
    let mut bytes = Vec::new();
    let reader = response.body_mut().as_reader();
    reader
        .take(MOST_JSON)
        .read_to_end(&mut bytes)
        .map_err(|error| trouble(error.into(), settings))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Trouble::Final(
            Error::failed(format!("the server's answer is not understood: {error}"))
                .hint("is it the address of `serve run`, and of this version?"),
        )
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    Ok(crate::artifact::json::value(value)?
        .to_string()
        .into_bytes())
}

/// Returns the certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let (certificates, key) = pem(path)?;
    if !certificates.is_empty() {
        return Ok(certificates);
    }
    let error = Error::usage(format!("`{}` holds no certificate", path.display()));
    Err(match key {
        Some(_) => error.note("found", "a private key, which stays with its owner"),
        None => error,
    }
    .hint("give a PEM file: it has a line `-----BEGIN CERTIFICATE-----`"))
}

/// Returns the certificates and the key of a PEM file, as far as there are any.
fn pem(path: &Path) -> Result<(Vec<Certificate<'static>>, Option<PrivateKey<'static>>)> {
    let text = std::fs::read(path).map_err(|error| explain("read", path, error))?;
    let (mut certificates, mut key) = (Vec::new(), None);
    for item in parse_pem(&text) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(PemItem::PrivateKey(found)) => key = Some(found),
            Ok(_) => {}
            Err(error) => {
                let text = format!("`{}` is no PEM file: {error}", path.display());
                return Err(Error::usage(text));
            }
        }
    }
    Ok((certificates, key))
}

/// Counts the bytes of a transfer, and ends it once a stop was asked for.
struct Stoppable<R>(R, Progress);

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match interrupt::requested() {
            true => Err(io::Error::other("stopped")),
            false => self
                .0
                .read(buffer)
                .inspect(|&count| self.1.add(count as u64)),
        }
    }
}
