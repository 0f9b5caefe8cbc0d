//! `serve task` writes what the clients must agree on, from a config or from a teacher's file.

use super::super::fed_avg;
use super::super::fed_md::Public;
use super::super::rounds as agreed;
use crate::artifact::fault::{explain, refuse_special};
use crate::artifact::{json, tensors};
use crate::config;
use crate::config::Composed;
use crate::data::{self, DatasetKind};
use crate::error::{During, Error};
use crate::network;
use crate::network::rounds::plan::{Algorithm, Plan};
use crate::network::state::JOURNAL;
use crate::network::task::{Task, VERSION};
use crate::run::{agreement, open_for, weights};
use crate::runtime::output;
use anyhow::Result;
use clap::value_parser;
use jiff::Timestamp;
use std::path::PathBuf;
use tch::Device;

#[derive(Debug, clap::Args)]
pub struct Request {
    /// The server's folder, in which `task.json` is written
    folder: PathBuf,
    /// Continue as soon as so many uploads are accepted, or in rounds, so many clients are there
    #[arg(long, value_name = "N")]
    clients: usize,
    /// Continue at the deadline with so many or more; as many as --clients if not given
    #[arg(long, value_name = "N")]
    min_clients: Option<usize>,
    /// When to stop waiting, such as 2026-01-31T12:00:00Z; never if not given
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Hours by which the deadline moves, once, if there are too few uploads
    #[arg(long, value_name = "N", default_value_t = 24)]
    extension_hours: u32,
    /// Take the task from this teacher's file in place of the config
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// What clients do: send a teacher once, or train in rounds
    #[arg(long, value_name = "NAME", default_value = "upload")]
    algorithm: Choice,
    /// In rounds: seconds that clients have for an answer; 3600 if not given
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    round_seconds: Option<u32>,
    /// In rounds: seconds for which answers are waited for at least
    #[arg(long, value_name = "N")]
    min_seconds: Option<u32>,
    /// In rounds: seconds without a call after which a client is not asked; 90 if not given
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..))]
    lease_seconds: Option<u32>,
    /// Take teachers of any architecture
    #[arg(long)]
    any_model: bool,
    /// What the status page is called
    #[arg(long, default_value = "Federation")]
    name: String,
    /// Most megabytes of an upload
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_megabytes: u64,
    /// Most training images that a client may declare
    #[arg(long, value_name = "N", default_value_t = 100_000_000)]
    max_images: u64,
    /// Replace a task that is there
    #[arg(long)]
    overwrite: bool,
    /// Settings of `dataset` and `model`, and of the algorithm, as for the stages
    #[arg(value_name = "OVERRIDE")]
    overrides: Vec<String>,
}

/// Seconds that clients have for an answer, and for which they count as there after a call.
const ROUND_SECONDS: u32 = 3600;
const LEASE_SECONDS: u32 = 90;

/// The keys of an algorithm's group that are no business of the clients.
const OF_THE_SERVER: [&str; 4] = [
    "fed_avg.save_folder",
    "fed_avg.eval_every",
    "fed_avg.eval_train",
    "fed_md.save_folder",
];

/// Names what clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    #[value(name = "upload")]
    Upload,
    #[value(name = "fed_avg")]
    FedAvg,
    #[value(name = "fed_md")]
    FedMd,
}

impl Request {
    /// Writes the task.
    ///
    /// # Errors
    /// Fails when there is one already, and for a config or a file that gives none.
    pub fn run(&self) -> Result<()> {
        self.check_flags()?;
        let path = self.folder.join("task.json");
        if self.folder.join(JOURNAL).exists() {
            let error = Error::usage(format!(
                "`{}` belongs to a task that was begun",
                self.folder.display()
            ));
            return Err(error
                .hint("give the new task a folder of its own")
                .hint("limits and deadlines of the old one: edit its `task.json`, then `serve run`")
                .into());
        }
        if path.exists() && !self.overwrite {
            let error = Error::usage(format!("`{}` is there already", path.display()));
            return Err(error.hint("`--overwrite` replaces it").into());
        }
        let mut task = match &self.from {
            Some(file) => self.of_card(file)?,
            None => self.of_config()?,
        };
        if self.any_model {
            task.models.clear();
        }
        task.check()?;
        json::write(&path, &task)?;
        output::print(path.display())?;
        Ok(())
    }

