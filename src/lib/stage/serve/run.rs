//! `serve run` listens until it is stopped, and works once the uploads are complete.

use super::super::rounds as agreed;
use super::super::{generate_initial, train_student};
use super::rounds;
use super::stages::{self, Stages};
use crate::config;
use crate::error::Error;
use crate::network::collect;
use crate::network::server::{self, Limits, Server, TlsFiles};
use crate::network::state::{Event, Phase};
use crate::network::task::Task;
use crate::run::open_for;
use crate::run::stages::{GENERATE_INITIAL, TRAIN_STUDENT};
use crate::runtime::output;
use anyhow::Result;
use clap::value_parser;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// The server's folder, with the `task.json` of `serve task`
    folder: PathBuf,
    /// Address and port; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8443", value_parser = address)]
    listen: SocketAddr,
    /// The server's certificate with its chain, as PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The key of the certificate, as PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Ask each client for a certificate of this authority
    #[arg(long, value_name = "FILE", requires = "certificate")]
    client_authority: Option<PathBuf>,
    /// Speak plain HTTP beyond this machine, behind a proxy that speaks TLS
    #[arg(long)]
    insecure: bool,
    /// Only collect: leave the teachers in FOLDER/teachers, and start no stage
    #[arg(long)]
    collect_only: bool,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 1024)]
    #[arg(value_parser = value_parser!(u16).range(1..))]
    connections: u16,
    /// Uploads at a time
    #[arg(long, value_name = "N", default_value_t = 16)]
    #[arg(value_parser = value_parser!(u16).range(1..))]
    uploads: u16,
    /// Seconds for a handshake, and for the head of a request
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    head_seconds: u32,
    /// Seconds in which a body may be slower than --rate, and an answer not be read
    #[arg(long, value_name = "N", default_value_t = 30)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    grace_seconds: u32,
    /// Least bytes of a body a second
    #[arg(long, value_name = "N", default_value_t = 65536)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    rate: u32,
    /// Most megabytes that uploads may take on the disk before they are complete
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    quota_megabytes: Option<u64>,
    /// Settings for `generate_initial` and `train_student`; in rounds, where the host's test images
    /// are (`dataset=…`, or `dataset=none`)
    #[arg(value_name = "OVERRIDE")]
    overrides: Vec<String>,
}

/// Refuses settings with which the work after the uploads would fail: those that cannot be
/// composed or that the server sets itself, and test images of another task. Warns of those that
/// nothing reads.
fn refuse_unfit(mut overrides: Vec<String>, task: &Task) -> Result<()> {
    let composed = match &task.rounds {
        Some(plan) => {
            let composed = agreed::composed(task, plan, overrides)?;
            agreed::warn_of_unread(&composed, plan)?;
            rounds::refuse_training_images(&composed.config)?;
            composed
        }
        None => {
            stages::refuse_own_keys(&overrides)?;
            // With fewer teachers than this the stages never start.
            overrides.push(format!("teacher.num_teachers={}", task.min_clients));
            let composed = config::compose(&config::Request {
                overrides,
                ..config::Request::default()
            })?;
            train_student::refuse_selection(&composed.config)?;
            let stages = [&GENERATE_INITIAL, &TRAIN_STUDENT];
            let reads = |group: &str, _: &str| {
                let mut groups = stages.iter().flat_map(|stage| stage.groups());
                stages.iter().any(|stage| stage.reads(group)) || groups.any(|name| name == group)
            };
            let unread = agreed::unread(&composed, reads)?;
            if !unread.is_empty() {
                tracing::warn!("the server's stages do not read {}", unread.join(", "));
            }
            composed
        }
    };
    let context = open_for(&composed, 1)?;
    agreed::dataset(&context, task).map_err(|error| {
        if !agreed::names_images(&composed) {
            return Error::usage("it is not said which test images the server has")
                .note(
                    "found",
                    "no setting of `dataset`, which stands for the built-in digits",
                )
                .hint("without test images: `dataset=none`")
                .hint("images in folders: `dataset=image_folder dataset.root=FOLDER`");
        }
        Error::from(error).hint("without test images: `dataset=none`")
    })?;
    if task.rounds.is_none() {
        generate_initial::refuse_no_batches(&context)?;
        train_student::refuse_large_crops(&context, task.size)?;
    }
    Ok(())
}

/// Reads where to listen.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "give the IP address of this machine and a port of at most 65535, such as \
         `127.0.0.1:8443` for this machine alone or `0.0.0.0:8443` for others too"
            .into()
    })
}

impl Request {
    /// Opens the folder, in which `task` has begun from now on; work that failed is resumed.
    fn open(&self, task: Task) -> Result<Arc<Server>, Error> {
        let server = Server::open(&self.folder, task, self.limits())?;
        if let Phase::Failed(reason) = server.store.view(|state| state.phase.clone()) {
            tracing::info!("continuing after: {reason}");
            server
                .store
                .commit(|_| Ok::<_, Error>(Some(Event::Resumed)))?;
        }
        Ok(server)
    }

