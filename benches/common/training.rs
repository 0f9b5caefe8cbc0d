//! Supervised training steps through the library's one training loop.

use super::cases::{Case, Cases};
use fed_distill::Result;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::model::{Masks, Model, Precision};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, Batch, Callback, CrossEntropy, EpochReport, FitSettings, Objective,
    OptimizerSettings, ScheduleSettings, Shuffled, fit,
};
use tch::{Device, Tensor};

/// A network in training on one batch of images, over and over.
pub struct Steps {
    model: Model,
    images: ImageSet,
    normalisation: Normalisation,
    optimizer: OptimizerSettings,
}

impl Steps {
    /// The network of `case` on `device`, at its start.
    pub fn new(cases: &Cases, case: &Case, device: Device, precision: Precision) -> Result<Self> {
        let material = cases.make(case)?.on(device, precision)?;
        let usual = OptimizerSettings::default();
        Ok(Self {
            optimizer: OptimizerSettings {
                lr: case.lr.unwrap_or(usual.lr),
                ..usual
            },
            model: material.teacher,
            images: ImageSet::new(material.pixels, material.labels)?,
            // The usual constants of CIFAR-10.
            normalisation: Normalisation {
                mean: vec![0.4914, 0.4822, 0.4465],
                std: vec![0.2023, 0.1994, 0.2010],
            },
        })
    }

    /// An epoch of `count` steps.
    pub fn epoch(&mut self, count: usize) -> Result<impl FnOnce() -> Result<()>> {
        let batch = self.images.len();
        let indices: Vec<usize> = (0..count * batch).map(|index| index % batch).collect();
        let images = self.images.select(&indices)?;
        let settings = FitSettings {
            epochs: 1,
            optimizer: self.optimizer.clone(),
            schedule: ScheduleSettings::Constant,
        };
        Ok(move || {
            let mut source = Shuffled::new(
                &images,
                &self.normalisation,
                AugmentSettings::default(),
                batch,
                Seeds::new(1),
                "benchmark/batches".into(),
            );
            fit(
                &mut self.model,
                &mut source,
                &CrossEntropy::default(),
                &settings,
                None,
                &mut Silent,
            )
        })
    }

    /// Loss of the batch without augmentation, and its gradient in the first convolution's weights.
    pub fn check(&self) -> Result<(f64, Tensor)> {
        let batch = Batch {
            images: self.normalisation.apply(&self.images.images),
            labels: self.images.labels.shallow_clone(),
            scores: None,
            real: None,
            teachers: None,
            views: None,
        };
        let loss = |logits: &Tensor| CrossEntropy::default().loss(logits, &batch);
        let images = &batch.images;
        let mut step = self.model.differentiate(images, Masks::default(), loss)?;
        Ok((f64::try_from(&step.loss)?, step.gradients.remove(0)))
    }
}

struct Silent;

impl Callback for Silent {
    fn epoch(&mut self, _model: &Model, _report: &EpochReport) -> Result<()> {
        Ok(())
    }
}
