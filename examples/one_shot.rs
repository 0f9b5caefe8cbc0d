//! One-shot federated learning in memory: two clients train teachers, a server inverts them into
//! synthetic images and trains a student on these alone. No file, no config, no command line.
//!
//! `cargo run --release --example one_shot` takes about a minute on two cores.

use fed_distill::Result;
use fed_distill::data::{Dataset, DatasetSettings, Normalisation, load};
use fed_distill::distill::{AdaptiveSource, Distillation, GrowingSet, SourceSettings};
use fed_distill::inversion::{
    Ensemble, InversionSettings, Inverter, LabelSampling, PhaseSettings, Synthesizer, Teacher,
};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::partition::{Dirichlet, Part, Split};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, CrossEntropy, FitSettings, OneCycle, OptimizerSettings, ScheduleSettings,
    Shuffled, evaluate, fit,
};
use tch::{Device, Tensor};

const DEVICE: Device = Device::Cpu;
const SYNTHETIC_BATCHES: usize = 4;

fn main() -> Result<()> {
    let seeds = Seeds::new(42);
    let digits = load(&DatasetSettings::default(), DEVICE)?;
    let classes = digits.classes.len();
    let split = Split::new(
        &Dirichlet {
            nodes: 2,
            alpha: 1.0,
            min_size: 100,
        },
        &digits.train.label_list,
        &digits.test.label_list,
        classes,
        &mut seeds.stream("split", 0),
    )?;
    let spec = ModelSpec::new(
        &ModelSettings {
            kind: ModelKind::Resnet18,
            width: Some(16),
            blocks: Some(vec![1, 1, 1]),
        },
        digits.channels(),
        digits.size(),
        classes as i64,
    )?;

    let mut teachers = Vec::new();
    for (client, part) in split.nodes.iter().enumerate() {
        let teacher = train_teacher(&digits, part, &spec, client, seeds)?;
        println!("teacher {client}: {}", accuracy(&teacher, &digits)?);
        let label_counts = digits.train.select(&part.train)?.counts(classes);
        teachers.push(Teacher::new(teacher, label_counts)?);
    }

    // From here on the server works, which has the teachers and no image.
    let student = distil(&teachers, &digits.normalisation, &spec, seeds)?;
    println!("student: {}", accuracy(&student, &digits)?);
    Ok(())
}

/// Trains one client's model on its own part of the images.
fn train_teacher(
    digits: &Dataset,
    part: &Part,
    spec: &ModelSpec,
    client: usize,
    seeds: Seeds,
) -> Result<Model> {
    let images = digits.train.select(&part.train)?;
    let mut rng = seeds.stream("teacher/initialisation", client as u64);
    let mut model = Model::new(spec, DEVICE, &mut rng)?;
    let mut batches = Shuffled::new(
        &images,
        &digits.normalisation,
        augmentation(),
        64,
        seeds,
        format!("teacher/{client}/batches"),
    );
    let loss = CrossEntropy::default();
    fit(
        &mut model,
        &mut batches,
        &loss,
        &settings(15),
        None,
        &mut (),
    )?;
    Ok(model)
}

/// Inverts the teachers into synthetic batches, and trains a student towards their joint
/// prediction on them.
fn distil(
    teachers: &[Teacher],
    normalisation: &Normalisation,
    spec: &ModelSpec,
    seeds: Seeds,
) -> Result<Model> {
    let inversion = InversionSettings {
        batch_size: 128,
        labels: LabelSampling::Balanced,
        di: PhaseSettings {
            grad_updates_batch: 100,
            ..PhaseSettings::default()
        },
        ..InversionSettings::default()
    };
    let all: Vec<&Teacher> = teachers.iter().collect();
    let mut inverter = Inverter::new(all.clone(), &inversion, seeds)?;
    let made = (0..SYNTHETIC_BATCHES)
        .map(|index| inverter.make(index, None, &mut ()))
        .collect::<Result<Vec<_>>>()?;

    let images = SYNTHETIC_BATCHES * inversion.batch_size;
    let first = (&made[0]).into();
    let mut set = GrowingSet::new(&first, images, None, normalisation, DEVICE)?;
    for batch in &made[1..] {
        set.push(&batch.into())?;
    }
    let ensemble = || Ensemble::new(inversion.ensemble, &all, DEVICE);
    let source = SourceSettings {
        batch_size: 64,
        new_batches_per_epoch: 0,
        first_batch: SYNTHETIC_BATCHES,
        epoch_images: None,
        adaptive: false,
        augment: augmentation(),
        augment_fresh: false,
        padding: normalisation.black(),
        real_padding: normalisation.black(),
    };
    let mut batches = AdaptiveSource::new(set, Box::new(inverter), ensemble(), source, seeds);
    let loss = Distillation {
        teachers: all.clone(),
        ensemble: ensemble(),
        temperature: 3.0,
        label_weight: 0.0,
        class_weights: None,
        cache: None,
    };
    let mut student = Model::new(spec, DEVICE, &mut seeds.stream("student/initialisation", 0))?;
    fit(
        &mut student,
        &mut batches,
        &loss,
        &settings(30),
        None,
        &mut (),
    )?;
    Ok(student)
}

fn augmentation() -> AugmentSettings {
    AugmentSettings {
        crop: 2,
        flip: false,
    }
}

fn settings(epochs: usize) -> FitSettings {
    FitSettings {
        epochs,
        optimizer: OptimizerSettings::default(),
        schedule: ScheduleSettings::OneCycle(OneCycle::default()),
    }
}

/// Returns the accuracy on all test images, for people.
fn accuracy(model: &Model, digits: &Dataset) -> Result<String> {
    let logits = |images: &Tensor| Ok(model.eval(images));
    let classes = digits.classes.len();
    let result = evaluate(&logits, &digits.test, &digits.normalisation, classes, 512)?;
    let percent = 100.0 * result.accuracy().unwrap_or(0.0);
    Ok(format!(
        "{percent:.1} % of {} test images",
        digits.test.len()
    ))
}
