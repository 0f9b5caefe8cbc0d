//! Combines several teachers' predictions into one. Called by the inversion's loss and by
//! distillation.

use super::settings::EnsembleKind;
use super::teacher::Teacher;
use crate::error::Result;
use crate::train::View;
use tch::{Device, Kind, Tensor};

/// Combines teachers' predictions by one of the rules of [`EnsembleKind`], and holds each teacher's
/// share of each class.
///
/// ```
/// use fed_distill::inversion::{Ensemble, EnsembleKind, Teacher};
/// use fed_distill::model::{Model, ModelSettings, ModelSpec};
/// use fed_distill::runtime::seed::Seeds;
/// use tch::{Device, Kind, Tensor};
///
/// # fn main() -> fed_distill::Result<()> {
/// let seeds = Seeds::new(42);
/// let (width, blocks) = (Some(4), Some(vec![1]));
/// let settings = ModelSettings { width, blocks, ..ModelSettings::default() };
/// let spec = ModelSpec::new(&settings, 1, 8, 2)?;
/// let model = |i| Model::new(&spec, Device::Cpu, &mut seeds.stream("initialisation", i));
/// // Only the first teacher has seen class 0, and only the second class 1.
/// let first = Teacher::new(model(0)?, vec![5, 0])?;
/// let second = Teacher::new(model(1)?, vec![0, 3])?;
/// let teachers = [&first, &second];
/// let ensemble = Ensemble::new(EnsembleKind::LabelShare, &teachers, Device::Cpu);
///
/// let images = Tensor::zeros([4, 1, 8, 8], (Kind::Float, Device::Cpu));
/// let probabilities = ensemble.predict(&teachers, &images, 1.0)?.exp();
/// let sums = Vec::<f32>::try_from(probabilities.sum_dim_intlist(1_i64, false, Kind::Float))?;
/// assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Ensemble {
    kind: EnsembleKind,
    /// f32 [teachers,classes]: images of class c that teacher i was trained on, over those of all
    /// teachers; zero for classes that no teacher has seen.
    shares: Tensor,
    /// Whether teacher i has seen class c, at `[i][c]`, on the host.
    seen: Vec<Vec<bool>>,
    /// f32 [teachers]: the weights of `weighted_logits`.
    weights: Tensor,
    /// Softens the joint prediction instead of each teacher's.
    softens_joint: bool,
}

/// Holds what is known of synthetic images.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The label that each was made for, i64 `[N]`.
    pub labels: &'a Tensor,
    /// Index of the teacher that each was made from, i64 `[N]`, −1 for several; `None` if all were
    /// made from several.
    pub teachers: Option<&'a Tensor>,
}

/// Keeps logarithms finite where no teacher gives a class any probability. The rules that add
/// probabilities have no gradient below it.
const SMALLEST: f64 = 1e-12;

/// The precision in which probabilities are added, and the least that they come to.
type Precision = (Kind, f64);

/// For a joint prediction that is softened afterwards: of a probability of 1e-12 a temperature of
/// 20 would make a quarter of the largest one, of 1e-300 it makes nothing.
const FINE: Precision = (Kind::Double, 1e-300);

impl Ensemble {
    /// Returns the rule `kind` for `teachers`, with tensors on `device`.
    ///
    /// # Panics
    /// When there are no teachers.
    pub fn new(kind: EnsembleKind, teachers: &[&Teacher], device: Device) -> Self {
        let rows: Vec<Tensor> = teachers
            .iter()
            .map(|teacher| {
                let counts: Vec<f64> = teacher
                    .label_counts
                    .iter()
                    .map(|&count| count as f64)
                    .collect();
                Tensor::from_slice(&counts)
            })
            .collect();
        let counts = Tensor::stack(&rows, 0);
        let totals = counts
            .sum_dim_intlist(0i64, true, Kind::Double)
            .clamp_min(1.0);
        let count = teachers.len();
        let seen = |teacher: &&Teacher| teacher.label_counts.iter().map(|&n| n > 0).collect();
        Self {
            kind,
            seen: teachers.iter().map(seen).collect(),
            shares: (counts / totals).to_kind(Kind::Float).to_device(device),
            weights: Tensor::full([count as i64], 1.0 / count as f64, (Kind::Float, device)),
            softens_joint: false,
        }
    }

