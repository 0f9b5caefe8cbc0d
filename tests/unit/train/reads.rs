//! How often training and inversion wait for the device, which reading a number back does: as often
//! in a long epoch, and in many steps of a batch, as in short ones.

use crate::common::machine::device;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::inversion::{EngineKind, InversionSettings, Inverter, Teacher};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::read::reads;
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, CrossEntropy, FitSettings, OptimizerSettings, ScheduleSettings, Shuffled, fit,
};
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
    let settings = FitSettings {
        epochs: 2,
        optimizer: OptimizerSettings::default(),
        schedule: ScheduleSettings::default(),
    };
    let before = reads();
    let objective = CrossEntropy::default();
    fit(
        &mut model(1),
        &mut source,
        &objective,
        &settings,
        None,
        &mut (),
    )
    .unwrap();
    reads() - before
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
    for engine in [EngineKind::Plain, EngineKind::Auto] {
        let (few, many) = (of_inversion(engine, 3), of_inversion(engine, 120));
        assert_eq!(few, many, "{engine:?}");
        // The fused engine reads the student's batch norms once.
        assert!((1..=24).contains(&few), "{engine:?}: {few} in a batch");
    }
}
