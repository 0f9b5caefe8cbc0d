//! Inversion steps through the library's own engine.

use super::cases::{Case, Cases, Engine};
use fed_distill::Result;
use fed_distill::inversion::engine::{Draw, Inversion, Inverted};
use fed_distill::inversion::objective::Opinion;
use fed_distill::inversion::{LabelMask, LossScales, PixelAdam, PixelOptimizer, Teacher};
use fed_distill::model::Model;
use fed_distill::runtime::seed::{Rng, Seeds};
use rand::Rng as _;
use tch::Tensor;

/// What a batch is made against, and for which labels.
struct Target {
    teacher: Teacher,
    student: Option<Model>,
    masks: [Option<LabelMask>; 1],
    scales: LossScales,
    labels: Tensor,
}

impl Target {
    fn invert(&self, start: &Tensor, steps: usize, adam: &mut PixelAdam, draw: &mut dyn Draw) -> Result<Inverted> {
        let inversion = Inversion {
            teachers: &[&self.teacher],
            opinion: Opinion::Each(&self.masks),
            student: self.student.as_ref(),
            scales: &self.scales,
            steps,
        };
        inversion.run(start, &self.labels, adam, draw)
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
    /// The batch of `case`, at its start.
    pub fn new(cases: &Cases, case: &Case, engine: Engine) -> Result<Self> {
        // The only engine so far.
        let Engine::Plain = engine;
        let material = cases.make(case)?;
        let classes = material.teacher.spec().classes as usize;
        Ok(Self {
            target: Target {
                teacher: Teacher::new(material.teacher, vec![1; classes])?,
                student: case.student.then_some(material.student),
                masks: [None],
                scales: cases.scales(),
                labels: Tensor::from_slice(&material.labels),
            },
            adam: PixelAdam::new(&PixelOptimizer::default(), &material.images),
            images: material.images,
            draw: Jitter::new(2),
        })
    }

    /// Runs `count` steps.
    pub fn run(&mut self, count: usize) -> Result<()> {
        let made = self
            .target
            .invert(&self.images, count, &mut self.adam, &mut self.draw)?;
        self.images = made.last;
        Ok(())
    }

    /// Loss and input gradient of the batch as it is, without jitter.
    ///
    /// Adam with a learning rate and an ε that outweigh the gradient by far, and no memory, moves the batch by the gradient itself.
    pub fn check(&self) -> Result<(f64, Tensor)> {
        const HUGE: f64 = 1e6;
        let settings = PixelOptimizer {
            lr: HUGE,
            betas: [0.0, 0.0],
            eps: HUGE,
        };
        let mut adam = PixelAdam::new(&settings, &self.images);
        let made = self.target.invert(&self.images, 1, &mut adam, &mut Jitter::new(0))?;
        Ok((made.best_loss, &self.images - made.last))
    }
}

/// The one teacher at every step, and a roll of up to `most` pixels.
struct Jitter {
    most: i64,
    rng: Rng,
}

impl Jitter {
    fn new(most: i64) -> Self {
        Self {
            most,
            rng: Seeds::new(1).stream("benchmark/jitter", 0),
        }
    }
}

impl Draw for Jitter {
    fn teachers(&mut self) -> Vec<usize> {
        vec![0]
    }

    fn jitter(&mut self) -> (i64, i64) {
        let mut offset = || self.rng.random_range(-self.most..=self.most);
        (offset(), offset())
    }
}
