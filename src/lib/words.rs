//! Writes counts with their nouns, and shares in percent, for messages and tables.

/// Writes a count with its noun: `1 epoch`, `2 epochs`, `1 batch`, `3 batches`.
pub fn counted(count: impl TryInto<u64>, noun: &str) -> String {
    match count.try_into() {
        Ok(1) => format!("1 {noun}"),
        Ok(count) if noun.ends_with("tch") || noun.ends_with('s') => format!("{count} {noun}es"),
        Ok(count) => format!("{count} {noun}s"),
        // Negative, or larger than a u64.
        Err(_) => format!("? {noun}s"),
    }
}

/// Writes an accuracy (a share, 0..1) in percent for tables: `96.4 %`, or a dash for `None`.
pub fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
}
