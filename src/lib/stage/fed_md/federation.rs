//! Assigns the roles of the split's nodes: which are clients, whose images are public, which client
//! has which architecture.

use super::super::train_teachers::teacher_count;
use crate::data::{self, Dataset, ImageSet, Normalisation};
use crate::error::{During, Error};
use crate::federated::NodeData;
use crate::federated::fed_md::{Client, Federation, Task};
use crate::model::ModelSpec;
use crate::partition::{Part, Split};
use crate::run::StageContext;
use crate::runtime::interrupt;
use crate::runtime::seed::Seeds;
use crate::words::counted;
use anyhow::{Context, Result, bail};

/// Describes a node that takes part.
#[derive(Clone)]
pub struct Party {
    /// Its number in the split.
    pub node: usize,
    pub spec: ModelSpec,
    /// Counts the parameters of its model.
    pub parameters: u64,
    part: Part,
}

/// Holds the public images.
pub(in super::super) struct Public {
    /// Where they are part of the dataset.
    shared: Option<ImageSet>,
    /// Where they are another dataset's.
    pub other: Option<Dataset>,
}

impl Public {
    /// Loads the public images; returns also the node of the split whose they are, if it is one's.
    ///
    /// # Errors
    /// Fails for a split without such a node, and for images that the clients' models do not take.
    pub fn load(
        context: &StageContext,
        dataset: &Dataset,
        split: &Split,
    ) -> Result<(Self, Option<usize>)> {
        let config = &context.config.fed_md;
        let node = match config.public {
            None => Some(public_node(config.public_node, split)?),
            Some(_) => None,
        };
        let shared = node.map(|node| dataset.train.select(&split.nodes[node].train));
        let shared = shared.transpose()?;
        if shared.as_ref().is_some_and(|public| public.len() < 2) {
            bail!(too_few("the public node has"));
        }
        let other = match &config.public {
            Some(settings) => Some(
                data::load(settings, context.device)
                    .within("fed_md.public")
                    .context("loading the public dataset")?,
            ),
            None => None,
        };
        if let Some(other) = &other {
            fits(dataset, other)?;
        }
        Ok((Self { shared, other }, node))
    }

    /// Returns the images and their normalisation; `dataset` has the private ones.
    pub fn images<'a>(&'a self, dataset: &'a Dataset) -> (&'a ImageSet, &'a Normalisation) {
        match &self.other {
            Some(other) => (&other.train, &other.normalisation),
            None => (
                self.shared.as_ref().unwrap_or(&dataset.train),
                &dataset.normalisation,
            ),
        }
    }

    /// Returns what all clients agree on.
    pub fn task<'a>(&'a self, context: &StageContext, dataset: &'a Dataset) -> Task<'a> {
        let (public, public_normalisation) = self.images(dataset);
        Task {
            public,
            public_normalisation,
            test: &dataset.test,
            normalisation: &dataset.normalisation,
            device: context.device,
            precision: context.precision,
            seeds: Seeds::new(context.config.seed),
            eval_batch_size: *context.config.fed_md.eval_batch_size,
        }
    }
}

/// Holds the split's parts with their roles.
pub struct Roles {
    pub parties: Vec<Party>,
    pub(in super::super) public: Public,
}

impl Roles {
    /// Reads the split and assigns the roles.
    ///
    /// # Errors
    /// Fails without a split and with one of another dataset or of too few nodes; when a part has
    /// one image, when an architecture does not take the images, when the public set has another
    /// shape or more classes, and when there are not as many weights as clients.
    pub(in super::super) fn new(context: &StageContext, dataset: &Dataset) -> Result<Self> {
        let config = &context.config.fed_md;
        let split = context.split(dataset)?;
        let taught = teacher_count(&context.config.teacher, split.nodes.len())?;
        let (public, shared) = Public::load(context, dataset, &split)?;
        let parts = split.nodes.into_iter().enumerate().take(taught);
        let parts = parts.filter(|(node, _)| Some(*node) != shared).enumerate();
        let roles = Self {
            parties: parts
                .map(|(index, (node, part))| party(context, dataset, index, node, part))
                .collect::<Result<_>>()?,
            public,
        };
        roles.check(context)?;
        let (models, clients) = (
            config.models.as_deref().unwrap_or_default(),
            roles.parties.len(),
        );
        if let Some(idle) = models.get(clients..).filter(|idle| !idle.is_empty()) {
            let idle: Vec<String> = idle.iter().map(ToString::to_string).collect();
            tracing::warn!(
                "`fed_md.models` names {} for {}: nobody trains {}",
                counted(models.len(), "architecture"),
                counted(clients, "client"),
                idle.join(", ")
            );
        }
        Ok(roles)
    }

