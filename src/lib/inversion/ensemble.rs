//! How several teachers' predictions become one.

use super::settings::EnsembleKind;
use super::teacher::Teacher;
use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// A rule of combination, with each teacher's share of each class.
#[derive(Debug)]
pub struct Ensemble {
    kind: EnsembleKind,
    /// f32 [teachers, classes]: count of teacher i and class c over the count of class c among all;
    /// zero for classes nobody saw.
    shares: Tensor,
}

/// Keeps logarithms finite where no teacher gives a class any probability.
const SMALLEST: f64 = 1e-12;

impl Ensemble {
    /// The rule `kind` over `teachers`.
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
        Self {
            kind,
            shares: (counts / totals).to_kind(Kind::Float).to_device(device),
        }
    }

    /// Log-probabilities [N, classes] from each teacher's logits [N, classes] at a softmax
    /// temperature.
    pub fn log_probabilities(&self, logits: &[Tensor], temperature: f64) -> Tensor {
        let count = logits.len() as f64;
        let softmax = |logits: &Tensor| (logits / temperature).softmax(1, Kind::Float);
        match self.kind {
            EnsembleKind::MeanLogits => {
                let sum = sum(logits.iter().map(|logits| logits / (count * temperature)));
                sum.log_softmax(1, Kind::Float)
            }
            EnsembleKind::MeanSoftmax => sum(logits.iter().map(|logits| softmax(logits) / count))
                .clamp_min(SMALLEST)
                .log(),
            EnsembleKind::LabelShare => {
                let weighted = logits
                    .iter()
                    .enumerate()
                    .map(|(teacher, logits)| softmax(logits) * self.shares.get(teacher as i64));
                let sum = sum(weighted).clamp_min(SMALLEST);
                (&sum / sum.sum_dim_intlist(1i64, true, Kind::Float)).log()
            }
        }
    }

    /// The teachers' log-probabilities of `images` (normalised [N,C,H,W]) at a temperature, without
    /// a graph.
    ///
    /// # Errors
    /// Teachers that cannot be read.
    pub fn predict(
        &self,
        teachers: &[&Teacher],
        images: &Tensor,
        temperature: f64,
    ) -> Result<Tensor> {
        let eval = |teacher: &&Teacher| Ok(teacher.loaded()?.predict(images));
        let logits: Vec<Tensor> = teachers.iter().map(eval).collect::<Result<_>>()?;
        Ok(self.log_probabilities(&logits, temperature))
    }
}

fn sum(mut terms: impl Iterator<Item = Tensor>) -> Tensor {
    let first = terms.next().unwrap_or_default();
    terms.fold(first, |sum, term| sum + term)
}
