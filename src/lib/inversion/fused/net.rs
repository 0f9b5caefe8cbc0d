//! A frozen residual network in channels-last order: forward with a tape, backward to the images,
//! whatever it is computed with.

use super::backend::{Backend, Seen};
use super::filter::{last, plane};
use super::kernels::{Branch, Side};
use crate::model::{self, ConvNorm, ResNet};
use tch::{Tensor, no_grad};

/// A convolution and the batch norm behind it.
struct Unit<B: Backend> {
    filter: B::Filter,
    norm: B::Norm,
}

struct Block<B: Backend> {
    body: Vec<Unit<B>>,
    shortcut: Option<Unit<B>>,
}

/// A residual network as it was when it was frozen.
pub struct Net<B: Backend> {
    backend: B,
    stem: Unit<B>,
    blocks: Vec<Block<B>>,
    /// f32 [classes, C] and [classes].
    linear: (Tensor, Tensor),
}

struct BlockTape {
    /// Height and width of the block's input.
    input: (i64, i64),
    body: Vec<Seen>,
    /// The shortcut's batch-norm input, or, without statistics, something of its size.
    side: Option<Tensor>,
    output: Tensor,
}

/// What a forward pass leaves for the backward pass.
pub struct Tape<B: Backend> {
    stem: Seen,
    blocks: Vec<BlockTape>,
    statistics: Option<B::Statistics>,
}

/// Gradients of the layers' distances, the last layer's at the end; empty where nobody observes.
type Pulls<B> = Vec<<B as Backend>::Pull>;

impl<B: Backend> Net<B> {
    /// The network as it is now.
    pub fn new(backend: B, network: &ResNet) -> Self {
        let unit = |layer: &ConvNorm, stem: bool| Unit {
            filter: backend.filter(&layer.conv, stem),
            norm: backend.norm(&layer.norm),
        };
        let block = |block: &model::Block| Block {
            body: block.body.iter().map(|layer| unit(layer, false)).collect(),
            shortcut: block.shortcut.as_ref().map(|layer| unit(layer, false)),
        };
        let linear = &network.linear;
        let (stem, blocks, linear) = no_grad(|| {
            (
                unit(&network.stem, true),
                network.blocks.iter().map(block).collect(),
                (linear.weight.detach().copy(), linear.bias.detach().copy()),
            )
        });
        Self {
            backend,
            stem,
            blocks,
            linear,
        }
    }

    /// All norms in module order.
    fn norms(&self) -> Vec<&B::Norm> {
        let mut units = vec![&self.stem];
        for block in &self.blocks {
            units.extend(block.body.iter().chain(&block.shortcut));
        }
        units.into_iter().map(|unit| &unit.norm).collect()
    }

    /// Logits [N,classes] of `images` f32 [N,H,W,C], without a graph. With `observe`, the tape
    /// holds every batch-norm input's statistics.
    pub fn forward(&self, images: &Tensor, observe: bool) -> (Tensor, Tape<B>) {
        no_grad(|| {
            let mut moments = observe.then(Vec::new);
            let (mut hidden, stem) = self.stem(images, moments.as_mut());
            let mut blocks = Vec::new();
            for block in &self.blocks {
                let tape = block.forward(&self.backend, &hidden, moments.as_mut());
                hidden = tape.output.shallow_clone();
                blocks.push(tape);
            }
            let tape = Tape {
                stem,
                blocks,
                statistics: moments.map(|moments| self.backend.settle(moments)),
            };
            (self.classify(&hidden), tape)
        })
    }

    /// Logits [N,classes] of `images` f32 [N,C,H,W], without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        no_grad(|| {
            let (mut hidden, _) = self.stem(&last(&images.detach()), None);
            for block in &self.blocks {
                // The rest of the tape is let go at once: evaluation batches are large.
                hidden = block.forward(&self.backend, &hidden, None).output;
            }
            self.classify(&hidden)
        })
    }

    fn stem(&self, images: &Tensor, moments: Option<&mut Vec<B::Moments>>) -> (Tensor, Seen) {
        let given = self.backend.enter(images);
        self.stem.forward(&self.backend, &given, moments)
    }

    /// The mean over height and width, and the linear layer.
    fn classify(&self, hidden: &Tensor) -> Tensor {
        let pooled = self.backend.pool(hidden);
        pooled.linear(&self.linear.0, Some(&self.linear.1))
    }

    /// The sum of all layers' distances, a scalar; `None` where the tape holds no statistics.
    pub fn distance(&self, tape: &Tape<B>) -> Option<Tensor> {
        let statistics = tape.statistics.as_ref()?;
        Some(no_grad(|| self.backend.distance(statistics, &self.norms())))
    }

    /// Gradient f32 [N,H,W,C] with respect to the images, of a loss whose gradient with respect to
    /// the logits is `logits` [N,classes], plus `by` times [`Net::distance`].
    pub fn backward(&self, tape: Tape<B>, logits: &Tensor, by: f64) -> Tensor {
        no_grad(|| {
            let Tape {
                stem,
                blocks,
                statistics,
            } = tape;
            let pulls = |statistics| self.backend.pulls(&statistics, &self.norms(), by);
            let mut pulls: Pulls<B> = statistics.map(pulls).unwrap_or_default();
            let hidden = blocks.last().map_or(&stem.kept, |block| &block.output);
            let pooled = logits.matmul(&self.linear.0);
            let mut gradient = self.backend.unpool(&pooled, &hidden.size());
            let mut other = None;
            for (block, tape) in self.blocks.iter().zip(blocks).rev() {
                (gradient, other) =
                    block.backward(&self.backend, tape, gradient, other, &mut pulls);
            }
            let pull = pulls.pop();
            let gradient = self.backend.backward(
                &stem,
                &self.stem.norm,
                pull.as_ref(),
                gradient,
                other.as_ref(),
            );
            self.backend.leave(&self.stem.filter, &gradient)
        })
    }
}

