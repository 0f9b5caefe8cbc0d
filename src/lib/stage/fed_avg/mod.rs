//! `fed_avg` trains one model with the nodes of a split, in many rounds of federated averaging, and
//! counts every byte between them and the server.

mod recorder;

use super::train_teachers::teacher_count;
use crate::config::Composed;
use crate::data::Dataset;
use crate::error::{During, Error};
use crate::federated::Link;
use crate::federated::fed_avg::{self, Federation, NodeData, Task};
use crate::federated::transport::Rank;
use crate::partition::{Part, Split};
use crate::report::Table;
use crate::run::job::{Job, Session};
use crate::run::manifest;
use crate::run::metrics::FedAvgMetrics;
use crate::run::ranks::{self, Shared, Threaded};
use crate::run::stages;
use crate::run::weights::Card;
use crate::run::{StageContext, open_for, required};
use crate::runtime::output;
use crate::runtime::seed::Seeds;
use crate::train::OptimizerKind;
use crate::words::percent;
use anyhow::{Result, bail};
use recorder::Recorder;
use std::path::Path;

/// Limits the lines of the table on stdout.
const SHOWN: usize = 10;

/// Runs the stage.
///
/// # Errors
/// Fails without a split and with one of another dataset, when the training diverges, when a rank
/// fails or does not answer, and when a file cannot be written.
pub fn run(composed: &Composed) -> Result<()> {
    let config = &composed.config;
    let context = open_for(
        composed,
        ranks::count("fed_avg.ranks", *config.fed_avg.ranks, 1)?,
    )?;
    let folder = required(
        &config.fed_avg.save_folder,
        "fed_avg.save_folder",
        "outputs/fed_avg",
    )?;
    let split = required(
        &config.split.save_path,
        "split.save_path",
        "outputs/split.json",
    )?;
    let job = Job::in_folder(&stages::FED_AVG, folder, "global.safetensors");
    let context = &context;
    if !ranks::perform(context, &job, &Average { context, split })? {
        tracing::info!("the federation has trained already: {}", folder.display());
    }
    Ok(())
}

/// Warns of Adam at the server with the rate that is meant for plain averaging: each weight then
/// moves by about 1 in the first round.
pub fn warn_of_server_rate(composed: &Composed) {
    let (server, key) = (
        &composed.config.fed_avg.settings.server,
        "fed_avg.server.lr",
    );
    if matches!(server.kind, OptimizerKind::Adam(_)) && !composed.is_set(key) {
        tracing::warn!(
            "`{key}` is {}, which is meant for averaging, and too much for `adam`: \
             `+fed_avg=adam` sets a rate and an ε for it",
            server.lr
        );
    }
}

/// Does the stage's work.
struct Average<'a> {
    context: &'a StageContext<'a>,
    /// Path of the split.
    split: &'a Path,
}

impl Threaded for Average<'_> {
    fn view(&self, (dataset, split): &(Dataset, Split)) -> (Dataset, Split) {
        (dataset.share(), split.clone())
    }
}

impl Shared for Average<'_> {
    type Inputs = (Dataset, Split);

    fn load(&self, run: &mut manifest::Run) -> Result<(Dataset, Split)> {
        let dataset = self.context.dataset()?;
        let augment = &self.context.config.fed_avg.settings.augment;
        self.context
            .refuse_large_crop("fed_avg", augment, dataset.size())?;
        let mut split = self.context.split(&dataset)?;
        split.nodes.truncate(teacher_count(
            &self.context.config.teacher,
            split.nodes.len(),
        )?);
        if let Some(node) = split.nodes.iter().position(|part| part.train.len() < 2) {
            bail!(
                Error::failed(format!(
                    "node {node} has one training image; batch norm needs at least 2"
                ))
                .hint("split the data among fewer nodes (`split.num_nodes`)")
            );
        }
        self.context
            .warn_about_ranks("fed_avg.ranks", split.nodes.len());
        warn_of_server_rate(self.context.composed);
        self.context.refuse_model(&dataset, run)?;
        run.dataset(&dataset)?;
        run.input("split", self.split)?;
        Ok((dataset, split))
    }

    fn work(
        &self,
        (dataset, split): &(Dataset, Split),
        rank: &mut Rank,
        session: Option<&mut Session>,
    ) -> Result<()> {
        let settings = &self.context.config.fed_avg.settings;
        // Selected images are copies: a rank has those of its nodes, and rank 0, which counts and
        // evaluates, those of all.
        let leads = session.is_some();
        let node = |(node, part): (usize, &Part)| match leads || rank.hosts(node) {
            true => NodeData::of(dataset, part),
            false => NodeData::of(dataset, &Part::default()),
        };
        let nodes = split.nodes.iter().enumerate().map(node);
        let federation = Federation {
            task: task(self.context, dataset)?,
            nodes: nodes.collect::<Result<_, Error>>()?,
        };
        let Some(session) = session else {
            fed_avg::run(settings, &federation, rank, None, &mut ()).within("fed_avg")?;
            return Ok(());
        };
        let counts = label_counts(&federation, dataset.classes.len());
        lead(
            self.context,
            (dataset, &federation),
            rank,
            Some(counts),
            session,
        )
    }
}

