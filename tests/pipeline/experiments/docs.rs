//! The table of `docs/experiments.md`.

/// Returns the names of the experiments in the order of the table.
pub fn experiments() -> Vec<String> {
    let text = include_str!("../../../docs/experiments.md");
    let (_, results) = text.split_once("\n## Results\n").expect("has results");
    let (table, _) = results.split_once("\n## ").expect("has a section below");
    let names = table.lines().filter_map(|line| line.strip_prefix("| `"));
    names
        .map(|row| row.split('`').next().unwrap_or_default().to_owned())
        .collect()
}
