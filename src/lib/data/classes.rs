//! Gives the images of a set the labels of a list of class names (`classes`), so that parties whose
//! sets lack some of the classes agree. Called by `load`.

use super::raw::{RawSet, RawSplit};
use crate::error::{Error, Result, assignment, parameter};

/// Limits the classes that an error names.
const NAMED: usize = 20;

/// Returns the set with labels that are positions in `names`.
///
/// # Errors
/// Fails (usage) when a class that has images is not among `names`, and as [`check_class_names`]
/// does.
pub(super) fn relabel(set: RawSet, names: &[String]) -> Result<RawSet> {
    check_class_names(names)?;
    let place = |class: &String| names.iter().position(|name| name == class);
    let places: Vec<Option<usize>> = set.classes.iter().map(place).collect();
    let mut unnamed = Vec::new();
    for (class, place) in set.classes.iter().zip(&places) {
        let has_images = |split: &RawSplit| {
            let label = |label: &i64| set.classes.get(*label as usize) == Some(class);
            split.labels.iter().any(label)
        };
        // An empty folder of another name says nothing.
        if place.is_none() && (has_images(&set.train) || has_images(&set.test)) {
            unnamed.push(format!("`{class}`"));
        }
    }
    if !unnamed.is_empty() {
        let (first, more) = (unnamed.iter().take(NAMED), unnamed.len() > NAMED);
        let first: Vec<&str> = first.map(String::as_str).collect();
        let found = first.join(", ") + if more { ", …" } else { "" };
        return Err(Error::usage(
            parameter("classes") + " does not name all classes of the images",
        )
        .note("expected", names.join(", "))
        .note("found", found)
        .hint(
            "name every class that any party has, in the same order everywhere; or take its images \
             away",
        ));
    }
    let split = |split: RawSplit| RawSplit {
        labels: split
            .labels
            .iter()
            .map(|&label| places[label as usize].unwrap_or_default() as i64)
            .collect(),
        ..split
    };
    Ok(RawSet {
        classes: names.to_vec(),
        train: split(set.train),
        test: split(set.test),
        broken: set.broken,
    })
}

/// Checks a list of class names that was given.
///
/// # Errors
/// Fails (usage) when there is no name, an empty one, or one twice.
pub fn check_class_names(names: &[String]) -> Result<()> {
    let refused = |problem: String| {
        Err(Error::usage(parameter("classes") + problem)
            .hint(assignment("classes", "[cat,dog]") + " names the classes in label order"))
    };
    if names.is_empty() {
        return refused(" names no class".into());
    }
    if names.iter().any(String::is_empty) {
        return refused(" has an empty name".into());
    }
    let mut sorted: Vec<&String> = names.iter().collect();
    sorted.sort();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => refused(format!(" names `{}` twice", pair[0])),
        None => Ok(()),
    }
}