    /// Takes the `weights` f32 `[teachers]` of the rule `weighted_logits` instead of 1/N, and
    /// follows them when they change.
    #[must_use]
    pub fn with_weights(self, weights: &Tensor) -> Self {
        let weights = weights.shallow_clone();
        Self { weights, ..self }
    }

    /// With `true`, a temperature softens the joint prediction p to p^(1/T), normalised, instead of
    /// each teacher's. A mean of softened predictions is flatter than a softened mean. Where
    /// logits are added, both are the same.
    #[must_use]
    pub fn softening_joint(self, softens_joint: bool) -> Self {
        Self {
            softens_joint,
            ..self
        }
    }

    /// Combines each teacher's logits `[N,classes]`, softened at `temperature`, to
    /// log-probabilities f32 `[N,classes]`, for images of which `origin` is known.
    pub fn log_probabilities(
        &self,
        logits: &[Tensor],
        temperature: f64,
        origin: Option<Origin>,
    ) -> Tensor {
        if self.softens_joint && temperature != 1.0 {
            let joint = self.rule(logits, 1.0, origin, FINE) / temperature;
            return joint.log_softmax(1, Kind::Float);
        }
        self.rule(logits, temperature, origin, (Kind::Float, SMALLEST))
    }

    /// Combines logits by the rule, each teacher's softened at `temperature`.
    fn rule(
        &self,
        logits: &[Tensor],
        temperature: f64,
        origin: Option<Origin>,
        (precision, smallest): Precision,
    ) -> Tensor {
        let count = logits.len() as f64;
        let softmax = |logits: &Tensor| (logits / temperature).softmax(1, precision);
        let kind = match origin {
            Some(_) => self.kind,
            None => self.kind.of_unknown(),
        };
        match (kind, origin) {
            (EnsembleKind::MeanLogits, _) => {
                let sum = sum(logits.iter().map(|logits| logits / (count * temperature)));
                sum.log_softmax(1, Kind::Float)
            }
            (EnsembleKind::WeightedLogits, _) => {
                let logits: Vec<Tensor> = logits.iter().map(|z| z / temperature).collect();
                weighted_mean(&logits, &self.weights).log_softmax(1, Kind::Float)
            }
            (EnsembleKind::LabelGated | EnsembleKind::MadeFrom, Some(origin)) => {
                let gates = self.gates(origin).unbind(1);
                let gated = logits
                    .iter()
                    .zip(gates)
                    .map(|(logits, gate)| softmax(logits) * gate.unsqueeze(1));
                sum(gated).clamp_min(smallest).log()
            }
            (EnsembleKind::LabelShare, _) => {
                let weighted = logits
                    .iter()
                    .enumerate()
                    .map(|(teacher, logits)| softmax(logits) * self.shares.get(teacher as i64));
                let sum = sum(weighted).clamp_min(smallest);
                (&sum / sum.sum_dim_intlist(1i64, true, precision)).log()
            }
            _ => sum(logits.iter().map(|logits| softmax(logits) / count))
                .clamp_min(smallest)
                .log(),
        }
    }

