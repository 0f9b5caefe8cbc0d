//! `inspect neighbours`: which training images synthetic ones come close to, and whether closer than they should.

use super::grid::Images;
use super::run::{self, Run};
use super::split::{dataset_of, read};
use super::{Answer, picture};
use crate::artifact::manifest;
use crate::data::{Dataset, ImageSet, Normalisation};
use crate::distill::{Nearest, Search};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::report::{Grid, GridRow, Table};
use crate::runtime::seed::Seeds;
use crate::runtime::{Progress, interrupt};
use crate::stage::weights;
use clap::value_parser;
use rand::seq::SliceRandom;
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, no_grad};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// `dataset.safetensors` of a student, `initial.safetensors`, or a run that wrote one
    #[arg(value_name = "DATASET")]
    file: PathBuf,
    /// Where the training images are, if they have moved: `dataset=mnist dataset.root=FOLDER`
    #[arg(value_name = "OVERRIDE")]
    overrides: Vec<String>,
    /// Synthetic images drawn at random, and as many unseen test images to compare with
    #[arg(long, default_value_t = 128, value_parser = value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// Of these, how many are shown, the nearest first
    #[arg(long, default_value_t = 12)]
    shown: usize,
    /// Pixels are compared at the best of all rolls by up to this many, since synthetic images are rolled while they are made
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u32).range(0..=8))]
    shift: u32,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The PNG to write
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

/// Images of a pass.
const CHUNK: usize = 1024;

/// One way to look at images.
#[derive(Serialize)]
struct View {
    name: &'static str,
    /// Distances of the synthetic and of unseen images to the training images.
    synthetic: Vec<f64>,
    unseen: Vec<f64>,
    /// The nearest training image of each synthetic one.
    nearest: Vec<i64>,
    /// Share of synthetic images for which the nearest of all training and test images is a training image.
    nearer_to_training: f64,
    /// That share where nothing was memorised: training images among all.
    expected: f64,
}

/// Images to vectors: u8 [N,C,H,W] to f32 [N,F].
type Describe<'a> = &'a dyn Fn(&Tensor) -> Tensor;

