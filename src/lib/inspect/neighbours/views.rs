//! Finds the nearest training images by two measures of how similar images are.

use crate::data::{Dataset, ImageSet, Normalisation};
use crate::distill::{Nearest, NearestSearch};
use crate::model::{Model, Pass};
use crate::runtime::{Progress, interrupt};
use anyhow::Result;
use serde::Serialize;
use tch::{Kind, Tensor, no_grad};

/// Images that are compared at once.
const CHUNK: usize = 1024;

/// Holds what one measure of similarity found.
#[derive(Serialize)]
pub struct View {
    pub name: &'static str,
    /// Distances of the synthetic and of unseen images to the training images.
    pub synthetic: Vec<f64>,
    pub unseen: Vec<f64>,
    /// The nearest training image of each synthetic one.
    pub nearest: Vec<i64>,
    /// Share of synthetic images for which the nearest of all training and test images is a
    /// training image.
    pub nearer_to_training: f64,
    /// That share where nothing was memorised: training images among all.
    pub expected: f64,
}

/// Turns images into vectors: u8 [N,C,H,W] into f32 [N,F].
pub type Describe<'a> = &'a dyn Fn(&Tensor) -> Tensor;

/// Holds the images that are compared: u8 [N,C,H,W] of synthetic and of unseen images, with all
/// training and test images.
pub struct Compared<'a> {
    pub dataset: &'a Dataset,
    pub pixels: &'a Tensor,
    pub unseen: &'a Tensor,
}

impl Compared<'_> {
    /// Compares by the root mean square difference of pixels in 0..1.
    pub fn by_pixels(&self, shift: i64) -> Result<View> {
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
        self.view(
            "pixels (RMS difference, 0..1)",
            &describe,
            &variants,
            &|distance| distance / values,
        )
    }

    /// Compares by the cosine distance of penultimate activations, mean over the teachers.
    pub fn by_features(&self, models: &[Model], normalisation: &Normalisation) -> Result<View> {
        // Unit vectors of all teachers behind each other: their distance d has mean cosine 1 −
        // d²/2.
        let describe = |pixels: &Tensor| {
            let images = normalisation.apply(pixels);
            let unit = |model: &Model| {
                let features = model.features(&images, &mut Pass::Eval);
                let length = features
                    .norm_scalaropt_dim(2.0, 1i64, true)
                    .clamp_min(1e-12);
                features / length / (models.len() as f64).sqrt()
            };
            Tensor::cat(&models.iter().map(unit).collect::<Vec<_>>(), 1)
        };
        let once = |pixels: &Tensor| describe(pixels).unsqueeze(1);
        self.view(
            "features (cosine distance, 0..2)",
            &describe,
            &once,
            &|distance| distance * distance / 2.0,
        )
    }

    /// Finds the nearest images; `measure` turns a Euclidean distance into what is shown.
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
            let progress = Progress::new(
                &format!("comparing {name}"),
                (test.len() + train.len()) as u64,
            );
            let synthetic = variants(self.pixels);
            let to_test = self.search(NearestSearch::new(&synthetic), test, describe, &progress)?;
            let both = Tensor::cat(&[&synthetic, &variants(self.unseen)], 0);
            let to_train = self.search(NearestSearch::new(&both), train, describe, &progress)?;
            let nearer = to_train
                .distance
                .iter()
                .zip(&to_test.distance)
                .filter(|(train, test)| train < test)
                .count();
            let (synthetic, unseen) = to_train.distance.split_at(count);
            let measured = |distances: &[f64]| {
                distances
                    .iter()
                    .map(|&distance| measure(distance))
                    .collect()
            };
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

    /// Looks for the nearest images of a set.
    fn search(
        &self,
        mut search: NearestSearch,
        set: &ImageSet,
        describe: Describe,
        progress: &Progress,
    ) -> Result<Nearest> {
        for start in (0..set.len()).step_by(CHUNK) {
            interrupt::check()?;
            let count = CHUNK.min(set.len() - start);
            search.add(&describe(&set.images.narrow(0, start as i64, count as i64)))?;
            progress.add(count as u64);
        }
        Ok(search.finish()?)
    }
}
