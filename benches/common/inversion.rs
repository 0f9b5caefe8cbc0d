//! Inversion steps through the library's own engine.

use super::cases::{Case, Cases, Engine};
use fed_distill::Result;
use fed_distill::inversion::engine::{Draw, Inversion};
use fed_distill::inversion::objective::{Combination, Loss};
use fed_distill::inversion::{LabelMask, LossScales, PixelAdam, PixelOptimizer, Teacher};
use fed_distill::model::{Model, Precision};
use fed_distill::runtime::seed::{Rng, Seeds};
use rand::Rng as _;
use tch::{Device, Tensor};

/// What a batch is made against, and for which labels.
struct Target {
    teacher: Teacher,
    student: Option<Model>,
    masks: [Option<LabelMask>; 1],
    scales: LossScales,
    labels: Tensor,
    fused: bool,
}

impl Target {
    /// Hands `work` the inversion of `steps` steps.
    fn with<T>(&self, steps: usize, work: impl FnOnce(Inversion) -> Result<T>) -> Result<T> {
        work(Inversion {
            teachers: &[&self.teacher],
            loss: Loss {
                combination: Combination::Separate(&self.masks),
                scales: &self.scales,
            },
            student: self.student.as_ref(),
            steps,
            fused: self.fused,
        })
    }
}

/// A batch under way.
pub struct Steps {
    target: Target,
    images: Tensor,
    adam: PixelAdam,
    draw: Jitter,
}

impl Steps {
    /// The batch of `case` on `device`, at its start.
    pub fn new(
        cases: &Cases,
        case: &Case,
        engine: Engine,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        let material = cases.make(case)?.on(device, precision)?;
        let classes = material.teacher.spec().classes as usize;
        Ok(Self {
            target: Target {
                teacher: Teacher::new(material.teacher, vec![1; classes])?,
                student: case.student.then_some(material.student),
                masks: [None],
                scales: cases.scales(),
                labels: Tensor::from_slice(&material.labels).to_device(device),
                fused: engine == Engine::Fused,
            },
            adam: PixelAdam::new(&PixelOptimizer::default()),
            images: material.images,
            draw: Jitter::new(),
        })
    }

    /// Runs `count` steps.
    pub fn run(&mut self, count: usize) -> Result<()> {
        let Self {
            target,
            images,
            adam,
            draw,
        } = self;
        let made = target.with(count, |inversion| {
            inversion.run(images, &target.labels, adam, draw, &mut ())
        })?;
        self.images = made.last;
        Ok(())
    }

    /// Loss and input gradient of the batch as it is, without jitter.
    pub fn check(&self) -> Result<(f64, Tensor)> {
        let evaluate =
            |inversion: Inversion| inversion.differentiate(&self.images, &self.target.labels, &[0]);
        let (terms, gradient) = self.target.with(1, evaluate)?;
        Ok((f64::try_from(&terms.total)?, gradient))
    }
}

/// The one teacher at every step, and a roll of up to two pixels.
struct Jitter {
    rng: Rng,
}

impl Jitter {
    fn new() -> Self {
        Self {
            rng: Seeds::new(1).stream("benchmark/jitter", 0),
        }
    }
}

impl Draw for Jitter {
    fn teachers(&mut self) -> Vec<usize> {
        vec![0]
    }

    fn jitter(&mut self) -> (i64, i64) {
        let mut offset = || self.rng.random_range(-2..=2);
        (offset(), offset())
    }
}