impl<B: Backend> Unit<B> {
    /// ReLU, norm and convolution of `input`, and what the way back needs.
    fn forward(
        &self,
        backend: &B,
        input: &Tensor,
        moments: Option<&mut Vec<B::Moments>>,
    ) -> (Tensor, Seen) {
        let convolved = backend.convolve(&self.filter, input);
        backend.forward(convolved, &self.norm, Side::Nothing, moments)
    }
}

impl<B: Backend> Block<B> {
    fn forward(
        &self,
        backend: &B,
        input: &Tensor,
        mut moments: Option<&mut Vec<B::Moments>>,
    ) -> BlockTape {
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
            let (output, seen) = unit.forward(backend, &hidden, moments.as_deref_mut());
            hidden = output;
            body.push(seen);
        }
        let shortcut = self
            .shortcut
            .as_ref()
            .map(|unit| (backend.convolve(&unit.filter, input), &unit.norm));
        let side = match &shortcut {
            Some((convolved, norm)) => Side::Normed(convolved, *norm),
            None => Side::Identity(input),
        };
        let convolved = backend.convolve(&last.filter, &hidden);
        drop(hidden);
        let observed = moments.is_some();
        let (output, seen) = backend.forward(convolved, &last.norm, side, moments);
        body.push(seen);
        let side = shortcut.map(|(convolved, _)| match observed {
            true => convolved,
            // Its values are not needed on the way back.
            false => output.shallow_clone(),
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
        backend: &B,
        tape: BlockTape,
        gradient: Tensor,
        other: Option<Tensor>,
        pulls: &mut Pulls<B>,
    ) -> (Tensor, Option<Tensor>) {
        let input = tape.input;
        // Each tensor is let go as soon as it has been read: the memory serves the next.
        let (mut down, gradient, mut seen) = self.branch(backend, tape, gradient, other, pulls);
        for at in (0..self.body.len()).rev() {
            let below = seen.pop();
            let to = below.as_ref().map_or(input, |seen| plane(&seen.kept));
            down = backend.convolve_back(&self.body[at].filter, &down, to);
            if let Some(seen) = below {
                let (norm, pull) = (&self.body[at - 1].norm, pulls.pop());
                down = backend.backward(&seen, norm, pull.as_ref(), down, None);
            }
        }
        let sideways = match &self.shortcut {
            Some(unit) => backend.convolve_back(&unit.filter, &gradient, input),
            None => gradient,
        };
        (down, Some(sideways))
    }

    /// Through the last ReLU and norms. Returns the gradients with respect to the body's last
    /// convolution and to the side, and what the body's other layers left.
    fn branch(
        &self,
        backend: &B,
        tape: BlockTape,
        gradient: Tensor,
        other: Option<Tensor>,
        pulls: &mut Pulls<B>,
    ) -> (Tensor, Tensor, Vec<Seen>) {
        let mut seen = tape.body;
        let (Some(unit), Some(last)) = (self.body.last(), seen.pop()) else {
            return (gradient.shallow_clone(), gradient, seen);
        };
        let side = tape.side.as_ref().zip(self.shortcut.as_ref());
        let side = side.map(|(input, unit)| Branch {
            input,
            norm: &unit.norm,
            pull: pulls.pop(),
        });
        let body = Branch {
            input: &last.kept,
            norm: &unit.norm,
            pull: pulls.pop(),
        };
        let (down, sideways) =
            backend.branch(&tape.output, &body, side.as_ref(), gradient, other.as_ref());
        (down, sideways, seen)
    }
}
