//! `inspect grid` draws the images of a synthetic dataset or an initial batch.

use super::recognise::{self, Wanted};
use super::run::{Run, card_of};
use super::{Answer, find, out};
use crate::artifact::tensors::{self, TensorFile};
use crate::data::Normalisation;
use crate::error::Error;
use crate::report::{Grid, GridRow};
use crate::run::weights::Card;
use crate::words::counted;
use anyhow::{Result, bail};
use clap::{ValueEnum, value_parser};
use serde_json::json;
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

#[derive(Debug, clap::Args)]
pub struct Request {
    /// `dataset.safetensors` of a student, `initial.safetensors`, or a run that wrote one
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Rows of a `teacher` or of a `class`; by default `teacher` where batches were made from
    /// single teachers
    #[arg(long, value_enum)]
    by: Option<By>,
    /// Images in a row
    #[arg(long, default_value_t = 12, value_parser = value_parser!(u32).range(1..))]
    columns: u32,
    /// Stretch every image from its own darkest to its own brightest value
    #[arg(long)]
    min_max: bool,
    /// The PNG to write
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Class,
    Teacher,
    /// In the order of the file
    None,
}

/// Rows of a grid, at most.
const ROWS: usize = 100;

/// Holds synthetic images, f32 [M,C,H,W] normalised, and their labels, i64 [M].
pub struct Images {
    pub path: PathBuf,
    pub images: Tensor,
    pub labels: Tensor,
    /// The teacher that each image was made from; i64 [M]. `None` if some came from an ensemble.
    pub teachers: Option<Tensor>,
    pub card: Option<Card>,
}

impl Images {
    /// Reads a file of synthetic images, or that of a run, for `subcommand`.
    ///
    /// # Errors
    /// Fails when there is neither a file of that kind nor a run that wrote one.
    pub fn read(path: &Path, subcommand: &str) -> Result<Self> {
        let path = match path.is_dir() || find::is_run(path) {
            true => {
                let what = "run that made images";
                let run = find::one(path, what, subcommand, |run| images_of(run).is_some())?;
                images_of(&run).unwrap_or_default()
            }
            false => recognise::file(path, Wanted::Images, subcommand)?.to_path_buf(),
        };
        let file = tensors::read(&path)?;
        let read = || {
            let (images, labels) = (file.get("images")?, file.get("labels")?);
            check(images, labels)?;
            Ok::<_, Error>(Self {
                images: images.shallow_clone(),
                labels: labels.shallow_clone(),
                teachers: teachers(&file, labels)?,
                card: card_of(&path)?,
                path: path.clone(),
            })
        };
        Ok(read().map_err(|error| error.note("file", path.display().to_string()))?)
    }

    /// Returns the names of the classes, or their numbers where the file does not name them.
    pub fn classes(&self) -> Vec<String> {
        match &self.card {
            Some(card) => card.classes.clone(),
            None => {
                let most = i64::try_from(self.labels.max()).unwrap_or(0);
                (0..=most).map(|class| class.to_string()).collect()
            }
        }
    }
}

/// Returns the path of the images that a run made, as the user named the run, if it made any.
fn images_of(run: &Run) -> Option<PathBuf> {
    let outputs = ["dataset", "initial"].map(|role| run.manifest.output(role));
    let path = run.shown(outputs.into_iter().flatten().next()?);
    Some(path.strip_prefix(".").unwrap_or(&path).to_path_buf())
}

/// Largest label of a class or number of a teacher, of each of which a row may be.
const MOST_GROUPS: i64 = 1 << 20;

/// Refuses tensors that are not images and their labels.
fn check(images: &Tensor, labels: &Tensor) -> Result<()> {
    let shape = images.size();
    let fits =
        shape.len() == 4 && matches!(shape[1], 1 | 3) && shape[0] > 0 && images.is_floating_point();
    if !fits || labels.size() != [shape[0]] || labels.kind() != Kind::Int64 {
        bail!(
            Error::failed("the file does not hold images and their labels")
                .note(
                    "expected",
                    "images f32 [M, 1 or 3, H, W] and labels i64 [M]",
                )
                .note(
                    "found",
                    format!("images {shape:?} and labels {:?}", labels.size()),
                )
        );
    }
    refuse_numbers("labels", labels)
}

/// Refuses labels, or teachers, that are no numbers of classes.
fn refuse_numbers(what: &str, numbers: &Tensor) -> Result<()> {
    let (least, most) = (i64::try_from(numbers.min())?, i64::try_from(numbers.max())?);
    if least >= 0 && most < MOST_GROUPS {
        return Ok(());
    }
    bail!(
        Error::failed(format!("the file's {what} cannot be right"))
            .note("expected", format!("0 to {}", MOST_GROUPS - 1))
            .note("found", format!("{least} to {most}"))
    );
}

/// Returns the teacher that each image was made from, if there is one for each.
fn teachers(file: &TensorFile, labels: &Tensor) -> Result<Option<Tensor>> {
    let Ok(teachers) = file.get("teachers") else {
        return Ok(None);
    };
    let fits = teachers.size() == labels.size() && teachers.kind() == Kind::Int64;
    let single = fits && bool::try_from(teachers.ge(0).all())?;
    if single {
        refuse_numbers("teachers", teachers)?;
    }
    Ok(single.then(|| teachers.shallow_clone()))
}

