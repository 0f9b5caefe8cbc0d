//! What a task says of its rounds: the algorithm with all settings that change a result, so that
//! every client trains as the server wants it, and how long the server waits.

use crate::error::{Error, Result};
use crate::federated::fed_avg::FedAvgSettings;
use crate::federated::fed_md::FedMdSettings;
use crate::model::PrecisionChoice;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Most rounds of a task.
const MOST_ROUNDS: usize = 1_000_000;

/// Holds the part of a task that is about rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    pub algorithm: Algorithm,
    /// Root of all random numbers.
    pub seed: u64,
    pub precision: PrecisionChoice,
    /// Seconds from asking the clients to the deadline of their answers.
    pub round_seconds: u32,
    /// Seconds before which no answers are complete, so that fast clients are not preferred.
    pub min_seconds: u32,
    /// Seconds without a call after which a client is not asked.
    pub lease_seconds: u32,
}

/// Selects the algorithm, with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Algorithm {
    FedAvg {
        settings: FedAvgSettings,
    },
    FedMd {
        settings: FedMdSettings,
        public: Public,
    },
}

/// Identifies the public images, which every party of FedMD holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Their number.
    pub images: usize,
    /// A hash of pixels, labels and normalisation.
    pub sha256: String,
}

/// Writes the name of the subcommand of `join` and of the stage.
impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::FedAvg { .. } => "fed_avg",
            Self::FedMd { .. } => "fed_md",
        })
    }
}

impl Algorithm {
    /// Returns the number of the first round: FedMD's round 0 is transfer learning.
    pub fn first_round(&self) -> usize {
        match self {
            Self::FedAvg { .. } => 1,
            Self::FedMd { .. } => 0,
        }
    }

    /// Returns the number of rounds.
    pub fn rounds(&self) -> usize {
        match self {
            Self::FedAvg { settings } => settings.rounds,
            Self::FedMd { settings, .. } => settings.rounds,
        }
    }
}

impl Plan {
    /// Checks the numbers that a party relies on: the file may have been edited.
    ///
    /// # Errors
    /// Fails for a number out of its range (usage).
    pub fn check(&self) -> Result<()> {
        let rounds = (1..=MOST_ROUNDS).contains(&self.algorithm.rounds());
        let times = self.round_seconds > 0 && self.lease_seconds > 0;
        let fits = match &self.algorithm {
            Algorithm::FedAvg { settings } => {
                let share = settings.fraction > 0.0 && settings.fraction <= 1.0;
                share && settings.batch_size != Some(0) && settings.epochs > 0
            }
            Algorithm::FedMd { settings, public } => {
                let batches = settings.batch_size > 0 && settings.digest_batch_size != Some(0);
                let samples = settings.public_samples.is_none_or(|count| count > 1);
                batches && samples && settings.eval_every > 0 && public.images > 1
            }
        };
        match rounds && times && fits {
            true => Ok(()),
            false => Err(Error::usage("the task's `rounds` cannot be used").hint(
                "`serve task` checks each number; was `task.json` edited? seconds, rounds, epochs \
                 and batch sizes are 1 or more",
            )),
        }
    }
}