    /// Runs the server until it is stopped by a signal.
    ///
    /// # Errors
    /// Fails when the folder, the address or the certificate cannot be used; once it is stopped,
    /// with class interrupted unless its work is done.
    pub fn run(&self) -> Result<()> {
        let tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(server::acceptor(&TlsFiles {
                certificate: certificate.clone(),
                key: key.clone(),
                client_authority: self.client_authority.clone(),
            })?),
            _ if self.insecure => None,
            _ => {
                server::refuse_insecure(&self.listen)?;
                None
            }
        };
        let task = Server::task(&self.folder)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(Error::from)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let stages = (!self.collect_only).then(|| self.overrides.clone());
        // The stages start once the uploads are complete: what is wrong with them is told now.
        match (stages.clone(), &task.rounds) {
            (Some(overrides), _) => refuse_unfit(overrides, &task)?,
            (None, Some(_)) => {
                let error =
                    Error::usage("`--collect-only` is for teachers, and the task has rounds");
                return Err(error.hint("leave it out").into());
            }
            (None, None) if !self.overrides.is_empty() => {
                let error = Error::usage("`--collect-only` starts no stage that reads settings");
                return Err(error
                    .note("found", self.overrides.join(" "))
                    .hint("leave one of them out")
                    .into());
            }
            (None, None) => {}
        }
        let server = runtime.block_on(async {
            let listener = TcpListener::bind(self.listen).await.map_err(|error| {
                let free = SocketAddr::new(self.listen.ip(), 0);
                let refused = Error::failed(format!("cannot listen on {}: {error}", self.listen));
                match error.kind() {
                    ErrorKind::AddrInUse => refused.hint(format!(
                        "another program listens there: choose another port, or a free one by \
                         `--listen {free}`"
                    )),
                    ErrorKind::AddrNotAvailable => refused.hint(
                        "this machine has no such address: `0.0.0.0` stands for all that it has",
                    ),
                    ErrorKind::PermissionDenied => {
                        refused.hint("ports below 1024 are the system's: choose a higher one")
                    }
                    _ => refused,
                }
                .caused_by(error)
            })?;
            // What is wrong with the settings or the address leaves the task as it was.
            let server = self.open(task)?;
            let address = listener.local_addr().map_err(Error::from)?;
            output::print(format!("listening on {scheme}://{address}"))?;
            tokio::spawn(server::stop_on_signal(Arc::clone(&server)));
            let working = tokio::spawn(work(Arc::clone(&server), stages));
            Arc::clone(&server).serve(listener, tls).await?;
            // The stage at work has been asked to stop as well, and saves what it has.
            working
                .await
                .map_err(|error| Error::failed(error.to_string()))?;
            Ok::<_, Error>(server)
        })?;
        let phase = server.store.view(|state| state.phase.clone());
        drop(server);
        match phase {
            Phase::Done(_) => Ok(()),
            _ => Err(Error::interrupted("interrupted")
                .hint("the same command resumes from here")
                .into()),
        }
    }

    fn limits(&self) -> Limits {
        let seconds = |count: u32| Duration::from_secs(count.into());
        Limits {
            connections: self.connections.into(),
            uploads: self.uploads.into(),
            head: seconds(self.head_seconds),
            grace: seconds(self.grace_seconds),
            rate: self.rate.into(),
            quota: self
                .quota_megabytes
                .map_or(u64::MAX, |count| count.saturating_mul(1_000_000)),
            ..Limits::default()
        }
    }
}

/// Waits for the uploads, then runs the stages on a thread of their own.
async fn work(server: Arc<Server>, overrides: Option<Vec<String>>) {
    tokio::select! {
        () = collect::until_closed(Arc::clone(&server)) => {}
        () = server.stopped() => return,
    }
    if server.store.view(|state| state.phase.clone()) != Phase::Closed {
        return;
    }
    let (own, runtime) = (Arc::clone(&server), tokio::runtime::Handle::current());
    let done = tokio::task::spawn_blocking(move || match own.task.rounds.clone() {
        None => Stages::new(own, overrides).run(),
        Some(plan) => rounds::run(&own, &plan, runtime, overrides.unwrap_or_default()),
    });
    let done = done.await;
    let error = match done {
        Ok(Ok(())) => return,
        Ok(Err(error)) => Error::from(error),
        Err(error) => Error::failed(format!("the work ended: {error}")),
    };
    if error.only_stops() {
        return;
    }
    tracing::error!("{error}");
    let reason = error.what();
    let failed = server.store.commit(|state| {
        let at_work = state.phase == Phase::Closed;
        Ok::<_, Error>(at_work.then_some(Event::Failed { reason }))
    });
    if let Err(error) = failed {
        tracing::error!("{error}");
    }
}
