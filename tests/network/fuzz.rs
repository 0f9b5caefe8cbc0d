//! Files with a few wrong bytes where it hurts most: each is accepted or refused, and never a
//! panic.

use super::rounds::answer;
use super::support::{card, model, spec, teacher};
use fed_distill::artifact::hash;
use fed_distill::federated::fed_avg::FedAvgSettings;
use fed_distill::federated::{At, Kind};
use fed_distill::model::PrecisionChoice;
use fed_distill::network::rounds::check;
use fed_distill::network::rounds::plan::{Algorithm, Plan};
use fed_distill::network::rounds::progress::Asked;
use fed_distill::network::task::{Task, VERSION};
use fed_distill::network::validate::{self, Announced};
use fed_distill::runtime::seed::{Rng, Seeds};
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

/// `good` with up to three changes in its first bytes, as far as `header`; each tenth is cut.
fn changed(rng: &mut Rng, round: usize, good: &[u8], header: usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
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
    if round.is_multiple_of(10) {
        bytes.truncate(rng.random_range(0..bytes.len()));
    }
    bytes
}

#[test]
fn changed_answers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answer");
    let plan = Plan {
        algorithm: Algorithm::FedAvg {
            settings: FedAvgSettings::default(),
        },
        seed: 42,
        precision: PrecisionChoice::F32,
        round_seconds: 1,
        min_seconds: 0,
        lease_seconds: 1,
    };
    let task = Task {
        models: vec![spec().model],
        rounds: Some(plan),
        ..task()
    };
    let asked = Asked {
        at: At {
            round: 0,
            number: 0,
        },
        nodes: vec![2],
        kinds: vec![Kind::Report, Kind::Model],
        handout: None,
        since: 0,
        until: 1,
    };
    let good = answer(0, [100.0, 1.0, 0.5, 0.5], &model(1).state());
    // The report, and the header of the model behind it.
    let length = |at: usize| u64::from_le_bytes(good[at..at + 8].try_into().unwrap()) as usize;
    let report = 8 + 8 + length(8);
    let header = report + 8 + 8 + length(report + 8);
    let mut rng = Seeds::new(6).stream("fuzz", 0);
    let (mut accepted, mut same) = (0, 0);
    for round in 0..600 {
        let bytes = changed(&mut rng, round, &good, header);
        std::fs::write(&path, &bytes).unwrap();
        let announced = Announced {
            bytes: bytes.len() as u64,
            sha256: hash::bytes(&bytes),
            images: 100,
        };
        same += usize::from(bytes == good);
        accepted += usize::from(check::answer(&path, &announced, &asked, 2, &task).is_ok());
    }
    // Some changes leave an answer that can be right: of a loss, or of blanks.
    assert!(
        (same..=same + 60).contains(&accepted),
        "{accepted} of {same}"
    );
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
        let bytes = changed(&mut rng, round, &good, header);
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
