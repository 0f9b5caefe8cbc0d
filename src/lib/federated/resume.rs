//! Saves and resumes a federated run: what rank 0's checkpoint holds, and which rank gets what of
//! it.

use super::link::{Carrier, Link, decode, unreadable};
use crate::artifact::tensors;
use crate::error::{During, Result};
use crate::model::StateDict;
use crate::train::{Callback, FitState, Position};
use serde_json::json;

impl Link<'_> {
    /// Tells all ranks where the run resumes: rank 0 gives its `start`, if it has one, and each
    /// other rank receives the position and those tensors for which `wanted` returns true, given
    /// the rank and the tensor's name. Not in the ledger: a run that was never stopped sends none
    /// of it.
    ///
    /// # Errors
    /// Fails as [`Rank::receive`](super::transport::Rank::receive) does, and on a message that
    /// cannot be read.
    pub fn share_start(
        &mut self,
        start: Option<&FitState>,
        wanted: &dyn Fn(usize, &str) -> bool,
    ) -> Result<Option<FitState>> {
        if !matches!(self.carrier, Carrier::Ranks(_)) {
            // Processes elsewhere have saved their own.
            return Ok(start.map(FitState::share));
        }
        if !self.is_server() {
            let bytes = self.rank()?.receive(0)?;
            return decode_start(&bytes).during(|| "receiving where the run resumes from rank 0");
        }
        for rank in 1..self.ranks() {
            let position = start.map(|start| json!(start.position).to_string());
            let metadata = position.map(|position| (POSITION.to_owned(), position));
            let tensors = start.into_iter().flat_map(|start| &start.tensors);
            let tensors = tensors.map(|(name, tensor)| (name.as_str(), tensor));
            let tensors: Vec<_> = tensors.filter(|(name, _)| wanted(rank, name)).collect();
            let message = tensors::encode(&tensors, &metadata.into_iter().collect())?;
            self.rank()?.send(rank, message);
        }
        Ok(start.map(FitState::share))
    }

    /// Continues from the `start` of rank 0 with what the nodes keep, whose names in it begin with
    /// one of `prefixes` and the node's number. Returns the start: on other ranks no more of it
    /// than what the nodes there keep.
    pub(super) fn resume(
        &mut self,
        start: Option<&FitState>,
        prefixes: &[&str],
    ) -> Result<Option<FitState>> {
        let kept_by = |name: &str| {
            let (prefix, rest) = name.split_once('.')?;
            let node = rest.split('.').next()?.parse().ok();
            node.filter(|_: &usize| prefixes.contains(&prefix))
        };
        let ranks = self.ranks();
        let wanted = |rank, name: &str| kept_by(name).is_some_and(|node| node % ranks == rank);
        let start = self.share_start(start, &wanted)?;
        if let Some(start) = &start {
            self.complete = start.position.epoch;
            for (name, tensor) in &start.tensors {
                if let Some(node) = kept_by(name) {
                    let tensor = StateDict::new(vec![(name.clone(), tensor.shallow_clone())]);
                    let before = self.kept.remove(&node).unwrap_or_default();
                    self.kept.insert(node, before.joined(tensor));
                }
            }
        }
        Ok(start)
    }

    /// Ends a round.
    pub(super) fn end_round(&mut self) {
        self.commit_kept();
        self.complete += 1;
        self.exchanges = 0;
    }

    /// Lets nodes keep from now on what they sent to be kept.
    pub(super) fn commit_kept(&mut self) {
        self.kept.append(&mut self.next_kept);
    }

    /// Returns the position of the run after the last complete round.
    pub(super) fn position(&self) -> Position {
        Position {
            epoch: self.complete,
            ..Position::default()
        }
    }

    /// Server: returns the run after the last complete round, as views.
    pub(super) fn state(&self) -> FitState {
        let mut state = self.server.share();
        for (name, tensor) in self.kept.values().flat_map(StateDict::iter) {
            state
                .tensors
                .push((name.to_owned(), tensor.shallow_clone()));
        }
        state
    }

    /// Server: lets `callback` save the run after the last complete round, if it is due.
    pub(super) fn save_if_due<R>(&self, callback: &mut dyn Callback<R>) -> Result<()> {
        match self.is_server() && callback.due() {
            true => callback.save(&self.state()),
            false => Ok(()),
        }
    }
}

/// The metadata key of a position.
const POSITION: &str = "position";

fn decode_start(bytes: &[u8]) -> Result<Option<FitState>> {
    let mut message = decode(bytes)?;
    let Some(position) = message.metadata.remove(POSITION) else {
        return Ok(None);
    };
    let position = serde_json::from_str(&position);
    Ok(Some(FitState {
        position: position.map_err(|error| unreadable(bytes, &error.to_string()))?,
        tensors: message.tensors,
    }))
}