    /// Checks the flags that belong to no config: numbers of clients, and a deadline that somebody
    /// can keep.
    fn check_flags(&self) -> Result<()> {
        let clients = self.clients;
        if clients == 0 {
            let error = Error::usage("`--clients` is 0").note("expected", "1 or more");
            return Err(error.hint("`--clients 3` waits for three").into());
        }
        if let Some(least) = self
            .min_clients
            .filter(|least| !(1..=clients).contains(least))
        {
            let error = Error::usage(format!("`--min-clients` is {least}"));
            return Err(error
                .note("expected", format!("1 to {clients}, which `--clients` is"))
                .into());
        }
        self.check_flags_of_rounds()?;
        let Some(text) = &self.deadline else {
            return Ok(());
        };
        let now = network::now();
        let what = match text.parse::<Timestamp>() {
            Ok(time) if time.as_second() > now => return Ok(()),
            Ok(_) => "is in the past",
            Err(_) => "is no date with time and offset",
        };
        let week = Timestamp::from_second(now + 7 * 24 * 3600).unwrap_or_default();
        let example = week.strftime("%Y-%m-%dT%H:%M:%SZ");
        Err(Error::usage(format!("`--deadline` {what}"))
            .note("found", text)
            .note("now", network::shown_time(now))
            .hint(format!(
                "in a week: `--deadline {example}`; `Z` stands for UTC, and `+02:00` in its place \
                 for two hours ahead of it"
            ))
            .into())
    }

    /// Refuses flags of rounds without rounds, and those that do not fit them.
    fn check_flags_of_rounds(&self) -> Result<()> {
        let has_rounds = self.algorithm != Choice::Upload;
        for (flag, is_given) in [
            ("--round-seconds", self.round_seconds.is_some()),
            ("--min-seconds", self.min_seconds.is_some()),
            ("--lease-seconds", self.lease_seconds.is_some()),
        ] {
            if is_given && !has_rounds {
                let error = Error::usage(format!("`{flag}` is for rounds"));
                return Err(error
                    .hint("rounds need `--algorithm fed_avg` or `--algorithm fed_md`")
                    .into());
            }
        }
        if self.any_model && has_rounds {
            let error = Error::usage("`--any-model` is for teachers, and rounds take none");
            return Err(error.hint("leave it out").into());
        }
        let (least, most) = (self.min_seconds.unwrap_or(0), self.round_seconds);
        let most = most.unwrap_or(ROUND_SECONDS);
        if least > most {
            let error = Error::usage(format!("`--min-seconds` is {least}"));
            return Err(error
                .note(
                    "expected",
                    format!("at most {most}, which `--round-seconds` is"),
                )
                .into());
        }
        Ok(())
    }

    fn of_card(&self, file: &std::path::Path) -> Result<Task> {
        if self.algorithm != Choice::Upload {
            let error = Error::usage("a teacher's file has no settings of rounds");
            return Err(error
                .hint("leave out `--from`, and give the settings of `dataset` and `model`")
                .into());
        }
        if !self.overrides.is_empty() {
            let error = Error::usage("`--from` takes the whole task from the file");
            return Err(error
                .hint(format!("leave out `{}`", self.overrides.join(" ")))
                .into());
        }
        refuse_special(file)?;
        std::fs::File::open(file).map_err(|error| explain("read", file, error))?;
        let metadata = tensors::metadata(file)?;
        let card = weights::card(&metadata)?.ok_or_else(|| {
            Error::failed("the file has no card: it does not say what it was trained on")
                .note("file", file.display().to_string())
                .hint("give a file that `train_teachers` wrote, or the settings of `dataset`")
        })?;
        card.check()?;
        Ok(self.task(
            (card.model.channels, card.model.size),
            card.classes,
            card.normalisation,
            card.model.model,
        ))
    }

