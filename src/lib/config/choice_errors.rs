//! Errors about groups and options that are chosen wrongly.

use super::choices::Chosen;
use super::node::Origin;
use super::suggest::{list, nearest};
use super::tree::Tree;
use crate::error::Error;

/// An option, or even its group, that does not exist.
pub fn no_option(
    tree: &Tree,
    groups: &[String],
    group: &str,
    option: &str,
    origin: &Origin,
) -> Error {
    let options = tree.options(group);
    if !options.is_empty() {
        let error = Error::usage(format!("`{group}` has no option `{option}`"))
            .note("from", origin.to_string())
            .note("available", list(&options));
        return hint_nearest(error, option, &options);
    }
    let error = Error::usage(format!("there is no config group `{group}`"))
        .note("from", origin.to_string())
        .note("available", list(groups));
    // In a file, `teacher: x` means a group beside the file itself.
    match group
        .rsplit_once('/')
        .filter(|_| matches!(origin, Origin::File { .. }))
    {
        Some((_, last)) if groups.iter().any(|known| known == last) => error.hint(format!(
            "a group at the top of the tree is written `/{last}: {option}`"
        )),
        _ => hint_nearest(error, group, groups),
    }
}

pub fn hint_nearest(error: Error, word: &str, names: &[String]) -> Error {
    match nearest(word, names) {
        Some(name) => error.hint(format!("did you mean `{name}`?")),
        None => error,
    }
}

pub fn chosen_twice(first: &Chosen, option: &str, origin: &Origin) -> Error {
    let group = &first.group;
    let error = Error::usage(format!(
        "`{group}` is chosen twice: `{}` and `{option}`",
        first.option
    ))
    .note("from", first.origin.to_string())
    .note("from", origin.to_string());
    let typed = match (&first.origin, origin) {
        (_, Origin::Argument(_)) => Some(option),
        (Origin::Argument(_), _) => Some(first.option.as_str()),
        _ => None,
    };
    match typed {
        Some(option) => error.hint(format!(
            "to replace the other choice type it without the plus: {group}={option}"
        )),
        None => error
            .hint(format!(
                "to replace the other choice write `override /{group}: {option}` in the defaults \
                 list"
            ))
            .hint(format!("or type {group}=OPTION")),
    }
}
