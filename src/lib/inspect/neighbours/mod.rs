//! `inspect neighbours` shows which training images synthetic ones come close to, and whether
//! closer than they should.

mod sampled;
mod views;

use super::grid::Images;
use super::run::Run;
use super::{Answer, dataset, out};
use crate::data::Dataset;
use crate::error::Error;
use crate::model::{Model, Precision};
use crate::report::Table;
use crate::run::agreement;
use crate::run::split::read;
use crate::run::weights::{self, Card};
use crate::runtime::seed::Seeds;
use anyhow::{Result, bail};
use clap::value_parser;
use rand::seq::SliceRandom;
use sampled::Sampled;
use serde_json::json;
use std::path::PathBuf;
use tch::{Device, Tensor};
use views::{Compared, View};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// `dataset.safetensors` of a student, `initial.safetensors`, or a run that wrote one
    #[arg(value_name = "DATASET")]
    file: PathBuf,
    /// Where the training images are, if they have moved: `dataset.root=FOLDER`; other images than
    /// the run's: `dataset=mnist dataset.root=FOLDER`
    #[arg(value_name = "OVERRIDE")]
    overrides: Vec<String>,
    /// Synthetic images drawn at random, and as many unseen test images to compare with
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// Of these, how many are shown, the nearest first
    #[arg(long, default_value_t = 12, value_parser = value_parser!(u32).range(1..))]
    shown: u32,
    /// Pixels are compared at the best of all rolls by up to this many, since synthetic images are
    /// rolled while they are made
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u32).range(0..=8))]
    shift: u32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The PNG to write
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

impl Request {
    /// Returns the distances and draws the nearest images.
    ///
    /// # Errors
    /// Fails when there are no such images, another dataset than theirs, a picture that cannot be
    /// written.
    pub fn answer(&self) -> Result<Answer> {
        out::check(self.out.as_deref(), out::PICTURE)?;
        let set = Images::read(&self.file, "neighbours")?;
        let command = format!("inspect neighbours {}", self.file.display());
        let card = set.card.as_ref().ok_or_else(|| {
            Error::failed("the file does not say what its images were made from")
                .note("file", set.path.display().to_string())
                .hint("`generate_initial` and `train_student` write files that do")
        })?;
        let chosen = dataset::choose(&set.path, &self.overrides, dataset::KEYS, &command)?;
        let dataset = chosen.load_named(&command)?;
        let dataset = agreement::fitted(dataset, &chosen.settings, card, &set.path)?;
        if dataset.test.is_empty() {
            bail!(Error::failed(
                "the dataset has no test images to compare with",
            ));
        }
        let device = dataset.train.images.device();
        let mut rng = Seeds::new(self.seed).stream("inspect/neighbours", 0);
        let mut draw = |count: usize| {
            let mut order: Vec<usize> = (0..count).collect();
            order.shuffle(&mut rng);
            order.truncate(self.samples as usize);
            order
        };
        let drawn = draw(set.labels.size()[0] as usize);
        let drawn: Vec<i64> = drawn.into_iter().map(|index| index as i64).collect();
        let unseen = dataset.test.select(&draw(dataset.test.len()))?.images;
        let pixels = card
            .normalisation
            .to_pixels(&set.images.index_select(0, &Tensor::from_slice(&drawn)))
            .to_device(device);
        let compared = Compared {
            dataset: &dataset,
            pixels: &pixels,
            unseen: &unseen,
        };
        let run = chosen.made.as_ref();
        let models = teachers(run, card, device)?;
        let mut views = vec![compared.by_pixels(i64::from(self.shift))?];
        if !models.is_empty() {
            views.push(compared.by_features(&models, &card.normalisation)?);
        }
        let owners = run.map(|run| owners(run, &dataset)).transpose()?.flatten();
        let labels: Vec<i64> = Vec::try_from(&set.labels)?;
        let sampled = Sampled {
            drawn: &drawn,
            labels: &labels,
            dataset: &dataset,
            owners,
            views: &views,
        };
        let shown = sampled.nearest_first(self.shown as usize);
        let out = out::picture(self.out.as_deref(), &set.path, "neighbours.png");
        sampled.picture(&pixels, &shown).save(&out)?;
        let text = format!(
            "{}\n\n{}\n\n{}\npicture: {}",
            sampled.table(&shown),
            distances(&views),
            verdict(&views, drawn.len()),
            out.display()
        );
        Answer::new(
            text,
            json!({"file": set.path, "sampled": drawn, "views": views, "picture": out}),
        )
    }
}

