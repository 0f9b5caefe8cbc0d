//! Files with a few wrong bytes where it hurts most: each is accepted or refused, and never a
//! panic.

use super::support::{card, teacher};
use fed_distill::artifact::hash;
use fed_distill::network::task::{Task, VERSION};
use fed_distill::network::validate::{self, Announced};
use fed_distill::runtime::seed::Seeds;
use rand::Rng as _;

/// A task that takes teachers of any architecture.
fn task() -> Task {
    let card = card();
    Task {
        version: VERSION,
        name: "fuzz".into(),
        channels: card.model.channels,
        size: card.model.size,
        classes: card.classes,
        normalisation: card.normalisation,
        models: Vec::new(),
        max_bytes: 1 << 20,
        max_images: 1000,
        clients: 1,
        min_clients: 1,
        deadline: None,
        extension_hours: 0,
        rounds: None,
    }
}

#[test]
fn changed_headers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("teacher.safetensors");
    let (task, good) = (task(), teacher(1));
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let mut rng = Seeds::new(5).stream("fuzz", 0);
    let mut accepted = 0;
    for round in 0..600 {
        let mut bytes = good.clone();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..header);
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                // Digits are what lengths, shapes and counts are made of.
                1 => bytes[at] = b'0' + rng.random_range(0..10),
                2 => {
                    bytes.remove(at);
                }
                _ => bytes.insert(at, b"09-[]{},:\"e."[rng.random_range(0..12)]),
            }
        }
        if round % 10 == 0 {
            bytes.truncate(rng.random_range(0..bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        let announced = Announced {
            bytes: bytes.len() as u64,
            sha256: hash::bytes(&bytes),
            images: 100,
        };
        accepted += usize::from(validate::upload(&path, &announced, &task).is_ok());
    }
    // A quarter of the files has no change, and most others cannot be right.
    assert!((90..360).contains(&accepted), "{accepted}");
}
