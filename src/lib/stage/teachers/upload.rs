//! Reads the uploads of the server's teachers: each file's card or, where it has none, the one that
//! the config and the split describe, and its label counts.

use crate::artifact::tensors;
use crate::config::schema::CountsFrom;
use crate::data::{Dataset, DatasetKind};
use crate::error::{During, Error};
use crate::inversion::{Start, estimate_class_shares};
use crate::model::ModelSpec;
use crate::partition::label_counts;
use crate::run::StageContext;
use crate::run::agreement::Task;
use crate::run::weights::{self, Card};
use crate::words::{counted, first_of};
use anyhow::Result;
use std::cell::{OnceCell, RefCell};
use std::path::{Path, PathBuf};

/// Images that each teacher is taken to have seen where no card that is asked tells how many.
const UNTOLD_IMAGES: u64 = 10_000;

/// Holds what a teacher's file tells, without its weights.
pub(super) struct Upload {
    pub node: usize,
    pub bytes: u64,
    pub card: Card,
    has_norm: bool,
    /// The estimated share of each class, where the card does not tell or is not asked.
    pub(super) shares: Option<Vec<f64>>,
}

impl Upload {
    /// Reads the file of teacher `node`; `default_card` makes the card of one that has none.
    pub fn read(
        context: &StageContext,
        node: usize,
        path: &Path,
        default_card: &dyn Fn() -> crate::error::Result<Card>,
    ) -> Result<Self> {
        let (model, card) = weights::load(path, default_card, context.device, context.precision)?;
        let shares = match context.config.teacher.counts_from {
            CountsFrom::Card if card.label_counts.is_some() => None,
            _ => {
                let shares = estimate_class_shares(&model);
                Some(shares.map_err(|error| error.note("file", path.display().to_string()))?)
            }
        };
        Ok(Self {
            node,
            bytes: fs_err::metadata(path)?.len(),
            card,
            has_norm: model.batch_norms() > 0,
            shares,
        })
    }
}

/// Warns of what some teachers lack; the label counts of `counted_here` come from the split.
pub(super) fn warn_about_uploads(
    context: &StageContext,
    uploads: &[Upload],
    counted_here: &[usize],
) {
    let nodes = |is_meant: &dyn Fn(&Upload) -> bool| -> Vec<usize> {
        let meant = uploads.iter().filter(|upload| is_meant(upload));
        meant.map(|upload| upload.node).collect()
    };
    warn_about(
        &nodes(&|upload| upload.card.label_counts.is_none()),
        "label counts, which are estimated from their weights",
    );
    let is_counted = |upload: &Upload| upload.shares.is_none();
    warn_about(
        &nodes(&|upload| is_counted(upload) && counted_here.contains(&upload.node)),
        "label counts of their own, which are taken from the dataset and the split",
    );
    let config = context.config;
    let matches_statistics = match &config.generator {
        Some(generator) => generator.loss.batch_norm != 0.0,
        // Pictures of shapes that stay as they are drawn match nothing.
        None => config.deep_inv.start != Start::Shapes || config.deep_inv.di.grad_updates_batch > 1,
    };
    if matches_statistics {
        warn_about(
            &nodes(&|upload| !upload.has_norm),
            "batch norm, so that synthetic images have no feature statistics to match",
        );
    }
}

/// Returns each teacher's label counts: those on its card or, where its classes' shares are
/// estimated, as many images as the cards that are asked tell on average, divided by the shares.
pub(super) fn counts_of(uploads: &[Upload]) -> Vec<Vec<u64>> {
    let told = uploads.iter().filter(|upload| upload.shares.is_none());
    let totals: Vec<u64> = told
        .filter_map(|upload| Some(upload.card.label_counts.as_ref()?.iter().sum()))
        .collect();
    let mean = match totals.len() as u64 {
        0 => UNTOLD_IMAGES,
        count => totals.iter().sum::<u64>() / count,
    };
    let counts = |upload: &Upload| match &upload.shares {
        // At least as many as classes, so that not all round to zero.
        Some(shares) => {
            let images = mean.max(shares.len() as u64) as f64;
            let images = shares.iter().map(|share| (share * images).round() as u64);
            images.collect()
        }
        None => upload.card.label_counts.clone().unwrap_or_default(),
    };
    uploads.iter().map(counts).collect()
}

