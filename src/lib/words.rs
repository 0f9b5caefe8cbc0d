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

/// Numbers that a message lists at most.
const LISTED: usize = 5;

/// Writes the first of the numbers and how many others there are: `0, 3, 4, 6, 7 and 95 more`.
pub fn first_of(numbers: &[usize]) -> String {
    let shown = numbers.iter().take(LISTED).map(usize::to_string);
    let shown = shown.collect::<Vec<_>>().join(", ");
    match numbers.len().saturating_sub(LISTED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Writes an accuracy (a share, 0..1) in percent for tables: `96.4 %`, or a dash for `None`.
pub fn percent(accuracy: Option<f64>) -> String {
    accuracy.map_or("–".into(), |share| format!("{:.1} %", 100.0 * share))
}
