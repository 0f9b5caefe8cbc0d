//! Implements the binaries, one file or folder each: typed config in, files and a table out.
//!
//! A stage reads its inputs, calls the engines and writes the results; what all stages share
//! (admission, manifest, checkpoints, metrics, ranks) is in [`crate::run`]. `teachers` loads what
//! the server's stages work on, `synthesizer` chooses what makes synthetic batches, `batches`
//! stores finished ones, `pictures` and `summary` are shared by the server's stages, `rounds` by
//! `serve` and `join`.

mod batches;
pub mod distributed_sgd;
pub mod fed_avg;
pub mod fed_md;
pub mod generate_initial;
#[cfg(feature = "net")]
pub mod join;
mod pictures;
#[cfg(feature = "net")]
mod rounds;
#[cfg(feature = "net")]
pub mod serve;
pub mod split_data;
mod summary;
mod synthesizer;
mod teachers;
pub mod train_student;
pub mod train_teachers;

pub(crate) use summary::average;
pub(crate) use teachers::{TeacherSet, load as load_teachers, numbers as teacher_numbers};
pub(crate) use train_teachers::weights_path;

use crate::data::{Dataset, ImageSet};
use crate::error::Result;
use crate::inversion::Start;
use crate::model::{Model, ModelSpec};
use crate::run::{Demand, StageContext};
use crate::train::{Evaluation, evaluate};
use tch::{Kind, Tensor};

/// Evaluates a model on `dataset`'s test images.
fn test(model: &Model, dataset: &Dataset, batch_size: usize) -> Result<Evaluation> {
    test_on(model, &dataset.test, dataset, batch_size)
}

/// Evaluates a model on `images` of the dataset.
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

/// Returns the bytes of a normalised image, f32, with its label.
fn image_bytes(model: &ModelSpec) -> u128 {
    let pixels = [model.channels, model.size, model.size];
    8 + 4 * pixels.iter().map(|&count| count as u128).product::<u128>()
}

/// Refuses a generator whose images, of `side` pixels, would be cropped to nothing.
fn refuse_generator_crop(context: &StageContext, side: i64) -> anyhow::Result<()> {
    let Some(settings) = &context.config.generator else {
        return Ok(());
    };
    context.refuse_large_crop("generator", &settings.augment, side)
}

/// Refuses settings with which making a batch takes more memory than there is: the pixels, their
/// gradient, two moments, and the best so far; and the pictures of which a batch is chosen, with a
/// score of each for each image.
fn refuse_synthesis(context: &StageContext, image: u128) -> anyhow::Result<()> {
    let config = context.config;
    let (batch, candidates) = (
        config.synthetic_batch() as u128,
        config.deep_inv.candidates as u128,
    );
    context.refuse_demand(&Demand {
        what: "images in a batch",
        count: batch,
        bytes: 5 * image,
        keys: match config.generator {
            Some(_) => &["generator.batch_size"],
            None => &["deep_inv.batch_size"],
        },
    })?;
    if config.generator.is_some() || config.deep_inv.start != Start::Shapes {
        return Ok(());
    }
    context.refuse_demand(&Demand {
        what: "pictures to choose from",
        count: batch * candidates,
        // As numbers, as pixels, and normalised.
        bytes: 3 * image + 4 * batch,
        keys: &["deep_inv.batch_size", "deep_inv.candidates"],
    })
}

/// Counts the labels, i64 [M], of each class.
fn label_counts(labels: &Tensor, classes: usize) -> anyhow::Result<Vec<u64>> {
    let counts = labels.bincount(None::<Tensor>, classes as i64);
    let counts: Vec<i64> = Vec::try_from(counts.to_kind(Kind::Int64))?;
    Ok(counts.into_iter().map(|count| count as u64).collect())
}
