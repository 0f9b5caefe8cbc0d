//! Walks through the defaults lists once: finds files in merge order, choices, and what the next
//! walk must know.

use super::choice_errors::{chosen_twice, no_option};
use super::choices::{Action, Chosen, Expansion, GroupOverride, Known, Part};
use super::defaults::{Choice, File, Item, Pick};
use super::node::Origin;
use super::suggest::{did_you_mean, list, nearest};
use super::tree::{Source, join};
use crate::error::{Error, Result};
use indexmap::IndexMap;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

/// Holds the state of one walk, from the primary file down.
pub struct Walk<'a> {
    source: &'a Source,
    /// What the command line says about groups.
    asked: &'a [GroupOverride],
    /// What the walk before found out.
    known: &'a Known,
    /// Files that have been read, by path.
    files: &'a mut HashMap<String, Rc<File>>,
    /// Files in merge order so far.
    parts: Vec<Part>,
    /// The argument that added the option that is walked through.
    added: Option<GroupOverride>,
    /// The option of each group so far.
    chosen: IndexMap<String, Chosen>,
    /// Groups that some line other than an `override` names.
    placed: BTreeSet<String>,
    /// The `override` line of each group that counts, and how deep in the tree it stands.
    overrides: BTreeMap<String, (usize, Pick, Origin)>,
    /// Groups whose choice the command line has taken away.
    deleted: BTreeSet<String>,
    /// Paths of the files that are being walked through, the primary file first.
    stack: Vec<String>,
    /// The first mistake.
    mistake: Option<Error>,
}

impl<'a> Walk<'a> {
    /// Returns a walk that has not begun.
    pub fn new(
        source: &'a Source,
        asked: &'a [GroupOverride],
        known: &'a Known,
        files: &'a mut HashMap<String, Rc<File>>,
    ) -> Self {
        Self {
            source,
            asked,
            known,
            files,
            parts: Vec::new(),
            added: None,
            chosen: IndexMap::new(),
            placed: BTreeSet::new(),
            overrides: BTreeMap::new(),
            deleted: BTreeSet::new(),
            stack: Vec::new(),
            mistake: None,
        }
    }

    /// Keeps the first mistake; the walk continues, since the next one may not make it.
    fn mistake(&mut self, error: Error) {
        self.mistake.get_or_insert(error);
    }

    /// Walks through the primary file, then through what only the command line adds.
    pub fn primary(&mut self) {
        self.file(&self.source.primary, None);
        for asked in self.asked {
            let option = match &asked.action {
                Action::Add(option) => option,
                Action::Replace(option) if self.known.appended.contains(&asked.group) => option,
                Action::Replace(_) | Action::Delete(_) => continue,
            };
            if let Some(option) = option {
                self.added = Some(asked.clone());
                self.choose(&asked.group, option, &asked.origin, false);
            }
        }
    }

    /// Walks a file's defaults list and takes its own keys where `_self_` stands.
    fn file(&mut self, path: &str, origin: Option<&Origin>) {
        if self.stack.iter().any(|open| open == path) {
            let chain: Vec<_> = self
                .stack
                .iter()
                .map(String::as_str)
                .chain([path])
                .collect();
            let error = Error::usage("config files choose each other in a circle")
                .note("chain", chain.join(" → "));
            return self.mistake(from(error, origin));
        }
        let file = match self.load(path) {
            Ok(file) => file,
            Err(error) => return self.mistake(error),
        };
        self.stack.push(path.to_owned());
        for item in &file.items {
            match item {
                Item::Own => self.parts.push(Part {
                    file: self.source.tree.label(path).as_ref().into(),
                    content: file.clone(),
                    origin: origin.cloned(),
                    added: self.added.clone(),
                }),
                Item::File { path, origin } => self.sibling(path, origin),
                Item::Choice(choice) if choice.overrides => self.replacing(choice),
                Item::Choice(choice) => self.choice(choice),
            }
        }
        self.stack.pop();
    }

    fn load(&mut self, path: &str) -> Result<Rc<File>> {
        if let Some(file) = self.files.get(path) {
            return Ok(file.clone());
        }
        let file = File::load(&self.source.tree, path)?;
        self.files.insert(path.to_owned(), file.clone());
        Ok(file)
    }

