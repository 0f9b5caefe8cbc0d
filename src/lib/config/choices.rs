//! The tree of defaults lists, walked: which file of each group takes part, and in which order
//! files are merged.
//!
//! A walk needs to know which choices are replaced, which only a walk can tell, since an `override`
//! may stand in any file that is reached. So walks are repeated with what the last one found until
//! nothing changes; mistakes count only in the last one.

use super::defaults::{File, Pick};
use super::node::Origin;
use super::tree::Tree;
use super::walk::Walk;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Defaults lists that have not settled after so many walks replace each other in a circle.
const WALKS: usize = 64;

/// What the command line says about a group.
#[derive(Clone, Debug)]
pub struct GroupOverride {
    pub group: String,
    pub origin: Origin,
    pub action: Action,
}

/// `group=option`, `+group=option` (`None`: `null`), `~group`, `~group=option`.
#[derive(Clone, Debug)]
pub enum Action {
    Replace(Option<String>),
    Add(Option<String>),
    Delete(Option<String>),
}

/// A choice as it was made.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub group: String,
    pub option: String,
    /// Who chose this option.
    pub origin: Origin,
}

/// A file's own keys, at their position in the merge order.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of the file for messages.
    pub file: Rc<str>,
    pub content: Rc<File>,
    /// Who asked for the file.
    pub origin: Option<Origin>,
}

/// The outcome.
#[derive(Debug)]
pub struct Expansion {
    /// In merge order: later ones win.
    pub parts: Vec<Part>,
    pub choices: Vec<Chosen>,
}

/// Expands the primary file's defaults under the command line's group overrides.
///
/// # Errors
/// Unknown groups and options, a group chosen twice or not at all where it must be, files that
/// include each other, broken files.
pub fn expand(
    tree: &Tree,
    groups: &[String],
    primary: &str,
    asked: &[GroupOverride],
) -> Result<Expansion> {
    let mut files = HashMap::new();
    let mut known = Known::default();
    let mut lines = BTreeSet::new();
    for _ in 0..WALKS {
        let mut walk = Walk::new(tree, groups, asked, &known, &mut files);
        walk.primary(primary);
        let found = walk.found();
        if found == known {
            return walk.finish();
        }
        lines.extend(
            found
                .overrides
                .values()
                .map(|(_, origin)| origin.to_string()),
        );
        known = found;
    }
    let error =
        Error::usage("the `override` lines of the defaults lists replace each other in a circle");
    Err(lines
        .into_iter()
        .fold(error, |error, line| error.note("from", line)))
}

/// What one walk teaches the next.
#[derive(Default, PartialEq)]
pub struct Known {
    /// The strongest `override` line of each group: nearest to the primary file, then last.
    pub overrides: BTreeMap<String, (Pick, Origin)>,
    /// Groups with an `override` line and nothing to replace: there the line is the choice.
    pub adopted: BTreeSet<String>,
    /// Groups that only `group=option` names: added behind the primary file's list.
    pub appended: BTreeSet<String>,
}
