//! Requests that cannot be met, said alike by all partitioners.

use crate::error::{Error, Result};
use crate::words::counted;

/// Checks that `nodes` nodes can have `each` of `images` training images.
///
/// # Errors
/// No nodes, or too few images.
pub fn enough(images: usize, nodes: usize, each: usize) -> Result<()> {
    if nodes == 0 {
        return Err(Error::usage("`split.num_nodes` is 0")
            .hint("say how many parties share the images: split.num_nodes=10"));
    }
    if nodes
        .checked_mul(each)
        .is_some_and(|needed| needed <= images)
    {
        return Ok(());
    }
    let each_needs = match each {
        1 => "each needs at least one".to_owned(),
        _ => format!("each needs at least {each}"),
    };
    let error = Error::usage(format!(
        "cannot deal {} to {}: {each_needs}",
        counted(images, "training image"),
        counted(nodes, "node")
    ));
    Err(match images / each.max(1) {
        0 => error,
        most => error.hint(format!("split.num_nodes is at most {most} here")),
    })
}

/// The same for `split.min_size` images each, at least one.
///
/// # Errors
/// As [`enough`], with a hint at the setting.
pub fn at_least(images: usize, nodes: usize, min_size: usize) -> Result<()> {
    enough(images, nodes, min_size.max(1)).map_err(|error| match images.checked_div(nodes) {
        Some(most) if most > 0 && min_size > 1 => {
            error.hint(format!("`split.min_size` is at most {most} here"))
        }
        _ => error,
    })
}

/// The nodes (and their sizes) that came short in the best of all draws.
pub fn short(what: &str, min_size: usize, nodes: &[(usize, usize)]) -> Error {
    const LISTED: usize = 10;
    let listed: Vec<_> = nodes
        .iter()
        .take(LISTED)
        .map(|(node, size)| format!("node {node} ({size})"))
        .collect();
    let more = match nodes.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Error::usage(format!(
        "{what} gave some nodes fewer than {min_size} training images in each of {} draws",
        super::draw::DRAWS
    ))
    .note(
        "found",
        format!("in the best draw {}{more} came short", listed.join(", ")),
    )
}

/// Checks a number of classes a node is to hold against those that have images.
///
/// # Errors
/// None, or more than there are.
pub fn classes(per: usize, present: usize) -> Result<()> {
    if (1..=present).contains(&per) {
        return Ok(());
    }
    Err(Error::usage(format!(
        "`split.classes_per_node` is {per}, but {} {} training images",
        counted(present, "class"),
        if present == 1 { "has" } else { "have" }
    ))
    .hint(format!(
        "split.classes_per_node={present} gives every node all of them"
    )))
}