impl Request {
    /// # Errors
    /// No such images, another dataset than theirs, a picture that cannot be written.
    pub fn answer(&self) -> Result<Answer> {
        let set = Images::read(&self.file)?;
        let card = set.card.as_ref().ok_or_else(|| {
            Error::failed("the file does not say what its images were made from")
                .note("file", set.path.display().to_string())
                .hint("`generate_initial` and `train_student` write files that do")
        })?;
        let (settings, _) = dataset_of(&set.path, &self.overrides)?;
        let dataset = run::dataset(&settings, Some(&card.dataset_fingerprint))?;
        if dataset.test.is_empty() {
            return Err(Error::failed("the dataset has no test images to compare with"));
        }
        let device = dataset.train.images.device();
        let mut rng = Seeds::new(self.seed).stream("inspect/neighbours", 0);
        let mut draw = |count: usize| {
            let mut order: Vec<i64> = (0..count as i64).collect();
            order.shuffle(&mut rng);
            order
        };
        let drawn = take(draw(set.labels.size()[0] as usize), self.samples as usize);
        let compared: Vec<usize> = take(draw(dataset.test.len()), self.samples as usize)
            .into_iter()
            .map(|index| index as usize)
            .collect();
        let unseen = dataset.test.select(&compared)?.images;
        let pixels = card
            .normalisation
            .to_pixels(&set.images.index_select(0, &Tensor::from_slice(&drawn)))
            .to_device(device);
        let looks = Looks {
            dataset: &dataset,
            pixels: &pixels,
            unseen: &unseen,
        };
        let run = manifest::producer_of(&set.path)
            .map(|place| Run::open(&place, String::new()))
            .transpose()?;
        let models = teachers(run.as_ref(), device)?;
        let mut views = vec![looks.by_pixels(i64::from(self.shift))?];
        if !models.is_empty() {
            views.push(looks.by_features(&models, &card.normalisation)?);
        }
        let owners = run.as_ref().map(|run| owners(run, &dataset)).transpose()?.flatten();
        let labels: Vec<i64> = Vec::try_from(&set.labels)?;
        let sampled = Sampled {
            drawn: &drawn,
            labels: &labels,
            dataset: &dataset,
            owners,
            views: &views,
        };
        let shown = sampled.nearest_first(self.shown);
        let out = picture(self.out.as_deref(), &set.path, "neighbours.png");
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

fn take(mut order: Vec<i64>, count: usize) -> Vec<i64> {
    order.truncate(count);
    order
}

/// The teachers that a run was given; none, with a warning, where they are gone.
fn teachers(run: Option<&Run>, device: Device) -> Result<Vec<Model>> {
    let paths = run.map(Run::teachers).unwrap_or_default();
    if paths.is_empty() || paths.iter().any(|path| !path.exists()) {
        tracing::warn!("the teachers are not there: images are compared by pixels alone");
        return Ok(Vec::new());
    }
    let unknown = || Err(Error::failed("the weights do not say which model they are of"));
    let load = |path: &PathBuf| Ok(weights::load(path, &unknown, device)?.0);
    paths.iter().map(load).collect()
}

/// The node that holds each training image, where the run knew a split.
fn owners(run: &Run, dataset: &Dataset) -> Result<Option<Vec<Option<usize>>>> {
    let split = run.manifest.inputs.iter().find(|record| record.role == "split");
    let Some(path) = split
        .map(|record| record.place(&run.place))
        .filter(|path| path.exists())
    else {
        return Ok(None);
    };
    let split = read(&path)?;
    split
        .check(dataset.train.len(), dataset.test.len())
        .map_err(|error| error.note("file", path.display().to_string()))?;
    let mut owners = vec![None; dataset.train.len()];
    for (node, part) in split.nodes.iter().enumerate() {
        part.train.iter().for_each(|&index| owners[index] = Some(node));
    }
    Ok(Some(owners))
}

/// What is compared: u8 [N,C,H,W] of synthetic and of unseen images, with all training and test images.
struct Looks<'a> {
    dataset: &'a Dataset,
    pixels: &'a Tensor,
    unseen: &'a Tensor,
}

impl Looks<'_> {
    /// Root mean square difference of pixels in 0..1.
    fn by_pixels(&self, shift: i64) -> Result<View> {
        let describe = |pixels: &Tensor| pixels.to_kind(Kind::Float).flatten(1, -1) / 255.0;
        let rolls = (-shift..=shift).flat_map(|dy| (-shift..=shift).map(move |dx| (dy, dx)));
        let variants = |pixels: &Tensor| {
            let rolled: Vec<Tensor> = rolls
                .clone()
                .map(|(dy, dx)| describe(&pixels.roll([dy, dx], [2, 3])))
                .collect();
            Tensor::stack(&rolled, 1)
        };
        let values = (self.pixels.numel() as f64 / self.pixels.size()[0] as f64).sqrt();
        self.view("pixels (RMS difference, 0..1)", &describe, &variants, &|distance| {
            distance / values
        })
    }

    /// Cosine distance of penultimate activations, mean over the teachers.
    fn by_features(&self, models: &[Model], normalisation: &Normalisation) -> Result<View> {
        // Unit vectors of all teachers behind each other: their distance d has mean cosine 1 − d²/2.
        let describe = |pixels: &Tensor| {
            let images = normalisation.apply(pixels);
            let unit = |model: &Model| {
                let features = model.features(&images);
                let length = features.norm_scalaropt_dim(2.0, 1i64, true).clamp_min(1e-12);
                features / length / (models.len() as f64).sqrt()
            };
            Tensor::cat(&models.iter().map(unit).collect::<Vec<_>>(), 1)
        };
        let once = |pixels: &Tensor| describe(pixels).unsqueeze(1);
        self.view("features (cosine distance, 0..2)", &describe, &once, &|distance| {
            distance * distance / 2.0
        })
    }

    /// `measure` turns a Euclidean distance into what is shown.
    fn view(
        &self,
        name: &'static str,
        describe: Describe,
        variants: Describe,
        measure: &dyn Fn(f64) -> f64,
    ) -> Result<View> {
        no_grad(|| {
            let (train, test) = (&self.dataset.train, &self.dataset.test);
            let count = self.pixels.size()[0] as usize;
            let progress = Progress::new(&format!("comparing {name}"), (test.len() + train.len()) as u64);
            let synthetic = variants(self.pixels);
            let to_test = self.search(Search::new(&synthetic), test, describe, &progress)?;
            let both = Tensor::cat(&[&synthetic, &variants(self.unseen)], 0);
            let to_train = self.search(Search::new(&both), train, describe, &progress)?;
            let nearer = to_train
                .distance
                .iter()
                .zip(&to_test.distance)
                .filter(|(train, test)| train < test)
                .count();
            let (synthetic, unseen) = to_train.distance.split_at(count);
            let measured = |distances: &[f64]| distances.iter().map(|&distance| measure(distance)).collect();
            Ok(View {
                name,
                synthetic: measured(synthetic),
                unseen: measured(unseen),
                nearest: to_train.index[..count].to_vec(),
                nearer_to_training: nearer as f64 / count as f64,
                expected: train.len() as f64 / (train.len() + test.len()) as f64,
            })
        })
    }

