//! `join` is a client of a federation: it sends what it trained, and fetches what the server made.
//! It reads its own files alone, and nothing of them leaves but the weights with their card, and in
//! rounds what the algorithm sends.

mod rounds;

use crate::artifact::fault::{explain, folder_of, refuse_special};
use crate::artifact::{atomic, hash, tensors};
use crate::error::Error;
use crate::model::{Model, ModelSpec};
use crate::network::client::{Remote, Settings};
use crate::network::rounds::plan::Algorithm;
use crate::network::server::TlsFiles;
use crate::network::task::Task;
use crate::network::validate;
use crate::run::weights::{self, Card};
use crate::runtime::{interrupt, logging, output};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tch::Device;

/// Where the token is, if no file is named.
const TOKEN: &str = "FED_DISTILL_TOKEN";

/// Takes part in a federation, with its own data alone.
#[derive(Debug, Parser)]
#[command(
    name = "join",
    version,
    disable_help_subcommand = true,
    max_term_width = 100
)]
#[command(after_help = "\
The token comes from --token-file, or from the environment variable FED_DISTILL_TOKEN. Whatever
goes wrong on the way is tried again; the same command resumes where an earlier one ended. Example:

  join upload https://server.example:8443 teachers/model_teacher0.safetensors --token-file token
  join fetch https://server.example:8443 --token-file token     fetches the student later

In rounds, settings that are typed behind the flags name this client's own images; how it trains is
the task's. Example:

  join fed_avg https://server.example:8443 --token-file token dataset=image_folder dataset.root=own
")]
pub struct Request {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Send a teacher once, wait for the server, and fetch the student
    Upload(Upload),
    /// Wait for the server, and fetch the student or the global model
    Fetch(Fetch),
    /// Train in rounds of federated averaging, and fetch the global model
    #[command(name = "fed_avg")]
    FedAvg(rounds::Request),
    /// Train a model of one's own in rounds of federated distillation
    #[command(name = "fed_md")]
    FedMd(rounds::Request),
}

/// How the server is reached.
#[derive(Debug, clap::Args)]
struct Connection {
    /// The file with the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Trust servers of this authority (PEM) in place of the public ones
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
    /// This client's certificate, for servers that ask for one (PEM)
    #[arg(long, value_name = "FILE", requires = "identity_key")]
    identity: Option<PathBuf>,
    /// The key of --identity (PEM)
    #[arg(long, value_name = "FILE", requires = "identity")]
    identity_key: Option<PathBuf>,
    /// Speak plain HTTP with another machine, through a tunnel
    #[arg(long)]
    insecure: bool,
    /// Seconds before the first new attempt; each further one waits twice as long
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    retry_seconds: f64,
    /// Minutes without success after which it gives up
    #[arg(long, value_name = "N", default_value_t = 24 * 60)]
    patience_minutes: u32,
}

#[derive(Debug, clap::Args)]
struct Upload {
    /// The server's address, such as https://server.example:8443
    #[arg(value_name = "SERVER")]
    server: String,
    /// The teacher: a file of `train_teachers`, or a state dict of the task's architecture
    /// (safetensors or .pt)
    #[arg(value_name = "TEACHER")]
    teacher: PathBuf,
    #[command(flatten)]
    connection: Connection,
    /// Training images of each class, for a teacher without a card: 120,80,…
    #[arg(long, value_name = "COUNTS", value_delimiter = ',')]
    label_counts: Vec<u64>,
    /// Training images in all, where the label counts are not told; it may be rounded
    #[arg(long, value_name = "N")]
    images: Option<u64>,
    #[command(flatten)]
    result: Destination,
    /// End once the upload is accepted; `join fetch` fetches the student later
    #[arg(long, conflicts_with_all = ["out", "overwrite"])]
    no_wait: bool,
}

