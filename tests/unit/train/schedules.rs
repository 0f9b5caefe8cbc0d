//! Learning rates over the epochs.

use super::close;
use fed_distill::train::{Milestones, SchedulePoint, ScheduleSettings};

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
