//! Listens, and bounds what a connection may take: how many there are, how long a handshake, a
//! header, a body and an answer last, and how large each is.

use super::fault::Fault;
use super::routes;
use super::state::Store;
use super::task::Task;
use super::tokens::Tokens;
use super::uploads::Uploads;
use crate::artifact::fault::explain;
use crate::error::{Error, Result};
use crate::runtime::interrupt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Longest head of a request, in bytes.
const MOST_HEAD: usize = 16 << 10;
/// Most headers of a request.
const MOST_HEADERS: usize = 64;
/// Buffered of a connection, in bytes.
const BUFFER: usize = 128 << 10;
/// How long requests may take to end once the server is asked to stop.
const FAREWELL: Duration = Duration::from_secs(10);
/// The first byte of a TLS connection.
const HANDSHAKE: u8 = 0x16;

/// The body of an answer.
pub type Body = BoxBody<Bytes, io::Error>;
/// An answer.
pub type Reply = Response<Body>;

/// Returns a body that is there as a whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed()
}

/// Bounds what clients may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at a time; more wait to be accepted.
    pub connections: usize,
    /// Uploads that are received at a time; more are asked to come back.
    pub uploads: usize,
    /// How long a TLS handshake, and the head of a request, may take.
    pub head: Duration,
    /// How long a body may be slower than `rate`, and an answer may not be read.
    pub grace: Duration,
    /// Bytes of a body a second, at least, after the time of grace.
    pub rate: u64,
    /// Bytes that open uploads may take on the disk.
    pub quota: u64,
    /// Wrong tokens that an address may send a minute.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            uploads: 16,
            head: Duration::from_secs(10),
            grace: Duration::from_secs(30),
            rate: 64 << 10,
            quota: u64::MAX,
            failures: 10,
        }
    }
}

/// Names the files of the server's certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Certificates of which each client must show one, if there are any.
    pub client_authority: Option<PathBuf>,
}

/// Holds what requests share.
pub struct Server {
    pub task: Arc<Task>,
    pub store: Arc<Store>,
    pub tokens: Arc<Tokens>,
    pub uploads: Arc<Uploads>,
    pub limits: Limits,
    pub callers: routes::Callers,
    pub counters: Counters,
    /// The stage at work after the uploads are closed.
    working: Mutex<Option<&'static str>>,
    /// When this process began.
    pub started: Instant,
    /// Turns true when the server is to end.
    pub stopping: watch::Sender<bool>,
}

/// Counts for `/metrics`.
#[derive(Default)]
pub struct Counters {
    pub connections: AtomicU64,
    /// Answers by the first digit of their status, 1 to 5.
    pub answers: [AtomicU64; 6],
}

impl Server {
    /// Reads the task of a server's folder.
    ///
    /// # Errors
    /// Fails for a folder without one (usage), and as [`Task::read`] does.
    pub fn task(folder: &Path) -> Result<Task> {
        let path = folder.join("task.json");
        if !path.exists() {
            let error = Error::usage(format!("there is no `{}`", path.display()));
            // Somebody who gives the file itself means the folder that it is in.
            let named = folder.is_file() || folder.ends_with("task.json");
            let home = match folder.parent().filter(|_| named) {
                Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
                Some(parent) => parent,
                None => folder,
            };
            return Err(error.hint(match named && home.is_dir() {
                true => format!("give the folder: `{}`", home.display()),
                false => format!("`serve task {} --clients N …` writes it", home.display()),
            }));
        }
        Task::read(&path)
    }

    /// Opens a server's folder, in which `task` is from now on: the clients, the journal.
    ///
    /// # Errors
    /// Fails as [`Store::open`] does.
    pub fn open(folder: &Path, task: Task, limits: Limits) -> Result<Arc<Self>> {
        let task = Arc::new(task);
        let store = Arc::new(Store::open(folder, &task)?);
        let tokens = Arc::new(Tokens::open(folder)?);
        let uploads = Uploads::new(
            Arc::clone(&store),
            Arc::clone(&tokens),
            Arc::clone(&task),
            limits.clone(),
        )?;
        Ok(Arc::new(Self {
            task,
            store,
            tokens,
            uploads: Arc::new(uploads),
            limits,
            callers: routes::Callers::default(),
            counters: Counters::default(),
            working: Mutex::default(),
            started: Instant::now(),
            stopping: watch::Sender::new(false),
        }))
    }

