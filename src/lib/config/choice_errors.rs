//! Makes the errors about groups and options that are chosen wrongly.

use super::choices::Chosen;
use super::node::Origin;
use super::suggest::{did_you_mean, list, nearest};
use super::tree::Source;
use crate::error::Error;

/// Returns the error for an option, or even its group, that does not exist.
pub fn no_option(source: &Source, group: &str, option: &str, origin: &Origin) -> Error {
    source.explain_missing(missing(source, group, option, origin), group, option)
}

fn missing(source: &Source, group: &str, option: &str, origin: &Origin) -> Error {
    let options = source.tree.options(group);
    if !options.is_empty() {
        let error = Error::usage(format!("`{group}` has no option `{option}`"))
            .note("from", origin.to_string())
            .note("available", list(&options));
        return did_you_mean(error, nearest(option, &options));
    }
    let error = Error::usage(format!("there is no config group `{group}`"))
        .note("from", origin.to_string())
        .note("available", list(&source.groups));
    // In a file, `teacher: x` means a group beside the file itself.
    match group
        .rsplit_once('/')
        .filter(|_| matches!(origin, Origin::File { .. }))
    {
        Some((_, last)) if source.groups.iter().any(|known| known == last) => error.hint(format!(
            "a group at the top of the tree is written `/{last}: {option}`"
        )),
        _ => did_you_mean(error, nearest(group, &source.groups)),
    }
}

/// Returns the error for a group that is chosen again, as another option.
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
