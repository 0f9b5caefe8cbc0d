//! One file a binary. Stages are the only place that knows both config and artifacts: typed config
//! in, files and a table out.
//!
//! `open` is the common start of all stages, `job` the common course of one run: admission, lock,
//! manifest, checkpoints, log, and the config beside it (`snapshot`); `ranks` is the course of a
//! run that several ranks share. `journal` writes metrics as they come, `saved` and `batches` what
//! an interrupted run goes on from; `rounds` is both for the baselines of many rounds. `weights` is
//! the form in which teachers and students travel; `teachers` is what the server stages load first,
//! `split` the split that all work on.

mod batches;
pub mod distributed_sgd;
pub mod fed_avg;
pub mod fed_md;
pub mod generate_initial;
mod guard;
pub mod inspect;
mod job;
mod journal;
mod kept;
mod partitioner;
mod pictures;
mod ranks;
mod rounds;
mod saved;
mod snapshot;
mod split;
pub mod split_data;
mod summary;
mod teachers;
pub mod train_student;
pub mod train_teachers;
mod weights;

use crate::config::{Composed, Config};
use crate::data::{self, Dataset, ImageSet};
use crate::error::{During, Error, Result};
use crate::model::{Model, ModelSpec, Precision};
use crate::runtime::{device, interrupt, launcher, logging, threads};
use crate::train::{Evaluation, evaluate};
use crate::words::counted;
use std::path::{Path, PathBuf};
use tch::Device;

/// What every stage has once it has started.
struct Workplace<'a> {
    composed: &'a Composed,
    config: &'a Config,
    device: Device,
    /// What `precision` means on that device.
    precision: Precision,
    /// Of each rank.
    threads: usize,
    /// Those that share the work.
    ranks: usize,
}

/// Logs, Ctrl-C, threads and device, for a stage that works alone.
fn open(composed: &Composed) -> Result<Workplace<'_>> {
    ranks::refuse_company()?;
    open_for(composed, 1)
}

/// The same for a stage whose work `ranks` ranks share.
fn open_for(composed: &Composed, ranks: usize) -> Result<Workplace<'_>> {
    ranks::refuse_without_mpi()?;
    logging::init()?;
    interrupt::install()?;
    let config = &composed.config;
    let here = launcher::launched().map_or(ranks, |launched| launched.here);
    let threads = threads::set(config.threads, here)?;
    let device = device::choose(&config.device)?;
    device::tune(device, config.deterministic)?;
    Ok(Workplace {
        composed,
        config,
        threads,
        device,
        precision: config.precision.on(device),
        ranks,
    })
}

impl Workplace<'_> {
    fn dataset(&self) -> Result<Dataset> {
        let dataset =
            data::load(&self.config.dataset, self.device).during(|| "loading the dataset")?;
        tracing::info!(
            "{}: {} training and {} test images of {}×{}×{}, {} classes",
            dataset.name,
            dataset.train.len(),
            dataset.test.len(),
            dataset.channels(),
            dataset.size(),
            dataset.size(),
            dataset.classes.len()
        );
        let untested = dataset.test.counts(dataset.classes.len());
        let untested: Vec<&str> = dataset
            .classes
            .iter()
            .zip(untested)
            .filter(|(_, count)| *count == 0)
            .map(|(class, _)| class.as_str())
            .collect();
        if !untested.is_empty() {
            tracing::warn!(
                "no test images of {}: accuracies say nothing about {}",
                untested.join(", "),
                if untested.len() == 1 { "it" } else { "them" }
            );
        }
        Ok(dataset)
    }

    /// The architecture that nodes train on `dataset`.
    fn model(&self, dataset: &Dataset) -> Result<ModelSpec> {
        let classes = dataset.classes.len() as i64;
        ModelSpec::new(
            &self.config.model,
            dataset.channels(),
            dataset.size(),
            classes,
        )
    }

    /// Says that some of the ranks that share the nodes of a federation have none.
    fn heed_ranks(&self, key: &str, nodes: usize) {
        if self.ranks > nodes {
            tracing::warn!(
                "{} share {}, so {} nothing to do: `{key}={nodes}` (or `mpirun -n {nodes}`) is as fast",
                counted(self.ranks, "rank"),
                counted(nodes, "node"),
                match self.ranks - nodes {
                    1 => "one has".into(),
                    idle => format!("{idle} have"),
                }
            );
        }
    }
}

/// A path that this stage cannot do without.
fn required<'a>(path: &'a Option<PathBuf>, key: &str, example: &str) -> Result<&'a Path> {
    path.as_deref()
        .filter(|path| !path.as_os_str().is_empty())
        .ok_or_else(|| {
            Error::usage(format!("`{key}` is not set")).hint(format!("say where: {key}={example}"))
        })
}

/// How a model does on `dataset`'s test images.
fn test(model: &Model, dataset: &Dataset, batch_size: usize) -> Result<Evaluation> {
    test_on(model, &dataset.test, dataset, batch_size)
}

/// The model on `images` of the dataset.
fn test_on(
    model: &Model,
    images: &ImageSet,
    dataset: &Dataset,
    batch_size: usize,
) -> Result<Evaluation> {
    evaluate(
        &|images| Ok(model.eval(images)),
        images,
        &dataset.normalisation,
        dataset.classes.len(),
        batch_size,
    )
}

/// An accuracy in percent for tables: `96.4 %`, or a dash.
fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
}
