//! Derives the random generators of a run from one seed, an independent stream for each purpose
//! and index. Used wherever something is drawn.
//!
//! Nothing uses libtorch's own generator, so the same seed draws the same numbers on CPU and CUDA,
//! and work on a part (teacher 3 alone) draws what the whole run would have drawn for that part.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The random generator that all code uses; its numbers are the same on every platform.
pub type Rng = ChaCha8Rng;

/// Holds the seed of a run, from which streams are derived.
#[derive(Clone, Copy, Debug)]
pub struct Seeds(u64);

impl Seeds {
    /// Makes the streams of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the generator for `purpose`, such as `"teacher/initialisation"`, and `index`, such
    /// as the client's.
    ///
    /// ```
    /// use fed_distill::runtime::seed::Seeds;
    /// use rand::Rng;
    ///
    /// let seeds = Seeds::new(42);
    /// let draw = |purpose, index| seeds.stream(purpose, index).random::<u64>();
    /// assert_eq!(draw("noise", 0), draw("noise", 0));
    /// assert_ne!(draw("noise", 0), draw("noise", 1));
    /// ```
    pub fn stream(&self, purpose: &str, index: u64) -> Rng {
        let mut hash = Sha256::new();
        hash.update(self.0.to_le_bytes());
        hash.update(index.to_le_bytes());
        hash.update(purpose.as_bytes());
        Rng::from_seed(hash.finalize().into())
    }
}

/// Returns the number of 32-bit words drawn from a stream so far; a checkpoint saves it, and
/// `set_word_pos` restores it.
pub fn drawn(rng: &Rng) -> u64 {
    // 2^64 words would take centuries.
    rng.get_word_pos() as u64
}
