//! `join fed_avg` and `join fed_md` train on this client's own images, as the server's task says.

use super::super::fed_avg;
use super::super::fed_md::Public;
use super::super::rounds as agreed;
use super::{Connection, Destination, Output};
use crate::artifact::{hash, json};
use crate::data::Dataset;
use crate::error::{During, Error};
use crate::federated::{Link, NodeData};
use crate::network::client::Remote;
use crate::network::rounds::client::RoundsClient;
use crate::network::rounds::plan::Algorithm;
use crate::network::task::Task;
use crate::partition::Part;
use crate::run::checkpoint::Identity;
use crate::run::weights::{self, Card};
use crate::run::{StageContext, open_for};
use crate::runtime::{Progress, output};
use crate::train::FitState;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// The server's address, such as https://server.example:8443
    #[arg(value_name = "SERVER")]
    server: String,
    #[command(flatten)]
    connection: Connection,
    /// This client's own folder: what it keeps to itself, and its result
    #[arg(long, value_name = "FOLDER", default_value = "join")]
    folder: PathBuf,
    /// With `split.save_path`, which part is this client's; its number at the server if not given
    #[arg(long, value_name = "N")]
    part: Option<usize>,
    /// Settings of this client's images (`dataset`, `split.save_path`) and machine
    #[arg(value_name = "OVERRIDE")]
    overrides: Vec<String>,
}

/// Holds what a client works with.
struct Party<'a> {
    context: &'a StageContext<'a>,
    task: &'a Task,
    dataset: &'a Dataset,
    node: usize,
    data: NodeData,
    folder: &'a Path,
}

impl Request {
    /// Takes part in the rounds of the algorithm of this `name`.
    ///
    /// # Errors
    /// Fails for images that are not of the task, when the training diverges, when the server
    /// refuses an answer, and when it cannot be reached for too long.
    pub fn run(&self, name: &str) -> Result<()> {
        let remote = Remote::new(self.connection.settings(&self.server)?)?;
        let asked = remote.task_and_node().context("asking for the task")?;
        let (task, fingerprint, node) = asked;
        let plan = task
            .rounds
            .as_ref()
            .filter(|plan| plan.algorithm.to_string() == name);
        if plan.is_some() && node.is_none() {
            let error = Error::usage("this token is the host's, and takes no part");
            return Err(error
                .hint("`serve client add FOLDER NAME` makes one for a client")
                .into());
        }
        let (Some(plan), Some(node)) = (plan, node) else {
            let wanted = task.rounds.as_ref();
            let wanted = wanted.map_or("upload".into(), |plan| plan.algorithm.to_string());
            let error = Error::usage(format!("the server's task is not `{name}`"));
            return Err(error.hint(format!("`join {wanted}`")).into());
        };
        let composed = agreed::composed(&task, plan, self.overrides.clone())?;
        if !agreed::names_images(&composed) {
            let error = Error::usage("it is not said which images are this client's");
            return Err(error
                .note("expected", "settings of `dataset` behind the flags")
                .hint("images in folders: `dataset=image_folder dataset.root=FOLDER`")
                .hint("the digits that are built in: `dataset=digits`")
                .into());
        }
        agreed::warn_of_unread(&composed, plan)?;
        let context = open_for(&composed, 1)?;
        let dataset = agreed::dataset(&context, &task)?;
        if self.part.is_some() && context.config.split.save_path.is_none() {
            let error = Error::usage("`--part` is for images that are split");
            return Err(error
                .hint("`split.save_path=FILE` names the split; without one, all images are used")
                .into());
        }
        let number = self.part.unwrap_or(node);
        let part = agreed::part(&context, &dataset, number)?;
        let is_split = context.config.split.save_path.is_some();
        let public = match &plan.algorithm {
            Algorithm::FedAvg { .. } => None,
            Algorithm::FedMd { public, .. } => {
                let (images, shared) = agreed::agreed_public(&context, &dataset, public)?;
                if is_split && shared == Some(number) {
                    return Err(public_part(number).into());
                }
                Some(images)
            }
        };
        let data = NodeData::of(&dataset, &part)?;
        let identity = Identity {
            stage: format!("join {name}"),
            version: env!("CARGO_PKG_VERSION").into(),
            config: json::value(&fingerprint)?,
            inputs: BTreeMap::new(),
            facts: BTreeMap::from([
                ("node".to_owned(), json::value(&node)?),
                ("images".to_owned(), json::value(&dataset.fingerprint)?),
                ("part".to_owned(), json::value(&told(&part.train))?),
            ]),
        };
        let first = plan.algorithm.first_round();
        let (mut rounds, start) = RoundsClient::open(&remote, &self.folder, identity, node, first)?;
        let images = data.train.len() as u64;
        remote.enrol(images, &fingerprint).context("enrolling")?;
        tracing::info!("this is client {node}, with {images} training images");
        let party = Party {
            context: &context,
            task: &task,
            dataset: &dataset,
            node,
            data,
            folder: &self.folder,
        };
        match public {
            None => {
                party.average(&mut rounds, start.as_ref())?;
                self.fetch(&remote)
            }
            Some(public) => party.distill(&mut rounds, start.as_ref(), &public),
        }
    }

