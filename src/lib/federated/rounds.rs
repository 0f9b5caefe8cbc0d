//! Takes a rank through the rounds of an algorithm: resumes, reports each round, and saves the run.

use super::ledger::Ledger;
use super::link::Link;
use crate::error::{During, Result, is_whole};
use crate::model::Model;
use crate::runtime::interrupt;
use crate::train::{Callback, FitState, Position};

/// Reports a round.
#[derive(Debug)]
pub struct RoundReport<N> {
    /// Number of the round.
    pub round: usize,
    /// The reports of the clients that took part, by ascending node.
    pub nodes: Vec<N>,
    /// What was sent and received in the round.
    pub ledger: Ledger,
}

/// Does what a server and clients do in a round, on one rank of a federation.
pub(super) trait Algorithm {
    /// What a client reports of a round.
    type Report;

    /// Number of the first round.
    const FIRST: usize;

    /// The tensors that a client keeps from round to round are named `PREFIX.NODE.…`.
    const KEPT: &'static [&'static str];

    /// Lets the server and the clients hosted here take their parts in the next round. Returns the
    /// reports of all clients on rank 0, by ascending node.
    fn round(
        &mut self,
        link: &mut Link,
        callback: &mut dyn Callback<RoundReport<Self::Report>>,
    ) -> Result<Vec<Self::Report>>;

    /// Server: returns the global model, if there is one.
    fn model(&self) -> Option<&Model> {
        None
    }

    /// Server: returns its own state at `position`, as views.
    fn state(&self, position: Position) -> FitState {
        FitState {
            position,
            tensors: Vec::new(),
        }
    }

    /// Continues from `state`; `link` has what clients keep. On other ranks than 0 there is no more
    /// in `state` than that.
    fn restore(&mut self, state: &FitState, link: &Link) -> Result<()>;
}

/// Takes this process's part in `rounds` rounds, or in those of them that come after `start`.
pub(super) fn run<'a, A: Algorithm>(
    mut algorithm: A,
    rounds: usize,
    mut link: Link<'a>,
    start: Option<&FitState>,
    callback: &mut dyn Callback<RoundReport<A::Report>>,
) -> Result<(A, Link<'a>)> {
    if let Some(start) = link.resume(start, A::KEPT)? {
        algorithm.restore(&start, &link)?;
    }
    let is_server = link.is_server();
    // A copy: the round that follows may be broken off after it has changed the state.
    link.server = algorithm.state(link.position()).copy();
    let mut take_rounds = || {
        while link.complete < rounds {
            interrupt::check()?;
            let nodes = algorithm.round(&mut link, callback)?;
            if is_server {
                let report = RoundReport {
                    round: A::FIRST + link.complete,
                    nodes,
                    ledger: link.take_ledger(),
                };
                callback.report(algorithm.model(), &report)?;
            }
            link.end_round();
            link.server = algorithm.state(link.position()).copy();
            link.save_if_due(callback)?;
        }
        Ok(())
    };
    let result = take_rounds();
    if is_server && is_whole(&result) {
        callback.save(&link.state()).during(|| "saving the run")?;
    }
    result.map(|()| (algorithm, link))
}
