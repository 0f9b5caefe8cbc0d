//! Are synthetic images nearer to the private ones than they would be if nothing were given away?
//!
//! A distance alone says little: noise is far from everything. So distances to the training images
//! are set beside those of held-out images, and each synthetic image is asked whether the nearest
//! of all training and held-out images is a training image. If nothing was memorised, it does not
//! matter to it which images were trained on, and it is one in as many cases as training images are
//! among all; the idea is that of Platzer and Reutterer 2021 (*Holdout-Based Empirical Assessment
//! of Mixed-Type Synthetic Data*, doi:10.3389/fdata.2021.679939), whose two sets are equally large.

use crate::error::Result;
use tch::{Kind, Tensor};

/// The nearest candidate of each query, as candidates go by. Distances are Euclidean.
#[derive(Debug)]
pub struct Search {
    /// f32 [N·V,F]: V variants of each of N queries, of which the nearest counts.
    queries: Tensor,
    variants: i64,
    best: Tensor,
    index: Tensor,
    seen: i64,
}

/// What a search found, one value a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// The candidate's place among all that were offered.
    pub index: Vec<i64>,
    pub distance: Vec<f64>,
}

impl Search {
    /// For `queries` f32 [N,V,F].
    pub fn new(queries: &Tensor) -> Self {
        let (count, variants, device) = (queries.size()[0], queries.size()[1], queries.device());
        Self {
            queries: queries.to_kind(Kind::Float).flatten(0, 1),
            variants,
            best: Tensor::full([count], f64::INFINITY, (Kind::Float, device)),
            index: Tensor::zeros([count], (Kind::Int64, device)),
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
            .view([-1, self.variants, candidates.size()[0]])
            .amin(1i64, false);
        let (least, place) = apart.clamp_min(0.0).sqrt().min_dim(1, false);
        let better = least.lt_tensor(&self.best);
        self.index = (place + self.seen).where_self(&better, &self.index);
        self.best = least.minimum(&self.best);
        self.seen += candidates.size()[0];
        Ok(())
    }

    /// # Errors
    /// What libtorch reports.
    pub fn finish(self) -> Result<Nearest> {
        Ok(Nearest {
            index: Vec::try_from(&self.index)?,
            distance: Vec::try_from(&self.best.to_kind(Kind::Double))?,
        })
    }
}
