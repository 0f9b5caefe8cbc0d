//! Finds the node that a class belongs to: the one that holds most of it, where one stands out.

/// Returns the shares of `counts`; all zero where there are none.
pub(super) fn shares(counts: &[u64]) -> Vec<f64> {
    let total = counts.iter().sum::<u64>().max(1) as f64;
    counts.iter().map(|&count| count as f64 / total).collect()
}

/// Returns for each class the node that holds more than half of it and half as much again as an
/// equal share; `counts[node][class]` are numbers of images.
pub fn owners(counts: &[Vec<u64>]) -> Vec<Option<usize>> {
    let classes = counts.iter().map(Vec::len).max().unwrap_or(0);
    let nodes = counts.len().max(2) as u64;
    let owner = |class: usize| {
        let held: Vec<u64> = counts
            .iter()
            .map(|node| node.get(class).copied().unwrap_or(0))
            .collect();
        let total: u64 = held.iter().sum();
        held.iter()
            .position(|&count| 2 * count > total && 2 * count * nodes >= 3 * total)
    };
    (0..classes).map(owner).collect()
}
