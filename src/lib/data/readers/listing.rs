//! Lists what a folder or an archive of images holds, before anything is decoded. Used by the image
//! folder reader.

use super::archive::{self, Entry};
use super::damaged;
use super::layout::{Split, split_named};
use crate::error::{Error, Result, assignment};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Folders below the root are followed to this depth.
const MAX_DEPTH: usize = 8;

/// Links to links are followed this far.
const MAX_LINKS: usize = 8;

/// Holds the names of files and folders, relative to the root, components joined by `/`.
#[derive(Default)]
pub(super) struct Listing {
    pub files: Vec<Stored>,
    pub folders: Vec<String>,
    /// Links that lead to no file, and pipes, devices and the like.
    pub unread: usize,
    /// Links to a folder that they lie in.
    pub circular: usize,
}

/// Holds the name of a file.
pub(super) struct Stored {
    pub name: String,
    /// Name of the entry of an archive that has its contents, if it is a link to that.
    pub target: Option<String>,
}

impl Listing {
    /// Lists the folder or archive `source`.
    ///
    /// # Errors
    /// Fails when a folder cannot be read, when a name is not UTF-8, and as [`archive::entries`]
    /// does.
    pub fn of(source: &Path, check: impl Fn(&str, u64) -> Result<()>) -> Result<Self> {
        let mut listing = Self::default();
        if source.is_dir() {
            listing.add_folder(source, "", &mut vec![fs_err::canonicalize(source)?])?;
            listing.files.sort_by(|a, b| a.name.cmp(&b.name));
        } else {
            listing.add_archive(source, check)?;
        }
        Ok(listing)
    }

    /// Adds what lies below `folder`; `prefix` is its name, with a `/` behind it, and `above` are
    /// the folders down to it, without links.
    fn add_folder(&mut self, folder: &Path, prefix: &str, above: &mut Vec<PathBuf>) -> Result<()> {
        let depth = above.len() - 1;
        if depth > MAX_DEPTH {
            let problem = format!("folders are nested more than {MAX_DEPTH} deep");
            return Err(damaged(folder, problem).hint(
                assignment("root", "PATH") + " names the folder that the class folders lie in",
            ));
        }
        let mut paths = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            paths.push(entry?.path());
        }
        // Beside the folders of the splits there may be anything.
        let only_splits = depth == 0 && paths.iter().any(|path| has_classes(path));
        for path in paths {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| damaged(&path, "its name is not UTF-8"))?;
            let name_here = format!("{prefix}{name}");
            // Links are followed.
            match std::fs::metadata(&path) {
                Ok(kind) if kind.is_dir() && is_hidden(name) => {}
                Ok(kind) if kind.is_dir() && only_splits && split_named(name).is_none() => {}
                Ok(kind) if kind.is_dir() => {
                    let real = fs_err::canonicalize(&path)?;
                    if above.contains(&real) {
                        self.circular += 1;
                        continue;
                    }
                    above.push(real);
                    self.add_folder(&path, &format!("{name_here}/"), above)?;
                    above.pop();
                    self.folders.push(name_here);
                }
                Ok(kind) if kind.is_file() => self.files.push(Stored {
                    name: name_here,
                    target: None,
                }),
                _ => self.unread += 1,
            }
        }
        Ok(())
    }

    /// Adds the entries of an archive; `check` is called with the name and size of each file. What
    /// it refuses is reported when the whole archive has been read: a damaged one is damaged first.
    fn add_archive(&mut self, path: &Path, check: impl Fn(&str, u64) -> Result<()>) -> Result<()> {
        let mut links: Vec<(String, String)> = Vec::new();
        let mut refused: Option<Error> = None;
        archive::entries(path, |entry| {
            match entry {
                Entry::File { name, size, .. } => {
                    if refused.is_none() {
                        refused = check(name, size).err();
                    }
                    self.files.push(Stored {
                        name: name.to_owned(),
                        target: None,
                    });
                }
                Entry::Folder(name) => self.folders.push(name.to_owned()),
                Entry::Link { name, target } => links.push((name.to_owned(), target)),
                Entry::Other => self.unread += 1,
            }
            Ok(())
        })?;
        if let Some(error) = refused {
            return Err(error);
        }
        if links.is_empty() {
            return Ok(());
        }
        let files: std::collections::HashSet<&str> =
            self.files.iter().map(|file| file.name.as_str()).collect();
        let targets: HashMap<&str, &str> = links
            .iter()
            .map(|(name, target)| (name.as_str(), target.as_str()))
            .collect();
        let resolve = |target: &str| {
            let mut target = target;
            for _ in 0..MAX_LINKS {
                if files.contains(target) {
                    return Some(target.to_owned());
                }
                target = targets.get(target)?;
            }
            None
        };
        let found: Vec<Option<String>> = links.iter().map(|(_, target)| resolve(target)).collect();
        for ((name, _), target) in links.into_iter().zip(found) {
            match target {
                Some(_) => self.files.push(Stored { name, target }),
                None => self.unread += 1,
            }
        }
        Ok(())
    }
}

/// Returns true for the folder of the training images, which holds a folder for each class. One
/// without any is a class of trains.
fn has_classes(path: &Path) -> bool {
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    has_split(path, Split::Train) && below.into_iter().any(|entry| entry.path().is_dir())
}

/// Returns true for a folder that is named after `split`.
pub(super) fn has_split(path: &Path, split: Split) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(split_named) == Some(split) && path.is_dir()
}

/// Returns true for the name of a file or folder that is hidden, or that an operating system left.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || matches!(name, "__MACOSX" | "Thumbs.db" | "desktop.ini")
}
