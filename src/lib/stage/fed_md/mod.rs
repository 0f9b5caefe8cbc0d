//! `fed_md` trains a model of its own for each node of a split: they learn from each other's scores
//! of public images, and every byte between them and the server is counted.

mod federation;
mod recorder;
mod summary;

use crate::artifact::json;
use crate::config::Composed;
use crate::data::Dataset;
use crate::error::{During, Error};
use crate::federated::Link;
use crate::federated::fed_md::{self, Federation};
use crate::federated::transport::Rank;
use crate::model::StateDict;
use crate::run::context::PARAMETER_BYTES;
use crate::run::job::{Job, Session};
use crate::run::manifest;
use crate::run::metrics::FedMdClient;
use crate::run::ranks::{self, Shared, Threaded};
use crate::run::stages;
use crate::run::weights::{self, Card};
use crate::run::{StageContext, open_for, required};
use crate::runtime::interrupt;
use anyhow::{Context, Result};
#[cfg(feature = "net")]
pub(super) use federation::Public;
use federation::Roles;
use recorder::Recorder;
use std::path::Path;

/// Runs the stage.
///
/// # Errors
/// Fails without a split and with one of another dataset, when the public set does not fit, when
/// the training diverges, when a rank fails or does not answer, and when a file cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let config = &composed.config;
    let context = open_for(
        composed,
        ranks::count("fed_md.ranks", *config.fed_md.ranks, 1)?,
    )?;
    let folder = required(
        &config.fed_md.save_folder,
        "fed_md.save_folder",
        "outputs/fed_md",
    )?;
    let split = required(
        &config.split.save_path,
        "split.save_path",
        "outputs/split.json",
    )?;
    let job = Job::in_folder(&stages::FED_MD, folder, "metrics.json");
    let context = &context;
    if !ranks::perform(context, &job, &Distill { context, split })? {
        tracing::info!("the federation has trained already: {}", folder.display());
    }
    Ok(())
}

/// Does the stage's work.
struct Distill<'a> {
    context: &'a StageContext<'a>,
    /// Path of the split.
    split: &'a Path,
}

impl Threaded for Distill<'_> {
    fn view(&self, (dataset, roles): &(Dataset, Roles)) -> (Dataset, Roles) {
        (dataset.share(), roles.share())
    }
}

impl Shared for Distill<'_> {
    type Inputs = (Dataset, Roles);

    fn load(&self, run: &mut manifest::Run) -> Result<(Dataset, Roles)> {
        let dataset = self.context.dataset()?;
        let augment = &self.context.config.fed_md.settings.augment;
        self.context
            .refuse_large_crop("fed_md", augment, dataset.size())?;
        let roles = Roles::new(self.context, &dataset)?;
        let parameters: u64 = roles.parties.iter().map(|party| party.parameters).sum();
        run.needs_space(PARAMETER_BYTES * parameters);
        self.context
            .warn_about_ranks("fed_md.ranks", roles.parties.len());
        run.dataset(&dataset)?;
        if let Some(public) = &roles.public.other {
            run.fact("public_fingerprint", &public.fingerprint)?;
        }
        run.input("split", self.split)?;
        Ok((dataset, roles))
    }

    fn work(
        &self,
        (dataset, roles): &(Dataset, Roles),
        rank: &mut Rank,
        session: Option<&mut Session>,
    ) -> Result<()> {
        let settings = &self.context.config.fed_md.settings;
        let leads = session.is_some();
        let has_images = |node: usize| leads || rank.hosts(node);
        let federation = roles.federation(self.context, dataset, has_images)?;
        let Some(session) = session else {
            fed_md::run(settings, &federation, rank, None, &mut ()).within("fed_md")?;
            return Ok(());
        };
        let clients = roles.parties.iter().zip(&federation.clients);
        let clients = clients.map(|(party, client)| FedMdClient {
            node: party.node,
            model: party.spec.model.kind,
            parameters: party.parameters,
            images: client.data.train.len(),
        });
        let clients = clients.collect();
        lead(self.context, (dataset, &federation), rank, clients, session)
    }
}

/// Does the server's part, over ranks or with `clients` elsewhere, and writes the run.
pub(super) fn lead<'l>(
    context: &StageContext,
    (dataset, federation): (&Dataset, &Federation),
    link: impl Into<Link<'l>>,
    clients: Vec<FedMdClient>,
    session: &mut Session,
) -> Result<()> {
    let settings = &context.config.fed_md.settings;
    let (mut recorder, start) = Recorder::open(context, clients, settings, federation, session)?;
    let states =
        fed_md::run(settings, federation, link, start.as_ref(), &mut recorder).within("fed_md")?;
    for (node, state) in &states {
        interrupt::check()?;
        save(dataset, federation, *node, state, session)
            .with_context(|| format!("saving the model of node {node}"))?;
    }
    let (metrics, journal) = recorder.finish();
    journal.finish(session)?;
    json::write(&session.job.output, &metrics)?;
    session.run.output("metrics", &session.job.output)?;
    summary::print(&metrics, &session.job.output)
}

fn save(
    dataset: &Dataset,
    federation: &Federation,
    node: usize,
    state: &StateDict,
    session: &mut Session,
) -> Result<()> {
    let client = federation.clients.iter().find(|client| client.node == node);
    let client = client.ok_or_else(|| Error::failed("it is no client"))?;
    let counts = client.data.train.counts(dataset.classes.len());
    let card = Card::new(client.spec.clone(), dataset, counts);
    let path = session.companion(&format!("model_node{node}.safetensors"));
    weights::save(&path, state, &card)?;
    session.run.output("weights", &path)?;
    Ok(())
}
