//! Differentiates the loss of a training pass with respect to a network's weights. Called by
//! whatever trains one.

use super::dropout::Masks;
use super::layers::Pass;
use super::network::Model;
use super::stack::FrozenStack;
use crate::Result;
use tch::Tensor;

/// Holds the loss of one batch and its gradient.
#[derive(Debug)]
pub struct Differentiated {
    /// The loss, a scalar, without its graph.
    pub loss: Tensor,
    /// The logits f32 `[N,classes]`, without their graph.
    pub logits: Tensor,
    /// The gradient with respect to each of [`Model::parameters`], in their order.
    pub gradients: Vec<Tensor>,
}

impl Model {
    /// Returns the loss of a training pass over `images`, which `loss` computes from the
    /// logits, and its gradient. A loss may depend on the parameters themselves too. Batch norm's
    /// running statistics are updated.
    ///
    /// The convolutions of small networks such as LeNet-5, and the first one of larger ones without
    /// batch norm, are computed by [`FrozenStack`]; autograd does the rest, and all of it for the
    /// others.
    ///
    /// # Errors
    /// Fails when `loss` or libtorch does.
    ///
    /// ```
    /// use fed_distill::model::{Masks, Model, ModelKind, ModelSettings, ModelSpec};
    /// use fed_distill::runtime::seed::Seeds;
    /// use tch::{Device, Kind, Tensor};
    ///
    /// # fn main() -> fed_distill::Result<()> {
    /// let settings = ModelSettings { kind: ModelKind::Lenet5, ..ModelSettings::default() };
    /// let spec = ModelSpec::new(&settings, 1, 28, 10)?;
    /// let mut rng = Seeds::new(42).stream("initialisation", 0);
    /// let model = Model::new(&spec, Device::Cpu, &mut rng)?;
    /// let images = Tensor::ones([2, 1, 28, 28], (Kind::Float, Device::Cpu));
    /// let loss = |logits: &Tensor| Ok(logits.square().mean(Kind::Float));
    /// let step = model.differentiate(&images, Masks::default(), loss)?;
    /// assert_eq!(step.gradients[0].size(), model.parameters()[0].size());
    /// # Ok(())
    /// # }
    /// ```
    pub fn differentiate(
        &self,
        images: &Tensor,
        masks: Masks,
        loss: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Differentiated> {
        let parameters = self.parameters();
        let passes = self.stack().zip(FrozenStack::of_convolutions(self));
        let Some((stack, convolutions)) = passes else {
            let logits = self.forward(images, &mut Pass::Train(masks));
            let loss = loss(&logits)?;
            let gradients = Tensor::f_run_backward(&[&loss], &parameters, false, false)?;
            return Ok(Differentiated::of(&loss, &logits, gradients));
        };
        let (maps, tape) = convolutions.forward_in_training(images);
        let maps = maps.set_requires_grad(true);
        let logits = stack.after(convolutions.depth(), &maps, masks);
        let loss = loss(&logits)?;
        let leaves: Vec<&Tensor> = std::iter::once(&maps).chain(&parameters).collect();
        let mut of_leaves = Tensor::f_run_backward(&[&loss], &leaves, false, false)?;
        let mut gradients = of_leaves.split_off(1);
        let through_maps = convolutions.weight_gradients(&tape, images, &of_leaves[0]);
        for (gradient, through_maps) in gradients.iter_mut().zip(through_maps) {
            // Only a term of the weights themselves, as FedProx's, has reached them.
            *gradient = match gradient.defined() {
                true => &*gradient + through_maps,
                false => through_maps,
            };
        }
        Ok(Differentiated::of(&loss, &logits, gradients))
    }
}

impl Differentiated {
    fn of(loss: &Tensor, logits: &Tensor, gradients: Vec<Tensor>) -> Self {
        Self {
            loss: loss.detach(),
            logits: logits.detach(),
            gradients,
        }
    }
}
