//! Formats values for tables: percent, bytes, dashes, hashes.

use std::fmt::Display;

/// Formats a share in percent, `98.6`, or as a dash.
pub fn percent(accuracy: Option<f64>) -> String {
    or_dash(accuracy.map(|share| format!("{:.1}", 100.0 * share)))
}

/// Formats a number of bytes: `318 B`, `319.0 kB`, `44.8 MB`, `1.2 GB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Formats a value, or a dash where there is none.
pub fn or_dash(value: Option<impl Display>) -> String {
    value.map_or("–".into(), |value| value.to_string())
}

/// Returns the first digits of a SHA-256, which tell files apart.
pub fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}
