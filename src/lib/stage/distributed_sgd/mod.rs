//! `distributed_sgd` trains one model by stochastic gradient descent over several ranks,
//! all-reduced or with a parameter server, and counts every byte.

mod recorder;

use super::test;
use crate::config::Composed;
use crate::config::schema::DistributedSgdConfig;
use crate::data::Dataset;
use crate::error::{During, Error};
use crate::federated::distributed_sgd::{self, LossAt, Method, Task, Trained};
use crate::federated::transport::Rank;
use crate::report::Table;
use crate::run::job::{Job, Session};
use crate::run::manifest;
use crate::run::metrics::DistributedSgdMetrics;
use crate::run::ranks::{self, Shared, Threaded};
use crate::run::stages;
use crate::run::weights::Card;
use crate::run::{StageContext, open_for, required};
use crate::runtime::launcher::launched;
use crate::runtime::output;
use crate::runtime::seed::Seeds;
use crate::words::percent;
use anyhow::Result;
use recorder::Recorder;

/// Runs the stage.
///
/// # Errors
/// Fails when the training diverges, when a rank fails or does not answer, and when a file cannot
/// be written.
pub fn run(composed: &Composed) -> Result<()> {
    let config = &composed.config.distributed_sgd;
    let usual = if config.method == Method::Centralised {
        1
    } else {
        2
    };
    let count = ranks::count("distributed_sgd.ranks", config.ranks, usual)?;
    let alone = config.method == Method::Centralised && launched().is_none();
    // Another number is another run, also where MPI decides it.
    let mut composed = composed.clone();
    composed.config.distributed_sgd.ranks = Some(if config.method == Method::Centralised {
        1
    } else {
        count
    });
    let context = open_for(&composed, if alone { 1 } else { count })?;
    let config = &context.config.distributed_sgd;
    if config.method == Method::Centralised && count > 1 {
        tracing::warn!(
            "`distributed_sgd.method=centralised` trains on one rank; the others have nothing to do"
        );
    }
    let folder = required(
        &config.save_folder,
        "distributed_sgd.save_folder",
        "outputs/distributed_sgd",
    )?;
    let job = Job::in_folder(&stages::DISTRIBUTED_SGD, folder, "model.safetensors");
    let context = &context;
    if !ranks::perform(context, &job, &Descent { context, config })? {
        tracing::info!("the model is trained already: {}", folder.display());
    }
    Ok(())
}

/// Does the stage's work.
struct Descent<'a> {
    context: &'a StageContext<'a>,
    config: &'a DistributedSgdConfig,
}

impl Threaded for Descent<'_> {
    fn view(&self, dataset: &Dataset) -> Dataset {
        dataset.share()
    }
}

impl Shared for Descent<'_> {
    type Inputs = Dataset;

    fn load(&self, run: &mut manifest::Run) -> Result<Dataset> {
        let dataset = self.context.dataset()?;
        self.context.refuse_large_crop(
            "distributed_sgd",
            &self.config.settings.augment,
            dataset.size(),
        )?;
        self.context.refuse_model(&dataset, run)?;
        run.dataset(&dataset)?;
        run.fact("ranks", self.used())?;
        Ok(dataset)
    }

    fn work(
        &self,
        dataset: &Dataset,
        rank: &mut Rank,
        session: Option<&mut Session>,
    ) -> Result<()> {
        let config = self.config;
        let task = Task {
            spec: self.context.model(dataset)?,
            device: self.context.device,
            precision: self.context.precision,
            train: &dataset.train,
            normalisation: &dataset.normalisation,
            seeds: Seeds::new(self.context.config.seed),
        };
        let Some(session) = session else {
            distributed_sgd::run(config.method, &config.settings, &task, rank, None, &mut ())
                .within("distributed_sgd")?;
            return Ok(());
        };
        let (mut recorder, start) = Recorder::open(self.context, dataset, session)?;
        let trained = distributed_sgd::run(
            config.method,
            &config.settings,
            &task,
            rank,
            start.as_ref(),
            &mut recorder,
        )
        .within("distributed_sgd")?;
        let trained = trained.ok_or_else(|| Error::failed("rank 0 has no result"))?;
        let accuracy = test(&trained.model, dataset, *config.eval_batch_size)?.accuracy();
        let card = Card::new(
            task.spec,
            dataset,
            dataset.train.counts(dataset.classes.len()),
        );
        session.save_weights(&trained.model.state(), &card)?;
        let (losses, journal) = recorder.finish();
        let metrics = self.metrics(&trained, losses, accuracy);
        session.save_metrics(&metrics)?;
        journal.finish(session)?;
        summary(&metrics)?;
        output::print(format!("weights:  {}", session.job.output.display()))?;
        Ok(())
    }
}

impl Descent<'_> {
    /// Returns the number of ranks that train.
    fn used(&self) -> usize {
        match self.config.method {
            Method::Centralised => 1,
            _ => self.context.ranks,
        }
    }

    fn metrics(
        &self,
        trained: &Trained,
        losses: Vec<LossAt>,
        test_accuracy: Option<f64>,
    ) -> DistributedSgdMetrics {
        DistributedSgdMetrics {
            method: self.config.method,
            ranks: self.used(),
            parameters: trained.model.parameter_count(),
            steps: trained.steps,
            losses,
            test_accuracy,
            traffic: trained.ledger.traffic(|_| true),
        }
    }
}

fn summary(metrics: &DistributedSgdMetrics) -> Result<()> {
    let mut table = Table::new(&["epoch", "batch", "mean loss"]);
    for at in &metrics.losses {
        table.row(vec![
            (at.epoch + 1).to_string(),
            at.batch.to_string(),
            format!("{:.4}", at.loss),
        ]);
    }
    match metrics.losses.is_empty() {
        true => tracing::info!(
            "an epoch has fewer batches than `distributed_sgd.report_every`: no losses to report"
        ),
        false => output::print(&table)?,
    }
    for part in &metrics.traffic {
        output::print(format!(
            "bytes: {} of {}, {}",
            part.bytes, part.kind, part.direction
        ))?;
    }
    output::print(format!("test accuracy: {}", percent(metrics.test_accuracy)))?;
    Ok(())
}
