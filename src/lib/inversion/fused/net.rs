//! Passes images through a frozen residual network in channels-last order: forward with a tape, and
//! backward to the images, with either backend. Called by [`super::frozen`].

use super::backend::{Backend, Saved};
use super::filter::{last, plane};
use super::kernels::{Branch, Shortcut};
use crate::model::{self, ConvNorm, ResNet};
use tch::{Tensor, no_grad};

/// Holds a convolution and the batch norm that follows it.
struct Unit<B: Backend> {
    filter: B::Filter,
    norm: B::Norm,
}

/// Holds a residual block.
struct Block<B: Backend> {
    /// The body without its last unit, behind which the shortcut is added.
    inner: Vec<Unit<B>>,
    last: Unit<B>,
    shortcut: Option<Unit<B>>,
}

/// Holds a residual network as it was when it was frozen.
pub struct Net<B: Backend> {
    backend: B,
    stem: Unit<B>,
    blocks: Vec<Block<B>>,
    /// Weight f32 [classes,C] and bias f32 [classes] of the last layer.
    linear: (Tensor, Tensor),
}

/// Holds what a block's backward pass needs of its forward pass.
struct BlockTape {
    /// Height and width of the block's input.
    input: (i64, i64),
    inner: Vec<Saved>,
    last: Saved,
    /// The projection shortcut's batch-norm input, or without statistics a tensor of its size.
    shortcut: Option<Tensor>,
    output: Tensor,
}

/// Holds what the backward pass needs of a forward pass.
pub struct Tape<B: Backend> {
    stem: Saved,
    blocks: Vec<BlockTape>,
    statistics: Option<B::Statistics>,
}

/// Holds the gradients of the layers' distances, the last layer's at the end; empty if statistics
/// are not observed.
type DistanceGradients<B> = Vec<<B as Backend>::DistanceGradient>;

impl<B: Backend> Net<B> {
    /// Freezes the network as it is now.
    pub fn new(backend: B, network: &ResNet) -> Self {
        let unit = |layer: &ConvNorm, stem: bool| Unit {
            filter: backend.filter(&layer.conv, stem),
            norm: backend.norm(&layer.norm),
        };
        let block = |block: &model::Block| {
            let (last, inner) = block.body.split_last()?;
            Some(Block {
                inner: inner.iter().map(|layer| unit(layer, false)).collect(),
                last: unit(last, false),
                shortcut: block.shortcut.as_ref().map(|layer| unit(layer, false)),
            })
        };
        let linear = &network.linear;
        let (stem, blocks, linear) = no_grad(|| {
            (
                unit(&network.stem, true),
                // Every body has two or three layers.
                network.blocks.iter().filter_map(block).collect(),
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

    /// Returns all norms in module order.
    fn norms(&self) -> Vec<&B::Norm> {
        let mut units = vec![&self.stem];
        for block in &self.blocks {
            units.extend(
                block
                    .inner
                    .iter()
                    .chain([&block.last])
                    .chain(&block.shortcut),
            );
        }
        units.into_iter().map(|unit| &unit.norm).collect()
    }

    /// Returns the logits f32 [N,classes] of `images` f32 [N,H,W,C], without a graph, and the tape.
    /// With `observe`, the tape holds every batch-norm input's statistics.
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
                statistics: moments.map(|moments| self.backend.statistics(moments)),
            };
            (self.classify(&hidden), tape)
        })
    }

    /// Returns the logits f32 [N,classes] of `images` f32 [N,C,H,W], without a graph.
    pub fn predict(&self, images: &Tensor) -> Tensor {
        no_grad(|| {
            let (mut hidden, _) = self.stem(&last(&images.detach()), None);
            for block in &self.blocks {
                // The rest of the tape is freed at once: evaluation batches are large.
                hidden = block.forward(&self.backend, &hidden, None).output;
            }
            self.classify(&hidden)
        })
    }

    /// Passes images f32 [N,H,W,C] through the stem.
    fn stem(&self, images: &Tensor, moments: Option<&mut Vec<B::Moments>>) -> (Tensor, Saved) {
        let given = self.backend.stem_input(images);
        self.stem.forward(&self.backend, &given, moments)
    }

    /// Returns the logits of the last block's output: the mean over height and width, and the
    /// linear layer.
    fn classify(&self, hidden: &Tensor) -> Tensor {
        let pooled = self.backend.pool(hidden);
        pooled.linear(&self.linear.0, Some(&self.linear.1))
    }

    /// Returns the sum of all layers' distances, a scalar; `None` if the tape holds no statistics.
    pub fn distance(&self, tape: &Tape<B>) -> Option<Tensor> {
        let statistics = tape.statistics.as_ref()?;
        Some(no_grad(|| self.backend.distance(statistics, &self.norms())))
    }

