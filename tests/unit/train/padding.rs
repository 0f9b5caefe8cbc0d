//! What surrounds the crops of a student's images.

use crate::common::machine::device;
use fed_distill::Result;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::distill::{AdaptiveSource, GrowingSet, SourceSettings, SyntheticImages};
use fed_distill::inversion::{Ensemble, EnsembleKind, InversionSettings, Inverter, Teacher};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{AugmentSettings, BatchSource};
use tch::{Kind, Tensor};

/// The public Python project pads synthetic images with the mean colour, zero after normalisation,
/// and real ones with black. Here both are white inside, in batches that have both.
#[test]
fn real_and_synthetic_images_have_their_own() -> Result<()> {
    let normalisation = Normalisation {
        mean: vec![0.5],
        std: vec![0.5],
    };
    let count = 12;
    let pixels = Tensor::full([count, 1, 8, 8], 255, (Kind::Uint8, device()));
    let real = ImageSet::new(pixels, vec![0; count as usize])?;
    let synthetic = SyntheticImages {
        images: Tensor::ones([count, 1, 8, 8], (Kind::Float, device())),
        labels: Tensor::zeros([count], (Kind::Int64, device())),
        teachers: Tensor::zeros([count], (Kind::Int64, device())),
    };
    let set = GrowingSet::new(&synthetic, 0, Some(&real), &normalisation, device())?;
    let settings = ModelSettings {
        kind: ModelKind::Linear,
        ..ModelSettings::default()
    };
    let spec = ModelSpec::new(&settings, 1, 8, 2)?;
    let model = || Model::new(&spec, device(), &mut Seeds::new(1).stream("test", 0));
    let teacher = Teacher::new(model()?, vec![5, 3])?;
    let inversion = InversionSettings::default();
    let inverter = Inverter::new(vec![&teacher], &inversion, Seeds::new(5))?;
    let ensemble = Ensemble::new(EnsembleKind::MeanLogits, &[&teacher], device());
    let settings = SourceSettings {
        batch_size: 8,
        new_batches_per_epoch: 0,
        first_batch: 0,
        epoch_images: None,
        adaptive: false,
        augment: AugmentSettings {
            crop: 4,
            flip: false,
        },
        augment_fresh: false,
        padding: vec![0.0],
        real_padding: normalisation.black(),
    };
    let seeds = Seeds::new(1);
    let mut source = AdaptiveSource::new(set, Box::new(inverter), ensemble, settings, seeds);
    let (steps, student) = (source.begin(0)?, model()?);
    let mut seen = [0, 0];
    for step in 0..steps {
        let batch = source.next(step, &student)?;
        let darkest = batch.images.flatten(1, -1).amin([1_i64], false);
        let darkest = Vec::<f32>::try_from(&darkest)?;
        let real = Vec::<f32>::try_from(&batch.real.expect("a mixed set tells"))?;
        for (darkest, real) in darkest.into_iter().zip(real) {
            // A crop at the middle shows no padding.
            let padding = if real > 0.0 { -1.0 } else { 0.0 };
            assert!(
                darkest == padding || darkest == 1.0,
                "{darkest}, real: {real}"
            );
            seen[usize::from(real > 0.0)] += usize::from(darkest == padding);
        }
    }
    assert!(seen.iter().all(|&count| count > 5), "{seen:?}");
    Ok(())
}
