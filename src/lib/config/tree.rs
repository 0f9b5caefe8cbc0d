//! Reads config files from a folder, or from the copy of `config/` inside the binary, so that an
//! installed binary works anywhere.

use super::suggest::{list, nearest};
use super::{home, other_project};
use crate::artifact::fault::special;
use crate::error::{Error, Result};
use include_dir::{Dir, include_dir};
use std::path::{Path, PathBuf};
use std::sync::Arc;

static BUILT_IN: Dir = include_dir!("$CARGO_MANIFEST_DIR/config");

/// Depth of folders beyond which groups are not searched for.
const DEPTH: usize = 6;

/// Size of the largest config file, in bytes: some hundred times those of this project.
const LARGEST: u64 = 256 << 10;

/// Mark that some editors write at the beginning of a text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Gives access to a tree of config files. File names inside it are relative, with `/`.
#[derive(Clone, Debug)]
pub enum Tree {
    /// Reads from this folder.
    Folder(PathBuf),
    /// Reads from this folder, and what it lacks from the copy inside the binary.
    Over(PathBuf),
    /// Reads the copy inside the binary.
    BuiltIn,
}

/// Holds a config tree and what is looked up in it often; all jobs of a sweep share it.
#[derive(Debug)]
pub struct Source {
    pub tree: Tree,
    /// Name of the primary file.
    pub primary: String,
    /// Names of all groups.
    pub groups: Vec<String>,
}

impl Source {
    /// Finds the tree as [`Tree::find`] does.
    ///
    /// # Errors
    /// Fails when the folder or the file does not exist.
    pub fn find(folder: Option<&Path>, name: Option<&str>) -> Result<Self> {
        let (tree, primary) = Tree::find(folder, name)?;
        let groups = tree.groups();
        Ok(Self {
            tree,
            primary,
            groups,
        })
    }

    /// Adds to the error for an option that this tree lacks why, if the built-in tree has it.
    pub fn explain_missing(&self, error: Error, group: &str, option: &str) -> Error {
        let file = join(group, &format!("{option}.yaml"));
        match &self.tree {
            Tree::Folder(_) if Tree::BuiltIn.has(&file) && !self.tree.has(&file) => {
                error.hint(format!(
                    "the built-in tree has `{file}`, but {} is a whole tree, since it holds a \
                     `config.yaml`: under another name for that file (`--config-name NAME`) \
                     `--config-dir` adds the folder to the built-in tree",
                    self.tree
                ))
            }
            _ => error,
        }
    }
}

impl Tree {
    /// Returns the tree that holds the primary file, and that file's name: `folder` if it is given,
    /// over the built-in tree unless it holds a `config.yaml`, else `./config` if it is a tree of
    /// this program, else the built-in one.
    ///
    /// # Errors
    /// Fails when the folder or the file does not exist.
    pub fn find(folder: Option<&Path>, name: Option<&str>) -> Result<(Self, String)> {
        let name = name.unwrap_or("config");
        let file = format!("{}.yaml", name.strip_suffix(".yaml").unwrap_or(name));
        if let Some(folder) = folder {
            let folder = match folder.to_str() {
                Some(text) => &PathBuf::from(home::expanded("--config-dir", text)?),
                None => folder,
            };
            if !folder.is_dir() {
                return Err(Error::usage(format!(
                    "config folder `{}` does not exist",
                    folder.display()
                ))
                .note("from", "command line `--config-dir`"));
            }
            // A folder with a primary file of its own is a tree of its own.
            let tree = match holds(folder, "config.yaml") {
                true => Self::Folder(folder.to_owned()),
                false => Self::Over(folder.to_owned()),
            };
            return if tree.has(&file) {
                Ok((tree, file))
            } else {
                Err(tree.no_primary(&file))
            };
        }
        let beside = Self::Folder("config".into());
        if beside.has(&file) && other_project::reason(&beside, &file).is_none() {
            return Ok((beside, file));
        }
        match Self::BuiltIn.has(&file) {
            true => Ok((Self::BuiltIn, file)),
            false => Err(Self::BuiltIn.no_primary(&file)),
        }
    }

    /// Returns why `./config`, which holds a file of the primary file's name, is not taken as a
    /// tree of this program; `None` where it is taken, or there is none.
    pub fn passed_over(name: Option<&str>) -> Option<String> {
        let name = name.unwrap_or("config");
        let file = format!("{}.yaml", name.strip_suffix(".yaml").unwrap_or(name));
        let beside = Self::Folder("config".into());
        other_project::reason(&beside, &file).filter(|_| beside.has(&file))
    }

    fn no_primary(&self, file: &str) -> Error {
        let names = self.options("");
        let error = Error::usage(format!("there is no config file `{file}` in {self}"))
            .note("available", list(&names));
        let name = file.strip_suffix(".yaml").unwrap_or(file);
        let groups = self.groups();
        let of_group = groups
            .iter()
            .find(|group| self.options(group).iter().any(|option| option == name));
        if let Some(group) = of_group {
            return error.hint(format!(
                "it is an option of `{group}`: type `+{group}={name}`"
            ));
        }
        match (nearest(name, &names), names.as_slice()) {
            (Some(name), _) => error.hint(format!("did you mean `--config-name {name}`?")),
            (None, [name]) => error.hint(format!("type `--config-name {name}`")),
            _ => error,
        }
    }

