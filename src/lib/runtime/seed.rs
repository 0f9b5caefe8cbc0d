//! Randomness: one portable generator with an independent stream per purpose and index.
//!
//! Nothing uses libtorch's own generator, so the same seed draws the same numbers on CPU and CUDA,
//! and a stage that does only part of the work (`teacher.only=[3]`) draws what the whole would have
//! drawn for that part.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator everywhere.
pub type Rng = ChaCha8Rng;

/// A root seed from which streams are derived.
#[derive(Clone, Copy, Debug)]
pub struct Seeds(u64);

impl Seeds {
    /// Streams of the root seed `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The generator for `purpose` (say `"teacher/initialisation"`) and `index` (say the node).
    pub fn stream(&self, purpose: &str, index: u64) -> Rng {
        let mut hash = Sha256::new();
        hash.update(self.0.to_le_bytes());
        hash.update(index.to_le_bytes());
        hash.update(purpose.as_bytes());
        Rng::from_seed(hash.finalize().into())
    }
}

/// How far a stream has come, in words of 32 bits; `set_word_pos` goes there.
pub fn drawn(rng: &Rng) -> u64 {
    // 2^64 words would take centuries.
    rng.get_word_pos() as u64
}
