//! Computes the learning rate at any point of a training run. It is a pure function, so a resumed
//! run needs no state for it. Called by [`fit`](super::fit).

use super::settings::ScheduleSettings;

/// Holds a point of a training run.
#[derive(Clone, Copy, Debug)]
pub struct SchedulePoint {
    /// Index of the epoch, from 0.
    pub epoch: usize,
    /// Number of epochs of the run.
    pub epochs: usize,
    /// (step + ½) / steps of the epoch, between 0 and 1: a rate that rises from zero is that of the
    /// middle of the step, or the first step would do nothing.
    pub within: f64,
}

impl ScheduleSettings {
    /// Returns the factor on the base learning rate. `milestones` and `cosine` are PyTorch's
    /// MultiStepLR and CosineAnnealingLR, stepped once an epoch; `one_cycle` is piecewise linear
    /// and changes at every batch.
    pub fn factor(&self, at: SchedulePoint) -> f64 {
        let share = (at.epoch as f64 + at.within) / at.epochs.max(1) as f64;
        match self {
            Self::Constant => 1.0,
            Self::Milestones(settings) => {
                let milestones = settings.milestones.iter();
                let passed = milestones.filter(|&&milestone| milestone <= at.epoch);
                settings.gamma.powi(passed.count() as i32)
            }
            Self::Cosine => {
                0.5 * (1.0
                    + (std::f64::consts::PI * at.epoch as f64 / at.epochs.max(1) as f64).cos())
            }
            Self::OneCycle(settings) if share < settings.warmup => share / settings.warmup,
            Self::OneCycle(settings) => {
                ((1.0 - share) / (1.0 - settings.warmup).max(f64::EPSILON)).max(0.0)
            }
        }
    }
}
