//! Leads the clients through the rounds of the task, and writes the run as the stage of the same
//! name does: `inspect` reads what it leaves.

use super::super::rounds as agreed;
use super::super::{fed_avg, fed_md};
use super::stages::offer;
use crate::config::{self, Config};
use crate::data::Dataset;
use crate::error::Error;
use crate::federated::{Link, NodeData};
use crate::network::rounds::plan::{Algorithm, Plan};
use crate::network::rounds::server::RoundsServer;
use crate::network::server::Server;
use crate::network::state::Event;
use crate::run::job::Job;
use crate::run::metrics::FedMdClient;
use crate::run::{StageContext, manifest, open_for, stages};
use anyhow::{Result, bail};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Runs all rounds, on a thread of its own, and ends the work.
///
/// # Errors
/// Fails when too few clients answer for too long, as the stages do, and with class interrupted
/// when a stop was asked for.
pub fn run(
    server: &Arc<Server>,
    plan: &Plan,
    runtime: Handle,
    overrides: Vec<String>,
) -> Result<()> {
    let group = plan.algorithm.to_string();
    let folder = server.store.folder.join(&group);
    let path = config::quoted(&folder.display().to_string());
    let fixed = [format!("{group}.save_folder={path}"), "resume=true".into()];
    let overrides = overrides.into_iter().chain(fixed).collect();
    let mut composed = agreed::composed(&server.task, plan, overrides)?;
    // What clients sent in a round is removed once the round is saved.
    composed.config.checkpoint.0.every = 0.0;
    let context = open_for(&composed, 1)?;
    let mut rounds = RoundsServer::new(Arc::clone(server), plan.clone(), runtime);
    let lead = Lead {
        context: &context,
        server,
        folder: &folder,
    };
    match &plan.algorithm {
        Algorithm::FedAvg { .. } => lead.average(&mut rounds),
        Algorithm::FedMd { public, .. } => lead.distill(&mut rounds, public),
    }
}

/// Refuses a server that is to evaluate on the clients' images.
///
/// # Errors
/// Fails (usage) with `fed_avg.eval_train`.
pub fn refuse_training_images(config: &Config) -> Result<(), Error> {
    match config.fed_avg.eval_train {
        true => Err(Error::usage(
            "`fed_avg.eval_train` needs the clients' images, which stay there",
        )
        .hint("leave it out: each client reports its own accuracy")),
        false => Ok(()),
    }
}

/// Does the server's part.
struct Lead<'a> {
    context: &'a StageContext<'a>,
    server: &'a Server,
    folder: &'a Path,
}

impl Lead<'_> {
    fn average(&self, rounds: &mut RoundsServer) -> Result<()> {
        let job = Job::in_folder(&stages::FED_AVG, self.folder, "global.safetensors");
        let inputs = |run: &mut manifest::Run| self.dataset(run);
        self.context.perform(&job, inputs, |dataset, session| {
            let nodes = (0..self.server.tokens.parties()).map(|_| no_images(&dataset));
            let federation = crate::federated::fed_avg::Federation {
                task: fed_avg::task(self.context, &dataset)?,
                nodes: nodes.collect::<Result<_>>()?,
            };
            let link = Link::with_clients(rounds);
            fed_avg::lead(self.context, (&dataset, &federation), link, None, session)
        })?;
        tracing::info!("the global model is ready: {}", job.output.display());
        offer(self.server, &job.output)
    }

    fn distill(
        &self,
        rounds: &mut RoundsServer,
        public: &crate::network::rounds::plan::Public,
    ) -> Result<()> {
        self.refuse_weights()?;
        let job = Job::in_folder(&stages::FED_MD, self.folder, "metrics.json");
        let inputs = |run: &mut manifest::Run| {
            let dataset = self.dataset(run)?;
            let (images, _) = agreed::agreed_public(self.context, &dataset, public)?;
            run.fact("public_sha256", &public.sha256)?;
            Ok((dataset, images))
        };
        self.context
            .perform(&job, inputs, |(dataset, images), session| {
                let (mut clients, mut described) = (Vec::new(), Vec::new());
                for node in 0..self.server.tokens.parties() {
                    let spec = self.server.task.spec_of(node);
                    let (spec, parameters) = self.context.sized_model(&dataset, &spec.model)?;
                    described.push(FedMdClient {
                        node,
                        model: spec.model.kind,
                        parameters,
                        images: self.images(node),
                    });
                    clients.push(crate::federated::fed_md::Client {
                        node,
                        spec,
                        data: no_images(&dataset)?,
                    });
                }
                let federation = crate::federated::fed_md::Federation {
                    task: images.task(self.context, &dataset),
                    clients,
                };
                let link = Link::with_clients(rounds);
                fed_md::lead(
                    self.context,
                    (&dataset, &federation),
                    link,
                    described,
                    session,
                )
            })?;
        let store = &self.server.store;
        Ok(store.commit(|_| Ok::<_, Error>(Some(Event::Ended)))?)
    }

    /// Refuses `fed_md.weights` that do not fit the clients, or could all be 0 in a round without
    /// those that are missing.
    fn refuse_weights(&self) -> Result<()> {
        let Some(weights) = &self.context.config.fed_md.settings.weights else {
            return Ok(());
        };
        let clients = self.server.tokens.parties();
        let least = self.server.task.min_clients;
        let zeros = weights.iter().filter(|&&weight| weight == 0.0).count();
        let expected = match weights.len() == clients {
            true if zeros < least => return Ok(()),
            true => format!("fewer than {least} zeros, since so many clients are a round"),
            false => format!("{clients} weights, one for each client that was ever added"),
        };
        bail!(
            Error::usage("`fed_md.weights` does not fit the clients of this server")
                .note("expected", expected)
                .note("found", format!("{weights:?}"))
        );
    }

    fn dataset(&self, run: &mut manifest::Run) -> Result<Dataset> {
        let dataset = agreed::dataset(self.context, &self.server.task)?;
        run.dataset(&dataset)?;
        run.fact("task", self.server.task.fingerprint()?)?;
        Ok(dataset)
    }

    /// Returns the number of images that a client declared.
    fn images(&self, node: usize) -> usize {
        self.server.store.view(|state| {
            let mut clients = state.clients.values();
            let client = clients.find(|client| client.node == Some(node));
            client.map_or(0, |client| client.images as usize)
        })
    }
}

/// Returns the images that a server has of a client.
fn no_images(dataset: &Dataset) -> Result<NodeData> {
    Ok(NodeData {
        train: dataset.train.select(&[])?,
        test: dataset.test.select(&[])?,
    })
}