    /// Waits for the global model and downloads it.
    fn fetch(&self, remote: &Remote) -> Result<()> {
        let result = Destination {
            out: Some(self.folder.join("global.safetensors")),
            overwrite: true,
        };
        let hint = "the same command takes part again";
        result.fetch(remote, Output::Global, hint)
    }
}

impl Party<'_> {
    fn average(self, rounds: &mut RoundsClient, start: Option<&FitState>) -> Result<()> {
        // Nodes are numbered; the others' images are elsewhere.
        let none = |_| NodeData::of(self.dataset, &Part::default());
        let mut nodes: Vec<NodeData> = (0..self.node).map(none).collect::<Result<_, Error>>()?;
        nodes.push(self.data);
        let federation = crate::federated::fed_avg::Federation {
            task: fed_avg::task(self.context, self.dataset)?,
            nodes,
        };
        let settings = &self.context.config.fed_avg.settings;
        let mut progress = &Progress::new("batches trained", 0);
        let link = Link::with_server(rounds);
        crate::federated::fed_avg::run(settings, &federation, link, start, &mut progress)
            .within("fed_avg")?;
        Ok(())
    }

    fn distill(
        self,
        rounds: &mut RoundsClient,
        start: Option<&FitState>,
        public: &Public,
    ) -> Result<()> {
        let spec = self.task.spec_of(self.node);
        let counts = self.data.train.counts(self.dataset.classes.len());
        let client = crate::federated::fed_md::Client {
            node: self.node,
            spec: spec.clone(),
            data: self.data,
        };
        let federation = crate::federated::fed_md::Federation {
            task: public.task(self.context, self.dataset),
            clients: vec![client],
        };
        let settings = &self.context.config.fed_md.settings;
        let mut progress = &Progress::new("batches trained", 0);
        let link = Link::with_server(rounds);
        let states =
            crate::federated::fed_md::run(settings, &federation, link, start, &mut progress)
                .within("fed_md")?;
        let path = self.folder.join("model.safetensors");
        for (_, state) in &states {
            let card = Card::new(spec.clone(), self.dataset, counts.clone());
            weights::save(&path, state, &card)?;
        }
        output::print(path.display())?;
        Ok(())
    }
}

fn public_part(number: usize) -> Error {
    let text = format!("part {number} of the split is the public one, which no client trains on");
    Error::usage(text).hint("`--part N` names the part that is this client's own")
}

/// Tells images from others in a message: how many there are, and a hash of their indices.
fn told(indices: &[usize]) -> String {
    let text: Vec<String> = indices.iter().map(usize::to_string).collect();
    let sha256 = hash::bytes(text.join(",").as_bytes());
    format!("{} images, sha256 {sha256}", indices.len())
}