    fn search(&self, mut search: Search, set: &ImageSet, describe: Describe, progress: &Progress) -> Result<Nearest> {
        for start in (0..set.len()).step_by(CHUNK) {
            interrupt::check()?;
            let count = CHUNK.min(set.len() - start);
            search.offer(&describe(&set.images.narrow(0, start as i64, count as i64)))?;
            progress.add(count as u64);
        }
        search.finish()
    }
}

/// The synthetic images that were looked at.
struct Sampled<'a> {
    /// Their places in the file.
    drawn: &'a [i64],
    /// Of all in the file.
    labels: &'a [i64],
    dataset: &'a Dataset,
    owners: Option<Vec<Option<usize>>>,
    views: &'a [View],
}

impl Sampled<'_> {
    /// Places among the sampled, the nearest by pixels first.
    fn nearest_first(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.drawn.len()).collect();
        order.sort_by(|&a, &b| self.views[0].synthetic[a].total_cmp(&self.views[0].synthetic[b]));
        order.truncate(count.max(1));
        order
    }

    fn class(&self, label: i64) -> String {
        usize::try_from(label)
            .ok()
            .and_then(|label| self.dataset.classes.get(label))
            .cloned()
            .unwrap_or_default()
    }

    fn table(&self, shown: &[usize]) -> Table {
        let mut headers = vec!["synthetic", "class"];
        for view in self.views {
            let word = view.name.split(' ').next().unwrap_or_default();
            headers.extend([word, "training image", "class"]);
            headers.extend(self.owners.as_ref().map(|_| "node"));
        }
        let mut table = Table::new(&headers);
        for &at in shown {
            let mut cells = vec![
                self.drawn[at].to_string(),
                self.class(self.labels[self.drawn[at] as usize]),
            ];
            for view in self.views {
                let index = view.nearest[at] as usize;
                cells.extend([
                    format!("{:.4}", view.synthetic[at]),
                    index.to_string(),
                    self.class(self.dataset.train.label_list[index]),
                ]);
                let node =
                    |owners: &Vec<Option<usize>>| owners[index].map_or("–".into(), |node: usize| node.to_string());
                cells.extend(self.owners.as_ref().map(node));
            }
            table.row(cells);
        }
        table
    }

    /// Columns of a synthetic image and its nearest training images.
    fn picture(&self, pixels: &Tensor, shown: &[usize]) -> Grid {
        let places: Vec<i64> = shown.iter().map(|&at| at as i64).collect();
        let select = |images: &Tensor, places: &[i64]| {
            images.index_select(0, &Tensor::from_slice(places).to_device(images.device()))
        };
        let mut rows = vec![GridRow {
            label: "synthetic".into(),
            pixels: select(pixels, &places),
        }];
        for view in self.views {
            let nearest: Vec<i64> = shown.iter().map(|&at| view.nearest[at]).collect();
            rows.push(GridRow {
                label: format!("nearest by {}", view.name.split(' ').next().unwrap_or_default()),
                pixels: select(&self.dataset.train.images, &nearest),
            });
        }
        Grid {
            title: "Synthetic images and the training images nearest to them".into(),
            rows,
        }
    }
}

/// Distances to the training images, of synthetic and of unseen images.
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
        for (of, values) in [("synthetic", &view.synthetic), ("unseen test", &view.unseen)] {
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let at = |share: f64| format!("{:.4}", sorted[((sorted.len() - 1) as f64 * share).round() as usize]);
            table.row(vec![view.name.into(), of.into(), at(0.0), at(0.05), at(0.5), at(0.95)]);
        }
    }
    table
}

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
        "The nearest of all training and test images is a training image: {} of {count} synthetic images.\n\
         {:.0} % (± {:.0}) is the share of training images among all, and what images that give nothing away would show.",
        shares.join(", "),
        100.0 * expected,
        100.0 * (expected * (1.0 - expected) / count as f64).sqrt()
    )
}
