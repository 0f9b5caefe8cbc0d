//! Learning rates over the epochs.

use super::close;
use fed_distill::data::{ImageSet, Normalisation};
use fed_distill::model::{Model, ModelKind, ModelSettings, ModelSpec};
use fed_distill::runtime::seed::Seeds;
use fed_distill::train::{
    AugmentSettings, CrossEntropy, FitSettings, Milestones, OneCycle, OptimizerSettings,
    SchedulePoint, ScheduleSettings, Shuffled, fit,
};
use tch::{Device, Kind, Tensor};

/// ```python
/// def rates(make, epochs):
///     p = torch.zeros(1, requires_grad=True)
///     opt = torch.optim.SGD([p], lr=0.1)
///     sch, out = make(opt), []
///     for _ in range(epochs):
///         out.append(opt.param_groups[0]["lr"])
///         opt.step(); sch.step()
///     return out
/// s = torch.optim.lr_scheduler
/// print(rates(lambda o: s.MultiStepLR(o, [2, 5], gamma=0.1), 8))
/// print(rates(lambda o: s.CosineAnnealingLR(o, T_max=8), 8))
/// ```
#[test]
fn schedules() {
    let multi_step = [0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.001];
    let cosine = [
        0.1,
        0.09619397662556434,
        0.08535533905932738,
        0.0691341716182545,
        0.05,
        0.030865828381745515,
        0.014644660940672627,
        0.0038060233744356634,
    ];
    let milestones = Milestones {
        milestones: vec![2, 5],
        gamma: 0.1,
    };
    for (schedule, wanted) in [
        (ScheduleSettings::Milestones(milestones), multi_step),
        (ScheduleSettings::Cosine, cosine),
    ] {
        for (epoch, wanted) in wanted.into_iter().enumerate() {
            for within in [0.0, 0.5] {
                let at = SchedulePoint {
                    epoch,
                    epochs: 8,
                    within,
                };
                close(
                    0.1 * schedule.factor(at),
                    wanted,
                    1e-12,
                    &format!("{schedule:?} {epoch}"),
                );
            }
        }
    }
}

/// A rate that rises from zero must not be zero at the first step: here there is no other.
#[test]
fn one_cycle_moves_at_the_first_step() {
    let seeds = Seeds::new(1);
    let pixels = Tensor::full([4, 1, 8, 8], 200, (Kind::Uint8, Device::Cpu));
    let set = ImageSet::new(pixels, vec![0, 0, 0, 1]).unwrap();
    let normalisation = Normalisation {
        mean: vec![0.5],
        std: vec![0.5],
    };
    let augment = AugmentSettings {
        crop: 0,
        flip: false,
    };
    let mut source = Shuffled::new(&set, &normalisation, augment, 4, seeds, "test".into());
    let linear = ModelSettings {
        kind: ModelKind::Linear,
        ..ModelSettings::default()
    };
    let spec = ModelSpec::new(&linear, 1, 8, 2).unwrap();
    let mut model = Model::new(&spec, Device::Cpu, &mut seeds.stream("model", 0)).unwrap();
    let before = model.parameters()[0].copy();
    let settings = FitSettings {
        epochs: 1,
        optimizer: OptimizerSettings::sgd(0.1, 0.0),
        schedule: ScheduleSettings::OneCycle(OneCycle { warmup: 1.0 }),
    };
    let loss = CrossEntropy::default();
    fit(&mut model, &mut source, &loss, &settings, None, &mut ()).unwrap();
    assert!(!model.parameters()[0].equal(&before));
}
