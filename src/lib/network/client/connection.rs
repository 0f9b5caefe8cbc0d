//! Performs single HTTP requests to one server, over TLS where the address says so, each with the
//! token, and repeats those that may work later.

use super::trouble::{LOOK, Patience, Trouble, refusal, trouble};
use crate::artifact::fault::explain;
use crate::error::{Error, Result};
use crate::network::server::TlsFiles;
use crate::runtime::{Progress, interrupt};
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Take};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use ureq::http::{Method, Request, Response, request};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, SendBody};

/// Longest JSON of an answer, in bytes.
const MOST_JSON: u64 = 16 << 20;

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

/// Holds what requests to one server have in common.
pub(super) struct Connection {
    agent: ureq::Agent,
    pub settings: Settings,
    /// Turns true with the first answer.
    pub reached: Cell<bool>,
}

impl Connection {
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
        let agent = agent(&settings)?;
        Ok(Self {
            agent,
            settings: Settings { server, ..settings },
            reached: Cell::new(false),
        })
    }

    /// Returns the JSON that a call answers, which is repeated as long as it may work.
    pub fn ask<T: DeserializeOwned>(
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
    pub fn decoded<T: DeserializeOwned>(&self, mut response: Response<Body>) -> Result<T, Trouble> {
        decoded_body(&mut response, &self.settings)
    }

    /// Sends `body`, JSON, if there is one, and returns the answer.
    pub fn call(
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

    /// Returns a request for what is at `path` of the server.
    pub fn request(&self, method: Method, path: &str) -> request::Builder {
        Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.settings.server))
            .header("Authorization", format!("Bearer {}", self.settings.token))
    }

    /// Performs a request, and sorts what can go wrong. It is performed on a thread of its own: a
    /// stop does not wait for the network.
    pub fn perform(
        &self,
        request: request::Builder,
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
pub(super) enum Payload {
    None,
    Bytes(Cursor<Vec<u8>>),
    File(Stoppable<Take<File>>),
}

/// Returns what performs requests, with the certificates of `settings`.
fn agent(settings: &Settings) -> Result<ureq::Agent> {
    let address = settings.server.split_once("://").map(|(_, rest)| rest);
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
    let mut config = ureq::Agent::config_builder();
    // A proxy of the environment is asked for no address of this machine: it would see the token.
    if address.is_some_and(is_own) {
        config = config.proxy(None);
    }
    let config = config
        .tls_config(tls.build())
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(30)))
        .timeout_per_read(Some(Duration::from_secs(60)))
        .timeout_per_write(Some(Duration::from_secs(60)))
        // The server closes a connection that says nothing for ten seconds.
        .max_idle_age(Duration::from_secs(5))
        .build();
    Ok(config.into())
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
pub(super) fn decoded_body<T: DeserializeOwned>(
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
pub(super) struct Stoppable<R>(pub R, pub Progress);

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