#[derive(Debug, clap::Args)]
struct Fetch {
    /// The server's address, such as https://server.example:8443
    #[arg(value_name = "SERVER")]
    server: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    result: Destination,
}

/// Where the result goes, and whether it replaces a file.
#[derive(Debug, clap::Args)]
struct Destination {
    /// Where the result goes; student.safetensors if not given, in rounds global.safetensors
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace what is there
    #[arg(long)]
    overwrite: bool,
}

/// Runs the command.
///
/// # Errors
/// Fails for a file that is not of the task, for a server that refuses it, and for one that cannot
/// be reached for too long.
pub fn run(request: Request) -> Result<()> {
    logging::init()?;
    interrupt::install()?;
    match request.what {
        What::Upload(upload) => upload.run(),
        What::Fetch(fetch) => fetch.run(),
        What::FedAvg(rounds) => rounds.run("fed_avg"),
        What::FedMd(rounds) => rounds.run("fed_md"),
    }
}

impl Connection {
    fn settings(&self, server: &str) -> Result<Settings> {
        let token = match &self.token_file {
            Some(path) => token_in(path)?,
            None => std::env::var(TOKEN)
                .ok()
                .filter(|token| !token.trim().is_empty())
                .ok_or_else(|| {
                    Error::usage("the token is missing").hint(format!(
                    "put it into a file that only you can read, and give `--token-file FILE`; or \
                     set {TOKEN}"
                ))
                })?,
        };
        let identity = self.identity.clone().zip(self.identity_key.clone());
        let first = self.retry_seconds;
        if !(0.001..=60.0).contains(&first) {
            return Err(Error::usage(format!("`--retry-seconds` cannot be {first}"))
                .note("expected", "0.001 to 60")
                .into());
        }
        Ok(Settings {
            server: server.to_owned(),
            token: token.trim().to_owned(),
            authority: self.authority.clone(),
            identity: identity.map(|(certificate, key)| TlsFiles {
                certificate,
                key,
                client_authority: None,
            }),
            insecure: self.insecure,
            first_wait: Duration::from_secs_f64(first),
            patience: Duration::from_secs(60 * u64::from(self.patience_minutes)),
        })
    }
}

/// Reads a token, which is one word.
fn token_in(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| explain("read", path, error))?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    if text.trim().is_empty() || text.trim().contains(|c: char| !c.is_ascii_graphic()) {
        return Err(Error::usage("the file of the token holds none")
            .note("file", path.display().to_string())
            .note("expected", "what `serve client add` printed, on one line")
            .into());
    }
    Ok(text)
}

/// What a server makes.
#[derive(Clone, Copy, Debug)]
enum Output {
    Student,
    /// The model that federated averaging ends with.
    Global,
}

impl Fetch {
    fn run(&self) -> Result<()> {
        let remote = Remote::new(self.connection.settings(&self.server)?)?;
        let (task, _) = remote.task().context("asking for the task")?;
        let (what, hint) = match task.rounds.map(|plan| plan.algorithm) {
            None => (Output::Student, "`join upload` sends a teacher".to_owned()),
            Some(Algorithm::FedMd { .. }) => {
                let error = Error::usage("in `fed_md` each client has a model of its own");
                return Err(error.hint("it is in the folder of `join fed_md`").into());
            }
            Some(algorithm) => (Output::Global, format!("`join {algorithm}` takes part")),
        };
        self.result.prepare(&remote, what)?;
        self.result.fetch(&remote, what, &hint)
    }
}

impl Destination {
    /// Makes the folder, and refuses a file that is there unless it is the result: days may pass
    /// before it is needed.
    fn prepare(&self, remote: &Remote, what: Output) -> Result<()> {
        let path = self.path(what);
        if path.is_dir() {
            let error = Error::usage(format!("`--out` is a folder: `{}`", path.display()));
            let file = path.join(Self::default_name(what));
            return Err(error
                .hint(format!("name a file: `--out {}`", file.display()))
                .into());
        }
        atomic::create_folder(folder_of(&path))?;
        let result = || remote.next(false).map(|next| next.result);
        match path.exists() && !self.overwrite {
            true => self.refuse_other(&path, result()?.map(|(sha256, _)| sha256).as_deref()),
            false => Ok(()),
        }
    }

