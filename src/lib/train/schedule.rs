//! The learning rate at a moment of a training run, as a pure function, so that a resumed run needs
//! no state for it.

use super::settings::{ScheduleKind, ScheduleSettings};

/// A moment of training: `epoch` of `epochs`, and how far into the epoch (0 at its first batch,
/// towards 1).
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub epoch: usize,
    pub epochs: usize,
    pub within: f64,
}

impl ScheduleSettings {
    /// The factor on the base learning rate. As PyTorch's MultiStepLR and CosineAnnealingLR stepped
    /// once an epoch; `one_cycle` is piecewise linear and moves at every batch.
    pub fn factor(&self, at: Moment) -> f64 {
        let share = (at.epoch as f64 + at.within) / at.epochs.max(1) as f64;
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Milestones => {
                let passed = self
                    .milestones
                    .iter()
                    .filter(|&&milestone| milestone <= at.epoch)
                    .count();
                self.gamma.powi(passed as i32)
            }
            ScheduleKind::Cosine => {
                0.5 * (1.0
                    + (std::f64::consts::PI * at.epoch as f64 / at.epochs.max(1) as f64).cos())
            }
            ScheduleKind::OneCycle if share < self.warmup => share / self.warmup,
            ScheduleKind::OneCycle => {
                ((1.0 - share) / (1.0 - self.warmup).max(f64::EPSILON)).max(0.0)
            }
        }
    }
}
