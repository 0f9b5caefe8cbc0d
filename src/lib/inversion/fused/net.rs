//! A frozen residual network in channels-last order: forward with a tape, backward to the images.

use super::kernels::{self, Branch, Side};
use super::unit::{Seen, Unit, last, plane};
use crate::model::{Model, ModelSpec, ResNet};
use tch::{Device, Tensor, no_grad};

#[derive(Debug)]
struct FrozenBlock {
    body: Vec<Unit>,
    shortcut: Option<Unit>,
}

/// A residual network as it was when it was frozen.
#[derive(Debug)]
pub struct Frozen {
    stem: Unit,
    /// The stem's weights for [`kernels::stem`].
    stem_weight: Tensor,
    blocks: Vec<FrozenBlock>,
    /// [classes, C] and [classes].
    linear: (Tensor, Tensor),
}

#[derive(Debug)]
struct BlockTape {
    /// Height and width of the block's input.
    input: (i64, i64),
    body: Vec<Seen>,
    side: Option<Seen>,
    output: Tensor,
}

/// What a forward pass leaves for the backward pass.
#[derive(Debug)]
pub struct Tape {
    stem: Seen,
    blocks: Vec<BlockTape>,
}

impl Frozen {
    /// Whether a model has a fused path: a residual network on the CPU.
    pub fn has_path(spec: &ModelSpec, device: Device) -> bool {
        device == Device::Cpu && spec.model.kind.is_residual()
    }

    /// Freezes `model`; `None` where there is no fused path.
    pub fn of(model: &Model) -> Option<Self> {
        let ResNet {
            stem,
            blocks,
            linear,
        } = model.residual().filter(|_| model.device() == Device::Cpu)?;
        no_grad(|| {
            let stem = Unit::of(stem);
            let blocks = blocks.iter().map(|block| FrozenBlock {
                body: block.body.iter().map(Unit::of).collect(),
                shortcut: block.shortcut.as_ref().map(Unit::of),
            });
            Some(Self {
                stem_weight: kernels::stem_weight(&stem.weight),
                stem,
                blocks: blocks.collect(),
                linear: (linear.weight.detach().copy(), linear.bias.detach().copy()),
            })
        })
    }

    /// Logits [N,classes] of `images` f32 [N,H,W,C], without a graph. With `observe`, the tape
    /// holds every batch-norm input's statistics.
    pub fn forward(&self, images: &Tensor, observe: bool) -> (Tensor, Tape) {
        no_grad(|| {
            let (mut hidden, stem) = self.stem.forward(images, Side::Nothing, observe);
            let mut blocks = Vec::new();
            for block in &self.blocks {
                let tape = block.forward(&hidden, observe);
                hidden = tape.output.shallow_clone();
                blocks.push(tape);
            }
            (self.classify(&hidden), Tape { stem, blocks })
        })
    }

    /// Logits [N,classes] of `images` f32 [N,C,H,W], without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        no_grad(|| {
            let (mut hidden, _) = self
                .stem
                .forward(&last(&images.detach()), Side::Nothing, false);
            for block in &self.blocks {
                // The rest of the tape is let go at once: evaluation batches are large.
                hidden = block.forward(&hidden, false).output;
            }
            self.classify(&hidden)
        })
    }

    /// The mean over height and width, and the linear layer.
    fn classify(&self, hidden: &Tensor) -> Tensor {
        let pooled = hidden.mean_dim([1i64, 2].as_slice(), false, None);
        pooled.linear(&self.linear.0, Some(&self.linear.1))
    }

    /// Sum of all layers' distances, 0 where the tape holds no statistics.
    pub fn distance(&self, tape: &Tape) -> f64 {
        let of = |seen: &Seen, unit: &Unit| {
            seen.moments
                .as_ref()
                .map_or(0.0, |moments| moments.distance(&unit.norm))
        };
        let blocks = self.blocks.iter().zip(&tape.blocks).map(|(block, tape)| {
            let body: f64 = tape
                .body
                .iter()
                .zip(&block.body)
                .map(|(seen, unit)| of(seen, unit))
                .sum();
            let side = tape.side.as_ref().zip(block.shortcut.as_ref());
            body + side.map_or(0.0, |(seen, unit)| of(seen, unit))
        });
        of(&tape.stem, &self.stem) + blocks.sum::<f64>()
    }

    /// Gradient f32 [N,H,W,C] with respect to the images, of a loss whose gradient with respect to
    /// the logits is `logits` [N,classes], plus `statistics` times [`Frozen::distance`].
    pub fn backward(&self, tape: Tape, logits: &Tensor, statistics: f64) -> Tensor {
        no_grad(|| {
            let Tape { stem, blocks } = tape;
            let last = blocks.last().map_or(&stem.kept, |block| &block.output);
            let mut gradient = self.unpool(logits, &last.size());
            let mut other = None;
            for (block, tape) in self.blocks.iter().zip(blocks).rev() {
                (gradient, other) = block.backward(tape, gradient, other, statistics);
            }
            let pull = stem.pull(&self.stem.norm, statistics);
            kernels::backward(
                &stem.kept,
                &self.stem.norm,
                pull.as_ref(),
                &gradient,
                other.as_ref(),
            );
            kernels::stem(&gradient, &self.stem_weight)
        })
    }

    /// Back through the linear layer and the mean over `size` = [N,H,W,C].
    fn unpool(&self, logits: &Tensor, size: &[i64]) -> Tensor {
        let pooled = logits.matmul(&self.linear.0) / (size[1] * size[2]) as f64;
        pooled
            .view([size[0], 1, 1, size[3]])
            .expand(size, false)
            .contiguous()
    }
}