/// Loads the teachers that a run was given, whose data must be those of `card`; none, with a
/// warning, where no run names them, or they are gone or have changed.
fn teachers(run: Option<&Run>, card: &Card, device: Device) -> Result<Vec<Model>> {
    let Some(run) = run else {
        tracing::warn!("no manifest names the teachers: images are compared by pixels alone");
        return Ok(Vec::new());
    };
    let Some(paths) = run.teachers() else {
        tracing::warn!(
            "the teachers are gone or have changed: images are compared by pixels alone"
        );
        return Ok(Vec::new());
    };
    let unknown = || {
        Err(Error::failed(
            "the weights do not say which model they are of",
        ))
    };
    let load = |path: &PathBuf| {
        let (model, own) = weights::load(path, &unknown, device, Precision::F32)?;
        if let Some(differs) = agreement::difference(card, &own) {
            let [images, teacher] = differs.said;
            bail!(
                Error::failed(format!("images and teachers differ in {}", differs.what))
                    .note("expected", images)
                    .note("found", format!("{teacher}: {}", path.display()))
            );
        }
        Ok(model)
    };
    paths.iter().map(load).collect()
}

/// Returns the node that holds each training image, where the run read a split of this dataset;
/// nothing, with a warning, where that is gone or has changed.
fn owners(run: &Run, dataset: &Dataset) -> Result<Option<Vec<Option<usize>>>> {
    let used = run.manifest.fingerprint();
    let is_used = used.is_none_or(|used| used == dataset.fingerprint);
    let Some(record) = run.manifest.input("split").filter(|_| is_used) else {
        return Ok(None);
    };
    let Some(path) = run.unchanged(record) else {
        tracing::warn!("the split is gone or has changed: the nodes of images are not shown");
        return Ok(None);
    };
    let split = read(&path)?;
    split
        .check(dataset.train.len(), dataset.test.len())
        .map_err(|error| error.note("file", path.display().to_string()))?;
    let mut owners = vec![None; dataset.train.len()];
    for (node, part) in split.nodes.iter().enumerate() {
        part.train
            .iter()
            .for_each(|&index| owners[index] = Some(node));
    }
    Ok(Some(owners))
}

/// Returns a table of the distances to the training images, of synthetic and of unseen images.
fn distances(views: &[View]) -> Table {
    let mut table = Table::new(&[
        "distance to the nearest training image",
        "of",
        "least",
        "5 %",
        "median",
        "95 %",
    ]);
    for view in views {
        for (of, values) in [
            ("synthetic", &view.synthetic),
            ("unseen test", &view.unseen),
        ] {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let at = |share: f64| {
                format!(
                    "{:.4}",
                    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
                )
            };
            table.row(vec![
                view.name.into(),
                of.into(),
                at(0.0),
                at(0.05),
                at(0.5),
                at(0.95),
            ]);
        }
    }
    table
}

/// Returns how many synthetic images are nearest to a training image, in two sentences.
fn verdict(views: &[View], count: usize) -> String {
    let share = |view: &View| {
        format!(
            "{:.0} % by {}",
            100.0 * view.nearer_to_training,
            view.name.split(' ').next().unwrap_or_default()
        )
    };
    let shares: Vec<String> = views.iter().map(share).collect();
    let expected = views[0].expected;
    format!(
        "The nearest of all training and test images is a training image: {} of {count} synthetic \
         images.\n\
         {:.0} % (± {:.0}) is the share of training images among all, and the result for images \
         that reveal nothing.",
        shares.join(", "),
        100.0 * expected,
        100.0 * (expected * (1.0 - expected) / count as f64).sqrt()
    )
}
