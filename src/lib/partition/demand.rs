//! Checks requests that cannot be met, with the same errors for all partitioners.

use crate::error::{Error, Result, Text, parameter, unquoted};
use crate::words::counted;

/// Checks that `nodes` nodes can have `each` of `images` training images.
///
/// # Errors
/// Fails at no nodes, and at too few images.
pub fn enough(images: usize, nodes: usize, each: usize) -> Result<()> {
    if nodes == 0 {
        let how = "say how many parties share the images: ";
        return Err(Error::usage(parameter("num_nodes") + " is 0")
            .hint(Text::from(how) + unquoted("num_nodes") + "=10"));
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
        most => error.hint(unquoted("num_nodes") + format!(" is at most {most} here")),
    })
}

/// Checks the same for `min_size` images each, at least one.
///
/// # Errors
/// Fails as [`enough`] does, with a hint at the setting.
pub fn at_least(images: usize, nodes: usize, min_size: usize) -> Result<()> {
    enough(images, nodes, min_size.max(1)).map_err(|error| match images.checked_div(nodes) {
        Some(most) if most > 0 && min_size > 1 => {
            error.hint(parameter("min_size") + format!(" is at most {most} here"))
        }
        _ => error,
    })
}

/// Returns the error for draws that all left nodes short; `nodes` are those of the best draw, with
/// their sizes.
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

/// Returns the hint for a law of sizes or classes that left nodes short: a `change` ("larger",
/// "smaller") of the parameter `of`, and what else helps.
pub fn easier(change: &str, of: &str) -> Text {
    Text::from(format!("try a {change} "))
        + parameter(of)
        + ", fewer nodes ("
        + parameter("num_nodes")
        + "), a smaller "
        + parameter("min_size")
        + ", or another `seed`"
}

/// Returns the hint for a class that is too rare for the nodes that are to hold it.
pub fn fewer() -> Text {
    Text::from("take fewer nodes (")
        + parameter("num_nodes")
        + ") or fewer "
        + parameter("classes_per_node")
}

/// Checks a number of classes a node is to hold against those that have images.
///
/// # Errors
/// Fails at no class, and at more than there are.
pub fn classes(per: usize, present: usize) -> Result<()> {
    if (1..=present).contains(&per) {
        return Ok(());
    }
    let found = format!(
        " is {per}, but {} {} training images",
        counted(present, "class"),
        if present == 1 { "has" } else { "have" }
    );
    let all = format!("={present} gives every node all of them");
    Err(Error::usage(parameter("classes_per_node") + found)
        .hint(unquoted("classes_per_node") + all))
}
