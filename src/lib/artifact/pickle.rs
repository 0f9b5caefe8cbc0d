//! Reads pickles that only build data: the part of Python's pickle machine that `torch.save`
//! of a state dict uses.
//!
//! Called by `pytorch`. Nothing is ever imported or called: the few allowed names stand for
//! themselves, any other name is an error. Objects lie in one list and refer to each other by
//! index, so that neither depth nor cycles matter.

mod machine;

use crate::{Error, Result};
use machine::Machine;
use tch::Kind;

/// Index of an object.
pub(super) type Ref = usize;

/// Names what a state dict may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

/// Describes a flat run of values in the archive: its entry, type and number of values.
#[derive(Clone, Debug)]
pub(super) struct Storage {
    pub key: String,
    pub kind: Kind,
    pub count: i64,
}

/// Describes a tensor as a view of a storage, nothing checked yet.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub storage: Storage,
    pub offset: i64,
    pub size: Vec<i64>,
    pub stride: Vec<i64>,
}

/// Holds an object that the pickle built.
#[derive(Debug)]
pub(super) enum Object {
    None,
    Bool,
    Int(i64),
    Float,
    Text(String),
    Tuple(Vec<Ref>),
    List(Vec<Ref>),
    Dict(Vec<(Ref, Ref)>),
    Global(Global),
    Storage(Storage),
    Tensor(View),
}

impl Object {
    /// Names the kind of object for errors: `a list`.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a bool",
            Self::Int(_) => "an integer",
            Self::Float => "a float",
            Self::Text(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// Holds a finished pickle.
pub(super) struct Pickle {
    objects: Vec<Object>,
    pub root: Ref,
}

impl Pickle {
    /// Runs the machine over `bytes` up to the stop.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (objects, root) = Machine::new(bytes).run()?;
        Ok(Self { objects, root })
    }

    pub fn object(&self, at: Ref) -> &Object {
        &self.objects[at]
    }
}

/// Returns the meaning of an allowed name.
fn global(module: &str, name: &str) -> Result<Global> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "FloatStorage") => Global::Storage(Kind::Float),
        ("torch", "DoubleStorage") => Global::Storage(Kind::Double),
        ("torch", "HalfStorage") => Global::Storage(Kind::Half),
        ("torch", "BFloat16Storage") => Global::Storage(Kind::BFloat16),
        ("torch", "LongStorage") => Global::Storage(Kind::Int64),
        ("torch", "IntStorage") => Global::Storage(Kind::Int),
        ("torch", "ShortStorage") => Global::Storage(Kind::Int16),
        ("torch", "CharStorage") => Global::Storage(Kind::Int8),
        ("torch", "ByteStorage") => Global::Storage(Kind::Uint8),
        ("torch", "BoolStorage") => Global::Storage(Kind::Bool),
        _ => {
            let name = format!("{module}.{name}");
            return Err(Error::failed(format!(
                "the file wants to load `{}`, which is refused",
                name.escape_debug()
            ))
            .note("expected", "a state dict: names and tensors only")
            .hint("in Python: `torch.save(model.state_dict(), path)`"));
        }
    })
}
