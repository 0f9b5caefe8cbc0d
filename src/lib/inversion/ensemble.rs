//! Combines several teachers' predictions into one. Called by the inversion's loss and by
//! distillation.

use super::settings::EnsembleKind;
use super::teacher::Teacher;
use crate::error::Result;
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
/// let probabilities = ensemble.predict(&teachers, &images, 1.0, None)?.exp();
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

/// Keeps logarithms finite where no teacher gives a class any probability.
const SMALLEST: f64 = 1e-12;

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
        Self {
            kind,
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
            let joint = self.rule(logits, 1.0, origin) / temperature;
            return joint.log_softmax(1, Kind::Float);
        }
        self.rule(logits, temperature, origin)
    }

    /// Combines logits by the rule, each teacher's softened at `temperature`.
    fn rule(&self, logits: &[Tensor], temperature: f64, origin: Option<Origin>) -> Tensor {
        let count = logits.len() as f64;
        let softmax = |logits: &Tensor| (logits / temperature).softmax(1, Kind::Float);
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
                let weights = self.weights.unbind(0);
                let terms = logits.iter().zip(&weights);
                let sum = sum(terms.map(|(logits, weight)| logits * weight)) / temperature;
                sum.log_softmax(1, Kind::Float)
            }
            (EnsembleKind::LabelGated | EnsembleKind::MadeFrom, Some(origin)) => {
                let gates = self.gates(origin).unbind(1);
                let gated = logits
                    .iter()
                    .zip(gates)
                    .map(|(logits, gate)| softmax(logits) * gate.unsqueeze(1));
                sum(gated).clamp_min(SMALLEST).log()
            }
            (EnsembleKind::LabelShare, _) => {
                let weighted = logits
                    .iter()
                    .enumerate()
                    .map(|(teacher, logits)| softmax(logits) * self.shares.get(teacher as i64));
                let sum = sum(weighted).clamp_min(SMALLEST);
                (&sum / sum.sum_dim_intlist(1i64, true, Kind::Float)).log()
            }
            _ => sum(logits.iter().map(|logits| softmax(logits) / count))
                .clamp_min(SMALLEST)
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

    /// Returns the weight of each teacher for each image of which `origin` is known, image by
    /// image: teacher i has `[image * teachers + i]`. `None` where the rule takes every teacher for
    /// every image.
    ///
    /// # Errors
    /// Fails when libtorch does.
    pub fn weights(&self, origin: Option<Origin>) -> Result<Option<Vec<f32>>> {
        match (self.kind, origin) {
            (EnsembleKind::LabelGated | EnsembleKind::MadeFrom, Some(origin)) => {
                let gates = self.gates(origin).f_flatten(0, -1)?;
                Ok(Some(crate::runtime::read(&gates)?))
            }
            _ => Ok(None),
        }
    }

    /// Returns the log-probabilities f32 `[N,classes]` of `images`, `[N,C,H,W]` normalised, of
    /// which `origin` is known, softened at `temperature`, without a graph. A teacher whose weight
    /// is zero for every image is not asked: its logits count nothing.
    ///
    /// # Errors
    /// Fails when a teacher cannot be read.
    pub fn predict(
        &self,
        teachers: &[&Teacher],
        images: &Tensor,
        temperature: f64,
        origin: Option<Origin>,
    ) -> Result<Tensor> {
        let weights = self.weights(origin)?;
        let is_asked = |index: usize| match &weights {
            Some(all) => all.chunks(teachers.len()).any(|image| image[index] > 0.0),
            None => true,
        };
        let eval = |(index, teacher): (usize, &&Teacher)| {
            if is_asked(index) {
                return Ok(teacher.loaded()?.predict(images));
            }
            let shape = [images.size()[0], teacher.spec.classes];
            Ok(Tensor::f_zeros(shape, (Kind::Float, images.device()))?)
        };
        let logits = teachers.iter().enumerate().map(eval);
        let logits: Vec<Tensor> = logits.collect::<Result<_>>()?;
        Ok(self.log_probabilities(&logits, temperature, origin))
    }
}

/// Adds the terms, at least one.
fn sum(mut terms: impl Iterator<Item = Tensor>) -> Tensor {
    let first = terms.next().unwrap_or_default();
    terms.fold(first, |sum, term| sum + term)
}
