//! How often training and inversion wait for the device, which reading a number back does: as often
//! in a long epoch, and in many steps of a batch, as in short ones.

use crate::common::machine::device;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::distill::{
    AdaptiveSource, Distillation, GrowingSet, LogitCache, SourceSettings, SyntheticImages,
};
use fed_distill::inversion::{
    EngineKind, Ensemble, EnsembleKind, InversionSettings, Inverter, Synthesizer, Teacher,
};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::read::reads;
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, BatchSource, CrossEntropy, FitSettings, Objective, OptimizerSettings,
    ScheduleSettings, Shuffled, fit,
};
use std::cell::RefCell;
use tch::{Kind, Tensor};

fn model(seed: u64) -> Model {
    let settings = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(4),
        blocks: Some(vec![1]),
    };
    let spec = ModelSpec::new(&settings, 1, 8, 2).unwrap();
    Model::new(&spec, device(), &mut Seeds::new(seed).stream("test", 0)).unwrap()
}

/// The reads of two epochs from a source.
fn of_two_epochs(source: &mut dyn BatchSource, objective: &dyn Objective) -> u64 {
    let settings = FitSettings {
        epochs: 2,
        optimizer: OptimizerSettings::default(),
        schedule: ScheduleSettings::default(),
    };
    let before = reads();
    fit(&mut model(1), source, objective, &settings, None, &mut ()).unwrap();
    reads() - before
}

/// The reads of two epochs over so many images.
fn of_training(images: i64) -> u64 {
    let pixels = Tensor::zeros([images, 1, 8, 8], (Kind::Uint8, device()));
    let labels = (0..images).map(|image| image % 2).collect();
    let set = ImageSet::new(pixels, labels).unwrap();
    let normalisation = Normalisation {
        mean: vec![0.5],
        std: vec![0.5],
    };
    let augment = AugmentSettings {
        crop: 1,
        flip: true,
    };
    let seeds = Seeds::new(1);
    let mut source = Shuffled::new(&set, &normalisation, augment, 4, seeds, "test".into());
    of_two_epochs(&mut source, &CrossEntropy::default())
}

/// The reads of two epochs of distillation from two teachers over so many images.
fn of_distillation(kind: EnsembleKind, images: i64, is_cached: bool) -> u64 {
    let labels = (Tensor::arange(images, (Kind::Int64, device()))).remainder(2);
    let synthetic = SyntheticImages {
        images: Tensor::zeros([images, 1, 8, 8], (Kind::Float, device())),
        teachers: labels.shallow_clone(),
        labels,
    };
    let normalisation = Normalisation {
        mean: vec![0.5],
        std: vec![0.5],
    };
    let set = GrowingSet::new(&synthetic, 0, None, &normalisation, device()).unwrap();
    let teachers =
        [(1, vec![5, 0]), (2, vec![1, 3])].map(|(seed, n)| Teacher::new(model(seed), n).unwrap());
    let all: Vec<&Teacher> = teachers.iter().collect();
    let inversion = InversionSettings::default();
    let inverter = Inverter::new(all.clone(), &inversion, Seeds::new(5)).unwrap();
    let ensemble = || Ensemble::new(kind, &all, device());
    let settings = SourceSettings {
        batch_size: 4,
        new_batches_per_epoch: 0,
        first_batch: 0,
        epoch_images: None,
        adaptive: false,
        augment: AugmentSettings {
            crop: 1,
            flip: true,
        },
        augment_fresh: false,
        padding: normalisation.black(),
        real_padding: normalisation.black(),
    };
    let seeds = Seeds::new(1);
    let mut source = AdaptiveSource::new(set, Box::new(inverter), ensemble(), settings, seeds);
    let objective = Distillation {
        ensemble: ensemble(),
        teachers: all.clone(),
        temperature: 2.0,
        label_weight: 0.5,
        class_weights: None,
        cache: is_cached.then(|| RefCell::new(LogitCache::new(1 << 20))),
    };
    of_two_epochs(&mut source, &objective)
}

/// The reads of a batch of so many steps.
fn of_inversion(engine: EngineKind, steps: usize) -> u64 {
    let teacher = Teacher::new(model(1), vec![5, 3]).unwrap();
    let mut settings = InversionSettings {
        batch_size: 4,
        engine,
        ..InversionSettings::default()
    };
    settings.adi.grad_updates_batch = steps;
    let mut inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(5)).unwrap();
    // What is read once of each teacher.
    inverter.make(0, Some(&model(2)), &mut ()).unwrap();
    let before = reads();
    inverter.make(1, Some(&model(2)), &mut ()).unwrap();
    reads() - before
}

#[test]
fn do_not_grow_with_steps() {
    let (short, long) = (of_training(8), of_training(80));
    assert_eq!(short, long);
    assert!((1..=16).contains(&short), "{short} in two epochs");
    let kinds = [
        EnsembleKind::LabelShare,
        EnsembleKind::LabelGated,
        EnsembleKind::MadeFrom,
    ];
    for (kind, is_cached) in kinds
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
    {
        let [short, long] = [8, 80].map(|images| of_distillation(kind, images, is_cached));
        assert_eq!(short, long, "{kind:?}, cached: {is_cached}");
        // The teachers' batch norms are read once.
        assert!((1..=48).contains(&short), "{short} in two epochs");
    }
    for engine in [EngineKind::Plain, EngineKind::Auto] {
        let (few, many) = (of_inversion(engine, 3), of_inversion(engine, 120));
        assert_eq!(few, many, "{engine:?}");
        // The fused engine reads the student's batch norms once.
        assert!((1..=24).contains(&few), "{engine:?}: {few} in a batch");
    }
}