/// Warns of teachers that have something in common, all in one line: there may be hundreds.
fn warn_about(teachers: &[usize], what: &str) {
    if !teachers.is_empty() {
        tracing::warn!(
            "{} without {what}: {}",
            counted(teachers.len(), "teacher"),
            first_of(teachers)
        );
    }
}

/// Makes the cards of teachers that have none (PyTorch's state dicts).
pub(super) struct DefaultCards<'a> {
    context: &'a StageContext<'a>,
    /// The files of all teachers.
    paths: &'a [PathBuf],
    dataset: OnceCell<Dataset>,
    /// The teachers whose images were counted here.
    counted: RefCell<Vec<usize>>,
}

impl<'a> DefaultCards<'a> {
    /// Returns what makes cards for some of the teachers at `paths`.
    pub(super) fn new(context: &'a StageContext<'a>, paths: &'a [PathBuf]) -> Self {
        Self {
            context,
            paths,
            dataset: OnceCell::new(),
            counted: RefCell::default(),
        }
    }

    /// Returns the card of teacher `node`. Its images are those of node `node` of the dataset's
    /// split; where there is no split or no dataset, the task comes from the config or another
    /// teacher's card, and the label counts stay unknown.
    pub(super) fn card(&self, node: usize) -> Result<Card> {
        let (context, paths) = (self.context, self.paths);
        let settings = &context.config.dataset;
        if settings.kind == DatasetKind::None {
            let task = Task::described(settings, known_card(paths).as_ref())?;
            let classes = task.classes.len() as i64;
            let model = ModelSpec::new(&context.config.model, task.channels, task.size, classes);
            return Ok(Card {
                model: model.within("model")?,
                dataset: settings.kind.to_string(),
                dataset_fingerprint: None,
                classes: task.classes,
                normalisation: task.normalisation,
                label_counts: None,
                synthetic_counts: Vec::new(),
            });
        }
        let dataset = self.dataset()?;
        let model = context.model(dataset)?;
        // Without a split the images are those of the only teacher, or of none of several parties.
        let is_split = context.config.split.save_path.is_some();
        if dataset.train.is_empty() || !is_split && (paths.len() > 1 || node > 0) {
            return Ok(Card::new(model, dataset, None::<Vec<u64>>));
        }
        self.counted.borrow_mut().push(node);
        let split = context.split(dataset)?;
        let part = split.nodes.get(node).ok_or_else(|| {
            let error = Error::failed(format!("the split has no node {node} for this teacher"));
            match &context.config.split.save_path {
                Some(path) => error.note("file", path.display().to_string()),
                None => error,
            }
        })?;
        let labels = &dataset.train.label_list;
        let counts = label_counts(&part.train, labels, dataset.classes.len());
        Ok(Card::new(model, dataset, counts))
    }

    /// Returns the dataset, which is read once for all teachers.
    fn dataset(&self) -> Result<&Dataset> {
        if let Some(dataset) = self.dataset.get() {
            return Ok(dataset);
        }
        let dataset = self.context.dataset().map_err(|error| {
            Error::from(error).hint(
                "the weights do not say what they were trained on; a server without the images \
                 gives it: `dataset=none`, with `dataset.num_classes`, `dataset.size`, \
                 `dataset.mean` and `dataset.std`",
            )
        })?;
        Ok(self.dataset.get_or_init(|| dataset))
    }

    /// Returns the teachers whose images were counted here, not by their clients.
    pub(super) fn counted(self) -> Vec<usize> {
        self.counted.into_inner()
    }
}

/// Returns the first card that a file has.
fn known_card(paths: &[PathBuf]) -> Option<Card> {
    let card = |path: &PathBuf| {
        let card = weights::card(&tensors::metadata(path).ok()?).ok()??;
        card.check().is_ok().then_some(card)
    };
    paths.iter().find_map(card)
}