    /// Accepts connections until the process is asked to stop.
    ///
    /// # Errors
    /// Fails when the listener does.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
    ) -> Result<()> {
        self.uploads.resume();
        let room = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            // Beyond the limit connections wait in the system's queue.
            let next = async {
                let place = Arc::clone(&room).acquire_owned().await.ok();
                (place, listener.accept().await)
            };
            let (place, accepted) = tokio::select! {
                next = next => next,
                () = self.stopped() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (server, tls) = (Arc::clone(&self), tls.clone());
                    tokio::spawn(async move {
                        server.counters.connections.fetch_add(1, Ordering::Relaxed);
                        server.connection(stream, peer.ip(), tls).await;
                        server.counters.connections.fetch_sub(1, Ordering::Relaxed);
                        drop(place);
                    });
                }
                // Too many open files, or a connection that ended before it was accepted.
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(listener);
        let all = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        // Those that are still at work have their time; what they sent is kept anyway.
        let _ = timeout(FAREWELL, room.acquire_many(all)).await;
        Ok(())
    }

    /// Returns the stage at work after the uploads are closed, for people.
    pub fn stage(&self) -> Option<&'static str> {
        *self.working.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which stage is at work.
    pub fn set_stage(&self, stage: Option<&'static str>) {
        *self.working.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    /// Returns once the server is to end.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        // It fails only without a sender, which is in `self`.
        let _ = stopping.wait_for(|stop| *stop).await;
    }

    async fn connection(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: IpAddr,
        tls: Option<TlsAcceptor>,
    ) {
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else {
            return self
                .talk(Stalling::new(stream, self.limits.grace), peer)
                .await;
        };
        let mut first = [0];
        let peeked = timeout(self.limits.head, stream.peek(&mut first)).await;
        match peeked {
            Ok(Ok(1)) if first[0] == HANDSHAKE => {}
            Ok(Ok(1)) => return refuse_plain(stream).await,
            _ => return,
        }
        let stream = Stalling::new(stream, self.limits.grace);
        match timeout(self.limits.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => self.talk(stream, peer).await,
            Ok(Err(error)) => tracing::debug!("{peer}: no TLS connection: {error}"),
            Err(_) => tracing::debug!("{peer}: the TLS handshake took too long"),
        }
    }

    /// Answers the requests of a connection.
    async fn talk<IO>(self: &Arc<Self>, stream: IO, peer: IpAddr)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let answer = |request: Request<Incoming>| {
            let server = Arc::clone(self);
            async move {
                let answered = routes::answer(&server, peer, request).await;
                let reply = answered.unwrap_or_else(Fault::reply);
                let class = usize::from(reply.status().as_u16() / 100);
                if let Some(count) = server.counters.answers.get(class) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(reply)
            }
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_header_size(MOST_HEAD)
            .max_headers(MOST_HEADERS)
            .max_buf_size(BUFFER)
            // Who sent all and does not wait for the answer has sent it all the same.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stopped() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!("{peer}: {error}");
        }
    }
}

/// Tells a client that speaks plain HTTP to a TLS port so.
async fn refuse_plain(mut stream: TcpStream) {
    let body = "{\"code\":\"tls\",\"message\":\"this port speaks TLS\",\
        \"hint\":\"use https:// in place of http://\"}";
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let farewell = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    let _ = timeout(Duration::from_secs(1), farewell).await;
}

/// Returns what makes TLS connections.
///
/// # Errors
/// Fails for files that cannot be read, hold no certificate or key, or do not belong together
/// (usage).
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor> {
    let provider = Arc::new(ring::default_provider());
    let tls = |error: tokio_rustls::rustls::Error| {
        let text = match error {
            tokio_rustls::rustls::Error::InconsistentKeys(_) => {
                "the key does not belong to the certificate".to_owned()
            }
            _ => format!("the certificate cannot be used: {error}"),
        };
        Error::usage(text)
            .note("file", files.certificate.display().to_string())
            .note("file", files.key.display().to_string())
            .hint("give the certificate with its chain, and the key that belongs to it, as PEM")
            .caused_by(error)
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(tls)?;
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(tls)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| {
                Error::usage(format!("the clients' authority cannot be used: {error}"))
                    .note("file", path.display().to_string())
                    .caused_by(error)
            })?)
        }
    };
    let text = read(&files.key)?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| no_pem(&files.key, "private key", error))?;
    let chain = certificates(&files.certificate)?;
    let mut config = builder.with_single_cert(chain, key).map_err(tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Returns the certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| no_pem(path, "certificate", error))?;
    match found.is_empty() {
        false => Ok(found),
        true => {
            let missing = tokio_rustls::rustls::pki_types::pem::Error::NoItemsFound;
            Err(no_pem(path, "certificate", missing))
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| explain("read", path, error))
}

fn no_pem(path: &Path, what: &str, error: tokio_rustls::rustls::pki_types::pem::Error) -> Error {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let found = match what {
        "certificate" if text.contains("PRIVATE KEY-----") => "a private key".to_owned(),
        "private key" if text.contains("-----BEGIN CERTIFICATE-----") => "a certificate".to_owned(),
        _ => error.to_string(),
    };
    Error::usage(format!("`{}` holds no {what}", path.display()))
        .note("found", found)
        .hint(format!("give a PEM file with a {what}"))
}

/// Refuses to listen without TLS where others can read along.
///
/// # Errors
/// Fails for an address that is not this machine's alone (usage).
pub fn refuse_insecure(address: &SocketAddr) -> Result<()> {
    match address.ip().is_loopback() {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "without TLS, tokens and weights could be read on the way to {address}"
        ))
        .hint("give `--certificate FILE --key FILE`")
        .hint("behind a proxy that speaks TLS: `--insecure`")),
    }
}

/// Sets `stopping` once the process is asked to stop by a signal.
pub async fn stop_on_signal(server: Arc<Server>) {
    while !interrupt::requested() {
        sleep(Duration::from_millis(50)).await;
    }
    server.stopping.send_replace(true);
}

/// Ends a connection whose other side does not read what it is sent.
struct Stalling<IO> {
    inner: IO,
    most: Duration,
    /// Runs while a write waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<IO> Stalling<IO> {
    fn new(inner: IO, most: Duration) -> Self {
        Self {
            inner,
            most,
            timer: None,
        }
    }

    /// Passes the outcome of a write on, or an error once it has waited for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.timer = None;
            return outcome;
        }
        let most = self.most;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(most)));
        timer
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Stalling<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Stalling<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(context, outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(context);
        self.watch(context, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(context);
        self.watch(context, outcome)
    }
}