    /// Returns the same for a thread: tensors are views.
    pub fn share(&self) -> Self {
        Self {
            parties: self.parties.clone(),
            public: Public {
                shared: self.public.shared.as_ref().map(ImageSet::share),
                other: self.public.other.as_ref().map(Dataset::share),
            },
        }
    }

    /// Returns the clients with their architectures, and the images, which are copies, of those
    /// whose node `has_images`.
    pub(in super::super) fn federation<'a>(
        &'a self,
        context: &StageContext,
        dataset: &'a Dataset,
        has_images: impl Fn(usize) -> bool,
    ) -> Result<Federation<'a>> {
        let client = |party: &Party| {
            Ok(Client {
                node: party.node,
                spec: party.spec.clone(),
                data: match has_images(party.node) {
                    true => NodeData::of(dataset, &party.part)?,
                    false => NodeData::of(dataset, &Part::default())?,
                },
            })
        };
        Ok(Federation {
            task: self.public.task(context, dataset),
            clients: self.parties.iter().map(client).collect::<Result<_>>()?,
        })
    }

    fn check(&self, context: &StageContext) -> Result<()> {
        let config = &context.config.fed_md;
        if self.parties.is_empty() {
            bail!(
                Error::usage("no client is left beside the public node").hint(
                    "raise `teacher.num_teachers`, or make another node public \
                    (`fed_md.public_node`)",
                )
            );
        }
        if let Some(party) = self.parties.iter().find(|party| party.part.train.len() < 2) {
            bail!(too_few(&format!("node {} has", party.node)));
        }
        match &config.settings.weights {
            Some(weights) if weights.len() != self.parties.len() => {
                bail!(
                    Error::usage("`fed_md.weights` must have one weight for each client")
                        .note("expected", format!("{} weights", self.parties.len()))
                        .note("found", format!("{weights:?}"))
                );
            }
            _ => Ok(()),
        }
    }
}

/// Returns a client. Clients take the architectures of `fed_md.models` in turn.
fn party(
    context: &StageContext,
    dataset: &Dataset,
    index: usize,
    node: usize,
    part: Part,
) -> Result<Party> {
    let model = match &context.config.fed_md.models {
        Some(models) => &models[index % models.len()],
        None => &context.config.model,
    };
    interrupt::check()?;
    let (spec, parameters) = context
        .sized_model(dataset, model)
        .with_context(|| format!("choosing the architecture of node {node}"))?;
    Ok(Party {
        node,
        spec,
        parameters,
        part,
    })
}

/// Returns the split's public node: the one asked for, or the last.
fn public_node(asked: Option<usize>, split: &Split) -> Result<usize> {
    let nodes = split.nodes.len();
    if nodes < 2 {
        bail!(
            Error::usage(
                "the split has one node; FedMD needs a client beside the public \
            node",
            )
            .hint(
                "split the data among more nodes (`split.num_nodes`), or take another dataset \
                for the public set (`fed_md.public.kind=…`)",
            )
        );
    }
    match asked {
        Some(node) if node >= nodes => Err(Error::usage(format!(
            "`fed_md.public_node` is {node}, but the split has {nodes} nodes"
        ))
        .hint(format!("choose 0 to {}, or `null` for the last", nodes - 1))
        .into()),
        node => Ok(node.unwrap_or(nodes - 1)),
    }
}

fn too_few(who: &str) -> Error {
    Error::failed(format!(
        "{who} one training image; batch norm needs at least 2"
    ))
    .hint("split the data among fewer nodes (`split.num_nodes`)")
}

/// Refuses public images that the clients' models cannot take, or have no class for.
fn fits(dataset: &Dataset, public: &Dataset) -> Result<()> {
    let shape = |set: &Dataset| format!("{}×{}×{}", set.channels(), set.size(), set.size());
    if shape(dataset) != shape(public) {
        bail!(
            Error::usage("the public images are of another shape than the private ones")
                .note("expected", format!("{}: {}", dataset.name, shape(dataset)))
                .note("found", format!("{}: {}", public.name, shape(public)))
                .hint(format!(
                    "`fed_md.public.size={} fed_md.public.channels={}` converts them",
                    dataset.size(),
                    dataset.channels()
                ))
        );
    }
    match public.classes.len() > dataset.classes.len() {
        true => Err(
            Error::usage("the public set has more classes than the models tell apart")
                .note(
                    "expected",
                    format!("{} or fewer, as {}", dataset.classes.len(), dataset.name),
                )
                .note(
                    "found",
                    format!("{}: {}", public.name, public.classes.len()),
                )
                .into(),
        ),
        false => Ok(()),
    }
}
