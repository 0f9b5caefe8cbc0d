//! Finds the state dict in the pickle of a `.pt` file. Training scripts save it alone or as one
//! entry of a checkpoint, beside the epoch, the optimizer and their arguments, which are ignored.

use crate::artifact::pickle::{Object, Pickle, Ref};
use crate::artifact::tensors::{self, MOST_DIMENSIONS, MOST_TENSORS};
use crate::{Error, Result};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use tch::Kind;

/// Describes a flat run of values in the archive: its entry, type and number of values.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub kind: Kind,
    pub count: i64,
}

/// Describes a tensor as a view of a storage, nothing checked yet.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub storage: Storage<'a>,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// Lists the entries of a checkpoint that are its weights where several could be; the first that
/// there is counts.
const USUAL: [&str; 6] = [
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "weights",
    "network",
];
/// Most state dicts of a file that an error names.
const NAMED: usize = 20;

/// Lists what wrappers put before every name: `DataParallel`, `torch.compile`, Lightning and
/// others.
const PREFIXES: [&str; 4] = ["module.", "_orig_mod.", "model.", "net."];

/// Returns the names of the state dict in the pickle of the file `path`, and the objects that
/// [`tensor`] reads.
///
/// # Errors
/// Fails when there is no dict of tensors, or more than one; the error has the line of Python that
/// saves the state dict alone.
pub(super) fn entries<'a>(pickle: &Pickle<'a>, path: &Path) -> Result<Vec<(&'a str, Ref)>> {
    let found = |at| pickle.describe(at);
    let Some(root) = pickle.dict(pickle.root) else {
        let text = format!("the file holds {}, not a state dict", found(pickle.root));
        return Err(Error::failed(text).hint(saves_another(pickle, path)));
    };
    // Many entries may be one dict, which is looked through once.
    let mut known = HashMap::new();
    let mut is_nested = |at: Ref| *known.entry(at).or_insert_with(|| is_state_dict(pickle, at));
    let nested: Vec<(&str, Ref)> = root
        .iter()
        .filter(|(_, value)| is_nested(*value))
        .filter_map(|&(key, value)| Some((pickle.text(key)?, value)))
        .collect();
    let usual = USUAL
        .iter()
        .find_map(|name| nested.iter().find(|(key, _)| key == name));
    let chosen = match (usual, nested.as_slice()) {
        (Some(&(_, value)), _) | (None, &[(_, value)]) => value,
        (None, []) => pickle.root,
        (None, &[(first, _), ..]) => {
            let names = nested.iter().take(NAMED).map(|(key, _)| quoted(key));
            let names: Vec<String> = names.collect();
            let text = "the file holds more than one state dict";
            return Err(Error::failed(text)
                .note("available", names.join(", "))
                .hint(python(path, format!("[\"{}\"]", first.escape_debug()))));
        }
    };
    let mut entries = named_tensors(pickle, chosen, path)?;
    strip_prefixes(&mut entries);
    Ok(entries)
}

/// Returns a hint: the line of Python that saves what `part` selects of the file's content.
fn python(path: &Path, part: String) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.escape_debug();
    format!(
        "if you trust who made it, since loading it so runs what code it holds, in Python: \
         `torch.save(torch.load(\"{name}\", weights_only=False){part}, \"state_{name}\")`"
    )
}

/// Returns a hint for an object that is no dict: a list of state dicts, or a module or something
/// else that only whoever made it should load, since that runs code.
fn saves_another(pickle: &Pickle, path: &Path) -> String {
    match pickle.list(pickle.root) {
        Some([first, ..]) if is_state_dict(pickle, *first) => python(path, "[0]".into()),
        _ => "where the model was made: `torch.save(model.state_dict(), path)`".into(),
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.escape_debug())
}

/// Returns `true` for a dict of tensors under names, with at least one.
fn is_state_dict(pickle: &Pickle, at: Ref) -> bool {
    pickle.dict(at).is_some_and(|items| {
        let named = |&(key, value): &(Ref, Ref)| {
            pickle.text(key).is_some() && tensor(pickle, value).is_some()
        };
        (1..=MOST_TENSORS).contains(&items.len()) && items.iter().all(named)
    })
}