    /// Returns the gradient f32 [N,H,W,C] with respect to the images of a loss whose gradient with
    /// respect to the logits is `logits` [N,classes], plus `by` times [`Net::distance`].
    pub fn backward(&self, tape: Tape<B>, logits: &Tensor, by: f64) -> Tensor {
        no_grad(|| {
            let Tape {
                stem,
                blocks,
                statistics,
            } = tape;
            let distance_gradients = |statistics| {
                self.backend
                    .distance_gradients(&statistics, &self.norms(), by)
            };
            let mut distance_gradients: DistanceGradients<B> =
                statistics.map(distance_gradients).unwrap_or_default();
            let hidden = blocks
                .last()
                .map_or(&stem.activation, |block| &block.output);
            let pooled = logits.matmul(&self.linear.0);
            let mut gradient = self.backend.unpool(&pooled, &hidden.size());
            let mut other = None;
            for (block, tape) in self.blocks.iter().zip(blocks).rev() {
                (gradient, other) = block.backward(
                    &self.backend,
                    tape,
                    gradient,
                    other,
                    &mut distance_gradients,
                );
            }
            let distance_gradient = distance_gradients.pop();
            let gradient = self.backend.backward(
                &stem,
                &self.stem.norm,
                distance_gradient.as_ref(),
                gradient,
                other.as_ref(),
            );
            self.backend.image_gradient(&self.stem.filter, &gradient)
        })
    }
}

impl<B: Backend> Unit<B> {
    /// Returns ReLU, norm and convolution of `input`, and what the backward pass needs.
    fn forward(
        &self,
        backend: &B,
        input: &Tensor,
        moments: Option<&mut Vec<B::Moments>>,
    ) -> (Tensor, Saved) {
        let convolved = backend.convolve(&self.filter, input);
        backend.forward(convolved, &self.norm, Shortcut::None, moments)
    }
}

impl<B: Backend> Block<B> {
    /// Passes `input` through the block.
    fn forward(
        &self,
        backend: &B,
        input: &Tensor,
        mut moments: Option<&mut Vec<B::Moments>>,
    ) -> BlockTape {
        let (mut hidden, mut inner) = (input.shallow_clone(), Vec::new());
        let input_size = plane(input);
        for unit in &self.inner {
            let (output, saved) = unit.forward(backend, &hidden, moments.as_deref_mut());
            hidden = output;
            inner.push(saved);
        }
        let projected = self
            .shortcut
            .as_ref()
            .map(|unit| (backend.convolve(&unit.filter, input), &unit.norm));
        let shortcut = match &projected {
            Some((convolved, norm)) => Shortcut::Projection(convolved, *norm),
            None => Shortcut::Identity(input),
        };
        let convolved = backend.convolve(&self.last.filter, &hidden);
        drop(hidden);
        let observed = moments.is_some();
        let (output, last) = backend.forward(convolved, &self.last.norm, shortcut, moments);
        let shortcut = projected.map(|(convolved, _)| match observed {
            true => convolved,
            // The backward pass does not need its values.
            false => output.shallow_clone(),
        });
        BlockTape {
            input: input_size,
            inner,
            last,
            shortcut,
            output,
        }
    }

    /// Returns the gradient with respect to the block's input in two parts, of body and shortcut,
    /// which the caller has to add.
    fn backward(
        &self,
        backend: &B,
        tape: BlockTape,
        gradient: Tensor,
        other: Option<Tensor>,
        distance_gradients: &mut DistanceGradients<B>,
    ) -> (Tensor, Option<Tensor>) {
        let input = tape.input;
        // Each tensor is freed as soon as it has been read, so that the next can use its memory.
        let (mut down, gradient, saved) =
            self.branch(backend, tape, gradient, other, distance_gradients);
        let mut filter = &self.last.filter;
        for (unit, saved) in self.inner.iter().zip(saved).rev() {
            down = backend.convolve_back(filter, &down, plane(&saved.activation));
            let distance_gradient = distance_gradients.pop();
            down = backend.backward(&saved, &unit.norm, distance_gradient.as_ref(), down, None);
            filter = &unit.filter;
        }
        down = backend.convolve_back(filter, &down, input);
        let to_shortcut = match &self.shortcut {
            Some(unit) => backend.convolve_back(&unit.filter, &gradient, input),
            None => gradient,
        };
        (down, Some(to_shortcut))
    }

    /// Passes the gradient back through the last ReLU and norms. Returns the gradients with respect
    /// to the body's last convolution and to the shortcut, and what the body's inner layers saved.
    fn branch(
        &self,
        backend: &B,
        tape: BlockTape,
        gradient: Tensor,
        other: Option<Tensor>,
        distance_gradients: &mut DistanceGradients<B>,
    ) -> (Tensor, Tensor, Vec<Saved>) {
        let shortcut = tape.shortcut.as_ref().zip(self.shortcut.as_ref());
        let shortcut = shortcut.map(|(input, unit)| Branch {
            input,
            norm: &unit.norm,
            distance_gradient: distance_gradients.pop(),
        });
        let body = Branch {
            input: &tape.last.activation,
            norm: &self.last.norm,
            distance_gradient: distance_gradients.pop(),
        };
        let (down, to_shortcut) = backend.branch(
            &tape.output,
            &body,
            shortcut.as_ref(),
            gradient,
            other.as_ref(),
        );
        (down, to_shortcut, tape.inner)
    }
}
