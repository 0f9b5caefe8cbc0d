//! Finds the nearest neighbour of each synthetic image among private images, to measure whether
//! synthetic images reveal private ones. Called by `inspect neighbours`.
//!
//! A distance alone shows little: noise is far from everything. So distances to training images are
//! compared with distances to held-out images, and for each synthetic image the nearest of all
//! training and held-out images is determined. If nothing was memorised, the share of synthetic
//! images whose nearest image is a training image is the share of training images among all. The
//! idea is that of Platzer and Reutterer 2021 (*Holdout-Based Empirical Assessment of Mixed-Type
//! Synthetic Data*, doi:10.3389/fdata.2021.679939), whose two sets are equally large.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Searches the nearest candidate of each query by Euclidean distance, some candidates at a time.
///
/// ```
/// use fed_distill::distill::NearestSearch;
/// use tch::Tensor;
///
/// # fn main() -> fed_distill::Result<()> {
/// let query = Tensor::from_slice(&[0_f32, 0.0]).view([1, 1, 2]);
/// let mut search = NearestSearch::new(&query);
/// search.add(&Tensor::from_slice2(&[[9_f32, 9.0], [3.0, 4.0]]))?;
/// let nearest = search.finish()?;
/// assert_eq!((nearest.index, nearest.distance), (vec![1], vec![5.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NearestSearch {
    /// V variants of each of N queries, f32 [N·V,F].
    queries: Tensor,
    variants: i64,
    best: Tensor,
    index: Tensor,
    seen: i64,
}

/// Holds the result of a search, one value for each query.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// Index of the nearest candidate, in the order in which candidates were added.
    pub index: Vec<i64>,
    /// Euclidean distance of the nearest candidate to the nearest variant of the query.
    pub distance: Vec<f64>,
}

impl NearestSearch {
    /// Returns a search for `queries` `[N,V,F]`: the distance of a candidate to a query is that to
    /// the nearest of the query's V variants.
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

    /// Compares `candidates` `[M,F]`, M at least 1, with the queries.
    ///
    /// # Errors
    /// Fails when F differs from that of the queries.
    pub fn add(&mut self, candidates: &Tensor) -> Result<()> {
        let candidates = candidates.f_to_kind(Kind::Float)?;
        let norm = |rows: &Tensor| (rows * rows).sum_dim_intlist(1i64, false, Kind::Float);
        let products = self.queries.f_matmul(&candidates.transpose(0, 1))?;
        let squares = norm(&self.queries).unsqueeze(1) + norm(&candidates) - products * 2.0;
        let apart = squares
            .view([-1, self.variants, candidates.size()[0]])
            .amin(1i64, false);
        let (least, position) = apart.clamp_min(0.0).sqrt().min_dim(1, false);
        let better = least.lt_tensor(&self.best);
        self.index = (position + self.seen).where_self(&better, &self.index);
        self.best = least.minimum(&self.best);
        self.seen += candidates.size()[0];
        Ok(())
    }

    /// Returns the nearest candidate of each query.
    ///
    /// # Errors
    /// Fails when libtorch does.
    pub fn finish(self) -> Result<Nearest> {
        Ok(Nearest {
            index: Vec::try_from(&self.index)?,
            distance: Vec::try_from(&self.best.to_kind(Kind::Double))?,
        })
    }
}
