//! Defines the generator of DAFL (Chen et al. 2019, arXiv:1904.01186), which DENSE and Co-Boosting
//! use: a linear layer to maps of a quarter of the images' size, and three 3×3 convolutions with
//! batch norm and LeakyReLU between them, the first two after a doubling of the size.
//!
//! Names and shapes are those of the authors' PyTorch code. Deviation: where 4 does not divide the
//! size, the maps are rounded up and the images cut.

use crate::Result;
use crate::data::Normalisation;
use crate::model::{
    BatchNorm, Builder, Conv, Entry, Linear, Masks, Pass, StateDict, Values, Window, channels_last,
    drawn,
};
use crate::runtime::seed::Rng;
use rand_distr::{Distribution, Normal};
use tch::{Device, Kind, Tensor, no_grad};

/// Standard deviation of the initial weights.
const SPREAD: f64 = 0.02;

/// Slope of LeakyReLU below zero.
const SLOPE: f64 = 0.2;

/// Maps noise f32 `[N,noise]` to normalised images f32 `[N,C,H,W]`, in training mode.
///
/// ```
/// use fed_distill::data::Normalisation;
/// use fed_distill::generator::Generator;
/// use fed_distill::runtime::seed::Seeds;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let normalisation = Normalisation { mean: vec![0.5], std: vec![0.5] };
/// let generator = Generator::new(16, 4, (1, 8), &normalisation, Device::Cpu)?;
/// generator.initialise(&mut Seeds::new(42).stream("generator", 0))?;
/// let images = generator.forward(&Tensor::zeros([2, 16], (Kind::Float, Device::Cpu)));
/// assert_eq!(images.size(), [2, 1, 8, 8]);
/// # Ok(())
/// # }
/// ```
pub struct Generator {
    linear: Linear,
    norms: [BatchNorm; 3],
    convs: [Conv; 3],
    entries: Vec<Entry>,
    size: i64,
    /// Mean and standard deviation of the pixels, f32 [1,C,1,1].
    mean: Tensor,
    std: Tensor,
}

impl Generator {
    /// Returns a generator of images of (channels, size) from `noise` values, with `width` channels
    /// in its last hidden layer. Its weights are zero until they are drawn or loaded.
    ///
    /// # Errors
    /// Fails when the device has no memory.
    pub fn new(
        noise: i64,
        width: i64,
        (channels, size): (i64, i64),
        normalisation: &Normalisation,
        device: Device,
    ) -> Result<Self> {
        let mut builder = Builder::new(device, Values::Zero);
        let wide = 2 * width;
        let quarter = (size + 3) / 4;
        let linear = Linear::new(&mut builder, "l1.0", noise, wide * quarter * quarter)?;
        let mut block = |norm: &str, conv: &str, from: i64, to: i64, bias: bool| {
            let window = Window {
                kernel: 3,
                stride: 1,
                padding: 1,
            };
            Ok::<_, crate::Error>((
                BatchNorm::new(&mut builder, norm, from)?,
                Conv::new(&mut builder, conv, (from, to), window, bias)?,
            ))
        };
        let (norm0, conv0) = block("conv_blocks.0", "conv_blocks.2", wide, wide, false)?;
        let (norm1, conv1) = block("conv_blocks.3", "conv_blocks.6", wide, width, false)?;
        let (norm2, conv2) = block("conv_blocks.7", "conv_blocks.9", width, channels, true)?;
        let constants = |values: &[f64]| {
            let tensor = Tensor::from_slice(values).to_kind(Kind::Float);
            tensor.view([1, channels, 1, 1]).to_device(device)
        };
        let entries = builder.finish();
        Ok(Self {
            linear,
            norms: [norm0, norm1, norm2],
            convs: [conv0, conv1, conv2],
            entries,
            size,
            mean: constants(&normalisation.mean),
            std: constants(&normalisation.std),
        })
    }

    /// Draws new weights as the authors' code does: those of linear layers and convolutions from
    /// N(0, 0.02²), those of batch norms from N(1, 0.02²); biases are zero. They are drawn on the
    /// host, so every device gets the same bits.
    ///
    /// # Errors
    /// Fails when the host has no memory for them, or libtorch fails.
    pub fn initialise(&self, rng: &mut Rng) -> Result<()> {
        for entry in self.entries.iter().filter(|entry| entry.is_parameter) {
            let mut tensor = entry.tensor.shallow_clone();
            let shape = tensor.size();
            let drawn = match (entry.name.ends_with(".bias"), shape.len()) {
                (true, _) => Tensor::f_zeros(&shape, (Kind::Float, Device::Cpu))?,
                (false, 1) => normal(1.0, &shape, rng)?,
                (false, _) => normal(0.0, &shape, rng)?,
            };
            no_grad(|| tensor.f_copy_(&drawn))?;
        }
        Ok(())
    }