    /// Walks through the file of a bare `name` in a defaults list.
    fn sibling(&mut self, path: &str, origin: &Origin) {
        if self.source.tree.has(path) {
            return self.file(path, Some(origin));
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = name.strip_suffix(".yaml").unwrap_or(name);
        let names = self.source.tree.options(folder);
        let error = Error::usage(format!("there is no config file `{path}`"))
            .note("from", origin.to_string())
            .note("available", list(&names));
        self.mistake(did_you_mean(error, nearest(name, &names)));
    }

    /// Takes an `override` line: the one nearest to the primary file counts, among equals the last.
    fn replacing(&mut self, choice: &Choice) {
        let depth = self.stack.len();
        let counts = self
            .overrides
            .get(&choice.group)
            .is_none_or(|(other, ..)| depth <= *other);
        if counts {
            let entry = (depth, choice.pick.clone(), choice.origin.clone());
            self.overrides.insert(choice.group.clone(), entry);
        }
        let counted = self
            .known
            .overrides
            .get(&choice.group)
            .is_some_and(|(_, origin)| *origin == choice.origin);
        if counted && self.known.adopted.contains(&choice.group) {
            self.resolve(choice);
        }
    }

    fn choice(&mut self, choice: &Choice) {
        self.placed.insert(choice.group.clone());
        self.resolve(choice);
    }

    /// Finds which option a line of a file stands for: the command line first, then `override`
    /// lines, then the line itself.
    fn resolve(&mut self, choice: &Choice) {
        let group = &choice.group;
        let asked = self
            .asked
            .iter()
            .find(|asked| asked.group == *group && !matches!(asked.action, Action::Add(_)));
        let (pick, origin) = match asked.map(|asked| (&asked.action, &asked.origin)) {
            Some((Action::Replace(option), origin)) => (
                option.clone().map_or(Pick::Nothing, Pick::Option),
                origin.clone(),
            ),
            Some((Action::Delete(only), origin)) => {
                return self.delete(choice, only.as_deref(), origin);
            }
            _ => match self.known.overrides.get(group) {
                Some((pick, origin)) => (pick.clone(), origin.clone()),
                None => (choice.pick.clone(), choice.origin.clone()),
            },
        };
        match pick {
            Pick::Option(option) => {
                // What somebody else chose in its place must be there.
                let optional = choice.optional && origin == choice.origin;
                self.choose(group, &option, &origin, optional);
            }
            Pick::Nothing => {}
            Pick::Mandatory => {
                let adds = |asked: &GroupOverride| {
                    asked.group == *group && matches!(asked.action, Action::Add(_))
                };
                if !self.asked.iter().any(adds) {
                    let options = self.source.tree.options(group);
                    self.mistake(
                        Error::usage(format!("an option of `{group}` must be chosen"))
                            .note("from", origin.to_string())
                            .note("available", list(&options))
                            .hint(format!("type {group}=OPTION")),
                    );
                }
            }
        }
    }

    fn delete(&mut self, choice: &Choice, only: Option<&str>, origin: &Origin) {
        self.deleted.insert(choice.group.clone());
        let current = match self.known.overrides.get(&choice.group) {
            Some((pick, _)) => pick,
            None => &choice.pick,
        };
        if let (Some(only), Pick::Option(option)) = (only, current)
            && only != option
        {
            let error = Error::usage(format!(
                "`{}` is `{option}`, not `{only}`, and is not deleted",
                choice.group
            ))
            .note("from", origin.to_string())
            .note("set by", choice.origin.to_string())
            .hint(format!("to delete any choice of it type ~{}", choice.group));
            self.mistake(error);
        }
    }

    fn choose(&mut self, group: &str, option: &str, origin: &Origin, optional: bool) {
        if let Some(other) = self.chosen.get(group) {
            if other.option != option {
                let error = chosen_twice(other, option, origin);
                self.mistake(error);
            }
            return;
        }
        let path = join(group, &format!("{option}.yaml"));
        if !self.source.tree.has(&path) {
            if !optional {
                let error = no_option(self.source, group, option, origin);
                self.mistake(error);
            }
            return;
        }
        let chosen = Chosen {
            group: group.to_owned(),
            option: option.to_owned(),
            origin: origin.clone(),
        };
        self.chosen.insert(group.to_owned(), chosen);
        self.file(&path, Some(origin));
    }

    /// Returns what the next walk must know.
    pub fn found(&self) -> Known {
        let overrides: BTreeMap<_, _> = self
            .overrides
            .iter()
            .map(|(group, (_, pick, origin))| (group.clone(), (pick.clone(), origin.clone())))
            .collect();
        let adopted = overrides
            .keys()
            .filter(|group| !self.placed.contains(*group))
            .cloned()
            .collect();
        let replaces = |asked: &&GroupOverride| matches!(asked.action, Action::Replace(_));
        let appended = self
            .asked
            .iter()
            .filter(replaces)
            .map(|asked| asked.group.clone())
            .filter(|group| !self.placed.contains(group) && !overrides.contains_key(group))
            .collect::<BTreeSet<_>>();
        Known {
            overrides,
            adopted,
            appended,
        }
    }

    /// Returns what the walk found.
    ///
    /// # Errors
    /// Fails with the first mistake.
    pub fn finish(mut self) -> Result<Expansion> {
        for asked in self.asked {
            if matches!(asked.action, Action::Delete(_)) && !self.deleted.contains(&asked.group) {
                let chosen: Vec<_> = self.chosen.keys().collect();
                let error = Error::usage(format!(
                    "no option of `{}` is chosen, so there is none to delete",
                    asked.group
                ))
                .note("from", asked.origin.to_string())
                .note("chosen", list(&chosen));
                self.mistake(error);
            }
        }
        match self.mistake {
            Some(error) => Err(error),
            None => Ok(Expansion {
                parts: self.parts,
                choices: self.chosen.into_values().collect(),
            }),
        }
    }
}

fn from(error: Error, origin: Option<&Origin>) -> Error {
    match origin {
        Some(origin) => error.note("from", origin.to_string()),
        None => error,
    }
}