    /// Returns true if there is such a file.
    pub fn has(&self, file: &str) -> bool {
        match self {
            Self::Folder(root) => holds(root, file),
            Self::Over(root) => holds(root, file) || Self::BuiltIn.has(file),
            Self::BuiltIn => BUILT_IN.get_file(file).is_some(),
        }
    }

    /// Reads a file, without a byte-order mark.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is a pipe or a device, is too large or is not UTF-8.
    pub fn read(&self, file: &str) -> Result<String> {
        match self {
            Self::Over(root) if !holds(root, file) => Self::BuiltIn.read(file),
            Self::Folder(root) | Self::Over(root) => {
                let path = root.join(file);
                if let Some(kind) = special(&path) {
                    let what = format!("a config file is {kind}, not a file");
                    return Err(Error::usage(what).note("file", path.display().to_string()));
                }
                let broken = |error: std::io::Error| {
                    Error::usage(format!("cannot read a config file: {error}"))
                };
                if fs_err::metadata(&path).map_err(broken)?.len() > LARGEST {
                    return Err(Error::usage(format!(
                        "a config file is larger than {} KiB",
                        LARGEST >> 10
                    ))
                    .note("file", path.display().to_string()));
                }
                let text = fs_err::read_to_string(path).map_err(broken)?;
                Ok(text.trim_start_matches(BYTE_ORDER_MARK).to_owned())
            }
            Self::BuiltIn => BUILT_IN
                .get_file(file)
                .and_then(|file| file.contents_utf8())
                .map(str::to_owned)
                .ok_or_else(|| Error::usage(format!("there is no built-in config file `{file}`"))),
        }
    }

    /// Returns the name of a file for messages.
    pub fn label(&self, file: &str) -> Arc<str> {
        match self {
            Self::Over(root) if !holds(root, file) => Self::BuiltIn.label(file),
            Self::Folder(root) | Self::Over(root) => root.join(file).display().to_string().into(),
            Self::BuiltIn => format!("built-in config/{file}").into(),
        }
    }

    /// Returns the names of the files in a group (`""` for the top), without `.yaml`, sorted. Those
    /// that begin with `_` are parts of others and left out.
    pub fn options(&self, group: &str) -> Vec<String> {
        let mut names: Vec<_> = self
            .entries(group)
            .into_iter()
            .filter_map(|(name, folder)| {
                if folder || name.starts_with('_') {
                    None
                } else {
                    name.strip_suffix(".yaml").map(str::to_owned)
                }
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Returns every folder that holds options, nested ones as `a/b`, sorted.
    pub fn groups(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), 0)];
        while let Some((group, depth)) = open.pop() {
            for (name, folder) in self.entries(&group) {
                if folder && depth < DEPTH {
                    open.push((join(&group, &name), depth + 1));
                }
            }
            if !group.is_empty() && !self.options(&group).is_empty() {
                found.push(group);
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Returns name and "is a folder" of everything in a folder; none where it does not exist.
    fn entries(&self, group: &str) -> Vec<(String, bool)> {
        match self {
            Self::Folder(root) => {
                let Ok(entries) = std::fs::read_dir(root.join(group)) else {
                    return Vec::new();
                };
                let entry = |entry: std::fs::DirEntry| {
                    Some((entry.file_name().into_string().ok()?, entry.path().is_dir()))
                };
                entries.flatten().filter_map(entry).collect()
            }
            Self::Over(root) => {
                let own = Self::Folder(root.clone()).entries(group);
                own.into_iter()
                    .chain(Self::BuiltIn.entries(group))
                    .collect()
            }
            Self::BuiltIn => {
                let folder = if group.is_empty() {
                    Some(&BUILT_IN)
                } else {
                    BUILT_IN.get_dir(group)
                };
                let name = |path: &Path| {
                    path.file_name()
                        .map(|name| name.to_string_lossy().into_owned())
                };
                folder
                    .into_iter()
                    .flat_map(|folder| folder.entries())
                    .filter_map(|entry| Some((name(entry.path())?, entry.as_dir().is_some())))
                    .collect()
            }
        }
    }
}

impl std::fmt::Display for Tree {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(root) => write!(out, "`{}`", root.display()),
            Self::Over(root) => {
                write!(out, "`{}` over the built-in config tree", root.display())
            }
            Self::BuiltIn => out.write_str("the built-in config tree"),
        }
    }
}

/// Returns true if there is something else than a folder; whether it can be read is seen then.
fn holds(root: &Path, file: &str) -> bool {
    let path = root.join(file);
    path.exists() && !path.is_dir()
}

/// Returns `group/name`, or the name alone at the top.
pub fn join(group: &str, name: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{group}/{name}")
    }
}
