//! Are synthetic images nearer to the private ones than they would be if nothing were given away?
//!
//! A distance alone says little: noise is far from everything. So distances to the training images are set beside those of held-out images,
//! and each synthetic image is asked whether its nearest image is a training image or one of as many held-out ones, which nobody trained
//! on: half of the answers fall either way when nothing was memorised (Platzer and Reutterer 2021, *Holdout-Based Empirical Assessment of
//! Mixed-Type Synthetic Data*, doi:10.3389/fdata.2021.679939, section 2).

use crate::error::Result;
use tch::{Kind, Tensor};

/// The nearest candidate of each query, as candidates go by. Distances are Euclidean.
pub struct Search {
    /// f32 [N·V,F]: V variants of each of N queries, of which the nearest counts.
    queries: Tensor,
    variants: i64,
    /// f32 [N]: below these distances candidates are counted.
    limits: Tensor,
    best: Tensor,
    index: Tensor,
    closer: Tensor,
    seen: i64,
}

/// What a search found, one value a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The candidate's place among all that were offered.
    pub index: Vec<i64>,
    pub distance: Vec<f64>,
    /// Candidates closer than the query's limit.
    pub closer: Vec<u64>,
}

impl Search {
    /// For `queries` f32 [N,V,F]; `limits` are the distances below which candidates are counted (none: nothing is counted).
    pub fn new(queries: &Tensor, limits: Option<&[f64]>) -> Self {
        let (count, variants, device) = (queries.size()[0], queries.size()[1], queries.device());
        let zeros = Tensor::zeros([count], (Kind::Float, device));
        let limits = match limits {
            Some(limits) => Tensor::from_slice(limits).to_kind(Kind::Float).to_device(device),
            None => zeros.shallow_clone(),
        };
        Self {
            queries: queries.to_kind(Kind::Float).flatten(0, 1),
            variants,
            limits,
            best: zeros.full_like(f64::INFINITY),
            index: Tensor::zeros([count], (Kind::Int64, device)),
            closer: Tensor::zeros([count], (Kind::Int64, device)),
            seen: 0,
        }
    }

    /// Looks at `candidates` f32 [M,F], M at least 1.
    ///
    /// # Errors
    /// What libtorch reports, say another F.
    pub fn offer(&mut self, candidates: &Tensor) -> Result<()> {
        let candidates = candidates.f_to_kind(Kind::Float)?;
        let norm = |rows: &Tensor| (rows * rows).sum_dim_intlist(1i64, false, Kind::Float);
        let products = self.queries.f_matmul(&candidates.transpose(0, 1))?;
        let squares = norm(&self.queries).unsqueeze(1) + norm(&candidates) - products * 2.0;
        let apart = squares
            .clamp_min(0.0)
            .sqrt()
            .view([-1, self.variants, candidates.size()[0]]);
        let distances = apart.amin(1i64, false);
        let (least, place) = distances.min_dim(1, false);
        let better = least.lt_tensor(&self.best);
        self.index = (place + self.seen).where_self(&better, &self.index);
        self.best = least.minimum(&self.best);
        self.closer += distances
            .lt_tensor(&self.limits.unsqueeze(1))
            .sum_dim_intlist(1i64, false, Kind::Int64);
        self.seen += candidates.size()[0];
        Ok(())
    }

    /// # Errors
    /// What libtorch reports.
    pub fn finish(self) -> Result<Nearest> {
        let closer: Vec<i64> = Vec::try_from(&self.closer)?;
        Ok(Nearest {
            index: Vec::try_from(&self.index)?,
            distance: Vec::try_from(&self.best.to_kind(Kind::Double))?,
            closer: closer.into_iter().map(|count| count as u64).collect(),
        })
    }
}

/// The chance that the nearest of `drawn` training images, drawn at random from `total`, is among the `closer` ones: that a query whose
/// nearest held-out image of `drawn` has `closer` training images before it is nearer to a training image than to a held-out one.
pub fn nearer_share(closer: u64, total: u64, drawn: u64) -> f64 {
    // 1 − C(total − closer, drawn) / C(total, drawn)
    let none = (0..closer)
        .map(|j| total.saturating_sub(drawn + j) as f64 / (total - j) as f64)
        .product::<f64>();
    1.0 - none
}
