//! Batches that were made by an earlier process: what is made after them is the same.

use fed_distill::Result;
use fed_distill::inversion::{
    BatchStore, EngineKind, InversionSettings, Inverter, Moments, StoredBatch, SyntheticBatch,
    Teacher,
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
        let model = ModelSettings {
            kind: ModelKind::Resnet18,
            width: Some(4),
            blocks: Some(vec![1]),
        };
        let spec = ModelSpec::new(&model, channels, 8, 5).unwrap();
        let mut rng = Seeds::new(7).stream("test", 0);
        let model = Model::new(&spec, Device::Cpu, &mut rng).unwrap();
        let teacher = Teacher::new(model, vec![3, 3, 2, 5, 4]).unwrap();
        let mut settings = InversionSettings {
            batch_size: 16,
            keep_moments: true,
            engine,
            ..InversionSettings::default()
        };
        settings.di.grad_updates_batch = 4;
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