    fn of_config(&self) -> Result<Task> {
        let composed = config::compose(&config::Request {
            overrides: self.overrides.clone(),
            ..config::Request::default()
        })?;
        if !agreed::names_images(&composed) {
            let error = Error::usage("it is not said what the images are");
            return Err(error
                .hint(
                    "with test images: `dataset=image_folder dataset.root=FOLDER`; without: \
                     `dataset=none dataset.classes=[…] dataset.channels=… dataset.size=… \
                     dataset.mean=[…] dataset.std=[…]`",
                )
                .hint("the digits that are built in: `dataset=digits`")
                .hint("those of a teacher: `--from FILE`")
                .into());
        }
        self.warn_of_unread(&composed)?;
        let mut task = self.described(&composed)?;
        if self.algorithm != Choice::Upload {
            self.plan(&composed, &mut task)?;
        }
        Ok(task)
    }

    /// Warns of overrides of which a task has nothing.
    fn warn_of_unread(&self, composed: &Composed) -> Result<()> {
        let read: &[&str] = match self.algorithm {
            Choice::Upload => &["dataset", "model"],
            Choice::FedAvg => &["dataset", "model", "fed_avg", "seed", "precision"],
            Choice::FedMd => &["dataset", "model", "fed_md", "split", "seed", "precision"],
        };
        let reads = |group: &str, key: &str| read.contains(&group) && !OF_THE_SERVER.contains(&key);
        let unread = agreed::unread(composed, reads)?;
        if unread.is_empty() {
            return Ok(());
        }
        let hint = match self.algorithm {
            Choice::Upload if unread.iter().any(|typed| typed.contains("fed_")) => {
                "rounds need `--algorithm fed_avg` or `--algorithm fed_md`"
            }
            _ => {
                "what a party decides alone goes to its `join`, and what the server does to \
                  `serve run`"
            }
        };
        tracing::warn!(
            "a task has nothing of {}: it has {}; {hint}",
            unread.join(", "),
            read.join(", ")
        );
        Ok(())
    }

    /// Adds the rounds to the task.
    fn plan(&self, composed: &Composed, task: &mut Task) -> Result<()> {
        let config = &composed.config;
        let algorithm = match self.algorithm {
            Choice::FedMd => {
                task.models = match &config.fed_md.models {
                    Some(models) => models.clone(),
                    None => vec![config.model.clone()],
                };
                let context = open_for(composed, 1)?;
                let dataset = agreed::dataset(&context, task)?;
                let split = context.split(&dataset)?;
                let (images, _) = Public::load(&context, &dataset, &split)?;
                Algorithm::FedMd {
                    settings: config.fed_md.settings.clone(),
                    public: agreed::public(&images, &dataset)?,
                }
            }
            _ => {
                fed_avg::warn_of_server_rate(composed);
                Algorithm::FedAvg {
                    settings: config.fed_avg.settings.clone(),
                }
            }
        };
        task.rounds = Some(Plan {
            algorithm,
            seed: config.seed,
            precision: config.precision,
            round_seconds: self.round_seconds.unwrap_or(ROUND_SECONDS),
            min_seconds: self.min_seconds.unwrap_or(0),
            lease_seconds: self.lease_seconds.unwrap_or(LEASE_SECONDS),
        });
        Ok(())
    }

    fn described(&self, composed: &Composed) -> Result<Task> {
        let config = composed.config.clone();
        // A host that has no images types what the clients agree on.
        if config.dataset.kind == DatasetKind::None {
            let given = agreement::Task::described(&config.dataset, None)?;
            let shape = (given.channels, given.size);
            return Ok(self.task(shape, given.classes, given.normalisation, config.model));
        }
        let dataset = data::load(&config.dataset, Device::Cpu).within("dataset")?;
        let shape = (dataset.channels(), dataset.size());
        Ok(self.task(shape, dataset.classes, dataset.normalisation, config.model))
    }

    fn task(
        &self,
        (channels, size): (i64, i64),
        classes: Vec<String>,
        normalisation: data::Normalisation,
        model: crate::model::ModelSettings,
    ) -> Task {
        Task {
            version: VERSION,
            name: self.name.clone(),
            channels,
            size,
            classes,
            normalisation,
            models: vec![model],
            max_bytes: self.max_megabytes.saturating_mul(1_000_000),
            max_images: self.max_images,
            clients: self.clients,
            min_clients: self.min_clients.unwrap_or(self.clients),
            deadline: self.deadline.clone(),
            extension_hours: self.extension_hours,
            rounds: None,
        }
    }
}