impl Request {
    /// Draws the grid; returns its path.
    ///
    /// # Errors
    /// Fails when there are no such images; `--by teacher` where no single teacher made a batch; a
    /// picture that cannot be written.
    pub fn answer(&self) -> Result<Answer> {
        out::check(self.out.as_deref(), out::PICTURE)?;
        let set = Images::read(&self.file, "grid")?;
        let several = |teachers: &Tensor| i64::try_from(teachers.max()).is_ok_and(|most| most > 0);
        let by = self.by.unwrap_or(match &set.teachers {
            Some(teachers) if several(teachers) => By::Teacher,
            _ => By::Class,
        });
        let pixels = self.pixels(&set)?;
        let rows = self.rows(&set, by, &pixels)?;
        let shown: i64 = rows.iter().map(|row| row.pixels.size()[0]).sum();
        let stem = set
            .path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let scale = if self.min_max {
            ", each from its own minimum to its own maximum"
        } else {
            ""
        };
        let by_what = match by {
            By::Class => " by class",
            By::Teacher => " by teacher",
            By::None => "",
        };
        let total = set.images.size()[0];
        let grid = Grid {
            title: format!(
                "{stem}{by_what}: {shown} of {}{scale}",
                counted(total, "image")
            ),
            rows,
        };
        let out = out::picture(self.out.as_deref(), &set.path, &format!("{stem}.png"));
        grid.save(&out)?;
        Answer::new(
            format!(
                "{shown} of {}\ngrid: {}",
                counted(total, "image"),
                out.display()
            ),
            json!({"file": set.path, "picture": out, "images": total, "shown": shown}),
        )
    }

    /// Returns the images as u8 [M,C,H,W].
    fn pixels(&self, set: &Images) -> Result<Tensor> {
        if self.min_max {
            return Ok(stretched(&set.images));
        }
        match &set.card {
            Some(card) if card.normalisation.mean.len() as i64 == set.images.size()[1] => {
                Ok(card.normalisation.to_pixels(&set.images))
            }
            _ => Err(
                Error::failed("the file does not say how its images were normalised")
                    .note("file", set.path.display().to_string())
                    .hint("`--min-max` stretches each image over its own range")
                    .into(),
            ),
        }
    }

    /// Returns the group of each image, i64 [M], and the names of the groups.
    fn groups(&self, set: &Images, by: By) -> Result<(Tensor, Vec<String>)> {
        Ok(match (by, &set.teachers) {
            (By::Class, _) => (set.labels.shallow_clone(), set.classes()),
            (By::Teacher, Some(teachers)) => {
                let count = i64::try_from(teachers.max())? + 1;
                (
                    teachers.shallow_clone(),
                    (0..count)
                        .map(|teacher| format!("teacher {teacher}"))
                        .collect(),
                )
            }
            (By::Teacher, None) => {
                bail!(
                    Error::usage("the file does not say which teacher an image was made from")
                        .note("file", set.path.display().to_string())
                        .note("available", "class, none")
                );
            }
            (By::None, _) => {
                let count = set.images.size()[0];
                let line = Tensor::arange(count, (Kind::Int64, tch::Device::Cpu))
                    .divide_scalar_mode(i64::from(self.columns), "floor");
                let lines = (count as usize).div_ceil(self.columns as usize);
                (line, vec![String::new(); lines])
            }
        })
    }

    /// Returns the rows of the grid, a row a group that has images; says how many are left out.
    fn rows(&self, set: &Images, by: By, pixels: &Tensor) -> Result<Vec<GridRow>> {
        let (groups, names) = self.groups(set, by)?;
        let counts: Vec<i64> = Vec::try_from(groups.f_bincount(None::<Tensor>, 0)?)?;
        let mut named: Vec<(usize, String)> = names.into_iter().enumerate().collect();
        named.retain(|(group, _)| counts.get(*group).is_some_and(|&images| images > 0));
        let more = named.len().saturating_sub(ROWS);
        if more > 0 {
            let what = match by {
                By::Class => "class",
                By::Teacher => "teacher",
                By::None => "row",
            };
            tracing::info!("left out: {} beyond the first {ROWS}", counted(more, what));
        }
        let row = |(group, label): (usize, String)| {
            let members = groups.eq(group as i64).nonzero().flatten(0, -1);
            let shown = i64::from(self.columns).min(members.numel() as i64);
            GridRow {
                label,
                pixels: pixels.index_select(0, &members.narrow(0, 0, shown)),
            }
        };
        Ok(named.into_iter().take(ROWS).map(row).collect())
    }
}

/// Scales each image from its least value to its greatest, over all channels together.
fn stretched(images: &Tensor) -> Tensor {
    let dims = [1i64, 2, 3];
    let images = images.to_kind(Kind::Float).nan_to_num(0.0, 0.0, 0.0);
    let (least, greatest) = (images.amin(dims, true), images.amax(dims, true));
    let unit = (images - &least) / (&greatest - &least).clamp_min(1e-12);
    let whole = Normalisation {
        mean: vec![0.0; unit.size()[1] as usize],
        std: vec![1.0; unit.size()[1] as usize],
    };
    whole.to_pixels(&unit)
}
