//! Draws what varies from step to step of a batch: the teachers it is optimised against, and the
//! offsets it is rolled by. Called by [`Inverter::make`](super::Inverter::make).

use super::engine::Draw;
use super::settings::{SamplePer, TeacherMode, TeacherSampling};
use crate::runtime::seed::Rng;
use rand::Rng as _;
use rand::seq::index::sample;

/// The largest offset, in pixels, by which a batch is rolled in each direction.
const JITTER: i64 = 2;

/// Makes the random choices of one batch's steps.
pub(super) struct Draws {
    total: usize,
    mode: TeacherMode,
    per: SamplePer,
    n: usize,
    current: Vec<usize>,
    jitter: bool,
    rng: Rng,
}

impl Draws {
    /// Returns the choices for a batch made from `teacher`, or from the teachers that `sampling`
    /// selects among `total`.
    pub fn new(
        sampling: &TeacherSampling,
        total: usize,
        teacher: Option<usize>,
        jitter: bool,
        mut rng: Rng,
    ) -> Self {
        let current = match (teacher, sampling.mode) {
            (Some(teacher), _) => vec![teacher],
            (None, TeacherMode::Sample) => sample(&mut rng, total, sampling.n).into_vec(),
            (None, _) => (0..total).collect(),
        };
        Self {
            total,
            mode: sampling.mode,
            per: sampling.per,
            n: sampling.n,
            current,
            jitter,
            rng,
        }
    }
}

impl Draw for Draws {
    fn teachers(&mut self) -> Vec<usize> {
        if self.mode == TeacherMode::Sample && self.per == SamplePer::Step {
            self.current = sample(&mut self.rng, self.total, self.n).into_vec();
        }
        self.current.clone()
    }

    fn jitter(&mut self) -> (i64, i64) {
        match self.jitter {
            true => (
                self.rng.random_range(-JITTER..=JITTER),
                self.rng.random_range(-JITTER..=JITTER),
            ),
            false => (0, 0),
        }
    }
}
