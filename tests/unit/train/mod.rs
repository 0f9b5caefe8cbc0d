//! Training to the letter of PyTorch: schedules, optimisers, the student's two losses, accuracy.
//! The expected numbers come from PyTorch 2.11 in float64, by the script quoted above each test
//! (all begin with `import torch, torch.nn.functional as F` and
//! `torch.set_default_dtype(torch.float64)`).

mod accuracy;
mod growing;
mod logits;
mod losses;
mod optimisers;
mod padding;
mod reads;
mod schedules;

fn close(ours: f64, wanted: f64, tolerance: f64, what: &str) {
    assert!(
        (ours - wanted).abs() <= tolerance * wanted.abs().max(1e-3),
        "{what}: {ours} for {wanted}"
    );
}