/// Returns the names and tensors of a dict.
fn named_tensors<'a>(pickle: &Pickle<'a>, dict: Ref, path: &Path) -> Result<Vec<(&'a str, Ref)>> {
    let (mut entries, mut names) = (Vec::new(), HashSet::new());
    let items = pickle.dict(dict).unwrap_or_default();
    if items.len() > MOST_TENSORS {
        let text = format!("the state dict in the file has {} entries", items.len());
        return Err(Error::failed(text).note("expected", format!("at most {MOST_TENSORS}")));
    }
    for &(key, value) in items {
        let name = pickle.text(key).ok_or_else(|| {
            let found = pickle.describe(key);
            Error::failed(format!("a name in the state dict is {found}, not a string"))
        })?;
        tensors::refuse_odd_name(name)?;
        if tensor(pickle, value).is_none() {
            let (shown, found) = (quoted(name), pickle.describe(value));
            let text = format!("entry {shown} of the state dict is {found}, not a tensor");
            let part = match pickle.call(value) {
                Some(_) => format!("[\"{}\"].state_dict()", name.escape_debug()),
                None => ".state_dict()".into(),
            };
            return Err(Error::failed(text).hint(python(path, part)));
        }
        if !names.insert(name) {
            let shown = quoted(name);
            return Err(Error::failed(format!(
                "entry {shown} is in the state dict twice"
            )));
        }
        entries.push((name, value));
    }
    match entries.is_empty() {
        true => Err(Error::failed("the state dict in the file is empty")),
        false => Ok(entries),
    }
}

/// Leaves out the known prefixes that all names share, in any order.
fn strip_prefixes(entries: &mut [(&str, Ref)]) {
    let is_shared = |entries: &[(&str, Ref)], prefix: &str| {
        let rest = |name: &str| name.strip_prefix(prefix).map_or(0, str::len);
        entries.iter().all(|(name, _)| rest(name) > 0)
    };
    while let Some(prefix) = PREFIXES.iter().find(|prefix| is_shared(entries, prefix)) {
        for (name, _) in &mut *entries {
            *name = &name[prefix.len()..];
        }
    }
}

/// Returns the tensor that a call of PyTorch's rebuilds, or `None` for anything else.
pub(super) fn tensor<'a>(pickle: &Pickle<'a>, at: Ref) -> Option<View<'a>> {
    let (("torch._utils", name), arguments) = pickle.call(at)? else {
        return None;
    };
    let (name, arguments) = match name {
        "_rebuild_parameter" | "_rebuild_parameter_with_state" => {
            let (("torch._utils", inner), inside) = pickle.call(*arguments.first()?)? else {
                return None;
            };
            (inner, inside)
        }
        _ => (name, arguments),
    };
    let ("_rebuild_tensor" | "_rebuild_tensor_v2", &[data, offset, size, stride, ..]) =
        (name, arguments)
    else {
        return None;
    };
    Some(View {
        storage: storage(pickle, data)?,
        offset: pickle.int(offset)?,
        size: dimensions(pickle, size)?,
        stride: dimensions(pickle, stride)?,
    })
}

/// Returns the storage of `("storage", type, key, device, count)`; the device is ignored.
fn storage<'a>(pickle: &Pickle<'a>, at: Ref) -> Option<Storage<'a>> {
    let Object::Persistent(id) = *pickle.object(at) else {
        return None;
    };
    let &[word, kind, key, _, count, ..] = pickle.tuple(id)? else {
        return None;
    };
    let (module, class) = pickle.global(kind)?;
    (pickle.text(word)? == "storage" && module == "torch").then_some(())?;
    Some(Storage {
        key: pickle.text(key)?,
        kind: kind_of(class)?,
        count: pickle.int(count)?,
    })
}

/// Returns the numbers of a tuple that has as few as a tensor has dimensions.
fn dimensions(pickle: &Pickle, at: Ref) -> Option<Vec<i64>> {
    let items = pickle.tuple(at)?;
    let numbers = items.iter().map(|&item| pickle.int(item));
    (items.len() <= MOST_DIMENSIONS).then(|| numbers.collect())?
}

/// Returns the type of the values of a storage class.
fn kind_of(class: &str) -> Option<Kind> {
    Some(match class {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}
