//! Finds out from the defaults lists which file of each group takes part, and in which order files
//! are merged.
//!
//! A walk through the lists needs to know which choices are replaced, which only a walk can tell,
//! since an `override` may stand in any file that is reached. So walks are repeated with what the
//! last one found until nothing changes; mistakes count only in the last one.

use super::defaults::{File, Pick};
use super::node::Origin;
use super::tree::Source;
use super::walk::Walk;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Number of walks after which defaults lists that still change replace each other in a circle.
const WALKS: usize = 64;

/// Holds what the command line says about a group.
#[derive(Clone, Debug)]
pub struct GroupOverride {
    /// Name of the group, `a/b` for a nested one.
    pub group: String,
    /// Argument that says it.
    pub origin: Origin,
    /// What is done with the group.
    pub action: Action,
}

/// Says what an argument does with the option of a group.
#[derive(Clone, Debug)]
pub enum Action {
    /// `group=option` chooses this option, `group=null` (`None`) no option.
    Replace(Option<String>),
    /// `+group=option` chooses this option where there is none.
    Add(Option<String>),
    /// `~group` and `~group=option` take the option away, if it is this one.
    Delete(Option<String>),
}

/// Holds the option that was chosen for a group.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// Name of the group.
    pub group: String,
    /// Name of the option.
    pub option: String,
    /// Who chose this option.
    pub origin: Origin,
}

/// Holds a file whose own keys are merged.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of the file for messages.
    pub file: Rc<str>,
    /// The file, taken apart.
    pub content: Rc<File>,
    /// Who asked for the file; `None` for the primary file.
    pub origin: Option<Origin>,
    /// The argument that added the option it belongs to, where the primary file names none.
    pub added: Option<GroupOverride>,
}

/// Holds all files that are merged, and all choices.
#[derive(Debug)]
pub struct Expansion {
    /// Files in merge order: later ones win.
    pub parts: Vec<Part>,
    /// The chosen options, in the order in which they were chosen.
    pub choices: Vec<Chosen>,
}

/// Expands the primary file's defaults under the command line's group overrides.
///
/// # Errors
/// Fails at unknown groups and options, a group chosen twice or not at all where it must be, files
/// that include each other, and broken files.
pub fn expand(source: &Source, asked: &[GroupOverride]) -> Result<Expansion> {
    let mut files = HashMap::new();
    let mut known = Known::default();
    let mut lines = BTreeSet::new();
    for _ in 0..WALKS {
        let mut walk = Walk::new(source, asked, &known, &mut files);
        walk.primary();
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

/// Holds what one walk finds out for the next.
#[derive(Default, PartialEq)]
pub struct Known {
    /// The `override` line of each group that counts: nearest to the primary file, then last.
    pub overrides: BTreeMap<String, (Pick, Origin)>,
    /// Groups with an `override` line and nothing to replace: there the line is the choice.
    pub adopted: BTreeSet<String>,
    /// Groups that only `group=option` names: added behind the primary file's list.
    pub appended: BTreeSet<String>,
}