    fn path(&self, what: Output) -> PathBuf {
        let default = || Self::default_name(what).into();
        self.out.clone().unwrap_or_else(default)
    }

    fn default_name(what: Output) -> &'static str {
        match what {
            Output::Student => "student.safetensors",
            Output::Global => "global.safetensors",
        }
    }

    /// Refuses a file that is there and has another hash.
    fn refuse_other(&self, path: &Path, sha256: Option<&str>) -> Result<()> {
        let other = || Ok::<_, Error>(Some(&*hash::file(path)?.1) != sha256);
        if path.exists() && !self.overwrite && other()? {
            let error = Error::usage(format!("`{}` is there already", path.display()));
            return Err(error
                .hint("`--out FILE` names another file, `--overwrite` replaces it")
                .into());
        }
        Ok(())
    }

    /// Waits for the result and downloads it.
    fn fetch(&self, remote: &Remote, what: Output, hint: &str) -> Result<()> {
        let path = self.path(what);
        let what = match what {
            Output::Student => "student",
            Output::Global => "global model",
        };
        let waited = remote.wait(hint);
        let (sha256, bytes) = waited.with_context(|| format!("waiting for the {what}"))?;
        self.refuse_other(&path, Some(&sha256))?;
        let fetched = remote.fetch(&path, &sha256, bytes);
        fetched.with_context(|| format!("fetching the {what}"))?;
        output::print(path.display())?;
        Ok(())
    }
}

impl Upload {
    fn run(&self) -> Result<()> {
        if self.teacher.to_string_lossy().contains("://") {
            let error = Error::usage("the address of the server comes first, then the teacher");
            return Err(error
                .hint("`join upload https://server.example:8443 model_teacher0.safetensors …`")
                .into());
        }
        if self.teacher.is_dir() {
            let folder = self.teacher.display();
            return Err(Error::usage(format!("`{folder}` is a folder"))
                .note("expected", "the file of a teacher")
                .hint(format!("such as `{folder}/model_teacher0.safetensors`"))
                .into());
        }
        refuse_special(&self.teacher)?;
        std::fs::File::open(&self.teacher)
            .map_err(|error| explain("read", &self.teacher, error))?;
        let remote = Remote::new(self.connection.settings(&self.server)?)?;
        let (task, fingerprint) = remote.task().context("asking for the task")?;
        if let Some(plan) = &task.rounds {
            let error = Error::usage("this server trains in rounds, and takes no teachers");
            return Err(error.hint(format!("`join {}`", plan.algorithm)).into());
        }
        let converted = tempfile::tempdir().map_err(Error::from)?;
        let (file, images) = self.prepared(&task, converted.path())?;
        if !self.no_wait {
            self.result.prepare(&remote, Output::Student)?;
        }
        remote.enrol(images, &fingerprint).context("enrolling")?;
        remote.send(&file).context("sending the teacher")?;
        tracing::info!("the server has accepted the teacher");
        if self.no_wait {
            return Ok(());
        }
        let hint = "the same command sends the teacher again";
        self.result.fetch(&remote, Output::Student, hint)
    }