    /// Returns the weight of each teacher for each image, f32 [N,teachers]; the weights of an image
    /// add up to one.
    fn gates(&self, origin: Origin) -> Tensor {
        let teachers = self.shares.size()[0];
        let gates = match (self.kind, origin.teachers) {
            (EnsembleKind::MadeFrom, Some(made_from)) => {
                let indices = Tensor::arange(teachers, (Kind::Int64, made_from.device()));
                made_from
                    .unsqueeze(1)
                    .eq_tensor(&indices)
                    .to_kind(Kind::Float)
            }
            (EnsembleKind::MadeFrom, None) => self.shares.new_zeros(
                [origin.labels.size()[0], teachers],
                (Kind::Float, self.shares.device()),
            ),
            _ => self.shares.transpose(0, 1).index_select(0, origin.labels),
        };
        // Several teachers made the image, or none has seen its label: all count alike.
        let open = gates.sum_dim_intlist(1i64, true, Kind::Float).eq(0.0);
        gates + open.to_kind(Kind::Float) / teachers as f64
    }

    /// Returns whether the prediction of an image needs a teacher, image by image: that of image n
    /// and teacher i is at n·teachers + i. `None` where the rule needs every teacher for every
    /// image, and where nothing is known of them.
    pub fn needed(&self, views: &[View]) -> Option<Vec<bool>> {
        if views.is_empty() {
            return None;
        }
        let teachers = self.seen.len();
        let of_image = |view: &View| -> Option<Vec<bool>> {
            let needed: Vec<bool> = match self.kind {
                EnsembleKind::LabelGated => self.seen.iter().map(|seen| seen[view.label]).collect(),
                EnsembleKind::MadeFrom => (0..teachers)
                    .map(|teacher| view.teacher == Some(teacher))
                    .collect(),
                _ => return None,
            };
            // All count alike, as in `gates`.
            match needed.contains(&true) {
                true => Some(needed),
                false => Some(vec![true; teachers]),
            }
        };
        let rows: Option<Vec<Vec<bool>>> = views.iter().map(of_image).collect();
        rows.map(|rows| rows.concat())
    }

    /// Returns the log-probabilities f32 `[N,classes]` of `images`, `[N,C,H,W]` normalised, of
    /// which nothing is known, softened at `temperature`, without a graph.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read.
    pub fn predict(
        &self,
        teachers: &[&Teacher],
        images: &Tensor,
        temperature: f64,
    ) -> Result<Tensor> {
        let logits = predict(teachers, images, None)?;
        Ok(self.log_probabilities(&logits, temperature, None))
    }
}

/// Returns each teacher's logits f32 `[N,classes]` of `images` `[N,C,H,W]`, normalised, without a
/// graph. A teacher that no image needs is not asked: its logits are zero. `needed` is what
/// [`Ensemble::needed`] returns.
///
/// # Errors
/// Fails when a teacher cannot be read, or libtorch fails.
pub fn predict(
    teachers: &[&Teacher],
    images: &Tensor,
    needed: Option<&[bool]>,
) -> Result<Vec<Tensor>> {
    let is_asked = |index: usize| {
        needed.is_none_or(|all| all.chunks(teachers.len()).any(|image| image[index]))
    };
    let eval = |(index, teacher): (usize, &&Teacher)| {
        if is_asked(index) {
            return Ok(teacher.loaded()?.predict(images));
        }
        let shape = [images.size()[0], teacher.spec.classes];
        Ok(Tensor::f_zeros(shape, (Kind::Float, images.device()))?)
    };
    teachers.iter().enumerate().map(eval).collect()
}

/// Returns Σ wᵢ zᵢ / Σ wᵢ of logits `[N,classes]` and `weights` f32 `[teachers]` of which one at
/// least is above zero (`WEnsemble` in the code of Dai et al. 2024, arXiv:2402.15070).
pub(crate) fn weighted_mean(logits: &[Tensor], weights: &Tensor) -> Tensor {
    // [N,classes,teachers], so that the sum is one product.
    Tensor::stack(logits, 2).matmul(weights) / weights.sum(Kind::Float).clamp_min(SMALLEST)
}

/// Adds the terms, at least one.
fn sum(mut terms: impl Iterator<Item = Tensor>) -> Tensor {
    let first = terms.next().unwrap_or_default();
    terms.fold(first, |sum, term| sum + term)
}