    /// Returns the images of `noise` f32 `[N,noise]`, with their graph. Batch norm takes the
    /// statistics of the batch.
    pub fn forward(&self, noise: &Tensor) -> Tensor {
        let images = self.pixels(noise);
        (images - &self.mean) / &self.std
    }

    /// Returns pixels of 0..1.
    fn pixels(&self, noise: &Tensor) -> Tensor {
        let pass = &mut Pass::Train(Masks::default());
        let quarter = (self.size + 3) / 4;
        let maps = self.linear.forward(noise);
        // The weights of the transposed convolutions are in neither order: the maps decide theirs.
        let maps = channels_last(&maps.view([noise.size()[0], -1, quarter, quarter]));
        let [norm0, norm1, norm2] = &self.norms;
        let [conv0, conv1, conv2] = &self.convs;
        let maps = convolved_doubled(conv0, &norm0.forward(&maps, pass));
        let maps = convolved_doubled(conv1, &leaky(&norm1.forward(&maps, pass)));
        let maps = leaky(&norm2.forward(&maps, pass));
        let pixels = conv2.forward(&maps).sigmoid();
        // Contiguous, as the batches of every synthesiser.
        let rows = pixels.narrow(2, 0, self.size);
        rows.narrow(3, 0, self.size).contiguous()
    }

    /// Returns shallow clones of the parameters, in the order of the state dict.
    pub fn parameters(&self) -> Vec<Tensor> {
        let parameters = self.entries.iter().filter(|entry| entry.is_parameter);
        let tensors = parameters.map(|entry| entry.tensor.shallow_clone());
        tensors.collect()
    }

    /// Returns parameters and buffers under PyTorch's names, as detached views that follow the
    /// generator.
    pub fn state(&self) -> StateDict {
        let view = |entry: &Entry| (entry.name.clone(), entry.tensor.detach());
        StateDict::new(self.entries.iter().map(view).collect())
    }

    /// Copies `state` into the generator's own tensors.
    ///
    /// # Errors
    /// Fails when a name is missing or a shape differs.
    pub fn load_state(&self, state: &StateDict) -> Result<()> {
        for entry in &self.entries {
            let found = state.get(&entry.name);
            let fits = found.filter(|tensor| tensor.size() == entry.tensor.size());
            let Some(tensor) = fits else {
                let what = format!(
                    "the generator's `{}` is missing or does not fit",
                    entry.name
                );
                return Err(crate::Error::failed(what)
                    .note("expected", format!("{:?}", entry.tensor.size()))
                    .note(
                        "found",
                        found.map_or("nothing".into(), |tensor| format!("{:?}", tensor.size())),
                    ));
            };
            no_grad(|| entry.tensor.shallow_clone().f_copy_(tensor))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Generator {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Generator")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Draws f32 values from N(mean, 0.02²).
///
/// # Errors
/// Fails when the host has no memory for them.
fn normal(mean: f32, shape: &[i64], rng: &mut Rng) -> Result<Tensor> {
    // The standard deviation is finite, which is all that `new` asks for.
    let distribution = Normal::new(mean, SPREAD as f32).expect("0.02 is finite");
    let values = drawn(shape, || distribution.sample(rng))?;
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?)
}

/// Returns LeakyReLU of `maps`, which as a sum takes less time than `prelu`.
fn leaky(maps: &Tensor) -> Tensor {
    maps * SLOPE + maps.relu() * (1.0 - SLOPE)
}

/// Doubles height and width of `maps` f32 [N,in,H,W] by repeating pixels, and convolves the result
/// by `conv`, 3×3 without a bias: f32 [N,out,2H,2W].
///
/// Of a pixel's three rows and columns two are always the same, so that it sees 2×2 different
/// values. One transposed convolution of stride 2 does the same with 4 multiplications in place of
/// 9; its 4×4 weights are the sums of the 3×3 ones that meet the same value.
fn convolved_doubled(conv: &Conv, maps: &Tensor) -> Tensor {
    // Sums of all windows of 2×2 weights, beyond the border as well: an average over 1.
    let sums = conv
        .weight
        .avg_pool2d([2, 2], [1, 1], [1, 1], false, true, Some(1));
    let weight = sums.flip([2, 3]).transpose(0, 1);
    let no_bias = None::<Tensor>;
    maps.conv_transpose2d(&weight, no_bias, 2, 1, 0, 1, 1)
}