    /// Returns a file that the task takes, and the training images behind it: the given file as it
    /// is, or what it converts to in `folder`.
    fn prepared(&self, task: &Task, folder: &Path) -> Result<(PathBuf, u64)> {
        let path = &self.teacher;
        let broken = |error: Error| error.note("file", path.display().to_string());
        let (card, exact) = match header(path) {
            Some(header) => {
                // Batches have a card as well, of the teachers that they were made from.
                if header.tensors.iter().any(|tensor| tensor.name == "images") {
                    return Err(broken(Error::usage("these are images, not a teacher"))
                        .hint(
                            "a teacher is what `train_teachers` writes, such as \
                         `model_teacher0.safetensors`",
                        )
                        .into());
                }
                let card = weights::card(&header.metadata).map_err(broken)?;
                (card, Some(header.tensors))
            }
            None => {
                // Whatever else it is, it must hold weights.
                tensors::read_state(path)?;
                (None, None)
            }
        };
        let has_card = card.is_some();
        if has_card && !self.label_counts.is_empty() {
            return Err(
                Error::usage("`--label-counts` is for a teacher without a card")
                    .note("found", format!("`{}`, which has one", path.display()))
                    .hint("leave it out: the card says what the teacher was trained on")
                    .into(),
            );
        }
        let card = match card {
            Some(card) => card,
            None => self.card(task)?,
        };
        task.check_card(&card).map_err(broken)?;
        let images = self.images(&card)?;
        let fits =
            exact.is_some_and(|tensors| validate::check_tensors(&tensors, &card.model).is_ok());
        if has_card && fits {
            return Ok((path.clone(), images));
        }
        let (state, _) = tensors::read_state(path)?;
        let model = Model::from_state(&card.model, &state, Device::Cpu).map_err(broken)?;
        let file = folder.join("teacher.safetensors");
        weights::save(&file, &weights::without_steps(&model.state()), &card)?;
        Ok((file, images))
    }

    /// Returns the number of training images that this client declares.
    fn images(&self, card: &Card) -> Result<u64> {
        let counted = card.label_counts.as_ref().map(|counts| counts.iter().sum());
        match (counted, self.images) {
            (Some(counted), None) => Ok(counted),
            (Some(counted), Some(given)) if given < counted => Err(Error::usage(format!(
                "`--images` is {given}, but the card counts {counted} training images"
            ))
            .hint("leave it out")
            .into()),
            (_, Some(given)) => Ok(given),
            (None, None) => Err(Error::usage(
                "the teacher does not tell how many images it was trained on",
            )
            .note("file", self.teacher.display().to_string())
            .hint("`--images N` tells their number, which may be rounded")
            .into()),
        }
    }

    /// Returns the card of a state dict that has none: the task's, with the given label counts.
    fn card(&self, task: &Task) -> Result<Card> {
        let [model] = task.models.as_slice() else {
            return Err(
                Error::usage("the teacher does not say which architecture it is")
                    .note("file", self.teacher.display().to_string())
                    .note(
                        "expected",
                        "a file with a card, since the task takes several",
                    )
                    .hint("give the file that `train_teachers` wrote")
                    .into(),
            );
        };
        let spec: ModelSpec = task.spec(model);
        let untold = self.label_counts.is_empty() && self.images.is_some();
        if !untold && self.label_counts.len() != task.classes.len() {
            return Err(
                Error::usage("the teacher does not say what it was trained on")
                    .note("file", self.teacher.display().to_string())
                    .note(
                        "expected",
                        format!("`--label-counts` with {} numbers", task.classes.len()),
                    )
                    .note("found", format!("{} numbers", self.label_counts.len()))
                    .hint(format!(
                        "give the training images of each class, in this order: {}; or only \
                         their number, by `--images N`",
                        task.classes.join(", ")
                    ))
                    .into(),
            );
        }
        Ok(Card {
            model: spec,
            dataset: "own".into(),
            dataset_fingerprint: None,
            classes: task.classes.clone(),
            normalisation: task.normalisation.clone(),
            label_counts: (!untold).then(|| self.label_counts.clone()),
            synthetic_counts: Vec::new(),
        })
    }
}

/// Returns the header of a safetensors file, or `None` for another file.
fn header(path: &Path) -> Option<tensors::Header> {
    let file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    tensors::header(&mut BufReader::new(file), length, u64::MAX).ok()
}