impl FrozenBlock {
    fn forward(&self, input: &Tensor, observe: bool) -> BlockTape {
        let (mut hidden, mut body) = (input.shallow_clone(), Vec::new());
        let input_size = plane(input);
        let Some((last, inner)) = self.body.split_last() else {
            return BlockTape {
                input: input_size,
                body,
                side: None,
                output: hidden,
            };
        };
        for unit in inner {
            let (output, seen) = unit.forward(&hidden, Side::Nothing, observe);
            hidden = output;
            body.push(seen);
        }
        let shortcut = self
            .shortcut
            .as_ref()
            .map(|unit| (unit.convolve(input), &unit.norm));
        let side = match &shortcut {
            Some((convolved, norm)) => Side::Normed(convolved, norm),
            None => Side::Identity(input),
        };
        let kept = last.convolve(&hidden);
        drop(hidden);
        let (output, moments, side_moments) = kernels::forward(&kept, &last.norm, side, observe);
        body.push(Seen { kept, moments });
        let side = shortcut.map(|(convolved, _)| Seen {
            // Without statistics its values are not needed on the way back.
            kept: if observe {
                convolved
            } else {
                output.shallow_clone()
            },
            moments: side_moments,
        });
        BlockTape {
            input: input_size,
            body,
            side,
            output,
        }
    }

    /// The gradient with respect to the block's input comes in two parts, body and side, that
    /// whoever reads it adds.
    fn backward(
        &self,
        tape: BlockTape,
        gradient: Tensor,
        other: Option<Tensor>,
        by: f64,
    ) -> (Tensor, Option<Tensor>) {
        let input = tape.input;
        // Each tensor is let go as soon as it has been read: the memory serves the next.
        let (mut down, mut seen) = self.branch(tape, &gradient, other, by);
        for at in (0..self.body.len()).rev() {
            let below = seen.pop();
            down = self.body[at].convolve_back(
                &down,
                below.as_ref().map_or(input, |seen| plane(&seen.kept)),
            );
            if let Some(seen) = below {
                let norm = &self.body[at - 1].norm;
                kernels::backward(&seen.kept, norm, seen.pull(norm, by).as_ref(), &down, None);
            }
        }
        let sideways = match &self.shortcut {
            Some(unit) => unit.convolve_back(&gradient, input),
            None => gradient,
        };
        (down, Some(sideways))
    }

    /// Through the last ReLU and norms. Returns the gradient with respect to the body's last
    /// convolution and what its other layers left; `gradient` becomes the side's.
    fn branch(
        &self,
        tape: BlockTape,
        gradient: &Tensor,
        other: Option<Tensor>,
        by: f64,
    ) -> (Tensor, Vec<Seen>) {
        let mut seen = tape.body;
        let part = |seen: &Seen, unit: &Unit| seen.pull(&unit.norm, by);
        let (Some(unit), Some(last)) = (self.body.last(), seen.pop()) else {
            return (gradient.shallow_clone(), seen);
        };
        let body = Branch {
            input: &last.kept,
            norm: &unit.norm,
            pull: part(&last, unit),
        };
        let side = tape.side.as_ref().zip(self.shortcut.as_ref());
        let side = side.map(|(seen, unit)| Branch {
            input: &seen.kept,
            norm: &unit.norm,
            pull: part(seen, unit),
        });
        let down = kernels::branch(&tape.output, &body, side.as_ref(), gradient, other.as_ref());
        (down, seen)
    }
}