/// Does the server's part, over ranks or with clients elsewhere, and writes the run. `counts` are
/// the clients' training images of each class, where they are known.
pub(super) fn lead<'l>(
    context: &StageContext,
    (dataset, federation): (&Dataset, &Federation),
    link: impl Into<Link<'l>>,
    counts: Option<Vec<u64>>,
    session: &mut Session,
) -> Result<()> {
    let settings = &context.config.fed_avg.settings;
    let (mut recorder, start) = Recorder::open(context, dataset, federation, session)?;
    let model = fed_avg::run(settings, federation, link, start.as_ref(), &mut recorder);
    let model = model.within("fed_avg")?;
    let model = model.ok_or_else(|| Error::failed("the federation has no server"))?;
    let card = Card::new(federation.task.spec.clone(), dataset, counts);
    session.save_weights(&model.state(), &card)?;
    let (metrics, journal) = recorder.finish(&model);
    session.save_metrics(&metrics)?;
    journal.finish(session)?;
    summary(&metrics, &session.job.output)
}

/// Returns what server and clients must agree on beside the settings.
pub(super) fn task<'a>(context: &StageContext, dataset: &'a Dataset) -> Result<Task<'a>> {
    Ok(Task {
        spec: context.model(dataset)?,
        device: context.device,
        precision: context.precision,
        normalisation: &dataset.normalisation,
        seeds: Seeds::new(context.config.seed),
        eval_batch_size: *context.config.fed_avg.eval_batch_size,
    })
}

/// Returns the numbers of training images of each class, over all nodes.
fn label_counts(federation: &Federation, classes: usize) -> Vec<u64> {
    let mut sum = vec![0; classes];
    for node in &federation.nodes {
        for (sum, count) in sum.iter_mut().zip(node.train.counts(classes)) {
            *sum += count;
        }
    }
    sum
}

/// Prints the table on stdout: rounds spread evenly, the last among them.
fn summary(metrics: &FedAvgMetrics, weights: &Path) -> Result<()> {
    let mut table = Table::new(&[
        "round",
        "nodes",
        "train loss",
        "train",
        "own test, mean",
        "test",
        "bytes uploaded",
        "bytes downloaded",
    ]);
    let course = &metrics.course;
    let rounds = course.rounds.len();
    let shown = rounds.min(SHOWN);
    for line in
        (1..=shown).filter_map(|i| course.rounds.get((rounds * i / shown).saturating_sub(1)))
    {
        let (up, down) = course.bytes_of_first(line.round);
        table.row(vec![
            line.round.to_string(),
            line.nodes.len().to_string(),
            format!("{:.4}", line.means.train_loss),
            percent(Some(line.means.train_accuracy)),
            percent(line.means.own_test_accuracy),
            percent(line.means.test_accuracy),
            up.to_string(),
            down.to_string(),
        ]);
    }
    output::print(&table)?;
    output::print(format!(
        "global model: final {}, best on test {}",
        percent(course.final_test_accuracy),
        percent(course.best_test_accuracy)
    ))?;
    output::print(format!(
        "bytes: {} uploaded, {} downloaded; the model has {} parameters, {} bytes",
        course.upload_bytes, course.download_bytes, metrics.parameters, metrics.model_bytes
    ))?;
    output::print(format!("weights:  {}", weights.display()))?;
    Ok(())
}
