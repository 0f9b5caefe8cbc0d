//! Batches that were made by an earlier process: what is made after them is the same.

use fed_distill::Result;
use fed_distill::inversion::{
    BatchStore, EngineKind, InversionSettings, Inverter, Keep, Moments, StoredBatch, Synthesizer,
    SyntheticBatch, Teacher,
};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use std::cell::RefCell;
use std::collections::BTreeMap;
use tch::{Device, Tensor};

/// Keeps the values of tensors, as files do, but not the order in which they lie in memory.
#[derive(Default)]
struct Values(RefCell<BTreeMap<usize, StoredBatch>>);

fn values(tensor: &Tensor) -> Tensor {
    let mut copy = Tensor::empty(tensor.size(), (tensor.kind(), Device::Cpu));
    copy.copy_(tensor);
    copy
}

fn copy(stored: &StoredBatch) -> StoredBatch {
    let StoredBatch { batch, moments } = stored;
    StoredBatch {
        batch: SyntheticBatch {
            images: values(&batch.images),
            labels: values(&batch.labels),
            teacher: batch.teacher,
            best_loss: batch.best_loss,
            history: batch.history.clone(),
        },
        moments: moments.as_ref().map(|moments| Moments {
            first: values(&moments.first),
            second: values(&moments.second),
            steps: moments.steps,
        }),
    }
}

impl BatchStore for Values {
    fn get(&self, index: usize) -> Result<Option<StoredBatch>> {
        Ok(self.0.borrow().get(&index).map(copy))
    }

    fn put(&self, index: usize, stored: &StoredBatch) -> Result<()> {
        self.0.borrow_mut().insert(index, copy(stored));
        Ok(())
    }
}

fn teacher(channels: i64, seed: u64) -> Teacher {
    let model = ModelSettings {
        kind: ModelKind::Resnet18,
        width: Some(4),
        blocks: Some(vec![1]),
    };
    let spec = ModelSpec::new(&model, channels, 8, 5).unwrap();
    let mut rng = Seeds::new(seed).stream("test", 0);
    let model = Model::new(&spec, Device::Cpu, &mut rng).unwrap();
    Teacher::new(model, vec![3, 3, 2, 5, 4]).unwrap()
}

/// Four steps a batch of sixteen images.
fn keeping(engine: EngineKind) -> InversionSettings {
    let mut settings = InversionSettings {
        batch_size: 16,
        keep_moments: true,
        engine,
        ..InversionSettings::default()
    };
    settings.di.grad_updates_batch = 4;
    settings
}

/// A batch is made with the moments that the one before it left, whether the same process made that
/// one or another.
#[test]
fn kept_moments_survive_the_process() {
    for (channels, engine) in [
        (1, EngineKind::Plain),
        (1, EngineKind::Fused),
        (3, EngineKind::Plain),
        (3, EngineKind::Fused),
    ] {
        let (teacher, settings) = (teacher(channels, 7), keeping(engine));
        let store = Values::default();
        let make = |indices: &[usize]| {
            let mut inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(1)).unwrap();
            let made = indices.iter().map(|&index| {
                let made = inverter.make_or_load(index, None, &store, &mut ());
                made.unwrap().images
            });
            made.last().unwrap()
        };
        let whole = make(&[0, 1]);
        store.0.borrow_mut().remove(&1);
        let resumed = make(&[0, 1]);
        assert!(whole.equal(&resumed), "{channels} channels, {engine:?}");
    }
}

/// What one engine left, another resumes: the same batch, up to rounding.
#[test]
fn moments_pass_from_engine_to_engine() {
    let teacher = teacher(3, 7);
    let engines = [EngineKind::Fused, EngineKind::Plain];
    let second = |first: EngineKind, engine: EngineKind| {
        let store = Values::default();
        let make = |engine, index| {
            let settings = keeping(engine);
            let mut inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(1)).unwrap();
            (0..=index)
                .map(|index| inverter.make_or_load(index, None, &store, &mut ()).unwrap())
                .last()
                .unwrap()
        };
        make(first, 0);
        let kept = store.get(0).unwrap().unwrap().moments.unwrap();
        assert_eq!(kept.first.size(), [16, 3, 8, 8]);
        assert_eq!(kept.second.size(), [16, 3, 8, 8]);
        make(engine, 1).images
    };
    let wanted = second(engines[1], engines[1]);
    for first in engines {
        for engine in engines {
            let (off, whole) = ((second(first, engine) - &wanted).norm(), wanted.norm());
            let apart = f64::try_from(off / whole).unwrap();
            assert!(apart < 1e-3, "{first:?}, then {engine:?}: {apart}");
        }
    }
}

/// In `cycle` mode each teacher has an Adam of its own, as in the public code: the third batch is
/// made of the first teacher again, and resumes after its four steps. A resumed run does as well.
#[test]
fn each_teacher_keeps_its_own_moments() {
    let (one, two) = (teacher(1, 7), teacher(1, 8));
    let settings = keeping(EngineKind::Fused);
    let store = Values::default();
    let make = |last: usize| {
        let mut inverter = Inverter::new(vec![&one, &two], &settings, Seeds::new(1)).unwrap();
        let made = (0..=last).map(|index| inverter.make_or_load(index, None, &store, &mut ()));
        made.last().unwrap().unwrap().images
    };
    let whole = make(3);
    let steps = |index| store.get(index).unwrap().unwrap().moments.unwrap().steps;
    assert_eq!([0, 1, 2, 3].map(steps), [4, 4, 8, 8]);
    store.0.borrow_mut().retain(|index, _| *index < 2);
    assert!(make(3).equal(&whole));
}

/// Adam's first step moves every pixel by the learning rate, whatever its gradient. Of one step,
/// the noise itself is the best batch, and what it became is the last.
#[test]
fn the_last_batch_is_a_step_further_than_the_best() {
    let teacher = teacher(1, 7);
    for engine in [EngineKind::Fused, EngineKind::Plain] {
        let make = |keep| {
            let mut settings = keeping(engine);
            settings.keep = keep;
            settings.di.grad_updates_batch = 1;
            settings.di.input_jitter = false;
            let mut inverter = Inverter::new(vec![&teacher], &settings, Seeds::new(1)).unwrap();
            inverter.make(0, None, &mut ()).unwrap().images
        };
        let moved = (make(Keep::Last) - make(Keep::Best)).abs();
        let off = f64::try_from((moved - 0.1).abs().median()).unwrap();
        assert!(off < 1e-5, "{engine:?}: {off}");
    }
}
