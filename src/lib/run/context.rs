//! Starts a stage: logging, Ctrl-C, threads and device, and the context that holds them with the
//! config.

use super::{Demand, manifest, ranks};
use crate::config::{Composed, Config};
use crate::data::{self, Dataset};
use crate::error::{During, Error};
use crate::model::{Model, ModelSettings, ModelSpec, Precision};
use crate::runtime::{device, interrupt, launcher, logging, threads};
use crate::setting::FilePath;
use crate::words::counted;
use anyhow::{Context, Result};
use std::path::Path;
use tch::Device;

/// Bytes of a parameter in a file of weights.
pub const PARAMETER_BYTES: u64 = 4;

/// Holds what every stage has once it has started.
pub struct StageContext<'a> {
    pub composed: &'a Composed,
    pub config: &'a Config,
    pub device: Device,
    /// What `precision` means on that device.
    pub precision: Precision,
    /// Counts the threads of each rank.
    pub threads: usize,
    /// Counts the ranks that share the work.
    pub ranks: usize,
}

/// Starts a stage that works alone.
///
/// # Errors
/// Fails when the process is one of several (usage), and for a device or a number of threads that
/// this machine does not have.
pub fn open(composed: &Composed) -> Result<StageContext<'_>> {
    ranks::refuse_other_processes()?;
    open_for(composed, 1)
}

/// Starts a stage whose work `ranks` ranks share.
///
/// # Errors
/// Fails as [`open`] does, but for several processes if this program was built with MPI.
pub fn open_for(composed: &Composed, ranks: usize) -> Result<StageContext<'_>> {
    ranks::refuse_without_mpi()?;
    logging::init()?;
    interrupt::install()?;
    let config = &composed.config;
    let here = launcher::launched().map_or(ranks, |launched| launched.here);
    let threads = threads::set(*config.threads, here)?;
    let device = device::choose(&config.device)?;
    device::tune(device, *config.deterministic)?;
    Ok(StageContext {
        composed,
        config,
        threads,
        device,
        precision: config.precision.on(device),
        ranks,
    })
}

impl StageContext<'_> {
    /// Loads the dataset onto the device.
    ///
    /// # Errors
    /// Fails as [`data::load`] does.
    pub fn dataset(&self) -> Result<Dataset> {
        let dataset = data::load(&self.config.dataset, self.device)
            .within("dataset")
            .context("loading the dataset")?;
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

    /// Returns the architecture that nodes train on `dataset`.
    ///
    /// # Errors
    /// Fails when the model does not take its images.
    pub fn model(&self, dataset: &Dataset) -> Result<ModelSpec> {
        let classes = dataset.classes.len() as i64;
        let spec = ModelSpec::new(
            &self.config.model,
            dataset.channels(),
            dataset.size(),
            classes,
        );
        Ok(spec.within("model")?)
    }

    /// Returns a complete architecture on the images of `dataset`, and the number of its
    /// parameters.
    ///
    /// # Errors
    /// Fails when the model does not take the images.
    pub fn sized_model(
        &self,
        dataset: &Dataset,
        model: &ModelSettings,
    ) -> Result<(ModelSpec, u64)> {
        let classes = dataset.classes.len() as i64;
        let spec = ModelSpec::new(model, dataset.channels(), dataset.size(), classes);
        let spec = spec.within("model")?;
        let parameters = Model::count_parameters(&spec)?;
        Ok((spec, parameters))
    }

    /// Refuses to train the config's model on `dataset` where it cannot be built, or takes more
    /// memory than there is, and says that `run` writes its weights.
    ///
    /// # Errors
    /// Fails as [`sized_model`](Self::sized_model) does, and with too many parameters (usage).
    pub fn refuse_model(&self, dataset: &Dataset, run: &mut manifest::Run) -> Result<()> {
        let (_, parameters) = self.sized_model(dataset, &self.config.model)?;
        self.refuse_demand(&Demand {
            what: "parameters",
            count: parameters.into(),
            // And its gradient.
            bytes: 2 * u128::from(PARAMETER_BYTES),
            keys: &["model.width", "model.blocks"],
        })?;
        run.needs_space(PARAMETER_BYTES * parameters);
        Ok(())
    }

    /// Warns when some of the ranks that share the nodes of a federation have none.
    pub fn warn_about_ranks(&self, key: &str, nodes: usize) {
        if self.ranks > nodes {
            tracing::warn!(
                "{} share {}, so {} nothing to do: `{key}={nodes}` (or `mpirun -n {nodes}`) is as \
                 fast",
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

/// Returns a path that this stage cannot do without; `example` is what the error proposes.
///
/// # Errors
/// Fails when it is not set (usage).
pub fn required<'a>(path: &'a Option<FilePath>, key: &str, example: &str) -> Result<&'a Path> {
    let path = path.as_deref().filter(|path| !path.as_os_str().is_empty());
    path.ok_or_else(|| {
        let error = Error::usage(format!("`{key}` is not set"));
        error.hint(format!("say where: {key}={example}")).into()
    })
}
